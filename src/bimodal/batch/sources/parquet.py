"""Parquet, row group by row group."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as arrow_parquet

from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Cursor, Piece, Reading, Source
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.stream import readable
from bimodal.batch.sources.tables import behind, chunk_of
from bimodal.errors import SourceError, WrongFormat

WIDEST = 64 << 20  # bytes of a chunk, as the file holds them before compression
FEWEST = 1024  # rows
BUFFER = 1 << 20  # bytes read at a time from a column of a row group
AHEAD = 128 << 20  # bytes of row groups up to which their columns are asked for at once, where each read is a request


class ParquetSource(Source):
    """A Parquet file. Text that feeds the model is read dictionary-encoded, all else as it is."""

    kind = "parquet"

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.path = file.path
        self.name = file.name
        with self._open() as opened:
            self._schema: pa.Schema = opened.schema_arrow
            self._metadata = opened.metadata
        parts = [self._metadata.row_group(i) for i in range(self._metadata.num_row_groups)]
        counts = [part.num_rows for part in parts]
        self._rows = chunk_rows(sum(part.total_byte_size for part in parts), sum(counts))
        self._groups = gather(counts, self._rows)
        self._sizes = [sum(counts[place] for place in group) for group in self._groups]
        self.total_rows = self._metadata.num_rows
        self.columns = tuple(self._schema.names)
        self.total_bytes = file.size

    def _open(self, texts: Sequence[str] = (), *, ahead: bool = False) -> arrow_parquet.ParquetFile:
        known = getattr(self, "_metadata", None)
        buffer = BUFFER if self.path else 8 * BUFFER
        with readable(self.name):
            try:
                return arrow_parquet.ParquetFile(
                    self.file.random(),
                    metadata=known,
                    read_dictionary=list(texts),
                    buffer_size=0 if ahead else buffer,
                    pre_buffer=ahead,
                )
            except pa.ArrowInvalid as error:
                if not self.file.size:
                    raise SourceError(f"{self.name} is empty") from error
                raise WrongFormat(f"{self.name} is no Parquet file, or ends in the middle") from error

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        return (piece.load() for piece in self.pieces(reading))

    def pieces(self, reading: Reading, after: Cursor | None = None) -> Iterator[Piece]:
        """The chunks of a row group come from one decoder, which whoever needs the next of them moves on: those who
        wait for different groups read side by side, and nothing is decoded before somebody wants it.
        """
        first, done = behind(after, self.name)
        before = [0, *accumulate(-(-size // self._rows) for size in self._sizes)]  # chunks before each group
        place = bisect_right(before, first) - 1
        for group, start in zip(range(place, len(self._groups)), before[place:], strict=False):
            decoder = Decoder(self, self._groups[group], reading, first - start)
            for number in range(first, before[group + 1]):
                count = min(self._rows, self._sizes[group] - (number - start) * self._rows)
                load = partial(self._load, decoder, number - start, reading, number, done + 1)
                done += count
                yield Piece(number, done - count + 1, {"chunk": number, "row": done}, self._bytes(done), load)
            first = before[group + 1]

    def _load(self, decoder: Decoder, part: int, reading: Reading, number: int, row: int) -> Chunk:
        table = decoder.take(part)
        done = self._bytes(row + table.num_rows - 1)
        return chunk_of(table, reading, number=number, source=self.name, first_row=row, bytes_done=done)

    def _bytes(self, rows: int) -> int:
        """How much of the file so many rows are, about."""
        return (self.total_bytes or 0) * rows // max(self.total_rows or 0, 1)

    def batches(self, group: Sequence[int], reading: Reading) -> Iterator[pa.Table]:
        """Tables of a chunk's rows each from these row groups, decoded one by one."""
        texts = [
            name for name in reading.features if _is_text(self._schema.field(name).type) and name not in reading.kept
        ]
        wanted = list(dict.fromkeys([*reading.features, *reading.kept]))
        with self._open(texts, ahead=self._far(group, wanted)) as file:
            yield from whole(self._decoded(file, group, wanted), self._rows)

    def _far(self, group: Sequence[int], wanted: Sequence[str]) -> bool:
        """Whether it is worth asking for all that is wanted of these row groups at once."""
        if self.path:
            return False
        size = 0
        for part in map(self._metadata.row_group, group):
            columns = map(part.column, range(part.num_columns))
            size += sum(each.total_compressed_size for each in columns if each.path_in_schema.split(".")[0] in wanted)
        return size <= AHEAD

    def _decoded(self, file: arrow_parquet.ParquetFile, group: Sequence[int], wanted: list[str]) -> Iterator[pa.Table]:
        batches = file.iter_batches(self._rows, row_groups=group, columns=wanted, use_threads=False)
        while True:
            with readable(self.name):
                try:
                    batch = next(batches, None)
                except pa.ArrowInvalid as error:
                    raise SourceError(f"{self.name} is broken: {str(error).splitlines()[0]}") from error
            if batch is None:
                return
            yield pa.Table.from_batches([batch])


class Decoder:
    """The chunks of row groups that are read together. Thread-safe; each chunk is taken once, in any order.

    A chunk that was decoded on the way to a later one waits here: no more of them than there are chunks on their way.
    """

    def __init__(self, source: ParquetSource, group: Sequence[int], reading: Reading, first: int = 0) -> None:
        self._tables = source.batches(group, reading)
        self._name = source.name
        self._first = first  # chunks before it are not wanted
        self._next = 0
        self._failure: Exception | None = None
        self._waiting: dict[int, pa.Table] = {}
        self._lock = threading.Lock()

    def take(self, part: int) -> pa.Table:
        with self._lock:
            while self._next <= part and self._failure is None:
                self._decode()
            if part in self._waiting:
                return self._waiting.pop(part)
            assert self._failure is not None, "a chunk is taken once"
            raise self._failure

    def _decode(self) -> None:
        try:
            table = next(self._tables)
        except StopIteration:
            self._failure = SourceError(f"{self._name} is broken: a row group has fewer rows than it says")
            return
        except Exception as error:  # raised for whoever waits for this chunk or a later one
            self._failure = error
            return
        if self._next >= self._first:
            self._waiting[self._next] = table
        self._next += 1


def whole(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows each (the last one: the rest)."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        while held >= rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows)
            held -= rows
            waiting = [joined.slice(rows)] if held else []
    if held:
        yield pa.concat_tables(waiting)


def chunk_rows(size: int, rows: int) -> int:
    """A chunk's rows: 65,536, or half as often as it takes where rows are so wide that it would be too large."""
    wanted = CHUNK_ROWS
    while wanted > FEWEST and wanted * size > WIDEST * max(rows, 1):
        wanted //= 2
    return wanted


def gather(groups: Sequence[int], rows: int = CHUNK_ROWS) -> list[list[int]]:
    """Row groups that are read together: small neighbours, up to a chunk's rows."""
    gathered: list[list[int]] = []
    held = rows
    for place, count in enumerate(groups):
        if not count:
            continue
        if held + count <= rows:
            gathered[-1].append(place)
            held += count
        else:
            gathered.append([place])
            held = count
    return gathered


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
