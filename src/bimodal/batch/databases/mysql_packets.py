"""Rows of MySQL's text protocol as Arrow columns: many packets are taken apart at once, column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pymysql.constants import FIELD_TYPE as KIND
from pymysql.constants import FLAG
from pymysql.err import raise_mysql_exception

from bimodal.batch.databases.contract import text_field
from bimodal.errors import SourceError

NULL = 0xFB
WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}  # of the length that follows such a byte; any smaller byte is the length itself
BINARY = 63  # the character set of bytes
WHOLE = {
    KIND.TINY: (pa.int8(), pa.uint8()),
    KIND.SHORT: (pa.int16(), pa.uint16()),
    KIND.INT24: (pa.int32(), pa.uint32()),
    KIND.LONG: (pa.int32(), pa.uint32()),
    KIND.LONGLONG: (pa.int64(), pa.uint64()),
}
DECIMALS = (KIND.DECIMAL, KIND.NEWDECIMAL)
TEXTS = (
    KIND.VARCHAR, KIND.VAR_STRING, KIND.STRING, KIND.ENUM, KIND.SET, KIND.TINY_BLOB, KIND.BLOB, KIND.MEDIUM_BLOB,
    KIND.LONG_BLOB,
)  # fmt: skip

Decode = Callable[[pa.Array], pa.Array]


class Packet:
    """A packet as PyMySQL's reader makes it, but not taken apart."""

    __slots__ = ("data",)

    def __init__(self, data: bytes, _: str) -> None:
        self.data = data

    def is_error_packet(self) -> bool:
        return self.data[:1] == b"\xff"

    def raise_for_error(self) -> None:
        raise_mysql_exception(self.data)


@dataclass(frozen=True)
class Column:
    """A column of an answer. single: a FLOAT, which the server rounds to six digits when it tells it. refuse: what is
    wrong with a value that is none of the type.
    """

    field: pa.Field
    decode: Decode
    single: bool = False
    refuse: str = ""

    @property
    def name(self) -> str:
        return str(self.field.name)


def column_of(told: Any, relation: str, kind: str) -> Column:
    """What PyMySQL tells of a column, as a Column. Raises SourceError where its type is none of those."""
    unsigned = bool(told.flags & FLAG.UNSIGNED)
    code, name = told.type_code, told.name
    if code == KIND.TINY and told.length == 1 and not unsigned:
        return Column(pa.field(name, pa.bool_()), _boolean, refuse="is neither 0 nor 1 in a TINYINT(1), a boolean")
    if code in WHOLE:
        return _cast(name, WHOLE[code][unsigned])
    if code in DECIMALS:
        digits = told.length - (told.scale > 0) - (not unsigned)
        make = pa.decimal128 if digits <= 38 else pa.decimal256
        return _cast(name, make(max(digits, told.scale, 1), told.scale))
    if code == KIND.BIT:
        known = told.length == 1
        return Column(pa.field(name, pa.bool_() if known else pa.uint64()), _bit if known else _bits)
    if code in SIMPLE:
        found, decode, refuse = SIMPLE[code]
        return Column(pa.field(name, found), decode, single=code == KIND.FLOAT, refuse=refuse)
    if code == KIND.JSON:
        return Column(text_field(name, kind, "json"), _text)
    if code in TEXTS:
        return Column(pa.field(name, pa.binary()), _as_it_is) if _bytes(told) else Column(_string(name), _text)
    raise SourceError(
        f"column {name!r} of {relation} is of a type that cannot be read (number {code}): choose columns by --query, "
        "with ST_AsText(…) or CAST(… AS CHAR)"
    )


def _bytes(told: Any) -> bool:
    return bool(told.charsetnr == BINARY)


def _string(name: str) -> pa.Field:
    return pa.field(name, pa.string())


def _cast(name: str, kind: pa.DataType) -> Column:
    return Column(pa.field(name, kind), lambda array: _text(array).cast(kind))


def _as_it_is(array: pa.Array) -> pa.Array:
    return array


def _text(array: pa.Array) -> pa.Array:
    return array.cast(pa.string())


def _single(array: pa.Array) -> pa.Array:
    return _text(array).cast(pa.float64()).cast(pa.float32())


def _boolean(array: pa.Array) -> pa.Array:
    number = _text(array).cast(pa.int8())
    if not pc.all(pc.is_in(number, pa.array([0, 1, None], pa.int8()))).as_py() and len(number):
        raise pa.ArrowInvalid("no boolean")
    return number.cast(pa.bool_())


def _bit(array: pa.Array) -> pa.Array:
    return pc.equal(array, b"\x01")


def _bits(array: pa.Array) -> pa.Array:
    return pa.array([None if each is None else int.from_bytes(each, "big") for each in array.to_pylist()], pa.uint64())


def _instant(array: pa.Array) -> pa.Array:
    return _text(array).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))


def _duration(array: pa.Array) -> pa.Array:
    """`-838:59:59.999999` in microseconds."""
    parts = pc.extract_regex(_text(array), r"^(?P<s>-?)(?P<h>\d+):(?P<m>\d\d):(?P<c>\d\d)(?:\.(?P<f>\d{1,6}))?$")
    sign = pc.if_else(pc.equal(pc.struct_field(parts, "s"), "-"), -1, 1)
    hours, minutes, seconds = (pc.struct_field(parts, each).cast(pa.int64()) for each in "hmc")
    micros = pc.utf8_rpad(pc.struct_field(parts, "f"), 6, "0").cast(pa.int64())
    whole = pc.add(pc.multiply(pc.add(pc.multiply(hours, 60), minutes), 60), seconds)
    return pc.multiply(pc.add(pc.multiply(whole, 1_000_000), micros), sign).cast(pa.duration("us"))


DATE = "is no date (MySQL holds 0000-00-00 and the like): choose NULLIF({0}, 0) AS {0} by --query"
SIMPLE: dict[int, tuple[pa.DataType, Decode, str]] = {
    KIND.FLOAT: (pa.float32(), _single, ""),
    KIND.DOUBLE: (pa.float64(), lambda array: _text(array).cast(pa.float64()), ""),
    KIND.DATE: (pa.date32(), lambda array: _text(array).cast(pa.date32()), DATE),
    KIND.NEWDATE: (pa.date32(), lambda array: _text(array).cast(pa.date32()), DATE),
    KIND.DATETIME: (pa.timestamp("us"), lambda array: _text(array).cast(pa.timestamp("us")), DATE),
    KIND.TIMESTAMP: (pa.timestamp("us", "UTC"), _instant, DATE),
    KIND.TIME: (pa.duration("us"), _duration, ""),
    KIND.YEAR: (pa.int16(), lambda array: _text(array).cast(pa.int16()), ""),
    KIND.NULL: (pa.null(), lambda array: pa.nulls(len(array)), ""),
}


def decoded(
    packets: list[bytes], columns: Sequence[Column], places: Sequence[int], before: int, name: str
) -> list[pa.Array]:
    """Rows as columns. places: where in the rows they stand, rising or not. before: the rows before these, for errors
    of a value that is none of its column's type.
    """
    raw = _raw(packets, max(places) + 1 if places else 0, set(places))
    return [_decoded(column, raw[place], before, name) for column, place in zip(columns, places, strict=True)]


def _decoded(column: Column, array: pa.Array, before: int, name: str) -> pa.Array:
    try:
        return column.decode(array)
    except pa.ArrowInvalid:
        row = next(at for at in range(len(array)) if _wrong(column, array.slice(at, 1)))
    refuse = column.refuse.format(column.name) or "cannot be read as its column's type says"
    raise SourceError(
        f"row {before + row + 1}, column {column.name!r} of {name}: the value {refuse}", row=before + row + 1,
        column=column.name,
    )  # fmt: skip


def _wrong(column: Column, one: pa.Array) -> bool:
    try:
        column.decode(one)
    except pa.ArrowInvalid:
        return True
    return False


def _raw(packets: list[bytes], count: int, wanted: set[int]) -> dict[int, pa.Array]:
    """The first `count` values of each row, of the wanted places, as they stand in the packets (bytes; null)."""
    rows = len(packets)
    data = np.frombuffer(b"".join(packets) + bytes(9), np.uint8)  # nine more: a length is read before it is known
    sizes = np.fromiter(map(len, packets), np.int64, rows)
    place = np.zeros(rows, np.int64)
    np.cumsum(sizes[:-1], out=place[1:])
    found: dict[int, pa.Array] = {}
    for number in range(count):
        first = data[place]
        size = first.astype(np.int64)
        null = first == NULL
        size[null] = 0
        start = place + 1
        for byte, width in WIDTHS.items():
            longer = np.flatnonzero(first == byte)
            if len(longer):
                size[longer] = _little(data, place[longer] + 1, width)
                start[longer] += width
        if number in wanted:
            found[number] = _gathered(data, start, size, null)
        place = start + size
    return found


def _little(data: NDArray[np.uint8], place: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The little-endian numbers of so many bytes that stand at these places."""
    number = np.zeros(len(place), np.int64)
    for at in range(width):
        number |= data[place + at].astype(np.int64) << (8 * at)
    return number


def _gathered(
    data: NDArray[np.uint8], start: NDArray[np.int64], size: NDArray[np.int64], null: NDArray[np.bool_]
) -> pa.Array:
    """The values that start there and are of such sizes, one after another, as an Arrow array of bytes."""
    ends = np.zeros(len(size) + 1, np.int64)
    np.cumsum(size, out=ends[1:])
    if len(size) and size[0] == size.max() == size.min():  # all of one size: a matrix
        values = data[start[:, None] + np.arange(size[0])].ravel()
    else:
        values = data[np.repeat(start - ends[:-1], size) + np.arange(ends[-1])]
    valid = None if not null.any() else pa.py_buffer(np.packbits(~null, bitorder="little"))
    offsets = pa.py_buffer(ends.astype(np.int32))
    return pa.Array.from_buffers(pa.binary(), len(size), [valid, offsets, pa.py_buffer(np.ascontiguousarray(values))])
