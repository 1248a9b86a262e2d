"""CSV, written by Arrow; a value is quoted only where it must be."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from bimodal.batch.sinks.compression import compressed
from bimodal.batch.sinks.contract import Encoded, Encoder
from bimodal.batch.sinks.text import any_whole, counted, decoded, floats, joined_bytes, nested_as_text


class CsvEncoder(Encoder):
    """CSV with a header, in UTF-8, lines ended by a line feed. A missing value is nothing between two separators.

    codec: the header and each chunk are a gzip member or a zstd frame of their own.
    """

    text = True

    def __init__(self, separator: str = ",", codec: str | None = None) -> None:
        self._separator, self._codec = separator, codec
        self._special = f'["\r\n{re.escape(separator)}]'
        word = "tsv" if separator == "\t" else "csv"
        self.kind = f"{word}.{codec}" if codec else word

    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> bytes:
        header = io.StringIO()
        csv.writer(header, delimiter=self._separator, lineterminator="\n").writerow(schema.names)
        return compressed(header.getvalue().encode(), self._codec)

    def encode(self, table: pa.Table) -> Encoded:
        if not table.num_rows:
            return Encoded()
        plain = pa.table([_column(each) for each in table.columns], table.column_names)
        return Encoded(compressed(self._lines(plain), self._codec))

    def tail(self, notes: Iterator[tuple[int, Any]]) -> bytes:
        """A CSV file has no end mark."""
        return b""

    def _lines(self, table: pa.Table) -> bytes:
        if table.num_columns == 1 and _has_blank(table.column(0)):
            return self._joined(table, blank='""')  # a line without anything would be no row for a reader
        try:
            buffer = pa.BufferOutputStream()
            options = arrow_csv.WriteOptions(include_header=False, quoting_style="none", delimiter=self._separator)
            arrow_csv.write_csv(table, buffer, options)
            return buffer.getvalue().to_pybytes()  # type: ignore[no-any-return]  # bytes
        except pa.ArrowInvalid:  # some text holds a separator, a quote or a line end: Arrow would quote every text
            return self._joined(table)

    def _joined(self, table: pa.Table, blank: str = "") -> bytes:
        """The same lines, put together here, with quotes around the values that need them."""
        cells = [pc.fill_null(self._quoted(each), "") for each in table.columns]
        if blank:
            cells = [pc.if_else(pc.equal(each, ""), blank, each) for each in cells]
        rows = cells[0] if len(cells) == 1 else pc.binary_join_element_wise(*cells, self._separator)
        return joined_bytes(pc.binary_join_element_wise(rows, "\n", ""))

    def _quoted(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        texts = column.cast(pa.string())
        if not _is_text(column.type):
            return texts
        special = pc.match_substring_regex(texts, self._special)
        if not pc.any(special).as_py():
            return texts
        inner = pc.replace_substring(texts, '"', '""')
        return pc.if_else(special, pc.binary_join_element_wise('"', inner, '"', ""), texts)


def _column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = counted(nested_as_text(decoded(column)))
    return floats(column) if pa.types.is_floating(column.type) and any_whole(column) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _has_blank(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count or (_is_text(column.type) and pc.any(pc.equal(column, "")).as_py()))
