"""Sums of floats without a rounding: the same number in whatever pieces, and in whatever order, they are added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FINEST = 1074  # 2**-1074 is the smallest float64 above 0; every finite one is a whole number of them
SHIFT = FINEST + 52  # below it nothing stands, though the fraction of such a small one is read with 53 bits
HALF = 26  # bits of the lower half of a fraction
BLOCK = 1 << 20  # the halves of so many fractions add up within 2**53, where float64 is exact
SPLITTER = float(2**27 + 1)


def exact_sum(values: NDArray[np.float64]) -> int:
    """The sum of finite numbers, in units of 2**-1074."""
    return sum(_block(values[start : start + BLOCK]) for start in range(0, len(values), BLOCK))


def _block(values: NDArray[np.float64]) -> int:
    fractions, exponents = np.frexp(values)
    whole = np.ldexp(fractions, 53).astype(np.int64)
    places = exponents + (SHIFT - 53)
    upper = np.bincount(places, weights=(whole >> HALF).astype(np.float64))
    lower = np.bincount(places, weights=(whole & ((1 << HALF) - 1)).astype(np.float64))
    total = 0
    for place in np.flatnonzero((upper != 0) | (lower != 0)).tolist():
        total += ((int(upper[place]) << HALF) + int(lower[place])) << place
    return total >> (SHIFT - FINEST)


def mean(total: int, count: int) -> float:
    """A sum by a count, correctly rounded."""
    return total / (count << FINEST)


def square(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The squares as two parts whose sum is exact (Dekker 1971), where neither overflows nor underflows."""
    product = values * values
    wide = values * SPLITTER
    upper = wide - (wide - values)
    lower = values - upper
    rest = ((upper * upper - product) + 2 * (upper * lower)) + lower * lower
    return product, rest


def packed(total: int) -> bytes:
    """A sum in a few bytes: how many zero bytes it ends with, then the others."""
    if not total:
        return b""
    zeros = ((total & -total).bit_length() - 1) // 8
    kept = total >> (8 * zeros)
    return zeros.to_bytes(2, "little") + kept.to_bytes(kept.bit_length() // 8 + 1, "little", signed=True)


def unpacked(data: bytes) -> int:
    """The sum that `packed` wrote."""
    return int.from_bytes(data[2:], "little", signed=True) << (8 * int.from_bytes(data[:2], "little"))
