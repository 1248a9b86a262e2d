"""Reference: what the native model answers on the probes, alone and in company."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np

from bimodal.compile.difference import Given, same
from bimodal.compile.probes import Group, Probes, encoded
from bimodal.errors import BimodalError, NotCompiled
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.signature import Signature

SIZES = (1, 2, 7, 64, 1000)  # rows a call
WHOLE = SIZES[-1]
FEW = 0.01  # the share of probes that the native model may refuse; beyond it, they say too little of it
SECONDS = 0.5  # of calling, for each number of rows a call; at least LEAST rows all the same
LEAST = 64
AGAIN = (1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 100, 256)  # company in which a row is asked again whose label differs
Answers = dict[str, Array]


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

    def given(self, name: str) -> Given:
        """One output, for comparison."""
        base = self.base[name]
        return Given(base, self.low.get(name, base), self.high.get(name, base), self.sizes.get(name, 0.0))

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
