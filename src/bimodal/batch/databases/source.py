"""DatabaseSource: a table or a query, in chunks, in the database's own order."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.databases.content import Chain
from bimodal.batch.databases.contract import TYPE, Database, Relation, declared_type
from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Cursor, Piece, Reading, Source
from bimodal.batch.sources.stream import readable
from bimodal.batch.sources.tables import RawRow, types_of
from bimodal.errors import SourceChanged, SourceError

WIDEST = 64 << 20  # bytes of a chunk, in memory
FEWEST = 1024  # rows


class DatabaseSource(Source):
    """The rows of a table or of a query. A cursor holds the columns that were read, how many rows, and a digest of all
    of them, which a resume computes again: so it finds every change before the place where it goes on.
    """

    counted = False  # `total_rows` is what the database believes

    def __init__(self, database: Database, relation: Relation) -> None:
        self.database: Database = database
        self.relation: Relation = relation
        self.kind, self.name = database.kind, str(relation)
        self._schema = database.schema(relation)
        self.columns = tuple(self._schema.names)
        self.total_rows = database.rows(relation)
        self._apart = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def keep_clear(self, other: Database) -> None:
        """The sink writes to that database: if it is the same file, the rows are copied to a file before they are used,
        so that no reader keeps the writer waiting.
        """
        self._apart = self.database.same(other)

    def fingerprint(self) -> str:
        """Of what is read and of the columns' types: a table's content is known by the cursors' digests alone."""
        hashed = hashlib.sha256(f"{self.kind}\0{type(self.relation).__name__}\0".encode())
        hashed.update(getattr(self.relation, "text", str(self.relation)).encode())
        for each in self._schema:
            metadata = sorted((each.metadata or {}).items())
            hashed.update(f"\0{each.name}\0{each.type}\0{metadata}".encode())
        return hashed.hexdigest()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        for piece in self.pieces(reading):
            yield piece.load()

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        names = tuple(dict.fromkeys([*reading.features, *reading.kept]))
        if after is not None and tuple(after["columns"]) != names:
            raise SourceChanged(
                f"other columns of {self.name} are read than by the unfinished run; --fresh starts anew"
            )
        for number, first, table, cursor in self._tables(names):
            if after is None or number > after["chunk"]:
                yield Piece(number, first, cursor, 0, _Loading(self, table, reading, number, first))
            elif number == after["chunk"] and cursor != dict(after):
                raise SourceChanged(
                    f"{self.name} has changed since the unfinished run read it, in its first {after['row']:,} rows (or "
                    "in their order); --fresh starts anew"
                )
            if after is not None and number == after["chunk"]:
                after = None
        if after is not None:
            raise SourceChanged(
                f"{self.name} has less than the {after['row']:,} rows that the unfinished run read; --fresh starts anew"
            )

    def unchanged(self, end: Cursor | None) -> bool:
        names = tuple(end["columns"]) if end is not None else self.columns
        if any(name not in self.columns for name in names):
            return False
        last: Cursor | None = None
        for _, _, _, last in self._tables(names):
            if end is None or last["chunk"] > end["chunk"]:
                return False
        return last is None if end is None else last == dict(end)

    def reads(self, path: Path) -> bool:
        mine = self.database.path
        return mine is not None and mine.exists() and path.exists() and mine.samefile(path)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    # -- reading ----------------------------------------------------------------------------------------------------

    def _tables(self, names: tuple[str, ...]) -> Iterator[tuple[int, int, pa.Table, Cursor]]:
        """Each chunk's number, first row, rows, and cursor."""
        schema, chain, row = self.kept_schema(names), Chain(names), 0
        for number, table in enumerate(cut(self._batches(names), schema)):
            first, row = row + 1, row + table.num_rows
            cursor = {"chunk": number, "row": row, "chain": chain.add(table), "columns": list(names)}
            yield number, first, table, cursor

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if not self._apart:
            yield from self.database.batches(self.relation, names)
            return
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="bimodal-")
        copy = Path(self._folder.name) / hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
        with readable(str(copy)):
            if not copy.exists():
                self._copy(names, copy)
            with pa.OSFile(str(copy)) as file, pa.ipc.open_stream(file) as reader:
                yield from reader

    def _copy(self, names: Sequence[str], copy: Path) -> None:
        """All rows into a file. It may be read again: the view of the database is the one of now."""
        started = copy.with_suffix(".part")
        with pa.OSFile(str(started), "wb") as file, pa.ipc.new_stream(file, self.kept_schema(tuple(names))) as writer:
            for batch in self.database.batches(self.relation, names):
                writer.write_batch(batch)
        started.rename(copy)


class _Loading:
    """A chunk's rows, shared out between the model and the output."""

    def __init__(self, source: DatabaseSource, table: pa.Table, reading: Reading, number: int, first: int) -> None:
        self._source, self._table, self._reading = source, table, reading
        self._number, self._first = number, first

    def __call__(self) -> Chunk:
        table, reading, source = self._table, self._reading, self._source
        features = [feature(table.column(name), table.field(name), source) for name in reading.features]
        return Chunk(
            self._number,
            source.name,
            self._first,
            pa.table(features, names=list(reading.features)),
            table.select(list(reading.kept)),
            raw=RawRow(table),
            form=_form(table.schema),
        )


def _form(schema: pa.Schema) -> dict[str, Any]:
    """How refused rows are written. carried: what a column of text is in its database."""
    carried = {field.name: (field.metadata or {}).get(TYPE, b"").decode() for field in schema}
    told = {name: declared for name, declared in carried.items() if declared}
    return {**types_of(schema), **({"carried": told} if told else {})}


def feature(column: pa.ChunkedArray, field: pa.Field, source: DatabaseSource) -> pa.ChunkedArray:
    """A column as the model takes it: exact numbers become the nearest doubles (Arrow's own cast misses that by a unit
    in the last place, so it goes by way of the text).
    """
    if pa.types.is_decimal(field.type):
        column = column.cast(pa.string())
    elif declared_type(field, source.kind) != "numeric":
        return column
    return column.cast(pa.float64())


def cut(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Chunks of CHUNK_ROWS rows, or half as many and so on where those would be wider than WIDEST. Where the database
    ended its batches does not matter.
    """
    waiting = schema.empty_table()
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch], schema)])
        while (rows := _full(waiting)) is not None:
            yield waiting.slice(0, rows).combine_chunks()
            waiting = waiting.slice(rows)
    while waiting.num_rows:
        rows = _full(waiting) or waiting.num_rows
        yield waiting.slice(0, rows).combine_chunks()
        waiting = waiting.slice(rows)


def _full(waiting: pa.Table) -> int | None:
    """How many rows the next chunk has, if they are all there."""
    rows = FEWEST
    while rows < CHUNK_ROWS:
        if waiting.num_rows < 2 * rows:
            return None
        if _width(waiting.slice(0, 2 * rows)) > WIDEST:
            return rows
        rows *= 2
    return rows if waiting.num_rows >= rows else None


def _width(table: pa.Table) -> int:
    """Bytes of the values, which do not depend on how they lie in memory."""
    return sum(_bytes(column) for column in table.columns)


def _bytes(column: pa.ChunkedArray) -> int:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        return int(pc.sum(pc.binary_length(column)).as_py() or 0) + 4 * len(column)
    try:
        return int(kind.bit_width) * len(column) // 8
    except ValueError:  # nested
        return int(column.nbytes)


def refuse_twice(names: Sequence[str], relation: Relation) -> None:
    """For adapters: two columns of one name cannot be told apart."""
    for name in names:
        if list(names).count(name) > 1:
            raise SourceError(f"{relation} gives two columns called {name!r}; name one of them otherwise (AS)")
