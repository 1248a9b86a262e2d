"""`/predict` in tables: CSV, an Arrow stream, Parquet; the answer is a table of the same kind, with flat columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bimodal.dialect import DOUBTFUL, HEADLESS, looks_like_data
from bimodal.errors import InputError, MalformedInput, TooLarge
from bimodal.field import EXACT
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.protocols import choice
from bimodal.realtime.protocols.media import ARROW, CSV
from bimodal.realtime.protocols.rows import too_many
from bimodal.realtime.protocols.sheet import Sheet
from bimodal.realtime.protocols.underway import LONG, Beside
from bimodal.realtime.service import Served
from bimodal.rows import Rows
from bimodal.signature import EMPTY, require
from bimodal.table import Binding, flat, to_stream

SAY = "say which by `content-type: text/csv; header=absent` (or `present`)"
SWELL = 16  # how many times its size a compressed body may grow
BROKEN = (pa.ArrowException, OSError, EOFError, ValueError, OverflowError)

Cancel = Callable[[], None]


class TableDoor:
    """Bodies of one kind of table, for one model.

    header: whether a CSV has one; None is recognised. mirrors: a CSV without a header is answered without one. A work's
    `extra` is the columns to answer back, and whether a CSV of the answer has a header.
    """

    route = "predict"
    mirrors = False
    long = LONG  # bytes of a body beyond which a thread reads it

    def __init__(self, served: Served, kind: bytes, *, header: bool | None = None) -> None:
        self.served = served
        self.kind = kind
        self.header = header
        self.content_type = kind
        self._limits = served.limits
        self._last: tuple[tuple[str, ...], Binding] | None = None  # callers send the same columns again and again

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        if len(request.body) > self.long:
            return Beside(self, self._taken, request, respond).cancel
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
        kept, header = work.extra
        if kept is not None:
            for place, name in enumerate(kept.column_names):
                table = table.add_column(place, name, kept.column(name))
        return written(table, self.content_type, header=header)

    def _taken(self, request: Request, respond: Respond) -> Work:
        start = monotonic()
        deadline = start + choice.seconds(request.headers, self._limits.deadline)
        asked = choice.of_query(request.query)
        key = self.served.choose(asked.outputs, asked.threshold)
        table, sheet = self._table(request.body)
        names = table.schema.names
        binding = self._bound(names, sheet)
        rows, _, problems = binding.rows(table, text=sheet is not None)
        require(problems)
        fed = set(binding.features)
        kept = asked.kept([name for name in names if name not in fed], key[0])
        beside = None
        if kept:
            beside = table.select(kept) if sheet is None else sheet.texts(kept)
        extra = (beside, sheet is None or sheet.dialect.header or not self.mirrors)
        key = self.served.lane(key, rows)
        now = monotonic()
        parse, alone = now - start, request.alone
        return Work(
            self, request, respond, gather.ready, [rows], rows.count, key, deadline, now, parse, extra, alone=alone
        )

    def _table(self, body: bytes) -> tuple[pa.Table, Sheet | None]:
        """The table of a body; of a CSV, its Sheet too."""
        if not body:
            raise MalformedInput("the body is empty; a table is needed")
        sheet = Sheet.of(body, self.header) if self.kind == CSV else None
        if sheet is not None:
            table = self._csv(sheet)
        else:
            table = _arrow(body, self._limits.rows) if self.kind == ARROW else self._parquet(body)
        if table.num_rows > self._limits.rows:
            raise too_many(self._limits.rows)
        if not table.num_rows:
            self._bound(table.column_names, sheet)
            raise InputError.of([EMPTY])
        return table, sheet

    def _bound(self, names: Sequence[str], sheet: Sheet | None) -> Binding:
        """The features among the columns; an index that was written into a CSV is none."""
        signature = self.served.signature
        if sheet is None:
            if self._last is None or self._last[0] != tuple(names):
                self._last = tuple(names), Binding.bind(signature, names)
            return self._last[1]
        if sheet.index not in [each.name for each in signature.inputs]:
            names = [name for name in names if name != sheet.index]
        by_place = names if signature.named and self.header is False else None  # said to have none: by position
        try:
            bound = Binding.bind(signature, names, features=by_place)
        except InputError as error:
            if not sheet.dialect.header and self.header is None:
                error.message = f"{error.message}; the first row {HEADLESS}; {SAY}"
            elif self.header is None and any(map(looks_like_data, sheet.names)):
                error.message = f"{error.message}; the first row looks like data; if it is, {SAY}"
            raise
        if sheet.dialect.doubtful and not signature.named:
            raise MalformedInput(f"{DOUBTFUL}; {SAY}")
        return bound if sheet.dialect.header else replace(bound, nameless=True)

    def _csv(self, sheet: Sheet) -> pa.Table:
        """Read with the signature's types; what does not fit them is read as text, to find its rows."""
        binding = self._bound(sheet.names, sheet)
        types = binding.arrow_types()
        free = {name: pa.string() for name in sheet.names if name not in binding.features}
        numbers = [
            name
            for place, name in enumerate(binding.features)
            if binding.field(place).type not in ("string", "timestamp", "any")
        ]
        try:
            table = sheet.read({**types, **free})
        except pa.ArrowInvalid:
            table = None
        if table is None or not _plain(table, binding):
            table = sheet.read(dict.fromkeys([*types, *free], pa.string()))
        return sheet.pointed(table, numbers)

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


def _plain(table: pa.Table, binding: Binding) -> bool:
    """Whether the numbers are what the text said: beyond 2**53 and at infinity the text has to be looked at."""
    for name in binding.features:
        column = table.column(name)
        if pa.types.is_floating(column.type):
            values = np.abs(column.to_numpy())
            if not ((values < EXACT) | np.isnan(values)).all():
                return False
    return True


def written(table: pa.Table, kind: bytes, *, header: bool = True) -> bytes:
    """A table as bytes of one kind."""
    if kind == ARROW:
        return to_stream(table)
    sink = pa.BufferOutputStream()
    if kind == CSV:
        if header:
            sink.write(",".join(_cell(name) for name in table.column_names).encode() + b"\n")
        try:
            pa_csv.write_csv(table, sink, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
        except pa.ArrowInvalid:  # some text needs quotes; Arrow then quotes every text
            return _written_quoted(table, header=header)
    else:
        pq.write_table(table, sink)
    return bytes(sink.getvalue())


def _written_quoted(table: pa.Table, *, header: bool) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    if header:
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
