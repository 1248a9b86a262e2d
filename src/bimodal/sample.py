"""Sample: rows like the ones to come, for what a model cannot say of its inputs itself."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bimodal.errors import SourceError, UsageError
from bimodal.field import Field
from bimodal.local import see_local
from bimodal.table import as_table, from_frame

HEAD = 1000  # rows that are looked at
EXAMPLE = "2024-01-01T00:00:00"  # of a time, where the sample has none
EXTENSION = re.compile(r"U?Int(8|16|32|64)|Float(32|64)|boolean|string")  # pandas' types that know a missing value


def fields(data: Any) -> tuple[Field, ...]:
    """The columns of a sample (a CSV, Parquet or JSON Lines file, a frame, an Arrow table, records) as Fields."""
    rows = table(data).slice(0, HEAD)
    held = _held(rows)
    return tuple(_field(name, rows.column(name), held.get(name)) for name in rows.column_names)


def table(data: Any) -> pa.Table:
    """A sample's rows."""
    if isinstance(data, str | Path):
        see_local(str(data), "--sample", "write some of its rows to a file, and name that")
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
    except FileNotFoundError:
        raise UsageError(f"--sample {path}: there is no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"the sample {path} cannot be read: {str(error).splitlines()[0]}") from error


def _held(rows: pa.Table) -> dict[str, str]:
    """The columns that the frame held in a type of its own, which a file does not bring back by itself."""
    told = (rows.schema.pandas_metadata or {}).get("columns", [])
    known = {field.name: field.type for field in rows.schema}
    types = {each["name"]: _frame_type(each, known[each["name"]]) for each in told if each["name"] in known}
    return {name: kind for name, kind in types.items() if kind is not None}


def _frame_type(told: Mapping[str, Any], column: pa.DataType) -> str | None:
    kind = str(told["numpy_type"])
    if told["pandas_type"] == "categorical":  # a Parquet file names the categories of texts alone
        return "category" if pa.types.is_dictionary(column) else None
    if kind.startswith("datetime64["):
        zone = (told.get("metadata") or {}).get("timezone")
        return f"{kind[:-1]}, {zone}]" if zone else kind
    return kind if EXTENSION.fullmatch(kind) else None


def _field(name: str, column: pa.ChunkedArray, held: str | None) -> Field:
    plain = column.drop_null()
    example = _first(plain)
    extension = held is not None and EXTENSION.fullmatch(held) is not None
    nullable = column.null_count > 0 or extension
    # integers that the frame can hold beside a null stay what they are; elsewhere pandas makes floats of them
    kind = _type(column.type, widened=nullable and held is None)
    return Field(
        name,
        kind,
        nullable=nullable,
        categories=_categories(column) if held == "category" else None,
        example=_time(example) if kind == "timestamp" else example,
        frame=held,
    )


def _first(column: pa.ChunkedArray) -> Any:
    """None where there is none, or a time that Python cannot hold: no model gets such a one."""
    try:
        return column[0].as_py() if len(column) else None
    except OverflowError:
        return None


def _time(example: datetime.date | None) -> str:
    """As text; times of a place as those of UTC, which is how Rows hold them."""
    try:
        if isinstance(example, datetime.datetime) and example.tzinfo is not None:
            return str(example.astimezone(datetime.UTC).replace(tzinfo=None))
    except OverflowError:
        example = None
    return EXAMPLE if example is None else str(example)


def _categories(column: pa.ChunkedArray) -> tuple[Any, ...]:
    """All that the frame's type names, also those that no row has."""
    one = column.unify_dictionaries()
    return tuple(one.chunk(0).dictionary.to_pylist()) if one.num_chunks else ()


def _type(kind: pa.DataType, *, widened: bool) -> str:
    """As pandas would read the column. widened: integers stand beside nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "timestamp"
    return "int64" if pa.types.is_integer(kind) and not widened else "float64"
