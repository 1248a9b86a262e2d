"""DuckDB's types in Arrow and back: what Arrow has is itself, what it has not is exact text that knows its type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.databases.contract import TYPE, Unfit, declared_type, text_field
from bimodal.errors import SinkError, SourceError

# Of which Arrow has no type, or one that loses something (an offset), or that few readers know (months, days).
AS_TEXT = ("uuid", "enum", "interval", "time with time zone", "bit", "bignum", "varint")
WIDE = ("hugeint", "uhugeint")  # 128 bits: more than the 38 digits of an Arrow decimal
CANNOT = ("union", "variant", "geometry", *AS_TEXT[2:], *WIDE)  # within a list or a record
PLAIN = {
    pa.bool_(): "BOOLEAN", pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT", pa.uint16(): "USMALLINT", pa.uint32(): "UINTEGER", pa.uint64(): "UBIGINT",
    pa.float16(): "FLOAT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE", pa.date32(): "DATE", pa.date64(): "DATE",
    pa.time32("s"): "TIME", pa.time32("ms"): "TIME", pa.time64("us"): "TIME", pa.time64("ns"): "TIME_NS",
    pa.null(): "VARCHAR", pa.month_day_nano_interval(): "INTERVAL",
}  # fmt: skip
MOMENTS = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


# -- reading -----------------------------------------------------------------------------------------------------------


def carried(field: pa.Field, kind: Any, where: str) -> pa.Field:
    """A column as it is read. kind: DuckDB's. Raises SourceError where Arrow cannot hold it."""
    name, word = field.name, str(kind)
    if kind.id in AS_TEXT or word == "JSON":
        return text_field(name, "duckdb", word)
    if kind.id in WIDE:
        return pa.field(name, pa.decimal128(38, 0), metadata={TYPE: f"duckdb:{word}".encode()})
    bad = next((each for each in _parts(kind) if each.id in CANNOT), None)
    if bad is not None:
        raise SourceError(
            f"{where}: column {name!r} is of type {word}, which cannot be read without loss; read it as text in a "
            f'--query: CAST("{name}" AS VARCHAR) AS "{name}"',
            column=name,
        )
    if pa.types.is_timestamp(field.type) and field.type.tz:
        return pa.field(name, pa.timestamp(field.type.unit, "UTC"))
    return pa.field(name, field.type)


def read_as(column: str, field: pa.Field) -> str:
    """The expression that reads a (quoted) column as this field."""
    told = (field.metadata or {}).get(TYPE)
    if told is None:
        return column
    return f"CAST({column} AS {'VARCHAR' if pa.types.is_string(field.type) else 'DECIMAL(38, 0)'}) AS {column}"


def finite(column: pa.Array, field: pa.Field, where: str) -> pa.Array:
    """The column of a batch as its field; what Arrow has no value for (infinity, 24:00) is refused."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        wrong, what = _endless(column), "infinity"
    elif pa.types.is_time(kind):
        numbers = column.cast(_number(kind))
        wrong, what = pc.greater_equal(numbers, pa.scalar(PER_DAY[kind.unit], numbers.type)), "24:00:00"
    else:
        return column if kind == field.type else column.cast(field.type)
    if pc.any(wrong).as_py():
        raise SourceError(
            f"{where}: column {field.name!r} holds {what}, for which Arrow has no value; read it as text in a --query: "
            f'CAST("{field.name}" AS VARCHAR) AS "{field.name}", or leave such rows out with WHERE',
            column=field.name,
        )
    return column.cast(field.type)


def _parts(kind: Any) -> Iterator[Any]:
    """The type, and what it consists of."""
    yield kind
    if kind.id in ("list", "array", "struct", "map"):
        for _, each in kind.children:
            if hasattr(each, "id"):  # an array's size is a number
                yield from _parts(each)


def _endless(column: pa.Array | pa.ChunkedArray) -> Any:
    """Where the largest or the smallest numbers stand, which DuckDB takes for infinity."""
    kind = _number(column.type)
    most = (1 << (kind.bit_width - 1)) - 1
    numbers = column.cast(kind)
    return pc.or_(pc.equal(numbers, pa.scalar(most, kind)), pc.less_equal(numbers, pa.scalar(-most, kind)))


def _number(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if kind.bit_width == 32 else pa.int64()


# -- writing -----------------------------------------------------------------------------------------------------------


def declared(field: pa.Field) -> str:
    """The type of a new column for this field. SinkError where DuckDB has none that loses nothing."""
    told = declared_type(field, "duckdb")
    if told is not None:
        return "VARCHAR" if told == "numeric" else told
    word = _word(field.type)
    if word is None:
        raise SinkError(
            f"column {field.name!r} is of type {field.type}, which DuckDB cannot hold without loss; make it a text or "
            "leave it out",
            column=field.name,
        )
    return word


def _word(kind: pa.DataType) -> str | None:
    kind = _bare(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "VARCHAR"
    if _bytes(kind):
        return "BLOB"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})" if kind.precision <= 38 and kind.scale >= 0 else None
    if pa.types.is_timestamp(kind):
        return ("TIMESTAMPTZ_NS" if kind.unit == "ns" else "TIMESTAMPTZ") if kind.tz else MOMENTS[kind.unit]
    return "INTERVAL" if pa.types.is_duration(kind) else _nested(kind)


def _nested(kind: pa.DataType) -> str | None:
    if pa.types.is_map(kind):
        inner = [_word(kind.key_type), _word(kind.item_type)]
        return None if None in inner else f"MAP({inner[0]}, {inner[1]})"
    if pa.types.is_struct(kind):
        fields = [(kind.field(place).name, _word(kind.field(place).type)) for place in range(kind.num_fields)]
        if not fields or any(word is None for _, word in fields):
            return None
        quoted = (f'"{name.replace(chr(34), chr(34) * 2)}" {word}' for name, word in fields)
        return f"STRUCT({', '.join(quoted)})"
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    word = _word(kind.value_type)
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else ""
    return None if word is None else f"{word}[{size}]"


def _bytes(kind: pa.DataType) -> bool:
    fixed = pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)
    return bool(fixed or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bare(kind: pa.DataType) -> pa.DataType:
    """Without what only says how the values are kept."""
    if isinstance(kind, pa.BaseExtensionType):
        return _bare(kind.storage_type)
    return _bare(kind.value_type) if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) else kind


def fitted(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """A column as DuckDB scans it. Raises Unfit where a value would change."""
    column = _unwrapped(column)
    kind = column.type
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_decimal256(kind):
        return column.cast(pa.decimal128(kind.precision, kind.scale))
    if pa.types.is_date64(kind):
        return column.cast(pa.date32())
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        _refuse(_endless(column), field.name, "is what DuckDB takes for infinity")
        return _micro(column, field.name) if pa.types.is_timestamp(kind) and kind.tz and kind.unit != "ns" else column
    if pa.types.is_duration(kind):
        return _lasting(column, field.name)
    if kind == pa.month_day_nano_interval():
        odd = [each is not None and each.nanoseconds % 1000 != 0 for each in column.to_pylist()]
        _refuse(pa.array(odd, pa.bool_()), field.name, "has nanoseconds, which DuckDB's INTERVAL has not")
    return column


def _unwrapped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    while isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([each.storage for each in column.chunks], column.type.storage_type)
    if pa.types.is_run_end_encoded(column.type):
        return pa.chunked_array([pc.run_end_decode(each) for each in column.chunks], column.type.value_type)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _micro(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.timestamp("us", column.type.tz))
    except pa.ArrowInvalid:
        most = ((1 << 63) - 1) // {"s": 1_000_000, "ms": 1_000}[column.type.unit]
        numbers = column.cast(pa.int64())
        far = pc.or_(pc.greater(numbers, most), pc.less(numbers, -most))
    _refuse(far, name, "is too far from 1970 for DuckDB's TIMESTAMPTZ")
    raise AssertionError("a value that cannot be cast is too large")


def _lasting(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Microseconds, as DuckDB's INTERVAL has them."""
    try:
        return column.cast(pa.duration("us"))
    except pa.ArrowInvalid:
        numbers = column.cast(pa.int64())
        if column.type.unit == "ns":
            values = numbers.fill_null(0).to_numpy()
            _refuse(pa.array(np.mod(values, 1000) != 0), name, "has nanoseconds, which DuckDB's INTERVAL has not")
        most = ((1 << 63) - 1) // {"s": 1_000_000, "ms": 1_000}[column.type.unit]
        far = pc.or_(pc.greater(numbers, most), pc.less(numbers, -most))
    _refuse(far, name, "is too long for DuckDB's INTERVAL")
    raise AssertionError("a value that cannot be cast is too large or has nanoseconds")


def _refuse(wrong: Any, name: str, reason: str) -> None:
    place = pc.index(wrong, pa.scalar(True)).as_py()
    if place >= 0:
        raise Unfit(name, place, reason)
