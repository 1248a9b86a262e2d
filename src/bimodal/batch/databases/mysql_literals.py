"""Arrow columns as the rows of an INSERT statement: `(1,'a',_binary'…'),(…)`, in strict mode without backslashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.databases.contract import Unfit

OVERHEAD = 3  # of a row: its brackets and the comma before it
LONGEST = (838 * 3600 + 59 * 60 + 59) * 1_000_000 + 999_999  # MySQL's longest TIME, in microseconds

Literal = Callable[[str, pa.Array], pa.Array]


def rows_of(table: pa.Table, most: int, allowed: int) -> Iterator[bytes]:
    """Lists of rows, each of at most so many bytes, but of one row at least. Raises Unfit where a row has more than is
    allowed, or a value cannot be held.
    """
    for batch in table.to_batches():
        if batch.num_rows:
            columns = [_literal(name, array) for name, array in zip(table.column_names, batch.columns, strict=True)]
            opened = pc.binary_join_element_wise(*columns, pa.scalar(b",", pa.binary()))
            rows = pc.binary_join_element_wise(b"(", opened, b")", b"")
            yield from _lists(rows, most, allowed, table.column_names[0])


def _lists(rows: pa.Array, most: int, allowed: int, column: str) -> Iterator[bytes]:
    ends = np.cumsum(np.asarray(pc.binary_length(rows).cast(pa.int64())) + OVERHEAD)
    begin = 0
    while begin < len(rows):
        before = int(ends[begin - 1]) if begin else 0
        end = max(int(np.searchsorted(ends, before + most, side="right")), begin + 1)
        if int(ends[begin]) - before > allowed:
            raise Unfit(column, begin, "the row is larger than the server's max_allowed_packet")
        part = rows.slice(begin, end - begin)
        joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(part)], pa.int32()), part), b",")
        yield joined[0].as_py()
        begin = end


def _literal(name: str, array: pa.Array) -> pa.Array:
    """A column's values as SQL, in bytes, none of them null."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    text = next(make for matches, make in LITERALS if matches(array.type))(name, array)
    return pc.fill_null(text.cast(pa.binary()), b"NULL")


def _unfit(name: str, bad: pa.Array, reason: str) -> None:
    place = pc.index(bad, True).as_py()
    if place >= 0:
        raise Unfit(name, place, reason)


def _plain(_: str, array: pa.Array) -> pa.Array:
    return array.cast(pa.string())


def _boolean(_: str, array: pa.Array) -> pa.Array:
    return array.cast(pa.int8()).cast(pa.string())


def _floating(name: str, array: pa.Array) -> pa.Array:
    """With an exponent, so that it is a double from the start (and -0 has its sign); FLOAT as the double it is."""
    _unfit(name, pc.invert(pc.is_finite(array)), "MySQL holds neither NaN nor infinity")
    text = array.cast(pa.float64()).cast(pa.string())
    return pc.if_else(pc.match_substring(text, "e"), text, pc.binary_join_element_wise(text, "e0", ""))


def _quoted(_: str, array: pa.Array) -> pa.Array:
    text = array.cast(pa.string())
    return pc.binary_join_element_wise("'", pc.replace_substring(text, "'", "''"), "'", "")


def _bytes(_: str, array: pa.Array) -> pa.Array:
    escaped = pc.replace_substring(array.cast(pa.binary()), "'", "''")
    return pc.binary_join_element_wise(b"_binary'", escaped, b"'", b"")


def _moment(name: str, array: pa.Array) -> pa.Array:
    """In UTC, with six digits behind the second."""
    micros = _micros(name, array.cast(pa.timestamp(array.type.unit)), pa.timestamp("us"))
    years = pc.year(micros)
    _unfit(name, pc.or_(pc.less(years, 1), pc.greater(years, 9999)), "MySQL holds the years 1 to 9999")
    return _quoted(name, micros)


def _date(name: str, array: pa.Array) -> pa.Array:
    days = array.cast(pa.date32())
    if pa.types.is_date64(array.type):
        _unfit(name, pc.not_equal(days.cast(pa.date64()), array), "it has a time beside its date")
    years = pc.year(days)
    _unfit(name, pc.or_(pc.less(years, 1), pc.greater(years, 9999)), "MySQL holds the years 1 to 9999")
    return _quoted(name, days)


def _micros(name: str, array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """In microseconds, exactly."""
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid:
        cut = array.cast(wanted, safe=False)
    _unfit(name, pc.not_equal(cut.cast(array.type, safe=False), array), "MySQL holds microseconds, and it has finer")
    raise Unfit(name, 0, "a time is beyond what MySQL holds")


def _clock(name: str, array: pa.Array) -> pa.Array:
    """A time of day, or a duration of up to 839 hours either way."""
    if pa.types.is_duration(array.type):
        micros = _micros(name, array, pa.duration("us")).cast(pa.int64())
    else:
        micros = _micros(name, array, pa.time64("us")).cast(pa.int64())
    size = pc.abs(micros)
    _unfit(name, pc.greater(size, LONGEST), "MySQL's TIME holds up to 838:59:59.999999")
    seconds = pc.divide(size, 1_000_000)
    parts = (pc.divide(seconds, 3600), _rest(pc.divide(seconds, 60), 60), _rest(seconds, 60))
    clock = pc.binary_join_element_wise(*(pc.utf8_lpad(each.cast(pa.string()), 2, "0") for each in parts), ":")
    fraction = pc.utf8_lpad(_rest(size, 1_000_000).cast(pa.string()), 6, "0")
    sign = pc.if_else(pc.less(micros, 0), "-", "")
    return _quoted(name, pc.binary_join_element_wise(sign, clock, ".", fraction, ""))


def _rest(number: pa.Array, by: int) -> pa.Array:
    return pc.subtract(number, pc.multiply(pc.divide(number, by), by))


LITERALS: tuple[tuple[Callable[[pa.DataType], bool], Literal], ...] = (
    (pa.types.is_boolean, _boolean),
    (pa.types.is_integer, _plain),
    (pa.types.is_floating, _floating),
    (pa.types.is_decimal, _quoted),
    (pa.types.is_timestamp, _moment),
    (pa.types.is_date, _date),
    (pa.types.is_time, _clock),
    (pa.types.is_duration, _clock),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), _bytes),
    (pa.types.is_fixed_size_binary, _bytes),
    (lambda kind: True, _quoted),
)
