"""Comparison: what changes between two models on the same rows, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bimodal.batch.quality import Quality
from bimodal.batch.rejects import Allowed
from bimodal.comparison.segments import Segment
from bimodal.comparison.shift import Shift


@dataclass(frozen=True)
class Named:
    """Which model it was."""

    name: str
    version: str
    digest: str
    runtime: str


@dataclass(frozen=True)
class Refused:
    """Rows that were not compared, for one reason. by: "old", "new" or "both"."""

    by: str
    code: str
    column: str | None
    reason: str
    rows: int


@dataclass(frozen=True)
class Move:
    """How many rows went from one label to another."""

    old: str
    new: str
    rows: int


@dataclass(frozen=True)
class Row:
    """A row whose prediction changed; `row` counts from 1 within `source`."""

    row: int
    source: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Qualities:
    """Both models measured on the rows compared. better: rows that only the new model has right (of numbers: to which
    it is nearer); worse: those that only the old one had. None where a model predicts several targets.
    """

    old: Quality
    new: Quality
    better: int | None
    worse: int | None


@dataclass(frozen=True)
class Comparison:
    """What two models say of the same rows.

    kind: labels or numbers. rows: read, compared: predicted by both, refused: by one of them or by both. changed: rows
    whose label changed, of numbers whose prediction moved by more than `tolerance` of its size. moves: all pairs of
    labels that were met, those that stayed too, the largest first. shifts: of the probability of each class (of two
    classes of the second), of the score, or of the predicted number. segments: by `by`, the most changed rows first.
    first: the first changed rows. output: where all of them are.
    """

    old: Named
    new: Named
    kind: str
    rows: int
    compared: int
    changed: int
    tolerance: float
    refused: tuple[Refused, ...]
    moves: tuple[Move, ...]
    shifts: tuple[Shift, ...]
    quality: Qualities | None
    by: str | None
    segments: tuple[Segment, ...]
    first: tuple[Row, ...]
    output: str | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Changed rows of those compared."""
        return self.changed / self.compared if self.compared else 0.0

    def within(self, allowed: Allowed) -> bool:
        """Whether no more rows changed than that; a share is one of the rows compared."""
        return allowed.accepts(self.changed, self.compared)

    def told(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = {**asdict(self), "share": self.share}
        if self.quality is not None:
            told["quality"] |= {"old": self.quality.old.told(), "new": self.quality.new.told()}
        return told
