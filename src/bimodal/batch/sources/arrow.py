"""Arrow IPC: the file format (Feather too) and the stream format, told apart by their first bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Reading, Source
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.stream import readable
from bimodal.batch.sources.tables import chunk_of
from bimodal.errors import SourceError

MAGIC = b"ARROW1"


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
        with self._reader() as (reader, _):
            self._schema: pa.Schema = reader.schema
        self.columns = tuple(self._schema.names)
        self.total_bytes = file.size

    @contextmanager
    def _reader(self) -> Iterator[tuple[pa.ipc.RecordBatchReader, pa.NativeFile]]:
        with readable(self.name), self._file() as file:
            try:
                yield (pa.ipc.open_stream(file) if self._stream else pa.ipc.open_file(file)), file
            except pa.ArrowInvalid as error:
                raise SourceError(f"{self.name} is no Arrow file, or ends in the middle") from error

    def _file(self) -> pa.NativeFile:
        return pa.memory_map(str(self.path)) if self.path else self.file.random()

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        row, size = 1, self.total_bytes or 0
        wanted = list(dict.fromkeys([*reading.features, *reading.kept]))
        with self._reader() as (reader, file):
            batches = self._batches(reader, file)
            for number, (table, share) in enumerate(rechunked(batches, wanted)):
                done = int(size * share)
                yield chunk_of(table, reading, number=number, source=self.name, first_row=row, bytes_done=done)
                row += table.num_rows

    def _batches(self, reader: pa.ipc.RecordBatchReader, file: pa.NativeFile) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Each batch, and how far in the file it ends."""
        if not self._stream:
            for place in range(reader.num_record_batches):
                yield reader.get_batch(place), (place + 1) / reader.num_record_batches
            return
        for batch in reader:
            yield batch, file.tell() / max(self.total_bytes or 1, 1)


def rechunked(
    batches: Iterator[tuple[pa.RecordBatch, float]], wanted: list[str], rows: int = CHUNK_ROWS
) -> Iterator[tuple[pa.Table, float]]:
    """The same rows in tables of `rows` rows each (the last one: the rest)."""
    waiting: list[pa.Table] = []
    held, share = 0, 0.0
    for batch, share in batches:
        waiting.append(pa.Table.from_batches([batch]).select(wanted))
        held += batch.num_rows
        while held >= rows:
            table = pa.concat_tables(waiting)
            yield table.slice(0, rows), share
            held -= rows
            waiting = [table.slice(rows)] if held else []
    if held:
        yield pa.concat_tables(waiting), share
