"""Storage: Arrow types in SQLite, which declares a column's type and lets each value be of another one.

SQLite knows five kinds of value: NULL, INTEGER (64 bits), REAL, TEXT, BLOB (sqlite.org/datatype3.html). What we write
is declared so that the words tell the Arrow type: TIMESTAMP(6), TIMESTAMPTZ(6), DATE and TIME(6) are ISO text, DECIMAL
TEXT(10,2) is text too (a DECIMAL would become a double), BOOLEAN is 0 or 1, DURATION(6) a count, JSON TEXT a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.databases.contract import Unfit, declared_type, text_field
from bimodal.errors import SinkError

CLASSES = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}
UNITS = {"0": "s", "3": "ms", "6": "us", "9": "ns"}
DIGITS = {unit: digits for digits, unit in UNITS.items()}
EXACT = 1 << 53  # a double holds every integer up to it
LARGEST = (1 << 63) - 1
SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DAY = 86400
EARLIEST, LATEST = -62167219200, 253402300800  # the years 0 to 9999 in seconds, the end excluded


class Misfit(Exception):
    """A value that is not of the column's type. place: its row, from 0; found: what it is, in words, without the value;
    remedy: from a quoted column to an expression that can be read.
    """

    def __init__(self, place: int, found: str, remedy: Callable[[str], str]) -> None:
        super().__init__(found)
        self.place, self.found, self.remedy = place, found, remedy


# -- reading -----------------------------------------------------------------------------------------------------------


def field_of(name: str, declaration: str, values: Sequence[Any]) -> pa.Field:
    """A column's field, from its declared type or, where these values are something else, from them. Raises Misfit
    where they are of several kinds.
    """
    plain = [pa.field(name, each) for each in _by_values(values)]
    candidates = [*_by_declaration(name, declaration.upper()), *plain] or [pa.field(name, pa.null())]
    for each in candidates:
        if _fits(values, each.type):
            return each
    read_as(values, candidates[0].type)
    raise AssertionError("a column that fits no type says where")


def read_as(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of the driver as a column of this type. Raises Misfit rather than change one."""
    classes = set(map(type, values)) - {type(None)}
    if not classes <= _classes(kind):
        place = next(at for at, each in enumerate(values) if each is not None and type(each) not in _classes(kind))
        raise _misfit(values[place], place)
    try:
        return _converted(values, kind, classes)
    except (pa.ArrowInvalid, OverflowError):
        place = _first_bad(values, kind, classes)
    raise _misfit(values[place], place, "that is no " + spelled(kind))


def spelled(kind: pa.DataType) -> str:
    """A type in a message."""
    return "number that a double holds" if pa.types.is_floating(kind) else _word(kind)


def _by_declaration(name: str, declaration: str) -> list[pa.Field]:
    """What a declared type may mean, best first; nothing where SQLite takes any value for it."""
    word, _, digits = declaration.partition("(")
    word, digits = word.strip(), digits.rstrip(") ").replace(" ", "")
    if word == "DECIMAL TEXT":
        return [_decimal(name, digits)]
    return [pa.field(name, each) for each in _meant(word, digits)]


def _meant(word: str, digits: str) -> list[pa.DataType]:
    unit = UNITS.get(digits)
    if word == "DURATION" and unit:
        return [pa.duration(unit)]
    if "INT" in word:  # from here on as SQLite's own rules of affinity read a word, and in their order
        return [pa.int64()]
    if any(part in word for part in ("CHAR", "CLOB", "TEXT")):
        return [pa.string()]
    if "BLOB" in word or word in ("BINARY", "VARBINARY"):
        return [pa.binary()]
    if any(part in word for part in ("REAL", "FLOA", "DOUB")):
        return [pa.float64()]
    if "BOOL" in word:
        return [pa.bool_()]
    if word.startswith(("NUM", "DEC")):
        whole = digits and (digits.endswith(",0") or "," not in digits)
        return [pa.int64(), pa.float64()] if whole else [pa.float64()]
    return _moment(word, unit)


def _moment(word: str, unit: str | None) -> list[pa.DataType]:
    if word == "DATE":
        return [pa.date32()]
    if word == "TIME":
        return [pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit or "us")]
    if word == "TIMESTAMPTZ":
        return [pa.timestamp(unit or "us", "UTC")]
    if word in ("TIMESTAMP", "DATETIME"):
        plain = [pa.timestamp(each) for each in ((unit,) if unit else ("us", "ns"))]
        return [*plain, *(pa.timestamp(each.unit, "UTC") for each in plain)]
    return []


def _decimal(name: str, digits: str) -> pa.Field:
    if not re.fullmatch(r"\d+,-?\d+", digits):
        return text_field(name, "sqlite", "numeric")
    precision, scale = map(int, digits.split(","))
    return pa.field(name, pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale))


def _by_values(values: Sequence[Any]) -> list[pa.DataType]:
    classes = set(map(type, values)) - {type(None)}
    if classes == {int}:
        return [pa.int64()]
    if classes and classes <= {int, float}:
        return [pa.float64()]
    return [pa.string()] if classes == {str} else [pa.binary()] if classes == {bytes} else _most(values)


def _most(values: Sequence[Any]) -> list[pa.DataType]:
    """Several kinds: that of the first value, so that the first other one is told."""
    first = next((type(value) for value in values if value is not None), None)
    return [{int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary()}[first]] if first else []


def _fits(values: Sequence[Any], kind: pa.DataType) -> bool:
    try:
        read_as(values, kind)
    except Misfit:
        return False
    return True


def _classes(kind: pa.DataType) -> set[type]:
    if pa.types.is_floating(kind):
        return {int, float}
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_duration(kind):
        return {int}
    if pa.types.is_null(kind):
        return set()
    return {bytes} if pa.types.is_binary(kind) else {str}


def _converted(values: Sequence[Any], kind: pa.DataType, classes: set[type]) -> pa.Array:
    if pa.types.is_floating(kind):
        if classes == {float} and None not in values:
            return pa.array(np.array(values, np.float64))
        return pa.array(values, pa.float64())  # refuses an integer that a double does not hold
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        return _integers(values).cast(kind)
    if pa.types.is_boolean(kind):
        return _booleans(values)
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind):
        return pa.array(values, kind)
    if pa.types.is_time(kind):
        return _times(pa.array(values, pa.string()), kind)
    return pa.array(values, pa.string()).cast(kind)


def _integers(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.int64()) if None in values else pa.array(np.array(values, np.int64))


def _booleans(values: Sequence[Any]) -> pa.Array:
    numbers = pa.array(values, pa.int64())
    if not set(pc.unique(numbers).to_pylist()) <= {0, 1, None}:
        raise pa.ArrowInvalid("neither 0 nor 1")
    return numbers.cast(pa.bool_())


def _times(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Arrow reads no time of day, but a moment."""
    moments = pc.binary_join_element_wise("1970-01-01", texts, " ")
    return moments.cast(pa.timestamp(kind.unit)).cast(kind)


def _first_bad(values: Sequence[Any], kind: pa.DataType, classes: set[type]) -> int:
    """The place of the first value that cannot be converted, by halves."""
    good, bad = 0, len(values)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _converted(values[:middle], kind, classes)
            good = middle
        except (pa.ArrowInvalid, OverflowError):
            bad = middle
    return bad - 1


def _misfit(value: Any, place: int, more: str = "") -> Misfit:
    if value == "":
        return Misfit(place, "an empty text", lambda column: f"NULLIF({column}, '')")
    if isinstance(value, bytes):
        return Misfit(place, "a BLOB", lambda column: f"hex({column})")
    found = f"{CLASSES[type(value)]} {more}".strip()
    return Misfit(place, found, lambda column: f"CAST({column} AS TEXT)")


# -- writing -----------------------------------------------------------------------------------------------------------


def declared(field: pa.Field) -> str:
    """The declared type of a new column for this field. SinkError where SQLite has none that loses nothing."""
    told = declared_type(field, "sqlite")
    if told is not None:
        return "DECIMAL TEXT" if told == "numeric" else told
    kind = _plain(field.type)
    if _nested(kind):
        return "JSON TEXT"
    word = _word(kind)
    if not word:
        raise SinkError(
            f"column {field.name!r} is of type {field.type}, which SQLite cannot hold without loss; "
            "make it a text or a number, or leave it out",
            column=field.name,
        )
    return word


def stored(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """A column as integers, doubles, texts or bytes. Raises Unfit."""
    kind = _plain(field.type)
    if kind != field.type:
        column = _unwrapped(column, kind)
    if pa.types.is_uint64(kind):
        _within(column, field.name, 0, LARGEST, "is larger than SQLite's integers (64 bits with a sign)")
    if pa.types.is_boolean(kind):
        return column.cast(pa.uint8())
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_duration(kind):
        return column.cast(pa.int64())
    if pa.types.is_temporal(kind):
        return _iso(column, kind, field.name)
    if pa.types.is_decimal(kind):
        return column.cast(pa.string())
    if _nested(kind):
        return _json(column)
    return column.cast(_wide(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Without what only says how the values are kept."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return _plain(kind.value_type) if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) else kind


def _unwrapped(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    while isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([each.storage for each in column.chunks], column.type.storage_type)
    if pa.types.is_run_end_encoded(column.type):
        column = pa.chunked_array([pc.run_end_decode(each) for each in column.chunks], column.type.value_type)
    return column.cast(kind)


def _word(kind: pa.DataType) -> str:
    """The declared type; empty where there is none."""
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_integer(kind):
        return "INTEGER"
    if pa.types.is_floating(kind):
        return "REAL"
    if pa.types.is_decimal(kind):
        return f"DECIMAL TEXT({kind.precision},{kind.scale})"
    if _text(kind) or pa.types.is_null(kind):
        return "TEXT"
    if _bytes(kind):
        return "BLOB"
    return _moments(kind)


def _moments(kind: pa.DataType) -> str:
    if pa.types.is_date(kind):
        return "DATE"
    if not (pa.types.is_time(kind) or pa.types.is_timestamp(kind) or pa.types.is_duration(kind)):
        return ""
    name = "TIME" if pa.types.is_time(kind) else "DURATION" if pa.types.is_duration(kind) else "TIMESTAMP"
    zone = "TZ" if pa.types.is_timestamp(kind) and kind.tz else ""
    return f"{name}{zone}({DIGITS[kind.unit]})"


def _text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _bytes(kind: pa.DataType) -> bool:
    fixed = pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)
    return bool(fixed or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _nested(kind: pa.DataType) -> bool:
    """Whether JSON holds it: lists and records of numbers, texts and truth values."""
    if not pa.types.is_nested(kind) or pa.types.is_union(kind) or pa.types.is_map(kind):
        return False
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return all(_nested(each) or _text(each) or _number(each) for each in inner)


def _number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _wide(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return pa.large_string() if _text(kind) or pa.types.is_null(kind) else pa.large_binary()


def _iso(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    """ISO text; a moment with a zone in UTC, with a Z. Beyond the year 9999 it would no more sort as time does."""
    if pa.types.is_timestamp(kind):
        count = SECONDS[kind.unit]
        low, high = (
            max(EARLIEST, -(LARGEST // count)) * count,
            min(LATEST * count - 1, LARGEST),
        )  # Arrow reads no earlier ns
        _within(column.cast(pa.int64()), name, low, high, "is not within the years 0 to 9999")
        return column.cast(pa.timestamp(kind.unit, kind.tz and "UTC")).cast(pa.string())
    if pa.types.is_date(kind):
        column = column.cast(pa.date32())
        days = column.cast(pa.int32()).cast(pa.int64())
        _within(days, name, EARLIEST // DAY, LATEST // DAY - 1, "is not within the years 0 to 9999")
    return column.cast(pa.string())


def _within(column: pa.ChunkedArray, name: str, low: int, high: int, reason: str) -> None:
    kind = column.type
    bad = pc.or_(pc.less(column, pa.scalar(low, kind)), pc.greater(column, pa.scalar(high, kind)))
    place = pc.index(bad, pa.scalar(True)).as_py()
    if place >= 0:
        raise Unfit(name, place, reason)


def _json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [None if each is None else json.dumps(each, ensure_ascii=False) for each in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.large_string())])
