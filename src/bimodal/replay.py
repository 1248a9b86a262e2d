"""Replay: the rows of a prediction log through a model as it is now, compared with what was answered then.

The same model gives the same bits where its library does (`spread.py` has the rules); another version of it differs in
the rows whose answers have changed, and only these are told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bimodal import logged, scenes, scenes_grpc
from bimodal.batch.run import predict_file
from bimodal.errors import BimodalError, InputError, MissingLibrary, SourceError, UsageError
from bimodal.field import listed
from bimodal.model import Model, load
from bimodal.realtime.logfile import STREAM
from bimodal.rows import Rows
from bimodal.settings import names as named
from bimodal.signature import Signature
from bimodal.spread import BITS, CLOSE32, CLOSE64, ROUNDING, SHARES, Spread
from bimodal.table import Binding

PIECE = 8192  # rows that go through the doors at once
TOGETHER = 64  # requests that arrive in one turn of the server's loop
SHOWN = 20  # differences that are told; the others are counted
TRIED = 256  # rows that tell whether the library gives a row the same bits in any company

Answers = Callable[[], pa.Table]


@dataclass(frozen=True)
class Changed:
    """One answer that is another now. row counts from 1 in the log; place is the row's number in its request. column is
    a flat one, such as probability_yes; None in `logged` or `now`: there is none.
    """

    row: int
    request: str
    place: int
    column: str
    door: str
    logged: Any
    now: Any


@dataclass(frozen=True)
class Passage:
    """One door: rows that went through it, and how many of them differ now. skipped: why some did not."""

    name: str
    rows: int
    differing: int
    skipped: str | None = None


@dataclass(frozen=True)
class Replay:
    """What `verify` found in a log. rows, requests, files: of the log, of this model's name. digests: of the models
    that answered then. changed: rows that are answered otherwise, or refused, now. total: differences found through
    all doors, of which the first are in `differences`.
    """

    name: str
    version: str
    digest: str
    rows: int
    requests: int
    files: int
    digests: tuple[str, ...]
    rules: tuple[str, ...]
    doors: tuple[Passage, ...]
    changed: int
    differences: tuple[Changed, ...]
    total: int
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return self.total == 0


def replay(
    model: Any,
    log: str | Path,
    *,
    rows: int | None = None,
    code: str | Path | Sequence[str | Path] = (),
    features: Sequence[str] | None = None,
    trust: str | Sequence[str] = (),
) -> Replay:
    """Predict the rows of a log again, in process, over HTTP and gRPC, and in batch; compare with the answers in it.

    model: what `load` takes. log: the folder of a prediction log, or a file of it. rows: how many, at most.

    Raises SourceError where there is no log, UsageError where it has no rows of this model, InputError where a feature
    was left out of it.
    """
    files = _files(Path(log))
    with load(model, code=code, features=features, trust=trust) as loaded:
        loaded.warm_up()
        return _Replaying(loaded, _of_model(files, loaded.name), rows).run()


def _files(log: Path) -> list[Path]:
    found = [log] if log.is_file() else sorted(log.rglob("*.parquet"))
    found = [path for path in found if not path.name.startswith(".")]
    begun = 0 if found or log.is_file() else len(list(log.rglob(f".*{STREAM}")))
    if begun:
        raise SourceError(
            f"{log} holds no finished file of a prediction log, and {begun} unfinished: the server that writes them "
            "finishes them in time, and where none runs, the next one that is started with this folder does"
        )
    if not found:
        raise SourceError(f"{log} holds no files of a prediction log; serve --prediction-log FOLDER writes them")
    return found


def _of_model(files: Sequence[Path], name: str) -> list[Path]:
    """The files with rows of that model; where the log knows one model alone, all of them."""
    names: dict[str, list[Path]] = {}
    for path in files:
        try:
            table = pq.ParquetFile(path).read_row_group(0, columns=[logged.MODEL])
            names.setdefault(table.column(logged.MODEL)[0].as_py(), []).append(path)
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise SourceError(f"{path} is no file of a prediction log") from error
    if len(names) > 1 and name not in names:
        raise UsageError(
            f"the log has rows of {listed(sorted(names))}, none of {name!r}; name the folder of one of them"
        )
    return names[name] if name in names else next(iter(names.values()))


@dataclass
class _Replaying:
    model: Model
    files: list[Path]
    most: int | None
    rows: int = 0
    requests: set[str] = field(default_factory=set)
    digests: dict[str, None] = field(default_factory=dict)
    rules: dict[str, None] = field(default_factory=dict)
    went: dict[str, list[int]] = field(default_factory=dict)  # by door: rows, and those that differ
    skipped: dict[str, str] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    found: list[Changed] = field(default_factory=list)
    total: int = 0
    steady: bool | None = None

    def run(self) -> Replay:
        for table in self._pieces():
            self._piece(table)
            self.rows += table.num_rows
        model, digests = self.model, tuple(self.digests)
        notes = [f"{each}: not all rows could go through it, since {why}" for each, why in self.skipped.items()]
        if set(digests) != {model.digest}:
            told = listed([each[:12] for each in digests])
            notes.append(f"answered by another model then: its digest is {model.digest[:12]}, the log's {told}")
        return Replay(
            model.name,
            model.version,
            model.digest,
            self.rows,
            len(self.requests),
            len(self.files),
            digests,
            tuple(self.rules),
            tuple(Passage(name, rows, other, self.skipped.get(name)) for name, (rows, other) in self.went.items()),
            len(self.changed),
            tuple(self.found),
            self.total,
            tuple(notes),
        )

    def _pieces(self) -> Iterator[pa.Table]:
        """The log in pieces; small files of the same columns share one."""
        held: list[pa.RecordBatch] = []
        left = self.most
        for path in self.files:
            for batch in pq.ParquetFile(path).iter_batches(PIECE):
                part = batch.slice(0, left)
                if left is not None:
                    left -= part.num_rows
                if held and (held[0].schema != part.schema or sum([each.num_rows for each in held]) >= PIECE):
                    yield pa.Table.from_batches(held)
                    held = []
                held += [part] if part.num_rows else []
        if held:
            yield pa.Table.from_batches(held)

    def _piece(self, table: pa.Table) -> None:
        self.requests.update(table.column(logged.REQUEST).to_pylist())
        self.digests |= dict.fromkeys(pc.unique(table.column(logged.DIGEST)).to_pylist())
        rows, good, problems = given(self.model.signature, table)
        for problem in problems:
            assert problem.row is not None
            self._differs(
                table, problem.row - 1, problem.column or "", "the signature", None, f"refused: {problem.message}"
            )
        places = np.flatnonzero(good)
        keys = [table.column(name).to_pylist() for name in (logged.OUTPUTS, logged.THRESHOLD, logged.RUNTIME)]
        groups: dict[Any, list[int]] = {}
        for at, place in enumerate(places.tolist()):
            groups.setdefault(tuple(key[place] for key in keys), []).append(at)
        for (outputs, threshold, runtime), those in groups.items():
            part = rows.take(np.array(those))
            self._group(table.take(pa.array(places[those])), places[those], part, named(outputs), threshold, runtime)

    def _group(
        self, then: pa.Table, places: Any, rows: Rows, outputs: Sequence[str], threshold: float | None, runtime: str
    ) -> None:
        """Rows for which the same was asked. then: as they were logged; places: in the piece."""
        model = self.model
        there = [name for name in outputs if name in [each.name for each in model.signature.outputs]]
        for name in [name for name in outputs if name not in there]:
            for place in range(len(then)):
                self._differs(then, place, name, "the signature", "an answer", None)
        if not there:
            return
        rule = self._rule(rows, there, runtime)
        self.rules[rule] = None
        answered = _answers(then, logged.Columns(model.signature), there)
        spread = Spread.of([answered])
        for door, ask in self._doors(rows, there, threshold, answered):
            try:
                now = ask()
            except (scenes.Unfit, MissingLibrary) as error:
                self.skipped.setdefault(door, str(error))
                continue
            except BimodalError as error:
                self._went(door, len(then), len(then))
                self._differs(then, 0, "", door, "answers", f"an error: {error.message}")
                continue
            found, _ = spread.compare(now, SHARES[rule], exact=rule == BITS)
            other = set()
            for column, where in found:
                for place in where.tolist():
                    other.add(place)
                    value = now.column(column)[place].as_py() if column in now.column_names else None
                    before = answered.column(column)[place].as_py() if column in answered.column_names else None
                    self._differs(then, place, column, door, before, value, at=int(places[place]))
            self._went(door, len(then), len(other))

    def _doors(
        self, rows: Rows, outputs: Sequence[str], threshold: float | None, answered: pa.Table
    ) -> Iterator[tuple[str, Answers]]:
        model, signature = self.model, self.model.signature

        def direct() -> pa.Table:
            return logged.answers(model.run(rows, outputs, threshold=threshold), signature)

        def http() -> pa.Table:
            if not _finite(answered):
                raise scenes.Unfit("JSON tells no NaN and no infinity")
            return logged.answers(scenes.over_http(model, rows, outputs, 1, TOGETHER, threshold=threshold), signature)

        def grpc() -> pa.Table:
            made = scenes_grpc.over_grpc(model, rows, outputs, 1, TOGETHER, raw=True, threshold=threshold)
            return logged.answers(made, signature)

        yield "in process", direct
        yield f"HTTP, {TOGETHER} at once", http
        yield f"gRPC, {TOGETHER} at once", grpc
        if not any(map(logged.is_open, (signature.output(name) for name in outputs))):
            yield "batch, Parquet", partial(self._batch, rows, outputs, threshold)

    def _batch(self, rows: Rows, outputs: Sequence[str], threshold: float | None) -> pa.Table:
        with tempfile.TemporaryDirectory(prefix="bimodal-") as folder:
            place, output = Path(folder, "rows.parquet"), Path(folder, "answers.parquet")
            null = scenes.write(rows, self.model.signature, place)
            predict_file(
                self.model, place, output, keep="none", outputs=outputs, threshold=threshold, na=[null],
                progress="quiet",
            )  # fmt: skip
            return pq.read_table(output)

    def _rule(self, rows: Rows, outputs: Sequence[str], then: str) -> str:
        """What "equal" is between the runtime that answered then and the one of now."""
        now = self.model.runtime.name
        if "onnx" in (then, now):
            return CLOSE32 if self.model.runtime_name.endswith("float32") else CLOSE64
        known = self.model.compiled
        candidates = () if known is None else known.report.candidates
        alike = {each.name for each in candidates if each.parity is not None and each.parity.steady}
        if then == now and now in alike:
            return BITS
        if self.steady is None:
            self.steady = (known is None or known.report.steady) and self._keeps(rows.slice(0, TRIED), outputs)
        return BITS if self.steady else ROUNDING

    def _keeps(self, rows: Rows, outputs: Sequence[str]) -> bool:
        """Whether a row is given the same bits alone as in company."""
        run, signature = self.model.run, self.model.signature
        alone = Rows.concat([run(rows.slice(place, place + 1), outputs) for place in range(rows.count)])
        return Spread.of([logged.answers(each, signature) for each in (run(rows, outputs), alone)]).steady

    def _went(self, door: str, rows: int, other: int) -> None:
        before = self.went.setdefault(door, [0, 0])
        before[0] += rows
        before[1] += other

    def _differs(
        self, then: pa.Table, place: int, column: str, door: str, before: Any, now: Any, *, at: int | None = None
    ) -> None:
        row = self.rows + (place if at is None else at) + 1
        self.total += 1
        self.changed.add(row)
        if len(self.found) < SHOWN:
            request, number = (then.column(name)[place].as_py() for name in (logged.REQUEST, logged.ROW))
            self.found.append(Changed(row, request, number, column, door, before, now))


def given(signature: Signature, table: pa.Table) -> tuple[Rows, Any, Sequence[Any]]:
    """The features of logged rows as a model takes them: the good ones, which they are, what is wrong with others."""
    names = [name for name in table.column_names if not name.startswith(logged.PREFIX)]
    features = table.select(names)
    strange = [each.name for each in features.schema if (each.metadata or {}) == logged.ANY]
    if not strange and not signature.open:
        return Binding.bind(signature, names).rows(features)
    columns = {
        name: [None if text is None else msgspec.json.decode(text) for text in features.column(name).to_pylist()]
        if name in strange
        else features.column(name).to_pylist()
        for name in names
    }
    if signature.named:
        return signature.check_columns(columns)
    rows = (
        next(iter(columns.values()))
        if len(columns) == 1
        else [list(row) for row in zip(*columns.values(), strict=True)]
    )
    if not rows:
        raise InputError("the log holds no features")
    return signature.check(rows)


def _answers(then: pa.Table, columns: logged.Columns, outputs: Sequence[str]) -> pa.Table:
    """The logged answers under the names that answers have."""
    known = [name for output in outputs for name in columns.answered(output)]
    there = [name for name in known if f"{logged.PREFIX}{name}" in then.column_names]
    return then.select([f"{logged.PREFIX}{name}" for name in there]).rename_columns(there)


def _finite(table: pa.Table) -> bool:
    numbers = [each for each in table.columns if pa.types.is_floating(each.type)]
    return all(bool(pc.all(pc.is_finite(each.cast(pa.float64()))).as_py()) for each in numbers)
