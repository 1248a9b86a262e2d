"""Sample: rows like the ones to come, for what a model cannot say of its inputs itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from bimodal.errors import SourceError, UsageError
from bimodal.field import Field
from bimodal.table import as_table, from_frame

HEAD = 1000  # rows that are looked at


def fields(data: Any) -> tuple[Field, ...]:
    """The columns of a sample (a CSV, Parquet or JSON Lines file, a frame, an Arrow table, records) as Fields."""
    table = _table(data).slice(0, HEAD)
    return tuple(_field(name, table.column(name)) for name in table.column_names)


def _table(data: Any) -> pa.Table:
    if isinstance(data, str | Path):
        return _read(Path(data))
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return from_frame(data)
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return pa.Table.from_pylist(data)
    if type(data).__module__.startswith("pyarrow"):
        return as_table(data)
    if hasattr(data, "shape") and len(data.shape) == 2:
        return pa.table({f"x{i}": pa.array(data[:HEAD, i]) for i in range(data.shape[1])})
    raise UsageError(f"a sample is a file, a frame, an Arrow table or records, not a {type(data).__name__}")


def _read(path: Path) -> pa.Table:
    from pyarrow import csv, json, parquet  # each is a library of its own to load

    readers = {
        ".csv": csv.read_csv,
        ".parquet": parquet.read_table,
        ".jsonl": json.read_json,
        ".ndjson": json.read_json,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"--sample {path}: a sample is a file ending in {', '.join(readers)}")
    try:
        return reader(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"the sample {path} cannot be read: {str(error).splitlines()[0]}") from error


def _field(name: str, column: pa.ChunkedArray) -> Field:
    plain = column.drop_null()
    example = plain[0].as_py() if len(plain) else None
    nullable = column.null_count > 0
    return Field(
        name,
        _type(column.type, nullable=nullable),
        nullable=nullable,
        example=example if _type(column.type, nullable=nullable) != "timestamp" else str(example),
    )


def _type(kind: pa.DataType, *, nullable: bool) -> str:
    """As pandas would read the column: integers with nulls are floats there."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "timestamp"
    return "int64" if pa.types.is_integer(kind) and not nullable else "float64"
