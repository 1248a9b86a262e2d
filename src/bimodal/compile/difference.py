"""Difference: two answers to the same rows, by the bits, by rounding, by size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bimodal.field import FLOATS, Field
from bimodal.rows import Array, Rows

MOVED = {"float64": 1e-9, "float32": 1e-5}  # "close"


@dataclass(frozen=True)
class Rule:
    """kind: bits, rounding or close. moved: the share of an answer's size beyond which a row changed leaf. terms: for
    Rows, the sum of the magnitudes of the terms of each row's score [rows], and width: how many terms there are."""

    kind: str
    moved: float = MOVED["float64"]
    width: int = 1
    terms: Callable[[Rows], Array] | None = None


@dataclass(frozen=True)
class Given:
    """What the native model gave for one output. low, high: the least and the largest number that it gave each row in
    any company. size: how large its numbers usually are."""

    base: Array
    low: Array
    high: Array
    size: float


@dataclass(frozen=True)
class Differences:
    """One output of all rows. labels, bits, leaves, beyond: bool [rows], whether the label differs, any bit does, a
    number moved to another leaf, a number is none that the rule allows. ulp, absolute: the largest, None: no number."""

    labels: Array
    bits: Array
    leaves: Array
    beyond: Array
    ulp: int | None = 0
    absolute: float | None = 0.0

    def within(self, rows: Array) -> Differences:
        """Without the labels and numbers of other rows than these."""
        return replace(self, labels=self.labels & rows, beyond=self.beyond & rows)

    @classmethod
    def of(cls, each: Field, given: Given, ours: Array, rule: Rule, terms: Array | None) -> Differences:
        native = given.base
        equal = same(native, ours)
        bits = ~by_row(equal)
        none = np.zeros(len(bits), bool)
        if each.type not in FLOATS:
            return cls(bits, bits, none, none)
        with np.errstate(all="ignore"):
            apart = np.where(equal | (native == ours), 0.0, np.abs(native.astype(np.float64) - ours))
            apart = np.where(np.isnan(apart), np.inf, apart)
            size = np.maximum(np.abs(native.astype(np.float64)), given.size)
            leaves = ~by_row(equal | (apart <= rule.moved * size))
            low, high = given.low.astype(np.float64), given.high.astype(np.float64)
            outside = np.maximum(np.maximum(low - ours, ours - high), 0.0)
            outside = np.where(equal, 0.0, np.where(np.isnan(outside), np.inf, outside))
            if rule.kind == "bits":
                beyond = bits
            elif rule.kind == "rounding":
                allowed = _allowed(each, size, rule, terms)
                beyond = ~by_row(equal | (outside <= allowed))
                leaves = none  # a row of a sum has no leaf; what it may differ by is told by its terms
            else:
                beyond = none
        largest = float(apart.max(initial=0.0))
        return cls(none, bits, leaves, beyond, _ulps(native, ours, equal), largest if math.isfinite(largest) else None)


def _allowed(each: Field, size: Array, rule: Rule, terms: Array | None) -> Array:
    """What rounding may add, for each number of an output. A probability moves by less than its score."""
    unit = float(np.finfo(each.type).eps)
    if terms is not None:
        wide = terms.reshape(-1, *([1] * (size.ndim - 1)))
        size = np.maximum(size, wide + 1.0 if each.name.startswith("probability") else wide)
    return (4 + 2 * math.sqrt(rule.width)) * unit * size


def same(one: Array, other: Array) -> Array:
    """Elementwise: the same bits, or both no number; for other types, equal values, or both null."""
    if one.dtype.kind == "f" and one.dtype == other.dtype:
        whole = f"i{one.dtype.itemsize}"
        bits = np.ascontiguousarray(one).view(whole) == np.ascontiguousarray(other).view(whole)
        return np.asarray(bits | (np.isnan(one) & np.isnan(other)))
    equal = np.asarray(one == other)
    if one.dtype == object or other.dtype == object:
        null = np.asarray(one != one) & np.asarray(other != other)  # NaN is not itself
        kinds = np.frompyfunc(lambda a, b: isinstance(a, str) == isinstance(b, str), 2, 1)(one, other).astype(bool)
        return np.asarray((equal.astype(bool) & kinds) | null.astype(bool))
    return equal


def by_row(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), -1).all(axis=1))


def _ulps(one: Array, other: Array, equal: Array) -> int | None:
    """The largest difference in units in the last place; None where one side is no number."""
    if equal.all():
        return 0
    if not np.array_equal(np.isnan(one), np.isnan(other)):
        return None
    places, others = _ordered(one[~equal]), _ordered(other[~equal])
    return int(max(abs(int(a) - int(b)) for a, b in zip(places.tolist(), others.tolist(), strict=True)))


def _ordered(values: Array) -> Array:
    """Floats as integers in the same order, neighbours one apart; both zeros are 0."""
    whole = np.ascontiguousarray(values).view(f"i{values.dtype.itemsize}").astype(np.int64)
    least = np.int64(np.iinfo(f"i{values.dtype.itemsize}").min)
    return np.where(whole < 0, least - whole, whole)
