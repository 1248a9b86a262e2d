"""Parquet, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as arrow_parquet

from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Reading, Source
from bimodal.batch.sources.stream import fingerprint, readable
from bimodal.batch.sources.tables import chunk_of
from bimodal.errors import SourceError

WIDEST = 64 << 20  # bytes of a chunk, as the file holds them before compression
FEWEST = 1024  # rows
BUFFER = 1 << 20  # bytes read at a time from a column of a row group


class ParquetSource(Source):
    """A Parquet file. Text that feeds the model is read dictionary-encoded, all else as it is."""

    kind = "parquet"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        with self._open() as file:
            self._schema: pa.Schema = file.schema_arrow
            parts = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            groups = [part.num_rows for part in parts]
            self._rows = chunk_rows(sum(part.total_byte_size for part in parts), sum(groups))
            self.total_rows = file.metadata.num_rows
        self._groups = gather(groups, self._rows)
        self.columns = tuple(self._schema.names)
        self.total_bytes = path.stat().st_size

    def _open(self, texts: Sequence[str] = ()) -> arrow_parquet.ParquetFile:
        with readable(str(self.path)):
            try:
                return arrow_parquet.ParquetFile(
                    self.path, read_dictionary=list(texts), buffer_size=BUFFER, pre_buffer=False
                )
            except pa.ArrowInvalid as error:
                size = self.path.stat().st_size
                raise SourceError(
                    f"{self.name} is empty" if not size else f"{self.name} is no Parquet file, or ends in the middle"
                ) from error

    def fingerprint(self) -> str:
        return fingerprint(self.path)

    def kept_schema(self, names: tuple[str, ...]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in names])

    def chunks(self, reading: Reading) -> Iterator[Chunk]:
        texts = [
            name for name in reading.features if _is_text(self._schema.field(name).type) and name not in reading.kept
        ]
        wanted = list(dict.fromkeys([*reading.features, *reading.kept]))
        total, size = max(self.total_rows or 0, 1), self.total_bytes or 0
        row = 1
        with self._open(texts) as file:
            for number, batch in enumerate(self._batches(file, wanted)):
                done = size * (row + batch.num_rows - 1) // total
                yield chunk_of(batch, reading, number=number, source=self.name, first_row=row, bytes_done=done)
                row += batch.num_rows

    def _batches(self, file: arrow_parquet.ParquetFile, wanted: list[str]) -> Iterator[pa.Table]:
        for group in self._groups:
            batches = file.iter_batches(self._rows, row_groups=group, columns=wanted)
            waiting: list[pa.RecordBatch] = []
            while True:
                with readable(self.name):
                    try:
                        batch = next(batches, None)
                    except pa.ArrowInvalid as error:
                        raise SourceError(f"{self.name} is broken: {str(error).splitlines()[0]}") from error
                if batch is None:
                    break
                waiting.append(batch)
                if sum(each.num_rows for each in waiting) >= self._rows:
                    table = pa.Table.from_batches(waiting)
                    yield table.slice(0, self._rows)
                    rest = table.slice(self._rows)
                    waiting = rest.to_batches() if rest.num_rows else []
            if waiting:
                yield pa.Table.from_batches(waiting)


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
