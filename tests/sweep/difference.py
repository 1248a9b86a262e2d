"""Difference: an answer beside the library's own, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Answers = Mapping[str, Array]


@dataclass(frozen=True)
class Difference:
    """labels: rows whose label differs (or whose number is missing on one side alone). bits: rows in which a number has
    other bits. ulp, share: the largest difference of a number, in units in the last place of its own type, and as a
    share of the largest number of its output.
    """

    labels: int = 0
    bits: int = 0
    ulp: int = 0
    share: float = 0.0

    def __or__(self, other: Difference) -> Difference:
        """The larger of each."""
        return Difference(
            max(self.labels, other.labels),
            max(self.bits, other.bits),
            max(self.ulp, other.ulp),
            max(self.share, other.share),
        )

    @property
    def none(self) -> bool:
        return self == Difference()


def difference(own: Answers, ours: Answers) -> Difference:
    """Both hold the same outputs, [rows, …], the library's in the library's own types."""
    assert list(own) == list(ours)
    found = Difference()
    for name, values in own.items():
        found |= _compared(values, ours[name])
    return found


def _compared(own: Array, ours: Array) -> Difference:
    assert own.shape == ours.shape, (own.shape, ours.shape)
    if own.dtype.kind != "f":
        return Difference(labels=_rows(own.astype(object) != ours.astype(object)))
    ours = ours.astype(own.dtype)
    missing = np.isnan(own) != np.isnan(ours)
    other = np.where(np.isnan(own), False, _ordered(own) != _ordered(ours))
    if not other.any():
        return Difference(labels=_rows(missing))
    far = np.abs(_ordered(own) - _ordered(ours))[other & ~missing]
    known = np.abs(own[np.isfinite(own)])
    with np.errstate(invalid="ignore"):  # infinity less infinity
        apart = np.nan_to_num(np.abs(own.astype(np.float64) - ours))[other & ~missing]
    share = float(apart.max(initial=0) / known.max()) if known.size and known.max() else float(apart.max(initial=0))
    return Difference(_rows(missing), _rows(other), int(far.max(initial=0)), share)


def _rows(differs: Array) -> int:
    return int(np.asarray(differs, bool).reshape(len(differs), -1).any(axis=1).sum())


def _ordered(values: Array) -> Array:
    """The bits as integers in the order of the numbers, so that neighbours differ by one; -0 is next below 0."""
    size = 8 * values.dtype.itemsize
    bits = np.ascontiguousarray(values).view(f"int{size}").astype(np.int64)
    least = np.int64(-(2 ** (size - 1)))
    return np.where(bits < 0, least - bits - 1, bits)
