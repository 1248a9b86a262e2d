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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bimodal.compile.difference import Differences, Rule, by_row, same
from bimodal.compile.reference import SIZES, WHOLE, Answers, Reference, ask
from bimodal.compile.report import Counter, Parity
from bimodal.errors import BimodalError
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime

THREADS = 4


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
            place = int(asked[np.flatnonzero(~by_row(equal))[0]])
            self.unsteady = self.unsteady or (place, size)
            far = ~by_row(equal | self._near(name, first, values))
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
            name: Differences.of(fields[name], reference.given(name), self.base[name], self.rule, terms)
            for name in reference.names
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
