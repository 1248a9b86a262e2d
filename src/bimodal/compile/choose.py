"""Choice: each compiled form is tried, compared and timed; what passed and is fastest serves.

Runs in the process of `compile/child.py`, beside the native model.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from bimodal.compile import parity, probes, seek
from bimodal.compile.convert import Converted
from bimodal.compile.difference import MOVED, Rule
from bimodal.compile.place import place, version
from bimodal.compile.reference import Reference
from bimodal.compile.report import FILES, NATIVE, Candidate, Report
from bimodal.errors import BimodalError, NotCompiled
from bimodal.formats.contract import Loaded
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.program import Exact, Program

COUNTS = (1, 64, 4096)
WANTED = {
    "auto": tuple(FILES),
    "all": tuple(FILES),
    "exact": ("exact",),
    "onnx": ("onnx float64", "onnx float32"),
    "native": (),
}
LIBRARIES = {  # distributions that may have a part in a model's answers, by the module that shows it
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "torch": "torch",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "transformers": "transformers",
    "skops": "skops",
    "onnxruntime": "onnxruntime",
    "skl2onnx": "skl2onnx",
}
ALWAYS = ("onnxruntime", "skl2onnx")  # their absence counts too: installed later, they are worth another try
TIMED = 0.1  # seconds for each runtime and number of rows; at least THRICE calls
THRICE = 3
SECONDS = 20.0  # in which the native model should answer all probes in bulk; a slower one gets fewer of them
Tell = Callable[[Report], None]
Hop = Callable[[Rows], float]  # seconds for rows to go to another process and an answer to come back


class Trial:
    """One model on its way. tell: gets the report after every step, so that a crash loses only what follows."""

    def __init__(self, loaded: Loaded, report: Report, folder: Path, tell: Tell, hop: Hop) -> None:
        self.loaded, self.report, self.folder = loaded, report, folder
        self._tell, self._hop = tell, hop
        self._program: Program | None = None
        self._begun = time.perf_counter()

    def run(self, sample: Rows | None, wanted: str, seed: int = 0) -> Report:
        """Try the forms in order; see `Report` for what is found."""
        try:
            self._prepare(sample, wanted, seed)
        except NotCompiled as error:
            self._note(error.message)
        else:
            for name in WANTED[wanted]:
                if wanted in ("auto", "onnx") and not self._worthwhile(name):
                    continue
                self._try(name)
        return self._finished()

    def _prepare(self, sample: Rows | None, wanted: str, seed: int) -> None:
        """Probes, and the native answers to them."""
        self._lowered: Program | NotCompiled = self._lower()
        if wanted == NATIVE or (isinstance(self._lowered, NotCompiled) and self.loaded.to_onnx is None):
            reason = self._lowered.message if isinstance(self._lowered, NotCompiled) else "it was asked to stay native"
            raise NotCompiled(reason)
        signature, native = self.loaded.signature, self.loaded.runtime
        edges = {} if isinstance(self._lowered, NotCompiled) else self._lowered.edges()
        made = probes.make(signature, edges, sample, seed=seed, most=self._most(sample))
        reference = Reference(native, made, signature)
        if reference.steady:  # elsewhere what turns between two neighbouring numbers is noise
            bits = not isinstance(self._lowered, NotCompiled) and self._lowered.steady and "exact" in WANTED[wanted]
            reference = reference.widened("found by search", seek.turns(reference, ties=bits))
        self._reference = reference
        made = reference.probes
        known = {"steady": reference.steady, "probes": made.counts(), "wanted": made.wanted, "seed": seed}
        self._update(**known, costs=self._time_native())

    def _lower(self) -> Program | NotCompiled:
        if self.loaded.lower is None:
            return NotCompiled(f"models of this kind have no {'exact' if self.loaded.to_onnx else 'compiled'} form")
        try:
            return self.loaded.lower()
        except NotCompiled as error:
            return error

    def _most(self, sample: Rows | None) -> int:
        """How many probes the native model can answer in time."""
        rows = self.loaded.signature.example_rows(64) if sample is None else sample[:64]
        try:
            seconds = median(self.loaded.runtime, rows, [each.name for each in self.loaded.signature.outputs], 0.2)
        except BimodalError as error:
            raise NotCompiled(f"the model answers no made-up row ({error.message})") from error
        width = len(probes.slots(self.loaded.signature))
        return int(np.clip(SECONDS / 8 / (seconds / rows.count), 1_000, min(probes.MOST, probes.CELLS // width)))

    # -- one form ----------------------------------------------------------------------------------------------------

    def _worthwhile(self, name: str) -> bool:
        """Whether a further form is tried: not once one that passed is faster than the native model everywhere."""
        passed = self.report.runtimes
        slower = [each for each in passed if any(self._cost(each, n) > self._cost(NATIVE, n) for n in (1, 4096))]
        return len(slower) == len(passed)

    def _cost(self, name: str, rows: int) -> float:
        return self.report.costs.get(name, {}).get(rows, math.inf)

    def _try(self, name: str) -> None:
        start = time.perf_counter()
        path = self.folder / FILES[name]
        try:
            runtime, rule = self._exact(path) if name == "exact" else self._onnx(path, name)
            found = parity.compare(self._reference, runtime, rule)
        except BimodalError as error:  # what it cannot do is told in a sentence, whoever tells it
            candidate = Candidate(name, False, error.message)
        else:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest() if found.passed else ""
            candidate = Candidate(name, found.passed, found.reason, found, len(data), digest)
            if found.passed:
                self._update(costs={**self.report.costs, name: self._time(runtime)})
        if not candidate.passed:
            path.unlink(missing_ok=True)
        candidate = msgspec.structs.replace(candidate, seconds=time.perf_counter() - start)
        self._update(candidates=(*self.report.candidates, candidate))
        self._choose()

    def _exact(self, path: Path) -> tuple[Runtime, Rule]:
        """What will serve is what is compared: the Program as it is read from its file."""
        if isinstance(self._lowered, NotCompiled):
            raise self._lowered
        self._lowered.save(path)
        program = Program.load(path)
        if program.steady and self._reference.steady:
            return Exact(program), Rule("bits")
        terms = partial(_terms, program) if isinstance(program.core, Linear) else None
        return Exact(program), Rule("rounding", MOVED["float64"], program.prepare.width, terms)

    def _onnx(self, path: Path, name: str) -> tuple[Runtime, Rule]:
        if self.loaded.to_onnx is None:
            raise NotCompiled("there is no way from models of this kind to ONNX")
        precision = name.split()[1]
        data = self.loaded.to_onnx(precision)
        runtime = Converted.of(data, self.loaded.signature)
        path.write_bytes(data)
        return runtime, Rule("close", MOVED[precision])

    # -- time --------------------------------------------------------------------------------------------------------

    def _rows(self, count: int) -> Rows:
        """Ordinary rows, as a call of so many has them: texts encoded where there are many."""
        typical = self._reference.typical
        rows = typical.take(np.arange(count) % typical.count)
        return rows if count == 1 else probes.encoded(rows)

    def _time(self, runtime: Runtime) -> dict[int, float]:
        names = _asked([each.name for each in self.loaded.signature.outputs])
        return {count: median(runtime, self._rows(count), names, TIMED) for count in COUNTS}

    def _time_native(self) -> dict[str, dict[int, float]]:
        """With the way to the process in which it serves; the way back is not counted."""
        own = self._time(self.loaded.runtime)
        return {NATIVE: {count: own[count] + self._hop(self._rows(count)) for count in COUNTS}}

    def _choose(self) -> None:
        names = (NATIVE, *self.report.runtimes)
        live, bulk = (min(names, key=lambda name: self._cost(name, count)) for count in (1, 4096))
        self._update(live=live, bulk=bulk)

    # -- the report --------------------------------------------------------------------------------------------------

    def _update(self, **changed: object) -> None:
        self.report = msgspec.structs.replace(self.report, **changed)
        self._tell(self.report)

    def _note(self, reason: str) -> None:
        self._update(note=reason)

    def _finished(self) -> Report:
        seconds = round(time.perf_counter() - self._begun, 3)
        known = {"dists": distributions(), "place": place()}
        self.report = msgspec.structs.replace(self.report, **known, seconds=seconds, settled=True)
        return self.report


def _asked(names: Sequence[str]) -> list[str]:
    """What callers mostly ask for."""
    return ["prediction"] if "prediction" in names else list(names)


def _terms(program: Program, rows: Rows) -> Array:
    """For each row the largest sum, over its scores, of the magnitudes of what is summed up."""
    core = program.core
    assert isinstance(core, Linear)
    with np.errstate(all="ignore"):
        sums = np.abs(program.prepare.matrix(rows)) @ np.abs(core.weights).T + np.abs(core.intercept)
    return np.asarray(np.where(np.isnan(sums), np.inf, sums).reshape(rows.count, -1).max(axis=1))


def median(runtime: Runtime, rows: Rows, names: Sequence[str], seconds: float) -> float:
    """Seconds of one call: the median of as many as fit, after one to warm up."""
    runtime.run(rows, names)
    return statistics.median(_spans(lambda: runtime.run(rows, names), seconds))


def _spans(call: Callable[[], object], seconds: float, most: int = 2000) -> Iterator[float]:
    begun = time.perf_counter()
    for number in range(most):
        start = time.perf_counter()
        if number >= THRICE and start - begun > seconds:
            return
        call()
        yield time.perf_counter() - start


def distributions() -> dict[str, str]:
    """The versions of the libraries that are loaded here, and of those whose absence counts ("")."""
    names = [dist for module, dist in LIBRARIES.items() if module in sys.modules or module in ALWAYS]
    return {name: version(name) for name in names}
