"""Spread: what a library gives for the same rows, and whether other answers agree with it.

bits      every bit is the same.
rounding  labels are equal; numbers lie within what the library gives itself, or a billionth beside it.
close     ONNX: labels are equal; numbers within a billionth (float64) or a hundred-thousandth (float32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.rows import Array

BITS, ROUNDING, CLOSE64, CLOSE32 = "bits", "rounding", "close (float64)", "close (float32)"
SHARES = {BITS: 0.0, ROUNDING: 1e-9, CLOSE64: 1e-9, CLOSE32: 1e-5}  # of an answer's size, or of its usual size
Places = list[tuple[str, NDArray[np.intp]]]  # rows, by output


@dataclass(frozen=True)
class Spread:
    """Several answers of the library to the same rows, as flat columns: numbers from `low` to `high`; other values in
    `labels`, as many arrays as answers.
    """

    low: dict[str, Array]
    high: dict[str, Array]
    labels: dict[str, list[list[Any]]]
    narrow: frozenset[str]  # the outputs whose numbers have fewer digits than float64
    steady: bool

    @classmethod
    def of(cls, answers: Sequence[pa.Table]) -> Spread:
        low: dict[str, Array] = {}
        high: dict[str, Array] = {}
        labels: dict[str, list[list[Any]]] = {}
        steady = True
        for name in answers[0].column_names:
            columns = [each.column(name) for each in answers]
            if not pa.types.is_floating(columns[0].type):
                labels[name] = [column.to_pylist() for column in columns]
                steady &= all(values == labels[name][0] for values in labels[name])
                continue
            numbers = np.stack([numbers_of(column) for column in columns])
            low[name], high[name] = np.fmin.reduce(numbers), np.fmax.reduce(numbers)
            steady &= bool((_bits(numbers) == _bits(numbers[0])).all())
        narrow = [each.name for each in answers[0].schema if each.type in (pa.float32(), pa.float16())]
        return cls(low, high, labels, frozenset(narrow), steady)

    def value(self, name: str, place: int) -> Any:
        """The answer to a row, to be shown."""
        if name in self.labels:
            return self.labels[name][0][place]
        return self.low[name][place].item() if name in self.low else None

    def compare(self, given: pa.Table, share: float, *, exact: bool) -> tuple[Places, float]:
        """By output, the rows whose answer is outside of the rule; and the largest difference of a number.

        share: of a number's size (at least its usual size; 1 for probabilities), beyond the spread. exact: every bit.
        """
        found: Places = []
        largest = 0.0
        names = [*self.labels, *self.low]
        for name in (*names, *(each for each in given.column_names if each not in names)):
            if name not in given.column_names or name not in names or len(given) != self.count:
                found.append((name, np.arange(self.count)))
                continue
            if name in self.labels:
                other = _unlike(self.labels[name], given.column(name).to_pylist())
            else:
                numbers = numbers_of(given.column(name))
                other, moved = self._moved(name, numbers, share, exact=exact)
                largest = max(largest, moved)
            if len(other):
                found.append((name, other))
        return found, largest

    @property
    def count(self) -> int:
        first = next(iter(self.low.values()), None)
        return len(first) if first is not None else len(next(iter(self.labels.values()))[0])

    def _moved(self, name: str, numbers: Array, share: float, *, exact: bool) -> tuple[NDArray[np.intp], float]:
        low, high = self.low[name], self.high[name]
        with np.errstate(invalid="ignore"):  # infinity less infinity
            beyond = np.maximum(np.maximum(low - numbers, numbers - high), 0.0)
        beyond[(numbers == low) | (numbers == high) | (np.isnan(numbers) & np.isnan(low))] = 0.0
        beyond[np.isnan(beyond)] = np.inf
        if exact:
            other = _bits(numbers) != _bits(low)
        else:
            finite = np.abs(low[np.isfinite(low)])
            usual = 1.0 if name.startswith("probability") else float(np.median(finite)) if finite.size else 0.0
            if name in self.narrow:
                share = max(share, SHARES[CLOSE32])
            other = beyond > share * np.maximum(np.where(np.isfinite(low), np.abs(low), 0.0), usual)
        return np.flatnonzero(other), float(beyond.max(initial=0.0))


def numbers_of(column: pa.ChunkedArray) -> Array:
    """A column of numbers as float64; null is NaN."""
    if not pa.types.is_floating(column.type):
        return np.full(len(column), np.nan)
    return np.asarray(column.to_numpy(), np.float64)


def _bits(numbers: Array) -> Array:
    """The bits of float64; every NaN has the same ones, since none of the wires carries the others."""
    return np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)


def _unlike(known: Sequence[Sequence[Any]], given: Sequence[Any]) -> NDArray[np.intp]:
    """The rows with a label that the library gives in none of its answers."""
    return np.array(
        [place for place, value in enumerate(given) if all(value != each[place] for each in known)], np.intp
    )
