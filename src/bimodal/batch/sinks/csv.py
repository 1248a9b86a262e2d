"""CSV, written by Arrow; text is quoted only where it must be."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from bimodal.batch.sinks.contract import OldEncoder, Out
from bimodal.batch.sinks.text import any_whole, decoded, floats, nested_as_text


class CsvEncoder(OldEncoder):
    """CSV with a header, in UTF-8, lines ended by a line feed. codec: each chunk is a gzip member or zstd frame."""

    kind = "csv"

    def __init__(self, separator: str = ",", codec: pa.Codec | None = None) -> None:
        self._separator = separator
        self._codec = codec
        self._out: Out | None = None

    def begin(self, out: Out, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        self._out = out
        header = io.StringIO()
        csv.writer(header, delimiter=self._separator, lineterminator="\n").writerow(schema.names)
        self._send(header.getvalue().encode())

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self._send(self._encode(pa.table([_column(each) for each in table.columns], table.column_names)))

    def end(self) -> None:
        """A CSV file has no end mark."""

    def _send(self, data: bytes) -> None:
        assert self._out is not None, "begin comes first"
        self._out.write(self._codec.compress(data, asbytes=True) if self._codec else data)

    def _encode(self, table: pa.Table) -> bytes:
        if table.num_columns == 1 and _has_blank(table.column(0)):
            # a line without anything would be no row for a reader
            texts = pc.fill_null(table.column(0).cast(pa.string()), "")
            return self._arrow(pa.table([texts], table.column_names), "needed")
        try:
            return self._arrow(table, "none")
        except pa.ArrowInvalid:  # some text holds a separator, a quote or a line end
            return self._arrow(table, "needed")

    def _arrow(self, table: pa.Table, quoting: str) -> bytes:
        buffer = pa.BufferOutputStream()
        options = arrow_csv.WriteOptions(include_header=False, quoting_style=quoting, delimiter=self._separator)
        arrow_csv.write_csv(table, buffer, options)
        return bytes(buffer.getvalue())


def _column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = nested_as_text(decoded(column))
    return floats(column) if pa.types.is_floating(column.type) and any_whole(column) else column


def _has_blank(column: pa.ChunkedArray) -> bool:
    if column.null_count:
        return True
    return bool(pa.types.is_string(column.type) and pc.any(pc.equal(column, "")).as_py())
