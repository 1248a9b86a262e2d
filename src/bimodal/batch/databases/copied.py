"""Copied: an Arrow table as the CSV that PostgreSQL's COPY takes in, value by value the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from bimodal.batch.databases.contract import Unfit
from bimodal.errors import SinkError

OPTIONS = arrow_csv.WriteOptions(include_header=False, batch_size=16_384)
TYPES = {
    pa.bool_(): "boolean", pa.int8(): "smallint", pa.int16(): "smallint", pa.int32(): "integer", pa.int64(): "bigint",
    pa.uint8(): "smallint", pa.uint16(): "integer", pa.uint32(): "bigint", pa.uint64(): "numeric(20,0)",
    pa.float16(): "real", pa.float32(): "real", pa.float64(): "double precision",
    pa.string(): "text", pa.large_string(): "text", pa.string_view(): "text", pa.null(): "text",
    pa.binary(): "bytea", pa.large_binary(): "bytea", pa.binary_view(): "bytea",
    pa.date32(): "date", pa.date64(): "date",
}  # fmt: skip
DIGITS = np.array([[ord(digit) for digit in f"{byte:02x}"] for byte in range(256)], np.uint8)
FIRST, LAST = -719_162, 2_932_896  # days: years 1 to 9999
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Copied:
    """Rows as CSV, and the names of their columns."""

    names: tuple[str, ...]
    data: pa.Buffer


def type_of(field: pa.Field) -> str:
    """PostgreSQL's type for an Arrow type; SinkError where there is none."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        return type_of(field.with_type(kind.value_type))
    if kind in TYPES:
        return TYPES[kind]
    if pa.types.is_fixed_size_binary(kind):
        return "bytea"
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})" if 0 <= kind.scale <= kind.precision else "numeric"
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz is not None else "timestamp"
    if pa.types.is_duration(kind):
        return "interval"
    if _is_list(kind) and not pa.types.is_nested(kind.value_type) and _element(kind.value_type) is not None:
        return f"{_element(kind.value_type)}[]"
    raise SinkError(
        f"PostgreSQL has no type for the column {field.name!r} ({kind}); leave it out with --keep", column=field.name
    )


def _element(kind: pa.DataType) -> str | None:
    """The type of a list's elements, of those that lists are written of."""
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or _is_text(kind)
    return TYPES[kind] if plain else None


def csv(table: pa.Table, types: Mapping[str, str]) -> Copied:
    """Raises Unfit where PostgreSQL has no such value."""
    columns = [_column(name, table.column(name)) for name in types]
    written = pa.BufferOutputStream()
    arrow_csv.write_csv(pa.table(columns, names=[str(place) for place in range(len(columns))]), written, OPTIONS)
    return Copied(tuple(types), written.getvalue())


def _column(name: str, column: pa.ChunkedArray) -> pa.Array:
    """A column whose values Arrow writes as PostgreSQL reads them."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, column.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return next((write(name, array) for fits, write in WRITERS if fits(array.type)), array)


def _text(name: str, array: pa.Array) -> pa.Array:
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = array.cast(pa.large_string())
    found = pc.index(pc.match_substring(array, "\0"), True).as_py()
    if found >= 0:
        raise Unfit(name, found, "a text with a zero byte in it, which PostgreSQL cannot hold")
    return array


def _bytes(name: str, array: pa.Array) -> pa.Array:
    """As \\x and hexadecimal digits."""
    array = array.cast(pa.large_binary())
    if array.null_count:
        valid, array = array.is_valid(), array.fill_null(b"")
    else:
        valid = None
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    raw = (
        np.frombuffer(data, np.uint8)[int(offsets[0]) : int(offsets[-1])] if data is not None else np.empty(0, np.uint8)
    )
    lengths = np.diff(offsets)
    places = np.zeros(len(array) + 1, np.int64)
    np.cumsum(2 * lengths + 2, out=places[1:])
    out = np.empty(int(places[-1]), np.uint8)
    heads = np.zeros(len(out), bool)
    heads[places[:-1]] = heads[places[:-1] + 1] = True
    out[heads] = np.tile(np.frombuffer(b"\\x", np.uint8), len(array))
    out[~heads] = DIGITS[raw].ravel()
    texts = pa.LargeStringArray.from_buffers(len(array), pa.py_buffer(places), pa.py_buffer(out))
    return texts if valid is None else pc.if_else(valid, texts, pa.scalar(None, pa.large_string()))


def _stamp(name: str, array: pa.Array) -> pa.Array:
    """Days, or microseconds; years 1 to 9999."""
    dates = pa.types.is_date(array.type)
    zone = None if dates else array.type.tz
    exact = _exact(name, array, pa.date32() if dates else pa.timestamp("us", zone))
    low, high = (FIRST, LAST) if dates else (FIRST * DAY, (LAST + 1) * DAY - 1)
    numbers = exact.cast(pa.int32() if dates else pa.int64())
    ends = pc.min_max(numbers)
    if ends["min"].as_py() is not None and (ends["min"].as_py() < low or ends["max"].as_py() > high):
        bad = pc.or_kleene(pc.less(numbers, low), pc.greater(numbers, high))
        raise Unfit(name, pc.index(bad, True).as_py(), "a date outside of the years 1 to 9999")
    return exact.cast(pa.timestamp("us", "UTC")) if zone is not None else exact


def _time(name: str, array: pa.Array) -> pa.Array:
    return _exact(name, array, pa.time64("us"))


def _duration(name: str, array: pa.Array) -> pa.Array:
    numbers = _exact(name, array, pa.duration("us")).cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(numbers, "microseconds", " ")


def _exact(name: str, array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Microseconds are what PostgreSQL keeps."""
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        rough = array.cast(kind, safe=False)
        changed = pc.not_equal(rough.cast(array.type, safe=False), array)
        place = pc.index(changed, True).as_py()
        raise Unfit(name, max(place, 0), "a time finer than a microsecond, which PostgreSQL cannot hold") from None


def _list(name: str, array: pa.Array) -> pa.Array:
    """An array literal: {1,2,NULL}."""
    lists = array.cast(pa.large_list(array.type.value_type))
    values = lists.values if not lists.offset and len(lists.values) == _last(lists) else lists.flatten()
    if _is_text(values.type):
        values = _quoted(name, lists, values)
    elif pa.types.is_boolean(values.type):
        values = pc.if_else(values, "t", "f")
    else:
        values = values.cast(pa.large_string())
    values = values.cast(pa.large_string()).fill_null("NULL")
    lengths = pc.list_value_length(lists).fill_null(0)
    places = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(np.asarray(lengths), out=places[1:])
    if len(values) != places[-1]:
        values = pa.concat_arrays([values.slice(0, 0), values])  # lists under nulls were left out by flatten
    joined = pc.binary_join(pa.LargeListArray.from_arrays(pa.array(places), values), pa.scalar(",", pa.large_string()))
    literal = pc.binary_join_element_wise(
        pa.scalar("{", pa.large_string()), joined, pa.scalar("}", pa.large_string()), pa.scalar("", pa.large_string())
    )
    return pc.if_else(lists.is_valid(), literal, pa.scalar(None, pa.large_string())) if lists.null_count else literal


def _last(lists: pa.Array) -> int:
    return int(lists.offsets[-1].as_py()) if len(lists) and not lists.null_count else -1


def _quoted(name: str, lists: pa.Array, values: pa.Array) -> pa.Array:
    """Each text in double quotes, with a backslash before a quote or a backslash."""
    values = values.cast(pa.large_string())
    found = pc.index(pc.match_substring(values, "\0"), True).as_py()
    if found >= 0:
        owner = int(np.searchsorted(np.cumsum(np.asarray(pc.list_value_length(lists).fill_null(0))), found, "right"))
        raise Unfit(name, owner, "a text with a zero byte in it, which PostgreSQL cannot hold")
    values = pc.replace_substring(pc.replace_substring(values, "\\", "\\\\"), '"', '\\"')
    quote = pa.scalar('"', pa.large_string())
    return pc.binary_join_element_wise(quote, values, quote, pa.scalar("", pa.large_string()))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _is_bytes(kind: pa.DataType) -> bool:
    sized = pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind)
    return bool(sized or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view())


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_stamp(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _half(name: str, array: pa.Array) -> pa.Array:
    return array.cast(pa.float32())


def _digits(name: str, array: pa.Array) -> pa.Array:
    return array.cast(pa.string())


Writer = Callable[[str, pa.Array], pa.Array]
WRITERS: tuple[tuple[Callable[[pa.DataType], bool], Writer], ...] = (
    (_is_text, _text),
    (_is_bytes, _bytes),
    (_is_stamp, _stamp),
    (pa.types.is_time, _time),
    (pa.types.is_duration, _duration),
    (_is_list, _list),
    (pa.types.is_float16, _half),
    (pa.types.is_decimal, _digits),
)
