"""`/predict` in tables: CSV, an Arrow stream, Parquet; the answer is a table of the same kind, with flat columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bimodal.errors import InputError, MalformedInput, Problem, TooLarge
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.protocols import choice
from bimodal.realtime.protocols.media import ARROW, CSV
from bimodal.realtime.protocols.rows import too_many
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import EMPTY, EXACT, require
from bimodal.table import Binding, flat, to_stream

MARKERS = [  # what pandas takes for a missing value in CSV
    *("", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]
SWELL = 16  # how many times its size a compressed body may grow
BROKEN = (pa.ArrowException, OSError, EOFError, ValueError, OverflowError)

Cancel = Callable[[], None]
Checked = tuple[Binding, Rows, NDArray[np.bool_], list[Problem]]


class TableDoor:
    """Bodies of one kind of table, for one model."""

    route = "predict"

    def __init__(self, served: Served, kind: bytes) -> None:
        self.served = served
        self.content_type = kind
        self._limits = served.limits

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        try:
            work = self._taken(request, respond)
            self.served.batcher.submit(work)
        except Exception as error:
            self.served.refuse(self.route, request, respond, error)
            return None
        return None if work.settled else work.cancel

    def recheck(self, work: Work) -> Rows:
        raise InputError("the rows do not fit the model")  # not reached: a table was judged when it came in

    def fail(self, work: Work, error: BaseException) -> None:
        self.served.refuse(self.route, work.request, work.respond, error)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        table = flat(answer.outputs.slice(start, stop), self.served.signature)
        if work.extra is not None:
            kept: pa.Table = work.extra
            for place, name in enumerate(kept.column_names):
                table = table.add_column(place, name, kept.column(name))
        return _written(table, self.content_type)

    def _taken(self, request: Request, respond: Respond) -> Work:
        start = monotonic()
        deadline = start + choice.seconds(request.headers, self._limits.deadline)
        asked = choice.of_query(request.query)
        key = self.served.choose(asked.outputs, asked.threshold)
        table, (binding, rows, _, problems) = self._judged(request.body)
        require(problems)
        names = asked.kept(list(binding.kept), key[0])
        extra = None
        if names:
            extra = _as_text(request.body, names) if self.content_type == CSV else table.select(names)
        key = self.served.lane(key, rows)
        now = monotonic()
        return Work(self, request, respond, gather.ready, [rows], rows.count, key, deadline, now, now - start, extra)

    def _judged(self, body: bytes) -> tuple[pa.Table, Checked]:
        if not body:
            raise MalformedInput("the body is empty; a table is needed")
        if self.content_type == CSV:
            return self._csv(body)
        table = _arrow(body, self._limits.rows) if self.content_type == ARROW else self._parquet(body)
        return table, self._checked(table)

    def _checked(self, table: pa.Table, *, text: bool = False) -> Checked:
        if table.num_rows > self._limits.rows:
            raise too_many(self._limits.rows)
        binding = Binding.bind(self.served.signature, table.column_names)
        if not table.num_rows:
            raise InputError.of([EMPTY])
        return binding, *binding.rows(table, text=text)

    def _csv(self, body: bytes) -> tuple[pa.Table, Checked]:
        """Read with the signature's types; what does not fit them is read as text, to find its rows."""
        binding = Binding.bind(self.served.signature, _header(body))
        types = binding.arrow_types()
        free = {name: pa.string() for name in binding.kept}
        try:
            table = _read(body, {**types, **free})
        except pa.ArrowInvalid:
            table = None
        if table is not None and _plain(table, binding):
            return table, self._checked(table, text=True)
        table = _read(body, dict.fromkeys([*types, *free], pa.string()))
        return table, self._checked(table, text=True)

    def _parquet(self, body: bytes) -> pa.Table:
        try:
            file = pq.ParquetFile(pa.BufferReader(body))
            told = file.metadata
            if told.num_rows > self._limits.rows:
                raise too_many(self._limits.rows)
            size = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
            if size > SWELL * self._limits.body_bytes:
                raise TooLarge("the Parquet file is too large when it is decompressed")
            table = file.read(use_threads=False)
            table.validate(full=True)
        except BROKEN as error:
            raise MalformedInput("the body is no Parquet file") from error
        return table


def _arrow(body: bytes, most: int) -> pa.Table:
    """An Arrow stream, batch by batch: no more is read than may come."""
    batches, rows = [], 0
    try:
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            for batch in reader:
                batch.validate(full=True)
                rows += batch.num_rows
                if rows > most:
                    raise too_many(most)
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)
    except BROKEN as error:
        raise MalformedInput("the body is no Arrow stream") from error


def _header(body: bytes) -> list[str]:
    """The column names: the first record, of which quoted line ends may be a part."""
    try:
        text = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")
        names = next(csv.reader(text, strict=True), [])
    except UnicodeDecodeError:
        raise MalformedInput("the CSV is not UTF-8") from None
    except csv.Error:
        raise MalformedInput("the first line of the CSV is no header") from None
    if not names:
        raise MalformedInput("the CSV has no header")
    return names


def _read(body: bytes, types: dict[str, pa.DataType], only: list[str] | None = None, *, nulls: bool = True) -> pa.Table:
    """The CSV as a table. Raises MalformedInput where a row has too few or too many cells."""
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "skip"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(body),
            pa_csv.ReadOptions(use_threads=False, block_size=max(len(body), 1) + 1),
            pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            pa_csv.ConvertOptions(
                column_types=types,
                include_columns=only,
                null_values=MARKERS if nulls else [],
                strings_can_be_null=nulls,
                check_utf8=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if "conversion error" in str(error) and "UTF8" not in str(error):
            raise
        if "Empty CSV" in str(error):
            return pa.table({name: pa.array([], kind) for name, kind in types.items()})
        raise MalformedInput("the body is no CSV in UTF-8") from None
    if ragged:
        number, wanted, found = ragged[0].number, ragged[0].expected_columns, ragged[0].actual_columns
        row = None if number is None else number - 1
        place = "a row" if row is None else f"row {row}"
        raise MalformedInput(f"{place}: {found} cells where the header has {wanted} columns", row=row)
    return table


def _as_text(body: bytes, names: list[str]) -> pa.Table:
    """Columns of the CSV as they stand there."""
    return _read(body, dict.fromkeys(names, pa.string()), names, nulls=False)


def _plain(table: pa.Table, binding: Binding) -> bool:
    """Whether the numbers are what the text said: beyond 2**53 and at infinity the text has to be looked at."""
    for name in binding.features:
        column = table.column(name)
        if pa.types.is_floating(column.type):
            values = np.abs(column.to_numpy())
            if not ((values < EXACT) | np.isnan(values)).all():
                return False
    return True


def _written(table: pa.Table, kind: bytes) -> bytes:
    if kind == ARROW:
        return to_stream(table)
    sink = pa.BufferOutputStream()
    if kind == CSV:
        sink.write(",".join(_cell(name) for name in table.column_names).encode() + b"\n")
        try:
            pa_csv.write_csv(table, sink, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
        except pa.ArrowInvalid:  # some text needs quotes; Arrow then quotes every text
            return _written_quoted(table)
    else:
        pq.write_table(table, sink)
    return bytes(sink.getvalue())


def _written_quoted(table: pa.Table) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*[_cells(column) for column in table.columns], strict=True))
    return sink.getvalue().encode()


def _cells(column: pa.ChunkedArray) -> list[object]:
    """A column as its CSV cells: numbers as Arrow writes them."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return list(column.to_pylist())
    return list(column.cast(pa.string()).to_pylist())


def _cell(text: str) -> str:
    """A name in the header, quoted where it must be (Arrow would quote all of them)."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
