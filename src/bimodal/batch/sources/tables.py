"""Chunks of tables that are typed already: Parquet, Arrow, frames."""

from __future__ import annotations

import base64
import datetime
import decimal
from typing import Any

import pyarrow as pa

from bimodal.batch.sources.contract import Chunk, Cursor, Reading
from bimodal.errors import SourceChanged


def chunk_of(table: pa.Table, reading: Reading, *, number: int, source: str, first_row: int, bytes_done: int) -> Chunk:
    """The table's columns, shared out between the model and the output."""
    features = table.select(list(reading.features))
    kept = table.select(list(reading.kept))
    return Chunk(
        number, source, first_row, features, kept, raw=RawRow(table), bytes_done=bytes_done, form=types_of(table.schema)
    )


def types_of(schema: pa.Schema) -> dict[str, Any]:
    """The form of a table's refused rows."""
    return {"types": {field.name: str(field.type) for field in schema}}


def behind(after: Cursor | None, name: str) -> tuple[int, int]:
    """From the cursor of a file's chunk to the number of the next one, and the rows before it."""
    if after is None:
        return 0, 0
    try:
        return int(after["chunk"]) + 1, int(after["row"])
    except (KeyError, TypeError, ValueError):
        raise SourceChanged(
            f"{name} is another kind of input than the unfinished run read; --fresh starts anew"
        ) from None


class RawRow:
    """From a place in a table to the row as a mapping that JSON can hold."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __call__(self, place: int) -> dict[str, object]:
        (row,) = self._table.slice(place, 1).to_pylist()
        return {name: plain(value) for name, value in row.items()}


def plain(value: object) -> object:
    """The value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | decimal.Decimal):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None if value != value else str(value)
    return value
