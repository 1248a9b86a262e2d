"""Sheet: the CSV of a request. How it is written is recognised as it is in files."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from bimodal.dialect import HEAD, WESTERN, Dialect, Overrides, columns_of, encoding_of, index_of, recognise, whole_lines
from bimodal.errors import MalformedInput

MARKERS = [  # what pandas takes for a missing value in CSV
    *("", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]


@dataclass(frozen=True)
class Sheet:
    """data: the whole text in UTF-8, which ends with a line end. names: of its columns."""

    data: bytes
    names: tuple[str, ...]
    dialect: Dialect

    @classmethod
    def of(cls, body: bytes, header: bool | None = None) -> Self:
        """header: whether there is one; None is recognised.

        Raises MalformedInput: no text, no rows, a first row that cannot be read.
        """
        encoding, mark = encoding_of(body[:HEAD])
        data = _utf8(body[mark:], encoding).lstrip(b"\r\n")
        text = data[:HEAD].decode("utf-8", "replace")
        if not text.strip():
            raise MalformedInput("the CSV has no header")
        said = Overrides(header=header)
        dialect = recognise(whole_lines(text) if len(data) > HEAD else text, said, encoding=encoding)
        try:
            names = columns_of(text, dialect)
        except csv.Error:
            raise MalformedInput("the first line of the CSV is no header") from None
        return cls(data if data.endswith((b"\n", b"\r")) else data + b"\n", names, dialect)

    @property
    def index(self) -> str | None:
        """The name of an index that was written along."""
        return index_of(self.names)

    def read(self, types: dict[str, pa.DataType], only: list[str] | None = None, *, nulls: bool = True) -> pa.Table:
        """The rows as a table, of some columns only.

        Raises MalformedInput where a row has too few or too many cells, pa.ArrowInvalid where a cell is not of its
        column's type.
        """
        ragged: list[Any] = []

        def note(row: Any) -> str:
            ragged.append(row)
            return "skip"

        try:
            table = pa_csv.read_csv(
                pa.BufferReader(self.data),
                pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=len(self.data) + 1,
                    column_names=self.names,
                    skip_rows_after_names=int(self.dialect.header),
                ),
                pa_csv.ParseOptions(
                    delimiter=self.dialect.separator, newlines_in_values=True, invalid_row_handler=note
                ),
                pa_csv.ConvertOptions(
                    column_types=types,
                    include_columns=only,
                    null_values=MARKERS if nulls else [],
                    strings_can_be_null=nulls,
                    check_utf8=True,
                    decimal_point=self.dialect.decimal,
                ),
            )
        except pa.ArrowInvalid as error:
            if "conversion error" in str(error) and "UTF8" not in str(error):
                raise
            raise MalformedInput("the body is no CSV in UTF-8") from None
        if ragged:
            raise self._uneven(ragged[0])
        return table

    def texts(self, names: list[str]) -> pa.Table:
        """Columns as they stand there."""
        return self.read(dict.fromkeys(names, pa.string()), names, nulls=False)

    def pointed(self, table: pa.Table, names: Sequence[str]) -> pa.Table:
        """The table, with decimal points in the columns of numbers that were read as text."""
        if self.dialect.decimal == ".":
            return table
        for name in names:
            column = table.column(name)
            if pa.types.is_string(column.type):
                # a point separates thousands there: such a cell must not pass for a number with a fraction
                column = pc.replace_substring(pc.replace_substring(column, ".", "\N{MIDDLE DOT}"), ",", ".")
                table = table.set_column(table.column_names.index(name), name, column)
        return table

    def _uneven(self, ragged: Any) -> MalformedInput:
        """The error of a row that has more or fewer cells than the first one."""
        row = None if ragged.number is None else ragged.number - self.dialect.header
        place = "a row" if row is None else f"row {row}"
        first = "the header" if self.dialect.header else "the first row"
        return MalformedInput(
            f"{place}: {ragged.actual_columns} cells where {first} has {ragged.expected_columns} columns", row=row
        )


def _utf8(body: bytes, encoding: str) -> bytes:
    """The body in UTF-8. Bytes that are none, in a body that is said to be UTF-8, are found when it is read."""
    if encoding == "utf-8":
        return body
    if encoding == "cp1252":
        return codecs.charmap_decode(body, "strict", WESTERN)[0].encode()
    try:
        return body.decode(encoding).encode()
    except UnicodeDecodeError:
        raise MalformedInput(f"the CSV is not {encoding.upper()}") from None
