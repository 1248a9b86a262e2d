"""Plan: everything that decides what a run writes, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import msgspec

from bimodal.batch.sources.contract import CHUNK_ROWS


@dataclass(frozen=True)
class Plan:
    """Two runs of equal plans write the same bytes.

    source: the fingerprint of the input's content (empty for standard input, which has no second reading).
    features: the columns that feed the model, in order. kept: the columns that are carried. missing: what stands for
    a missing value. sink: the format and compression of the output, not its place.
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
    rows: int = CHUNK_ROWS

    @cached_property
    def key(self) -> str:
        """The plan's digest."""
        return hashlib.sha256(msgspec.json.encode(asdict(self), order="sorted")).hexdigest()

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
        """For the run record."""
        return {**asdict(self), "key": self.key}
