"""Report: what compiling a model found. It stands beside the compiled files and opens them again."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bimodal.errors import ModelError, NotCompiled, ParityFailed
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.exact.program import Exact, Program
from bimodal.signature import Signature

FILE = "report.json"
FILES = {"exact": "exact.npz", "onnx float64": "float64.onnx", "onnx float32": "float32.onnx"}
NATIVE = "native"


class Counter(msgspec.Struct, frozen=True):
    """The first row on which two answers differ: plain values, by name; batch: how many rows were asked together."""

    row: dict[str, Any]
    native: dict[str, Any]
    candidate: dict[str, Any]
    batch: int
    group: str

    def __str__(self) -> str:
        place = f"row {_shown(self.row)} ({self.group}, {self.batch} a call)"
        return f"{place}: native {_shown(self.native)}, compiled {_shown(self.candidate)}"


class Parity(msgspec.Struct, frozen=True):
    """A candidate's answers beside the native ones, on the same probes.

    rows: compared. refused: rows on which the model raises, and so does the candidate. labels: rows whose label
    differs. wavering: rows whose label differs and is one that the library itself gives in other company. overflows:
    rows that differ and whose terms add up to more than float64 holds. leaves: rows whose numbers changed beyond
    rounding (they reached another leaf). bits: rows with any bit different. ulp, absolute: the largest difference of a
    number, None where one side is no number. spread: the largest difference that the library itself gives one row in
    different company. steady: the candidate gives a row the same bits whatever its neighbours. calls: rows compared at
    each number of rows a call. reason: why it does not pass, else None.
    """

    rows: int
    refused: int = 0
    labels: int = 0
    wavering: int = 0
    overflows: int = 0
    leaves: int = 0
    bits: int = 0
    ulp: int | None = 0
    absolute: float | None = 0.0
    spread: float = 0.0
    steady: bool = True
    calls: dict[int, int] = {}
    threads: int = 0
    reason: str | None = None
    counter: Counter | None = None

    @property
    def passed(self) -> bool:
        return self.reason is None


class Candidate(msgspec.Struct, frozen=True):
    """One compiled form that was tried. reason: why it does not serve, in one sentence; digest: SHA-256 of its file."""

    name: str
    passed: bool
    reason: str | None = None
    parity: Parity | None = None
    bytes: int = 0
    digest: str = ""
    seconds: float = 0.0

    @property
    def told(self) -> str | None:
        """The reason, with the first row on which the answers differ."""
        counter = self.parity.counter if self.parity is not None else None
        return self.reason if counter is None else f"{self.reason}, first in {counter}"


class Report(msgspec.Struct, frozen=True):
    """What compiling a model found.

    signature, versions, warnings, facts: of the native model. native: seconds of one call in the model's own process,
    by number of rows. candidates: in the order tried. costs: seconds of one call by runtime and number of rows, native
    with its hop to another process. live, bulk: the fastest that passed, at one row and at 4,096. steady: the library
    itself gives a row the same bits whatever its neighbours. probes: rows by group; wanted: how many there would have
    been without the bound. places: version of each distribution on which all this depends ("" where it is absent), and
    the processor. settled: False where the process that compared was stopped, so that it is worth another try.
    """

    format: str
    signature: dict[str, Any]
    versions: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    facts: dict[str, Any] = {}
    native: dict[int, float] = {}
    candidates: tuple[Candidate, ...] = ()
    costs: dict[str, dict[int, float]] = {}
    live: str = NATIVE
    bulk: str = NATIVE
    steady: bool = True
    probes: dict[str, int] = {}
    wanted: int = 0
    seed: int = 0
    dists: dict[str, str] = {}
    place: dict[str, str] = {}
    seconds: float = 0.0
    settled: bool = True
    note: str | None = None

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The compiled runtimes that passed, in the order of preference."""
        return tuple(each.name for each in self.candidates if each.passed)

    def told(self) -> Signature:
        """The native model's signature."""
        return Signature.retold(self.signature)

    def candidate(self, name: str) -> Candidate | None:
        return next((each for each in self.candidates if each.name == name), None)

    def chosen(self, wanted: str = "auto", *, bulk: bool = False) -> str:
        """The runtime for `wanted` (auto, exact, onnx, native, or a candidate's name). Raises NotCompiled or
        ParityFailed where one that was asked for does not serve.
        """
        if wanted == "auto":
            return self.bulk if bulk else self.live
        if wanted == NATIVE:
            return NATIVE
        tried = [each for each in self.candidates if each.name == wanted or each.name.split()[0] == wanted]
        passed = [each.name for each in tried if each.passed]
        if passed:
            rows = 4096 if bulk else 1
            return min(passed, key=lambda name: self.costs.get(name, {}).get(rows, math.inf))
        raise self._refusal(wanted, tried)

    def _refusal(self, wanted: str, tried: list[Candidate]) -> NotCompiled:
        told = "; ".join(each.told or "" if each.name == wanted else f"{each.name}: {each.told}" for each in tried)
        told = told or self.note or "it was not tried"
        differs = any(each.parity is not None and not each.parity.passed for each in tried)
        kind = ParityFailed if differs else NotCompiled
        return kind(f"the model cannot run as {wanted}: {told}")

    def open(self, folder: Path, name: str) -> Runtime:
        """A runtime that passed, from its file in the folder; its digest is verified before anything is parsed. Needs
        no training library. Raises NotCompiled, ModelError.
        """
        candidate = self.candidate(name)
        if candidate is None or not candidate.passed:
            raise self._refusal(name, [candidate] if candidate else [])
        data = read(folder / FILES[name], candidate.digest)
        if name == "exact":
            return Exact(Program.load(folder / FILES[name], data))
        from bimodal.compile.convert import Converted  # an exact form is opened without what ONNX needs

        return Converted.of(data, self.told())

    def save(self, folder: Path) -> None:
        """Write it into the folder, in one piece."""
        unfinished = folder / f"{FILE}.part"
        unfinished.write_bytes(self.encode())
        unfinished.replace(folder / FILE)

    def encode(self) -> bytes:
        """As JSON, indented, the same bytes for the same report."""
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=plain), indent=1)

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """Raises ModelError where the bytes are no report."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(f"this is no report of a compiled model ({error})") from error

    @classmethod
    def load(cls, folder: Path) -> Report:
        try:
            return cls.decode((folder / FILE).read_bytes())
        except OSError as error:
            raise ModelError(f"{folder / FILE} cannot be read ({error.strerror})") from error

    def table(self) -> list[dict[str, Any]]:
        """Plain data for `inspect`: one line a runtime, native first."""
        lines: list[dict[str, Any]] = [{"runtime": NATIVE, "passed": True, "reason": None, **self._times(NATIVE)}]
        lines += [{**_line(each), **self._times(each.name)} for each in self.candidates]
        for line in lines:
            name = line["runtime"]
            line["serves"] = [mode for mode, chosen in (("live", self.live), ("bulk", self.bulk)) if chosen == name]
        return lines

    def _times(self, name: str) -> dict[str, float | None]:
        """Seconds a row at 1, 64 and 4,096 rows."""
        costs = self.costs.get(name, {})
        return {f"seconds_{rows}": costs[rows] / rows if rows in costs else None for rows in (1, 64, 4096)}


def _line(each: Candidate) -> dict[str, Any]:
    parity = each.parity
    measured = ("rows", "labels", "wavering", "overflows", "leaves", "bits", "ulp", "absolute")
    found = {name: getattr(parity, name) if parity is not None else None for name in measured}
    counter = str(parity.counter) if parity is not None and parity.counter is not None else None
    return {"runtime": each.name, "passed": each.passed, "reason": each.reason, **found, "counter": counter}


def read(path: Path, digest: str) -> bytes:
    """The file's bytes, if their SHA-256 is the one that was written down; else ModelError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelError(f"{path} is damaged: it is not the file that was verified")
    return data


def plain(value: Any) -> Any:
    """A value of NumPy's, or a foreign one, as JSON can carry it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def _shown(values: dict[str, Any]) -> str:
    return msgspec.json.encode(values).decode()
