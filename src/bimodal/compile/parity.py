"""Parity: a candidate's answers beside the native ones, on the same probes, in every company.

The native model is asked once, at several numbers of rows a call (`Reference`); each candidate is then compared with
what it said. Three rules, from the strictest:

bits      the library gives a row the same bits in any company, and the candidate claims to give those: all are equal.
rounding  the library itself gives a row other bits in other company (BLAS chooses its order of summation by the shape
          of the call). The candidate gives the same bits in any company; its numbers lie within what the library
          itself gave, or beyond it by no more than the rounding of the row's own sum: 4 + 2·sqrt(terms) units in the
          last place of the sum of the terms' magnitudes (not of the result, which may be near zero after
          cancellation). A label may differ only where the library gives that very label to the row in other company.
          Rows whose terms add up to more than float64 holds are counted apart: there the library's answer hangs on
          whether its processor fuses a product and a sum, and on nothing that could be promised.
close     for ONNX. All labels are equal, and no number moved by more than 1e-9 (float64) or 1e-5 (float32) of the
          answer's own size or, for small answers, of its usual size; for probabilities, of 1. float32 keeps 6e-8 and a
          sum of some hundred terms 1e-6: what moved further reached another leaf.

A row on which the native model raises must make the candidate raise too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bimodal.compile.probes import Group, Probes, encoded
from bimodal.compile.report import Counter, Parity
from bimodal.errors import BimodalError, NotCompiled
from bimodal.field import FLOATS, Field
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.signature import Signature

SIZES = (1, 2, 7, 64, 1000)  # rows a call
WHOLE = SIZES[-1]
THREADS = 4
FEW = 0.01  # the share of probes that the native model may refuse; beyond it, they say too little of it
SECONDS = 0.5  # of calling, for each number of rows a call; at least LEAST rows all the same
LEAST = 64
AGAIN = (1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 100, 256)  # company in which a row is asked again whose label differs
MOVED = {"float64": 1e-9, "float32": 1e-5}  # "close"
Answers = dict[str, Array]


@dataclass(frozen=True)
class Rule:
    """kind: bits, rounding or close. moved: the share of an answer's size beyond which a row changed leaf. terms: for
    Rows, the sum of the magnitudes of the terms of each row's score [rows], and width: how many terms there are."""

    kind: str
    moved: float = MOVED["float64"]
    width: int = 1
    terms: Callable[[Rows], Array] | None = None


class Reference:
    """What the native model answers on the probes, at each number of rows a call."""

    def __init__(self, native: Runtime, probes: Probes, signature: Signature, *, seconds: float = SECONDS) -> None:
        self.native, self.probes, self.signature = native, probes, signature
        self.names = [each.name for each in signature.outputs]
        self.seconds = seconds
        self._random = np.random.default_rng(probes.seed)
        asked = probes.rows
        self.base, good = self._first(asked)
        self.places = np.flatnonzero(good)  # of the answered rows among the probes
        self.rows, self.refused = asked.take(good), asked.take(~good)
        answers, good = self._first(probes.typical)
        self.typical = probes.typical.take(good)
        self.sizes = {name: _usual(name, values) for name, values in answers.items() if values.dtype.kind == "f"}
        self._arrange()
        self._ask()

    def _arrange(self) -> None:
        self.texts = encoded(self.rows)
        self.orders = {size: self._random.permutation(self.rows.count) for size in SIZES}

    def _first(self, rows: Rows) -> tuple[Answers, Array]:
        """The answers, and which rows have one: those of a call that raises are asked in halves, down to the guilty
        row. Raises NotCompiled where these are more than a few.
        """
        good = np.ones(rows.count, bool)
        bad, most = 0, max(FEW * rows.count, 4)
        parts: list[Answers] = []
        waiting = [(start, min(start + WHOLE, rows.count)) for start in range(0, rows.count, WHOLE)][::-1]
        while waiting:
            start, stop = waiting.pop()
            try:
                answer = self.native.run(rows.slice(start, stop), self.names)
                parts.append({name: answer.array(name) for name in self.names})
            except BimodalError:
                if stop - start > 1:
                    middle = (start + stop) // 2
                    waiting += [(middle, stop), (start, middle)]
                    continue
                good[start] = False
                bad += 1
                if bad > most:
                    raise NotCompiled(
                        f"the model itself raises on more than {FEW:.0%} of the rows that its signature takes"
                    ) from None
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}, good

    def _ask(self) -> None:
        self.calls: dict[int, int] = {}
        self.repeats = all(bool(same(self.base[name], each).all()) for name, each in self._whole(self.texts).items())
        self.low = {name: values.copy() for name, values in self.base.items() if values.dtype.kind == "f"}
        self.high = {name: values.copy() for name, values in self.low.items()}
        self.steady = True
        for size in SIZES:
            order = self.orders[size]
            answers, asked = ask(self.native, self.rows, order, size, self.names, self.seconds)
            self.calls[size] = len(asked)
            for name, values in answers.items():
                self.steady &= bool(same(self.base[name][asked], values).all())
                if name in self.low:
                    self.low[name][asked] = np.fmin(self.low[name][asked], values)
                    self.high[name][asked] = np.fmax(self.high[name][asked], values)

    def widened(self, name: str, rows: Rows) -> Reference:
        """The same with further probes; as it was, where the library is not steady on these."""
        if not rows.count:
            return self
        more = Reference(self.native, Probes((Group(name, rows),), self.probes.typical, 0, self.probes.seed),
                         self.signature, seconds=self.seconds)  # fmt: skip
        if not more.steady:
            return self
        both = copy(self)
        both.places = np.concatenate([self.places, more.places + self.probes.count])
        both.probes = self.probes.with_group(name, rows)
        both.rows = Rows.concat([self.rows, more.rows])
        both.refused = Rows.concat([self.refused, more.refused])
        for which in ("base", "low", "high"):
            one, other = getattr(self, which), getattr(more, which)
            setattr(both, which, {key: np.concatenate([one[key], other[key]]) for key in one})
        both.repeats = self.repeats and more.repeats
        both.calls = {size: self.calls[size] + more.calls[size] for size in SIZES}
        both._arrange()
        return both

    def _whole(self, rows: Rows) -> Answers:
        answers, _ = ask(self.native, rows, np.arange(rows.count), WHOLE, self.names, math.inf)
        return answers

    @property
    def spread(self) -> float:
        """The largest difference between two answers of the library itself to one row."""
        with np.errstate(invalid="ignore", over="ignore"):
            widths = [self.high[name].astype(np.float64) - self.low[name] for name in self.low]
        finite = [np.nanmax(each[np.isfinite(each)], initial=0.0) for each in widths]
        return float(max(finite, default=0.0))

    def gives(self, place: int, name: str, label: object) -> bool:
        """Whether the library gives this label to the row in some company."""
        count = self.rows.count
        for size in AGAIN:
            for _ in range(2):
                company = self._random.integers(0, count, size)
                at = int(self._random.integers(0, size))
                company[at] = place
                answer = self.native.run(self.rows.take(company), [name]).array(name)
                if bool(same(answer[at : at + 1], np.asarray([label], answer.dtype)).all()):
                    return True
        return False


def _usual(name: str, values: Array) -> float:
    """The usual size of an output on ordinary rows: 1 for probabilities."""
    if name.startswith("probability"):
        return 1.0
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    return float(np.median(finite)) if finite.size else 0.0


def ask(
    runtime: Runtime, rows: Rows, order: Array, size: int, names: Sequence[str], seconds: float
) -> tuple[Answers, Array]:
    """Answers to the rows in this order, `size` a call, until the time is over; and which rows those are."""
    parts: list[Answers] = []
    start, asked = time.perf_counter(), 0
    for chosen in _pieces(order, size):
        if asked >= LEAST and time.perf_counter() - start > seconds:
            break
        answer = runtime.run(rows.take(chosen), names)
        parts.append({name: answer.array(name) for name in names})
        asked += len(chosen)
    return {name: np.concatenate([part[name] for part in parts]) for name in names}, order[:asked]


def _pieces(order: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


# -- comparing ---------------------------------------------------------------------------------------------------------


def compare(reference: Reference, candidate: Runtime, rule: Rule) -> Parity:
    """The candidate beside the native answers, by the rule. What it raises is a reason not to pass."""
    try:
        return _Comparison(reference, candidate, rule).parity()
    except BimodalError as error:
        return Parity(reference.rows.count, reason=f"it raises where the model answers: {error.message}")


@dataclass
class _Comparison:
    reference: Reference
    candidate: Runtime
    rule: Rule
    calls: dict[int, int] = field(default_factory=dict)
    unsteady: tuple[int, int] | None = None  # a row with other bits in other company, and how large a company
    overflows: int = 0
    strayed: tuple[int, int] | None = None  # a row with another label there, or a number that is no rounding away

    def parity(self) -> Parity:
        reference = self.reference
        names = reference.names
        self.base, _ = ask(self.candidate, reference.rows, np.arange(reference.rows.count), WHOLE, names, math.inf)
        wrong = self._wrong_types()
        if wrong:
            return Parity(reference.rows.count, reason=wrong)
        self._in_company()
        found = self._found()
        labels, wavering = self._labels(found)
        reason, counter = self._verdict(found, labels)
        return Parity(
            rows=reference.rows.count,
            refused=reference.refused.count,
            labels=len(labels),
            wavering=wavering,
            overflows=self.overflows,
            spread=reference.spread,
            steady=self.unsteady is None,
            calls=self.calls,
            threads=THREADS,
            **_counts(found),
            reason=reason,
            counter=counter,
        )

    def _wrong_types(self) -> str | None:
        for name, values in self.base.items():
            native = self.reference.base[name]
            if values.shape != native.shape or values.dtype != native.dtype:
                given, needed = f"{values.dtype}{values.shape[1:]}", f"{native.dtype}{native.shape[1:]}"
                return f"it gives {name} as {given} where the model gives {needed}"
        return None

    def _answers_refused(self) -> int | None:
        """The place of a row that the candidate answers though the model itself raises, if there is one."""
        refused = self.reference.refused
        for place in range(refused.count):
            try:
                self.candidate.run(refused.slice(place, place + 1), self.reference.names)
            except BimodalError:
                continue
            return place
        return None

    def _in_company(self) -> None:
        """Every row again: in calls of every size, with texts encoded, in other memory, from several threads."""
        reference, names = self.reference, self.reference.names
        for size in SIZES:
            rows = reference.texts if size in (2, 64) else reference.rows
            answers, asked = ask(self.candidate, rows, reference.orders[size], size, names, reference.seconds)
            self.calls[size] = len(asked)
            self._look(answers, asked, size)
        everything = np.arange(reference.rows.count)
        for rows in (reference.texts, laid_out(reference.rows)):
            answers, asked = ask(self.candidate, rows, everything, rows.count, names, math.inf)
            self._look(answers, asked, rows.count)
        with ThreadPoolExecutor(THREADS) as pool:
            for answers, asked in pool.map(self._one_thread, range(THREADS)):
                self._look(answers, asked, 64)

    def _one_thread(self, number: int) -> tuple[Answers, Array]:
        reference = self.reference
        order = np.roll(reference.orders[64], number * reference.rows.count // THREADS)
        rows = reference.texts if number % 2 else reference.rows
        return ask(self.candidate, rows, order, 64, reference.names, reference.seconds / THREADS)

    def _look(self, answers: Answers, asked: Array, size: int) -> None:
        """Note the first of the rows asked whose bits are not the ones it had at first, and the first that strayed."""
        for name, values in answers.items():
            first = self.base[name][asked]
            equal = same(first, values)
            if equal.all():
                continue
            place = int(asked[np.flatnonzero(~_by_row(equal))[0]])
            self.unsteady = self.unsteady or (place, size)
            far = ~_by_row(equal | self._near(name, first, values))
            if far.any():
                self.strayed = self.strayed or (int(asked[np.flatnonzero(far)[0]]), size)

    def _near(self, name: str, one: Array, other: Array) -> Array:
        if one.dtype.kind != "f":
            return np.zeros(one.shape, bool)
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(one.astype(np.float64)), self.reference.sizes.get(name, 0.0))
            return np.asarray(np.abs(one.astype(np.float64) - other) <= self.rule.moved * size)

    def _found(self) -> dict[str, Differences]:
        reference = self.reference
        terms = self.rule.terms(reference.rows) if self.rule.terms is not None else None
        fields = {each.name: each for each in reference.signature.outputs}
        found = {
            name: Differences.of(fields[name], reference, self.base[name], self.rule, terms) for name in reference.names
        }
        if terms is None:
            return found
        beyond = ~np.isfinite(terms)
        self.overflows = int(
            (np.logical_or.reduce([each.labels | each.beyond for each in found.values()]) & beyond).sum()
        )
        return {name: each.within(~beyond) for name, each in found.items()}

    def _labels(self, found: dict[str, Differences]) -> tuple[list[int], int]:
        """Rows whose labels differ; and how many more the library itself labels either way."""
        firm: list[int] = []
        wavering = 0
        for name, each in found.items():
            for place in np.flatnonzero(each.labels):
                if self._wavers(int(place), name, len(firm)):
                    wavering += 1
                else:
                    firm.append(int(place))
        return firm, wavering

    def _wavers(self, place: int, name: str, firm: int) -> bool:
        """Only under the rule of rounding, and only while there is still hope."""
        if self.rule.kind != "rounding" or firm or self.reference.base[name].ndim > 1:
            return False
        return self.reference.gives(place, name, self.base[name][place])

    def _verdict(self, found: dict[str, Differences], labels: list[int]) -> tuple[str | None, Counter | None]:
        """Why it does not pass, and the row that shows it."""
        reference = self.reference
        if not reference.repeats:
            return "the model itself does not give the same answers twice", None
        if labels:
            return _many(len(labels), "label differs", "labels differ"), self._counter(labels[0])
        for kind, one, several in (
            ("leaves", "row changed beyond rounding", "rows changed beyond rounding"),
            ("beyond", "row differs", "rows differ"),
        ):
            rows = np.logical_or.reduce([getattr(each, kind) for each in found.values()])
            if rows.any():
                return _many(int(rows.sum()), one, several), self._counter(int(np.flatnonzero(rows)[0]))
        other = self.unsteady if reference.steady or self.rule.kind != "close" else self.strayed
        if other is not None:
            return "it gives a row other bits in other company", self._counter(*other)
        answered = self._answers_refused()
        if answered is not None:
            return "it answers a row on which the model itself raises", self._refusal(answered)
        return None, None

    def _counter(self, place: int, size: int = WHOLE) -> Counter:
        reference = self.reference
        alone = reference.rows.slice(place, place + 1)
        ours = {name: values[place : place + 1] for name, values in self.base.items()}
        if size != WHOLE:  # in that company it answered otherwise
            order = reference.orders.get(size, np.arange(reference.rows.count))
            at = int(np.flatnonzero(order == place)[0]) // size * size
            chosen = order[at : at + size]
            again = self.candidate.run(reference.rows.take(chosen), reference.names)
            where = int(np.flatnonzero(chosen == place)[0])
            ours = {name: again.array(name)[where : where + 1] for name in again}
        native = {name: values[place : place + 1] for name, values in reference.base.items()}
        group = reference.probes.group_of(int(reference.places[place]))
        return Counter(_values(alone), _shown(native), _shown(ours), size, group)

    def _refusal(self, place: int) -> Counter:
        row = self.reference.refused.slice(place, place + 1)
        answer = self.candidate.run(row, self.reference.names)
        ours = {name: answer.array(name) for name in answer}
        return Counter(_values(row), {"error": "it raises"}, _shown(ours), 1, "refused")


def _counts(found: dict[str, Differences]) -> dict[str, Any]:
    ulps = [each.ulp for each in found.values()]
    largest = [each.absolute for each in found.values()]
    return {
        "bits": int(np.logical_or.reduce([each.bits for each in found.values()]).sum()),
        "leaves": int(np.logical_or.reduce([each.leaves for each in found.values()]).sum()),
        "ulp": None if None in ulps else max(each for each in ulps if each is not None),
        "absolute": None if None in largest else max(each for each in largest if each is not None),
    }


def _many(count: int, one: str, several: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {several}"


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
    def of(cls, each: Field, reference: Reference, ours: Array, rule: Rule, terms: Array | None) -> Differences:
        native = reference.base[each.name]
        equal = same(native, ours)
        bits = ~_by_row(equal)
        none = np.zeros(len(bits), bool)
        if each.type not in FLOATS:
            return cls(bits, bits, none, none)
        with np.errstate(all="ignore"):
            apart = np.where(equal | (native == ours), 0.0, np.abs(native.astype(np.float64) - ours))
            apart = np.where(np.isnan(apart), np.inf, apart)
            size = np.maximum(np.abs(native.astype(np.float64)), reference.sizes[each.name])
            leaves = ~_by_row(equal | (apart <= rule.moved * size))
            low, high = reference.low[each.name].astype(np.float64), reference.high[each.name].astype(np.float64)
            outside = np.maximum(np.maximum(low - ours, ours - high), 0.0)
            outside = np.where(equal, 0.0, np.where(np.isnan(outside), np.inf, outside))
            if rule.kind == "bits":
                beyond = bits
            elif rule.kind == "rounding":
                allowed = _allowed(each, size, rule, terms)
                beyond = ~_by_row(equal | (outside <= allowed))
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


def _by_row(values: Array) -> Array:
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


def laid_out(rows: Rows) -> Rows:
    """The same rows in memory of another layout: numbers with gaps between them, vectors column by column."""
    columns = {}
    for name in rows:
        values = rows.array(name)
        if values.ndim > 1:
            columns[name] = np.asfortranarray(values)
        else:
            gaps = np.empty(2 * len(values), values.dtype)
            gaps[::2] = values
            columns[name] = gaps[::2]
    return Rows(columns, rows.count)


# -- showing -----------------------------------------------------------------------------------------------------------


def _values(rows: Rows) -> dict[str, Any]:
    return _shown({name: rows.array(name) for name in rows})


def _shown(columns: dict[str, Array]) -> dict[str, Any]:
    """The first row of columns as JSON can carry it; every digit of a number is kept."""
    return {name: _json(values[0]) for name, values in columns.items()}


def _json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_json(each) for each in value]
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return "NaN" if math.isnan(plain) else "Infinity" if plain > 0 else "-Infinity"
    return plain if isinstance(plain, bool | int | float | str | None) else str(plain)
