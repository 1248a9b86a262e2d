"""Segments: the rows by the values of a column, or by ranges of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bimodal.batch.sources.contract import MISSING
from bimodal.batch.targets import numbers_of, shown

FEW = 20  # different numbers up to which each is a segment of its own
RANGES = 10
MOST = 10_000  # segments that are counted apart; rows of further values are counted together
ABSENT, OTHERS = "(missing)", "(others)"


@dataclass(frozen=True)
class Segment:
    """value: of the column, or a range of it. shift: the mean of new less old of the first number, None without one."""

    value: str
    rows: int
    changed: int
    shift: float | None

    @property
    def share(self) -> float:
        return self.changed / self.rows


class Segments:
    """Counts by segment. A column of numbers with more than FEW different ones in the first chunk is cut at that
    chunk's deciles; any other by its values, as they stand.
    """

    def __init__(self, mark: str = ".") -> None:
        self._mark = mark  # the decimal mark of numbers that are text
        self._bounds: NDArray[np.float64] | None = None
        self._settled = False
        self._counts: dict[str, list[Any]] = {}

    def add(self, column: pa.ChunkedArray, changed: NDArray[np.bool_], steps: NDArray[np.float64] | None) -> None:
        """column: of the rows compared. steps: how far the first number moved, NaN where it is not known."""
        if not self._settled and len(column):
            self._bounds, self._settled = _bounds(column, self._mark), True
        places, names = self._named(column)
        known = np.zeros(len(places)) if steps is None else np.nan_to_num(steps, posinf=0, neginf=0)
        sound = np.zeros(len(places)) if steps is None else np.isfinite(steps)
        width = len(names)
        columns = [np.bincount(places, weights, width) for weights in (None, changed, known, sound)]
        for name, rows, moved, total, many in zip(names, *columns, strict=True):
            if rows:
                kept = name if name in self._counts or len(self._counts) < MOST else OTHERS
                counts = self._counts.setdefault(kept, [0, 0, 0.0, 0])
                for at, more in enumerate((int(rows), int(moved), float(total), int(many))):
                    counts[at] += more

    def told(self) -> tuple[Segment, ...]:
        """Those with the most changed rows first."""
        found = [
            Segment(name, rows, changed, total / many if many else None)
            for name, (rows, changed, total, many) in self._counts.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.changed, -each.rows, each.value)))

    def _named(self, column: pa.ChunkedArray) -> tuple[NDArray[np.intp], list[str]]:
        """For each row the place of its segment's name."""
        if self._bounds is not None:
            values = numbers_of(column, MISSING, self._mark).values
            places = np.searchsorted(self._bounds, values, "right")
            places[np.isnan(values)] = len(self._bounds) + 1
            return places, [*_ranges(self._bounds), ABSENT]
        array = _plain(column)
        names = [ABSENT if _absent(value) else shown(value) for value in array.dictionary.to_pylist()]
        return np.asarray(array.indices.fill_null(len(names))).astype(np.intp), [*names, ABSENT]


def _bounds(column: pa.ChunkedArray, mark: str) -> NDArray[np.float64] | None:
    """Between the ranges, or None for a column that is taken by its values."""
    numbers = numbers_of(column, MISSING, mark)
    values = numbers.values[~np.isnan(numbers.values)]
    if numbers.unreadable or numbers.kind == "booleans" or len(np.unique(values)) <= FEW:
        return None
    return np.unique(np.quantile(values, np.arange(1, RANGES) / RANGES, method="inverted_cdf"))


def _ranges(bounds: NDArray[np.float64]) -> list[str]:
    """The names of the ranges, one more than there are bounds; a bound belongs to the range above it."""
    told = [f"{each:.6g}" for each in bounds.tolist()]
    between = [f"{low} to {high}" for low, high in pairwise(told)]
    return [f"below {told[0]}", *between, f"{told[-1]} and more"]


def _plain(column: pa.ChunkedArray) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_nested(kind) or pa.types.is_null(kind):
        column = pa.chunked_array(
            [pa.array([None if each is None else str(each) for each in column.to_pylist()], pa.string())]
        )
    encoded = pc.dictionary_encode(column.combine_chunks())
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value)
