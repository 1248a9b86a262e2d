"""Publishing: the committed output of a run becomes an edition of the model's prediction store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress, islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bimodal.batch.databases.address import Address, is_address
from bimodal.batch.sources.contract import Reading
from bimodal.batch.sources.inputs import open_input
from bimodal.config.tables import StoreTable
from bimodal.errors import InputError, UsageError
from bimodal.jobs import templates
from bimodal.jobs.task import Task
from bimodal.model import Model
from bimodal.predictions import collected
from bimodal.predictions.contract import LONGEST, Edition, StoreWriter
from bimodal.predictions.fingerprint import fingerprint
from bimodal.predictions.opening import open_reader, open_writer
from bimodal.table import flat_schema

FINGERPRINT = "row_fingerprint"
encode = msgspec.json.Encoder().encode
PIECE = 8192  # rows that become Python values at once


def publish(
    task: Task,
    table: StoreTable | None,
    output: str,
    model: Model,
    guard: Callable[[], None],
    note: Callable[[str], None],
) -> dict[str, Any] | None:
    """Make the edition and what is to be told of it; None where the job feeds no store, or the current edition is of a
    later due time. Done again for the same run, it changes nothing. guard: asked right before the edition becomes the
    current one.
    """
    if table is None:
        return None
    folder = Path(task.state) / "predictions" / task.models_name
    reader = open_reader(table, folder)
    try:
        current = reader.edition()
    finally:
        reader.close()
    if current is not None and current.run == task.run:
        collected.clear(folder, task.run)
        return _told(current)
    if current is not None and _is_later(current, task):
        day = datetime.fromtimestamp(current.due or 0.0, UTC)
        note(
            f"the prediction store of {task.models_name} keeps its edition of {day:%Y-%m-%d %H:%M} UTC, which was due "
            "after this run"
        )
        return None
    names = task.table.outputs or task.model.outputs or model.resolve_outputs(None)
    if task.table.proba:
        names = tuple(dict.fromkeys([*names, *(n.name for n in model.signature.outputs if "probability" in n.name)]))
    result = Result(output, _into(task), table.key, tuple(names), model)
    kind = result.kind()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    writer = open_writer(
        table,
        folder,
        job=task.job,
        run=task.run,
        model=f"{model.name}/{model.version}",
        digest=model.digest,
        kind=kind,
        outputs=result.outputs,
        due=task.due,
    )
    waiting = Waiting.of(folder, task, kind, result)
    try:
        edition = _fill(writer, result, kind, waiting, guard, note)
    except InputError as error:
        published = "" if task.table.output is None else f"{output} is published, but "
        raise UsageError(
            f"{published}the prediction store of {task.models_name} keeps the edition that it had: the column "
            f"{table.key!r} does not tell the rows apart: {error}"
        ) from error
    finally:
        writer.abandon()
    collected.clear(folder, task.run)
    return _told(edition)


def _is_later(current: Edition, task: Task) -> bool:
    """Whether the run is of old days, as of a backfill: what it found must not take the place of what is newer."""
    return current.job == task.job and current.due is not None and current.due > task.due


def _fill(
    writer: StoreWriter,
    result: Result,
    kind: str,
    waiting: Waiting,
    guard: Callable[[], None],
    note: Callable[[str], None],
) -> Edition:
    left_out = 0
    for piece in result.pieces(kind):
        keys, bodies, marks = _askable(*piece)
        left_out += len(piece[0]) - len(keys)
        writer.add(keys, bodies, marks)
        waiting.drop(keys)
    if left_out:
        rows = "1 row is" if left_out == 1 else f"{left_out:,} rows are"
        note(
            f"{rows} left out of the prediction store: nobody can ask for a key that is empty or longer than "
            f"{LONGEST:,} characters"
        )
    for keys, bodies, marks in waiting.pieces():
        writer.add(keys, bodies, marks)
    guard()
    return writer.commit(time.time())


def _askable(
    keys: list[int | str], bodies: list[bytes], marks: list[int]
) -> tuple[list[int | str], list[bytes], list[int]]:
    """Without the results of keys that no lookup takes."""
    good = [not isinstance(key, str) or 0 < len(key) <= LONGEST for key in keys]
    if all(good):
        return keys, bodies, marks
    return list(compress(keys, good)), list(compress(bodies, good)), list(compress(marks, good))


def check(task: Task) -> None:
    """Raise UsageError where the output of one run is not the whole result, or not of one model."""
    job = task.table
    if job.incremental is None:
        return
    whole = job.output is not None and is_address(job.output) and not templates.differs(job.output)
    if not whole:
        raise UsageError(
            f"job {task.job} is incremental and feeds the prediction store of {task.models_name}, so its output has to "
            "hold all results: write to a database's table"
        )
    if job.incremental == "column" and job.mode == "append":
        raise UsageError(
            f"job {task.job} feeds the prediction store of {task.models_name}, whose keys come once each: write "
            'mode = "upsert" with that key'
        )
    if job.on_model_change == "new":
        raise UsageError(
            f'job {task.job}: on_model_change = "new" would mix the answers of two models in the prediction store of '
            f'{task.models_name}; write "everything"'
        )


def _into(task: Task) -> str | None:
    into = task.table.into
    return None if into is None else templates.render(into, task.due, task.table.timezone, run=task.run, job=task.job)


def _told(edition: Edition) -> dict[str, Any]:
    return {"version": edition.version, "count": edition.count, "committed": edition.committed}


def place_of(task: Task) -> Path:
    """Where the predictions lie on their way to the store, for a job without an output."""
    folder = Path(task.state) / "runs" / task.run
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "predictions.parquet"


def clear(task: Task) -> None:
    shutil.rmtree(place_of(task).parent)


@dataclass(frozen=True)
class Waiting:
    """Rows that were asked for live while there was no result for their key; those that the job's input does not have
    are scored too. rows: by key, as they were sent. One that the model refuses is left out: whoever sent it was told.
    """

    rows: dict[int | str, Any]
    outputs: tuple[str, ...]
    model: Model
    threshold: float | None

    @classmethod
    def of(cls, folder: Path, task: Task, kind: str, result: Result) -> Waiting:
        wanted = int if kind == "int" else str
        rows = {key: row for key, row in collected.as_rows(collected.take(folder, task.run)) if isinstance(key, wanted)}
        threshold = task.model.threshold if task.table.threshold is None else task.table.threshold
        return cls(rows, result.outputs, result.model, threshold)

    def drop(self, keys: list[int | str]) -> None:
        """The input has these."""
        for key in keys:
            self.rows.pop(key, None)

    def pieces(self) -> Iterator[tuple[list[int | str], list[bytes], list[int]]]:
        for part in batched(self.rows.items(), PIECE):
            rows, good, _ = self.model.signature.check([row for _, row in part])
            if not rows.count:
                continue
            keys = [key for (key, _), fine in zip(part, good, strict=True) if fine]
            answer = self.model.run(rows, self.outputs, threshold=self.threshold)
            values = [answer.array(name).tolist() for name in self.outputs]
            told = [_body(self.outputs, row) for row in zip(*values, strict=True)]
            yield keys, told, fingerprint(rows, self.model.signature).tolist()


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    held = iter(items)
    while part := list(islice(held, size)):
        yield part


@dataclass(frozen=True)
class Result:
    """A run's committed output. outputs: as the model has them, each one or several columns."""

    place: str
    into: str | None
    key: str
    outputs: tuple[str, ...]
    model: Model

    def kind(self) -> str:
        """Of the keys: "int" where all are integers, also as text of a file of text; else "text"."""
        tables = self._tables((), keyed=True)
        return "int" if all(_integers(table.column(self.key)) for table in tables) else "text"

    def pieces(self, kind: str) -> Iterator[tuple[list[int | str], list[bytes], list[int]]]:
        """Keys, bodies and fingerprints, some rows at a time."""
        columns = {name: flat_schema((name,), self.model.signature) for name in self.outputs}
        flat = [each for schema in columns.values() for each in schema]
        for table in self._tables((*flat, pa.field(FINGERPRINT, pa.int64())), keyed=True):
            for start in range(0, table.num_rows, PIECE):
                part = table.slice(start, PIECE)
                keys = [_key(each, kind) for each in part.column(self.key).to_pylist()]
                yield keys, self._bodies(part, columns), part.column(FINGERPRINT).to_pylist()

    def _bodies(self, part: pa.Table, columns: dict[str, pa.Schema]) -> list[bytes]:
        told = []
        for name, schema in columns.items():
            values = [part.column(each).to_pylist() for each in schema.names]
            told.append(values[0] if schema.names == [name] else list(zip(*values, strict=True)))
        return [_body(tuple(columns), row) for row in zip(*told, strict=True)]

    def _tables(self, fields: tuple[pa.Field, ...], *, keyed: bool) -> Iterator[pa.Table]:
        types = {each.name: each.type for each in fields}
        if is_address(self.place):
            yield from self._of_database(types)
            return
        source = open_input(self.place)
        try:
            if self.key not in source.columns:
                raise UsageError(
                    f"{self.place} has no column {self.key!r}, by which its results are to be served: keep it in the "
                    "job's output, or name another key in [models.NAME.store]"
                )
            for chunk in source.chunks(Reading(types or {self.key: None}, (self.key,), missing=("",))):
                yield _cast(pa.table({**_columns(chunk.features), self.key: chunk.kept.column(self.key)}), types)
        finally:
            source.close()

    def _of_database(self, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
        address = Address.parse(self.place)
        if self.into is not None:
            address = address.at(Address.parse(f"sqlite:///x#{self.into}").table)
        database = address.open()
        if self.key not in database.schema(address.named).names:
            raise UsageError(f"{address.name} has no column {self.key!r}, by which its results are to be served")
        for batch in database.batches(address.named, [self.key, *types]):
            yield _cast(pa.Table.from_batches([batch]), types)


def _body(names: tuple[str, ...], values: tuple[Any, ...]) -> bytes:
    return encode(dict(zip(names, values, strict=True)))[1:-1]


def _columns(table: pa.Table) -> dict[str, Any]:
    return {name: table.column(name) for name in table.column_names}


def _cast(table: pa.Table, types: dict[str, pa.DataType]) -> pa.Table:
    for name, kind in types.items():
        column = table.column(name)
        if column.type != kind:
            table = table.set_column(table.column_names.index(name), name, column.cast(kind))
    return table


def _integers(column: Any) -> bool:
    if pa.types.is_integer(column.type):
        return True
    return all(not each or (isinstance(each, str) and _is_integer(each)) for each in column.to_pylist())


def _is_integer(text: str) -> bool:
    """Written as an integer of 64 bits is, and in no other way: 0042 stays a text."""
    return len(text) < 20 and text.lstrip("-").isdecimal() and str(int(text)) == text and abs(int(text)) < 2**63


def _key(value: Any, kind: str) -> int | str:
    """A key; empty where there is none."""
    if value is None or value == "":
        return ""
    return int(value) if kind == "int" else str(value)
