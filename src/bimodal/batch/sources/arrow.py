"""Arrow IPC: the file format (Feather too) and the stream format, told apart by their first bytes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pyarrow as pa

from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Cursor, Piece, Reading, Source
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.stream import readable
from bimodal.batch.sources.tables import behind, chunk_of
from bimodal.errors import SourceChanged, SourceError, WrongFormat

MAGIC = b"ARROW1"
Part = tuple[int, int, int]  # a batch's number, and from which row to which


class ArrowSource(Source):
    """An Arrow IPC file or stream."""

    kind = "arrow"

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.path = file.path
        self.name = file.name
        with readable(self.name), file.stream() as stream:
            first = bytes(stream.read(len(MAGIC)))
        if not first:
            raise SourceError(f"{self.name} is empty")
        self._stream = first != MAGIC
        with self._sound():
            self._schema: pa.Schema = self._reader(self._opened()).schema
        self.columns = tuple(self._schema.names)
        self.total_bytes = file.size

    def _opened(self) -> pa.NativeFile:
        return pa.memory_map(str(self.path)) if self.path else self.file.random()

    def _reader(self, opened: pa.NativeFile, fields: list[int] | None = None) -> pa.ipc.RecordBatchReader:
        """fields: the columns to read (None: all); the others are not decompressed."""
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        new = pa.ipc.open_stream if self._stream else pa.ipc.open_file
        return new(opened, options=options)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        with readable(self.name):
            try:
                yield
            except pa.ArrowInvalid as error:
                raise WrongFormat(f"{self.name} is no Arrow file, or ends in the middle") from error

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        return (piece.load() for piece in self.pieces(reading))

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        """Of a file each piece reads its own batches; a stream is read in order, which costs little where it is not
        compressed (its bytes are mapped, not read).
        """
        first, done = behind(after, self.name)
        wanted = sorted({self._schema.get_field_index(name) for name in (*reading.features, *reading.kept)})
        if self._stream:
            return self._streamed(reading, wanted, first, done)
        return self._seeking(reading, wanted, first, done)

    # -- the file format --------------------------------------------------------------------------------------------

    def _seeking(self, reading: Reading, wanted: list[int], first: int, done: int) -> Iterator[Piece]:
        with self._sound():
            fields = None if self._in_place() else wanted
            counts = self._counts(fields)
        size, readers = self.total_bytes or 0, Readers(self, fields)
        total = max(sum(counts), 1)
        if done > total or (done < first * CHUNK_ROWS and done != sum(counts)):
            raise SourceChanged(f"{self.name} is another than the unfinished run read; --fresh starts anew")
        for number, parts in enumerate(cut(counts, done), first):
            count = sum(stop - start for _, start, stop in parts)
            done += count
            share = size * done // total
            load = partial(self._load, readers, parts, reading, number, done - count + 1, share)
            yield Piece(number, done - count + 1, {"chunk": number, "row": done}, share, load)

    def _in_place(self) -> bool:
        """Whether columns are used where they stand in the file, which is mapped and not compressed: to leave some out
        would copy the others.
        """
        if self.path is None:
            return False
        with self._opened() as opened:
            reader = self._reader(opened)
            if not reader.num_record_batches:
                return False
            opened.seek(0)
            whole = opened.read_buffer(opened.size())
            parts = [part for column in reader.get_batch(0).columns for part in column.buffers() if part and part.size]
            return all(whole.address <= part.address < whole.address + whole.size for part in parts)

    def _counts(self, fields: list[int] | None) -> list[int]:
        """The rows of each batch: told by its head, for which one column is asked where it is copied."""
        with self._opened() as opened:
            reader = self._reader(opened, fields and [_smallest(self._schema)])
            return [reader.get_batch(place).num_rows for place in range(reader.num_record_batches)]

    def _load(self, readers: Readers, parts: list[Part], reading: Reading, number: int, row: int, done: int) -> Chunk:
        with self._sound(), readers.lent() as reader:
            batches = [reader.get_batch(place).slice(start, stop - start) for place, start, stop in parts]
        table = pa.Table.from_batches(batches)
        return chunk_of(table, reading, number=number, source=self.name, first_row=row, bytes_done=done)

    # -- the stream format ------------------------------------------------------------------------------------------

    def _streamed(self, reading: Reading, wanted: list[int], first: int, done: int) -> Iterator[Piece]:
        with self._sound(), self._opened() as opened:
            row = 0
            for number, (table, share) in enumerate(rechunked(self._batches(opened, wanted))):
                row += table.num_rows
                if number == first - 1 and row != done:
                    raise SourceChanged(f"{self.name} is another than the unfinished run read; --fresh starts anew")
                if number < first:
                    continue
                start = row - table.num_rows + 1
                load = partial(
                    chunk_of, table, reading, number=number, source=self.name, first_row=start, bytes_done=share
                )
                yield Piece(number, start, {"chunk": number, "row": row}, share, load)

    def _batches(self, opened: pa.NativeFile, wanted: list[int]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Each batch, and where in the file it ends."""
        for batch in self._reader(opened, wanted):
            yield batch, opened.tell()


class Readers:
    """Readers of one file, lent to a thread at a time: each knows the file's dictionaries once it was used."""

    def __init__(self, source: ArrowSource, fields: list[int] | None) -> None:
        self._source, self._fields = source, fields
        self._free: queue.SimpleQueue[pa.ipc.RecordBatchFileReader] = queue.SimpleQueue()

    @contextmanager
    def lent(self) -> Iterator[pa.ipc.RecordBatchFileReader]:
        try:
            reader = self._free.get_nowait()
        except queue.Empty:
            reader = self._source._reader(self._source._opened(), self._fields)
        yield reader
        self._free.put(reader)


def _smallest(schema: pa.Schema) -> int:
    """The place of a column that is read quickly."""
    plain = [place for place, field in enumerate(schema) if pa.types.is_primitive(field.type)]
    return min(plain, key=lambda place: schema.field(place).type.bit_width, default=0)


def cut(counts: list[int], done: int = 0, rows: int = CHUNK_ROWS) -> Iterator[list[Part]]:
    """The parts of batches of so many rows that make up each chunk, behind the rows that are done."""
    parts: list[Part] = []
    held = 0
    for place, count in enumerate(counts):
        start = min(done, count)
        done -= start
        while start < count:
            stop = min(count, start + rows - held)
            parts.append((place, start, stop))
            held += stop - start
            start = stop
            if held == rows:
                yield parts
                parts, held = [], 0
    if parts:
        yield parts


def rechunked(batches: Iterator[tuple[pa.RecordBatch, int]], rows: int = CHUNK_ROWS) -> Iterator[tuple[pa.Table, int]]:
    """The same rows in tables of `rows` rows each (the last one: the rest), and where in the file they end."""
    waiting: list[pa.Table] = []
    held, position = 0, 0
    for batch, position in batches:
        waiting.append(pa.Table.from_batches([batch]))
        held += batch.num_rows
        while held >= rows:
            table = pa.concat_tables(waiting)
            yield table.slice(0, rows), position
            held -= rows
            waiting = [table.slice(rows)] if held else []
    if held:
        yield pa.concat_tables(waiting), position
