"""Search: rows on either side of the very places where a model's answer turns, found by asking the model alone.

Where thresholds are known only approximately (brought back through a scaler), or not at all, halving the way between
two rows with different answers leads to two neighbouring numbers between which the answer turns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

import numpy as np

from bimodal.compile.difference import MOVED, same
from bimodal.compile.probes import Columns, joined, slots, split
from bimodal.compile.reference import Reference
from bimodal.errors import ModelFailed
from bimodal.field import FLOATS
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.signature import Signature

MOST = 500  # places that are looked for
SECONDS = 2.0
STEPS = 64  # halvings between any two float64


def turns(reference: Reference, *, ties: bool = True, seconds: float = SECONDS) -> Rows:
    """Up to 2 · MOST rows: pairs that differ in one number by one unit in its last place, and in the answer.

    ties: also those whose numbers hardly differ, between which only the label turns. What is not the same to the last
    bit cannot be asked to break such a tie alike.
    """
    signature, typical = reference.signature, reference.typical
    random = np.random.default_rng(reference.probes.seed)

    def drawn() -> Columns:
        return split(signature, typical.take(random.integers(0, typical.count, MOST)))

    places = [at for at, each in enumerate(slots(signature)) if each.field.type in FLOATS and not each.field.closed]
    if not places:
        return typical.slice(0, 0)
    until = time.perf_counter() + seconds
    search = _Search(reference.native, signature, drawn(), random.choice(places, MOST))
    with contextlib.suppress(ModelFailed):  # where the model raises on the way, what was found by then is given
        search.toward(drawn())
        for _ in range(STEPS):
            if not search.open.any() or time.perf_counter() > until:
                break
            search.halve()
        if not ties:
            search.leave_out_ties(reference.sizes)
    return search.rows()


class _Search:
    """Many searches side by side: row i moves in the column `which[i]` from `here` to `there`."""

    def __init__(self, native: Runtime, signature: Signature, base: Columns, which: Array) -> None:
        self._native, self._signature, self._base, self._which = native, signature, base, which
        self._names = [each.name for each in signature.outputs]
        labels = [each.name for each in signature.outputs if each.type not in FLOATS]
        self._by_label = np.arange(len(which)) % 2 == 0 if labels else np.zeros(len(which), bool)
        self._labels: Sequence[str] = labels
        self.here = self.there = self._picked(base)
        self._found = np.zeros(len(which), bool)

    def _picked(self, columns: Columns) -> Array:
        return np.array([columns[slot][row] for row, slot in enumerate(self._which)], np.float64)

    def toward(self, others: Columns) -> None:
        """Keep the searches whose answer is another one there."""
        self.there = self._picked(others)
        finite = np.isfinite(self.here) & np.isfinite(self.there)
        self._first = self._answers(self.here)
        self.open = finite & self._differs(self.there) & (self.here != self.there)
        self._found = self.open.copy()

    def halve(self) -> None:
        middle = _middle(self.here, self.there)
        self.open &= (middle != self.here) & (middle != self.there)
        turned = self._differs(np.where(self.open, middle, self.here))
        self.there = np.where(self.open & turned, middle, self.there)
        self.here = np.where(self.open & ~turned, middle, self.here)

    def leave_out_ties(self, sizes: Mapping[str, float]) -> None:
        """Of searches whose two ends have the same numbers but for rounding. sizes: of each output's numbers."""
        if not sizes:
            return
        here, there = self._answers(self.here), self._answers(self.there)
        with np.errstate(all="ignore"):
            jumps = [
                np.abs(here[name] - there[name]) > MOVED["float64"] * np.maximum(np.abs(here[name]), size)
                for name, size in sizes.items()
            ]
        self._found &= np.logical_or.reduce([~_rows(~each) for each in jumps])

    def rows(self) -> Rows:
        """Both ends of every search that began."""
        ends = [self._moved(values) for values in (self.here, self.there)]
        both = Rows.concat(ends)
        return both.take(np.tile(self._found, 2))

    def _moved(self, values: Array) -> Rows:
        columns = [column.copy() for column in self._base]
        for slot in np.unique(self._which):
            rows = np.flatnonzero(self._which == slot)
            columns[slot][rows] = values[rows]
        return joined(self._signature, columns)

    def _answers(self, values: Array) -> dict[str, Array]:
        answer = self._native.run(self._moved(values), self._names)
        return {name: answer.array(name) for name in self._names}

    def _differs(self, values: Array) -> Array:
        """Whose answer is not the first one: in any bit, or for every other row in its label alone."""
        answers = self._answers(values)
        equal = {name: _rows(same(self._first[name], each)) for name, each in answers.items()}
        any_bit = ~np.logical_and.reduce(list(equal.values()))
        if not self._labels:
            return np.asarray(any_bit)
        label = ~np.logical_and.reduce([equal[name] for name in self._labels])
        return np.asarray(np.where(self._by_label, label, any_bit))


def _rows(equal: Array) -> Array:
    return np.asarray(equal.reshape(len(equal), -1).all(axis=1))


def _middle(one: Array, other: Array) -> Array:
    """Half-way in the order of float64 numbers: at most 64 halvings lead from any to any other."""
    first, second = _place(one), _place(other)
    # not (first + second) / 2, which would overflow
    return _value((first & second) + ((first ^ second) >> 1))


def _place(values: Array) -> Array:
    whole = np.ascontiguousarray(values, np.float64).view(np.int64)
    return np.where(whole < 0, np.int64(np.iinfo(np.int64).min) - whole, whole)


def _value(places: Array) -> Array:
    whole = np.where(places < 0, np.int64(np.iinfo(np.int64).min) - places, places)
    return whole.view(np.float64)
