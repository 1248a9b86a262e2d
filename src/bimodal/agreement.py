"""`verify`: the same rows through every door of a model; the answers agree, or it is told where they do not.

What "agree" means follows the model (DESIGN, "What the same bits means"):

bits      the library gives a row the same bits in any company: so does every door.
rounding  the library itself gives a row other bits in other company (dense linear models, through BLAS): labels are
          equal, unless the library gives both itself, and numbers lie within what it gives or a billionth beside it.
close     ONNX: labels are equal; numbers within a billionth (float64) or a hundred-thousandth (float32).

A compiled runtime that was found to give a row the same bits in any company gives them through every door.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from bimodal import package, scenes, scenes_grpc
from bimodal.batch.run import predict_file
from bimodal.drawn import Drawn
from bimodal.errors import BimodalError, MissingLibrary, UsageError
from bimodal.model import Model, load
from bimodal.replay import Replay, replay
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.spread import BITS, CLOSE32, CLOSE64, ROUNDING, SHARES, Places, Spread
from bimodal.table import flat

ROWS = 1000
TURNED = 0.01  # the share of rows whose label may turn in other company, where scores are at an edge
TOGETHER = 64  # requests that arrive in one turn of the server's loop
SHOWN = 20  # differences that are told; the others are counted


@dataclass(frozen=True)
class Difference:
    """row counts from 1 among the rows compared; output is a flat column, such as probability_yes."""

    row: int
    output: str
    door: str
    native: Any
    other: Any


@dataclass(frozen=True)
class Door:
    """One way through which the rows went. rule: what "equal" means there. largest: the largest difference of a number
    beyond what the library gives itself. skipped: why no rows went through, else None.
    """

    name: str
    runtime: str
    rule: str = BITS
    rows: int = 0
    differing: int = 0
    largest: float = 0.0
    skipped: str | None = None


@dataclass(frozen=True)
class Agreement:
    """What `verify` found. rows: compared. refused: rows of the sample that the signature refuses. steady: the library
    gives a row the same bits in any company. total: differences found, of which the first are in `differences`.
    """

    name: str
    version: str
    rows: int
    refused: int
    steady: bool
    doors: tuple[Door, ...]
    differences: tuple[Difference, ...]
    total: int
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return self.total == 0


@overload
def verify(
    model: Any,
    *,
    sample: Any = None,
    log: None = None,
    rows: int | None = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    trust: str | Sequence[str] = (),
) -> Agreement: ...
@overload
def verify(
    model: Any,
    *,
    sample: None = None,
    log: str | Path,
    rows: int | None = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    trust: str | Sequence[str] = (),
) -> Replay: ...
def verify(
    model: Any,
    *,
    sample: Any = None,
    log: str | Path | None = None,
    rows: int | None = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    trust: str | Sequence[str] = (),
) -> Agreement | Replay:
    """Predict the same rows through the native library, every compiled runtime, batch, HTTP, gRPC and our own client
    over gRPC, and compare.

    model: what `load` takes. sample: a file, frame, table or records; of a package the golden rows are taken where
    there is none, with the answers that were given at packing. rows: how many of the sample, at most (1000). log: a
    prediction log, whose rows are compared with what was answered then (`replay`), all of them unless `rows` says less.

    Raises what `load` and the reading of the sample raise. Differences are no error: see `Agreement.equal`.
    """
    if log is not None:
        if sample is not None:
            raise UsageError("verify takes its rows from a sample or from a log; name one")
        return replay(model, log, rows=rows, code=code, features=features, trust=trust)
    rows = ROWS if rows is None else rows
    kept = package.open(model) if isinstance(model, str | Path) and package.is_package(model) else None
    if sample is None and (kept is None or kept.golden is None):
        raise UsageError("verify needs rows: give some like the ones to come with --sample FILE")
    if rows < 1:
        raise UsageError("verify needs one row at least")
    told = {"sample": sample, "code": code, "features": features, "trust": trust}
    with load(model, **told) as loaded:
        loaded.warm_up()
        if sample is None:
            assert kept is not None
            assert kept.golden is not None
            drawn, answers = Drawn(kept.golden.rows), kept.golden.answers
        else:
            drawn, answers = Drawn.of(loaded.signature, sample, rows), None
        native, missing = (loaded, None) if loaded.runtime.name == "native" else _native(model, told)
        try:
            return _Comparison(loaded, native, drawn, answers, missing).agreement()
        finally:
            if native is not None:
                native.close()


def _native(model: Any, told: dict[str, Any]) -> tuple[Model | None, str | None]:
    """The native model, or why there is none here."""
    try:
        return load(model, runtime="native", background=False, **told), None
    except MissingLibrary as error:
        return None, error.message


@dataclass
class _Comparison:
    """The rows, and what is known of the right answers to them."""

    model: Model
    native: Model | None
    drawn: Drawn
    packed: Rows | None  # the answers given at packing
    missing: str | None
    doors: list[Door] = field(default_factory=list)
    found: list[Difference] = field(default_factory=list)
    total: int = 0
    notes: list[str] = field(default_factory=list)
    first: dict[str, tuple[str, Spread]] = field(default_factory=dict)  # each compiled runtime's door and answers

    def agreement(self) -> Agreement:
        signature = self.model.signature
        self.rows = self.drawn.rows
        self.outputs = [each.name for each in signature.outputs]
        self._settle(signature)
        for name, runtime, answer in self._answers(signature):
            self._compare(name, runtime, answer)
        return Agreement(
            self.model.name,
            self.model.version,
            self.rows.count,
            self.drawn.refused,
            self.steady,
            tuple(self.doors),
            tuple(self.found),
            self.total,
            tuple(self.notes),
        )

    def _settle(self, signature: Signature) -> None:
        """The native answers, in one call and one by one: what lies between them is the library's own spread."""
        if self.native is None:
            if self.packed is None:
                raise MissingLibrary(f"verify compares with the native library, and {self.missing}")
            self.notes.append(f"compared with the answers given at packing: {self.missing}")
            self.spread = Spread.of([flat(self.packed, signature)])
        else:
            whole = flat(self.native.run(self.rows, self.outputs), signature)
            alone = flat(_alone(self.native, self.rows, self.outputs), signature)
            self.spread = Spread.of([whole, alone])
            self._compare_native(whole, alone)
        known = self.model.compiled
        candidates = () if known is None else known.report.candidates
        self.alike = {each.name for each in candidates if each.parity is not None and each.parity.steady}
        self.steady = self.spread.steady and (known is None or known.report.steady)
        if self.model.runtime.name == "native" and not (known and known.report.runtimes):
            self.notes.append("no compiled runtime passed, so only the native one is behind every door")

    def _compare_native(self, whole: pa.Table, alone: pa.Table) -> None:
        """What the library makes of the rows one by one, beside all in one call: more than rounding between the two is
        a difference, whatever runtime serves. A few labels may turn, where a score is at the edge; that is told.
        """
        right = Spread.of([whole])
        places, largest = right.compare(alone, SHARES[ROUNDING], exact=False)
        turned = {place for output, at in places if output not in right.low for place in at.tolist()}
        few = len(turned) <= max(TURNED * self.rows.count, 3)
        told = [(output, at) for output, at in places if output in right.low or not few]
        rows = self._tell("native, one by one", told, right, alone)
        self.doors.append(Door("native, one by one", "native", ROUNDING, self.rows.count, len(rows), largest))
        if turned and few:
            self.notes.append(f"the library itself gives {len(turned)} rows another label in other company")

    def _answers(self, signature: Signature) -> Iterator[tuple[str, str, Callable[[], pa.Table]]]:
        """Every door with the runtime behind it, and the function that asks it."""
        if self.packed is not None and self.native is not None:
            yield "at packing", "native", partial(flat, self.packed, signature)
        if self.model.compiled is not None:
            for name in self.model.compiled.report.runtimes:
                runtime, _ = self.model.compiled.open(name)
                yield "in process", name, partial(self._direct, runtime.run)
                yield "in process, one by one", name, partial(self._direct, partial(_alone, runtime))
        live, bulk = self._behind()
        yield "batch, CSV", bulk, partial(self._batch, "csv")
        yield "batch, Parquet", bulk, partial(self._batch, "parquet")
        yield "HTTP, one by one", live, partial(self._http, 1, 1)
        yield "HTTP, all in one", live, partial(self._http, self.rows.count, 1)
        yield f"HTTP, {TOGETHER} at once", live, partial(self._http, 1, TOGETHER)
        yield "gRPC, one by one", live, partial(self._grpc, 1, 1)
        yield "gRPC, all in one", live, partial(self._grpc, self.rows.count, 1, raw=False)
        yield f"gRPC, {TOGETHER} at once", live, partial(self._grpc, 1, TOGETHER)
        yield "gRPC client, one by one", live, partial(self._client, 1)
        yield "gRPC client, all in one", live, partial(self._client, self.rows.count)

    def _direct(self, run: Callable[[Rows, Sequence[str]], Rows]) -> pa.Table:
        return flat(run(self.rows, self.outputs), self.model.signature)

    def _http(self, size: int, together: int) -> pa.Table:
        answer = scenes.over_http(self.model, self.rows, self.outputs, size, together)
        return flat(answer, self.model.signature)

    def _grpc(self, size: int, together: int, *, raw: bool = True) -> pa.Table:
        answer = scenes_grpc.over_grpc(self.model, self.rows, self.outputs, size, together, raw=raw)
        return flat(answer, self.model.signature)

    def _client(self, size: int) -> pa.Table:
        return scenes_grpc.by_client(self.model, self.rows, self.outputs, size)

    def _batch(self, kind: str) -> pa.Table:
        with tempfile.TemporaryDirectory(prefix="bimodal-") as folder:
            place, output = Path(folder, f"rows.{kind}"), Path(folder, "answers.parquet")
            null = scenes.write(self.rows, self.model.signature, place)
            predict_file(
                self.model, place, output, keep="none", outputs=self.outputs, na=[null], separator=",", decimal=".",
                encoding="utf-8", progress="quiet",
            )  # fmt: skip
            return pq.read_table(output)

    def _compare(self, name: str, runtime: str, answer: Callable[[], pa.Table]) -> None:
        rule = self._rule(runtime)
        try:
            given = answer()
        except (scenes.Unfit, MissingLibrary) as error:
            self.doors.append(Door(name, runtime, rule, skipped=str(error)))
            return
        except BimodalError as error:
            self._differs(1, "all", name, "answers", f"an error: {error.message}")
            self.doors.append(Door(name, runtime, rule, differing=self.rows.count))
            return
        places, largest = self.spread.compare(given, SHARES[rule], exact=rule == BITS)
        rows = self._tell(name, places, self.spread, given)
        if runtime in self.alike:
            where, first = self.first.setdefault(runtime, (name, Spread.of([given])))
            moved, _ = first.compare(given, 0.0, exact=True)
            rows |= self._tell(f"{name}, not as {where}", moved, first, given)
        self.doors.append(Door(name, runtime, rule, self.rows.count, len(rows), largest))

    def _tell(self, door: str, places: Places, right: Spread, given: pa.Table) -> set[int]:
        """Note the differences; which rows they are in."""
        for output, at in places:
            for place in at.tolist():
                other = given.column(output)[place].as_py() if output in given.column_names else None
                self._differs(place + 1, output, door, right.value(output, place), other)
        return {place for _, at in places for place in at.tolist()}

    def _behind(self) -> tuple[str, str]:
        """The full names of the runtimes behind real time and batch."""
        model, known = self.model, self.model.compiled
        if known is None:
            return model.runtime.name, model.in_bulk(wait=True).runtime.name
        live = known.report.chosen(model.location.runtime)
        same = model.in_bulk(wait=True) is model
        return live, live if same else known.report.chosen(model.location.runtime, bulk=True)

    def _rule(self, runtime: str) -> str:
        if runtime.startswith("onnx"):
            return CLOSE32 if "float32" in runtime else CLOSE64
        return BITS if self.steady else ROUNDING

    def _differs(self, row: int, output: str, door: str, native: Any, other: Any) -> None:
        self.total += 1
        if len(self.found) < SHOWN:
            self.found.append(Difference(row, output, door, native, other))


def _alone(runtime: Any, rows: Rows, outputs: Sequence[str]) -> Rows:
    return Rows.concat([runtime.run(rows.slice(place, place + 1), outputs) for place in range(rows.count)])
