"""Plan: everything that decides what a run writes, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import msgspec
import pyarrow as pa

from bimodal.batch.sources.contract import CHUNK_ROWS
from bimodal.errors import PlanChanged

RULES = 2  # raised when the same plan would be written in other bytes than before
NAMED = {
    "model": "the model's name",
    "version": "the model",
    "digest": "the model",
    "runtime": "--runtime",
    "source": "the input",
    "features": "--features",
    "kept": "--keep",
    "outputs": "--outputs",
    "threshold": "--threshold",
    "missing": "--na",
    "sink": "the output's kind",
    "mode": "--mode",
    "key_columns": "--key",
    "target": "--target",
    "call_rows": "--call-rows",
    "fingerprint": "the rows' fingerprints",
    "rows": "the chunks",
    "rules": "the version of Bimodal",
    "arrow": "the version of pyarrow",
}


@dataclass(frozen=True)
class Plan:
    """Two runs of equal plans write the same bytes, under the same versions of Bimodal and of pyarrow.

    source: the fingerprint of the input's content (empty for standard input, which has no second reading).
    features: the columns that feed the model, in order. kept: the columns that are carried. missing: what stands for
    a missing value. sink: the format and compression of the output, not its place. mode, key_columns: of a table.
    call_rows: rows of one call of a model whose bits may depend on a row's neighbours (0: a chunk's).
    """

    model: str
    version: str
    digest: str
    runtime: str
    source: str
    features: tuple[str, ...]
    kept: tuple[str, ...]
    outputs: tuple[str, ...]
    threshold: float | None
    missing: tuple[str, ...]
    sink: str
    mode: str = ""
    key_columns: tuple[str, ...] = ()
    target: str | None = None
    call_rows: int = 0
    rows: int = CHUNK_ROWS
    fingerprint: bool = False

    @cached_property
    def key(self) -> str:
        """The plan's digest. What was not there in earlier versions counts only where it is asked for."""
        told = asdict(self)
        if not self.fingerprint:
            del told["fingerprint"]
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()

    @property
    def repeatable(self) -> bool:
        return bool(self.source)

    def metadata(self) -> dict[str, str]:
        """What goes into a file that can hold it."""
        return {
            "bimodal.model": self.model,
            "bimodal.version": self.version,
            "bimodal.digest": self.digest,
            "bimodal.plan": self.key,
        }

    def told(self) -> dict[str, Any]:
        """For the journal and the run record. The versions are no part of the key: a job that runs again after an
        upgrade still finds its output complete.
        """
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # lists, as it will be read again
        if not self.fingerprint:
            del plain["fingerprint"]
        return {**plain, "rules": RULES, "arrow": pa.__version__, "key": self.key}

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What another run's plan (as it was told) has otherwise, in the words of the user."""
        mine = self.told()
        unlike = [name for name in NAMED if mine.get(name) != other.get(name)]
        told = []
        for what in dict.fromkeys(NAMED[name] for name in unlike):
            name = next(each for each in unlike if NAMED[each] == what)
            if name == "source":
                told.append("the input (its content; of a file over 8 MB also the time of its last change)")
                continue
            told.append(what if name in ("rows", "rules") else f"{what} (was {_short(other.get(name))})")
        return told

    def outdates(self, other: Mapping[str, Any]) -> bool:
        """Whether nothing that the other plan gave is of use any more: the input or the model is another one."""
        mine = self.told()
        return any(mine[name] != other.get(name) for name in ("source", "digest"))

    def demand(self, other: Mapping[str, Any], output: str) -> None:
        """Raise PlanChanged where an unfinished run at this output has another plan."""
        unlike = self.differences(other)
        if unlike:
            raise PlanChanged(
                f"an unfinished run to {output} was begun with another plan; what differs: {', '.join(unlike)}; "
                f"give the same command as then, or --fresh to throw its progress away"
            )


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    text = "none" if value in (None, "") else str(value)
    return text[:12]
