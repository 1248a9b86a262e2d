"""Options of a run, as `predict_file` and `bimodal predict` take them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bimodal.batch.columns import Keep
from bimodal.batch.databases.address import spoken
from bimodal.batch.rejects import Allowed
from bimodal.batch.sources.inputs import Named, see_input
from bimodal.batch.spelling import see_spelling
from bimodal.errors import UsageError
from bimodal.model import Model
from bimodal.settings import joined

MODES = ("create", "append", "replace", "upsert")
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Options:
    """What several steps of a run need. input, output, model: as the user named them, for messages and records.

    loading, dialect: options of the model and of a CSV file, for the command line alone. run: the id that the run has
    in every process that tries it.
    """

    model: str = ""
    input: tuple[str, ...] = ()
    output: str | None = None
    keep: Keep = "auto"
    outputs: tuple[str, ...] | None = None
    threshold: float | None = None
    features: Sequence[str] | None = None
    rename: Mapping[str, str] | None = None
    target: str | None = None
    missing: tuple[str, ...] | None = None
    query: str | None = None
    into: str | None = None
    mode: str = "create"
    key: tuple[str, ...] = ()
    overwrite: bool = False
    fresh: bool = False
    allowed: Allowed = field(default_factory=Allowed)
    workers: int | None = None
    ahead: int | None = None
    call_rows: int | None = None
    memory: int | None = None
    timeout: float | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)
    dialect: Mapping[str, str | None] = field(default_factory=dict)
    run: str | None = None
    fingerprint: bool = False

    def check(self) -> None:
        """Raise UsageError for what cannot be meant."""
        for name, value in (("workers", self.workers), ("ahead", self.ahead), ("call-rows", self.call_rows)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value}: one at least")
        if self.workers is not None and self.workers > MOST_WORKERS:
            raise UsageError(
                f"--workers {self.workers}: at most {MOST_WORKERS}; more than one for each processor (here "
                f"{os.cpu_count()}) gains nothing"
            )
        for named in (*self.input, self.output or ""):
            see_spelling(named)
        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"--timeout {self.timeout:g}: more than no time at all")
        if self.memory is not None and self.memory < 1:
            raise UsageError(f"--memory {self.memory}: more than no memory at all, such as 2GB")
        if self.mode not in MODES:
            raise UsageError(f"--mode {self.mode!r}: it is one of {', '.join(MODES)}")
        if self.mode == "upsert" and not self.key:
            raise UsageError("--mode upsert needs the columns that tell a row: --key id")
        if self.key and self.mode != "upsert":
            raise UsageError("--key is for --mode upsert")

    @property
    def others(self) -> list[tuple[str, str]]:
        """The files that the run reads beside its input, each with what it is: none of them may be the output."""
        sample = self.loading.get("sample")
        found = [("model", self.model)]
        return [*found, ("sample", os.fspath(sample))] if isinstance(sample, str | os.PathLike) else found

    def command(self, rejected: int) -> str:
        """The command line of the same run that accepts so many rejected rows."""
        words = ["bimodal", "predict", self.model, *self.input]
        if self.output is not None:
            words += ["-o", self.output]
        if self.keep != "auto":
            words += ["--keep", self.keep if isinstance(self.keep, str) else joined(self.keep)]
        outputs = None if self.outputs == ("prediction",) else self.outputs  # which it is without the option
        for flag, values in (("outputs", outputs), ("features", self.features), ("na", self.missing)):
            if values is not None:
                words += [f"--{flag}", joined(values)]
        for column, feature in (self.rename or {}).items():
            words += ["--rename", f"{column}={feature}"]
        single = {"threshold": self.threshold, "target": self.target, "query": self.query, "into": self.into}
        single |= {"call-rows": self.call_rows, **self.dialect}
        single["timeout"] = None if self.timeout is None else f"{self.timeout:g}"
        for flag, value in single.items():
            if value is not None:
                words += [f"--{flag}", str(value)]
        words += self._loading()
        if self.mode != "create":
            words += ["--mode", self.mode]
        if self.key:
            words += ["--key", joined(self.key)]
        if self.overwrite:
            words.append("--overwrite")
        return shlex.join([*words, "--max-rejects", str(rejected)])

    def _loading(self) -> Iterator[str]:
        """What was said of the model. A sample in memory has no name."""
        for flag, value in self.loading.items():
            for each in value if isinstance(value, list | tuple) else (value,):
                if isinstance(each, str | os.PathLike):
                    yield from (f"--{flag}", os.fspath(each))
        if self.loading.get("allow_drift"):
            yield "--allow-drift"


def named(given: Named) -> tuple[str, ...]:
    """The inputs as the user wrote them, without a secret."""
    see_input(given)
    many = (given,) if isinstance(given, str | os.PathLike) else given
    return tuple(spoken(os.fspath(each)) for each in many)


def as_path(given: str | os.PathLike[str] | None) -> str | None:
    """The output as the user wrote it, without a secret."""
    return None if given is None else spoken(os.fspath(given))


def asked(outputs: Sequence[str] | None, proba: bool, model: Model) -> tuple[str, ...] | None:
    """The outputs asked for; with proba the probabilities too, of a model with several targets those of each."""
    if not proba:
        return None if outputs is None else tuple(outputs)
    names = [each.name for each in model.signature.outputs if each.name.startswith("probability")]
    return tuple(dict.fromkeys([*(outputs or ("prediction",)), *(names or ["probability"])]))
