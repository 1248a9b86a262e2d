"""One column out of a tensor: arrays are judged as arrays; what does not pass so is judged value by value.

The verdict is the field's (`Field.judge`), whichever way a value came.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from bimodal.errors import Problem
from bimodal.field import EXACT, FLOATS, INTEGERS, Field, column_of, listed, plainly_good
from bimodal.realtime import gather
from bimodal.rows import Array

UNITS = {"s": "s", "ms": "ms", "us": "us", "ns": "ns"}  # of a timestamp in an INT64
PARTS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds of 1970 where the year 1 begins, and 9999 ends
_UNFIT = (ValueError, TypeError, OverflowError)

Verdict = tuple[Array | None, list[Problem]]  # the column, or what is wrong with it, one Problem a row


def column(field: Field, values: Array, missing: Array | None = None, unit: str | None = None) -> Verdict:
    """The column of a field, of any shape.

    values: an array [n, …] of numbers, booleans or objects (str, bytes, None, numbers). missing: bool [n], the rows
    that have no value. unit: of a timestamp that is given as a number.
    """
    if missing is None and values.dtype == field.dtype and _fits(field, values) and _bounded(field, values):
        return np.ascontiguousarray(values), []
    untold = _beyond(field, values, missing, unit) or _untold(field, values, missing, unit)
    if untold:
        return None, untold
    values = _readable(field, values, unit)
    if missing is not None and missing.any():
        values = _blanked(field, values, missing)
    with np.errstate(over="ignore", invalid="ignore"):
        quick = _quickly(field, values)
    if quick is not None and (_bounded(field, quick) or plainly_good(field, quick)):
        return quick, []
    return _judged(field, values)


def plain(values: Sequence[Any]) -> Array:
    """Python values, flat, as an array that holds them exactly: of numbers where all are, else of objects."""
    kinds = set(map(type, values))
    try:
        if kinds == {int}:
            return np.array(values, np.int64)
        if kinds == {bool}:
            return np.array(values, np.bool_)
        if kinds <= {int, float}:
            array = np.array(values, np.float64)
            if int not in kinds or not len(array) or np.abs(array).max() < EXACT:
                return array
    except OverflowError:
        pass  # a number of more than 64 bits: objects hold it, and the verdict on each value tells it
    objects = np.empty(len(values), object)
    objects[:] = values
    return objects


def _readable(field: Field, values: Array, unit: str | None) -> Array:
    """Bytes as text, and numbers with a unit as times."""
    if unit is not None and field.type == "timestamp" and values.dtype.kind in "iu":
        return values.astype(f"datetime64[{UNITS[unit]}]")
    if values.dtype == object and values.size and bytes in set(map(type, values.reshape(-1).tolist())):
        objects = np.empty(values.size, object)
        objects[:] = [_text(each) for each in values.reshape(-1).tolist()]
        return objects.reshape(values.shape)
    return values


def _untold(field: Field, values: Array, missing: Array | None, unit: str | None) -> list[Problem]:
    """The rows of a number for a time, where nothing says what it counts."""
    if unit is not None or field.type != "timestamp" or values.dtype.kind not in "iu":
        return []
    wrong = field.wrong("a number")
    hint = f"{wrong.message}; the tensor's parameter unit tells what a number counts: {listed(list(UNITS))}"
    there = np.ones(len(values), bool) if missing is None else ~missing.reshape(len(values), -1).all(axis=1)
    return [Problem(wrong.code, hint, row, field.name) for row in (np.flatnonzero(there) + 1).tolist()]


def _beyond(field: Field, values: Array, missing: Array | None, unit: str | None) -> list[Problem]:
    """The rows whose numbers are no times: NumPy would wrap them around, or take one for no value."""
    if unit is None or field.type != "timestamp" or values.dtype.kind not in "iu":
        return []
    digits = np.iinfo(np.int64)
    least, most = max(FIRST * PARTS[unit], digits.min + 1), min((LAST + 1) * PARTS[unit] - 1, digits.max)
    bad = ((values < least) | (values > most)).reshape(len(values), -1).any(axis=1)
    if missing is not None:
        bad &= ~missing.reshape(len(values), -1).all(axis=1)
    wrong = field.timeless()
    return [wrong.at(row) for row in (np.flatnonzero(bad) + 1).tolist()]


def _text(value: Any) -> Any:
    if type(value) is not bytes:
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value  # the verdict on bytes is that they are no text


def _blanked(field: Field, values: Array, missing: Array) -> Array:
    """The same with nulls: NaN, NaT or None (also of floats, where the field takes none: NaN was not given)."""
    if values.dtype.kind == "M":
        values = values.copy()
        values[missing] = np.datetime64("NaT")
        return values
    nan = values.dtype.kind == "f" and field.nullable
    values = values.astype(np.float64 if nan else object)
    values[missing] = np.nan if nan else None
    return values


def _quickly(field: Field, values: Array) -> Array | None:
    """The column where the values need no look one by one; None where they do."""
    if not _fits(field, values):
        return None
    if field.type in FLOATS:
        return _floats(field, values)
    if field.type in INTEGERS:
        return _integers(field, values)
    if field.type == "bool" and values.dtype.kind == "b":
        return values.astype(field.dtype, copy=False)
    if field.type == "timestamp" and values.dtype.kind == "M" and (field.nullable or not np.isnat(values).any()):
        if field.untimely(values).any():
            return None
        return values.astype(field.dtype)
    if field.type == "string" and values.dtype == object:
        return _objects(field, values)
    return None


def _bounded(field: Field, values: Array) -> bool:
    """Whether all are plain numbers, told without an array between: NaN and infinity fail the comparisons."""
    if values.dtype.kind != "f" or field.closed or not values.size:
        return False
    least, most = np.minimum.reduce(values, axis=None), np.maximum.reduce(values, axis=None)
    return bool(least > -field.ordinary and most < field.ordinary)


def _fits(field: Field, values: Array) -> bool:
    shape = values.shape[1:]
    return len(shape) == len(field.shape) and all(
        size == wanted or (wanted == -1 and size > 0) for size, wanted in zip(shape, field.shape, strict=True)
    )


def _floats(field: Field, values: Array) -> Array | None:
    if values.dtype.kind in "fiub":
        return values.astype(field.dtype, order="C", copy=False)
    return _objects(field, values) if values.dtype == object else None


def _integers(field: Field, values: Array) -> Array | None:
    """Whole numbers in the range of the field."""
    if values.dtype.kind == "f":
        if values.dtype == np.float16:
            values = values.astype(np.float32)  # a float16 cannot be compared with what it cannot hold
        if not (np.abs(values) < EXACT).all():
            return None
        whole = values.astype(np.int64)
        if (whole != values).any():
            return None
        values = whole
    if values.dtype.kind not in "iub" or not values.size:
        return None
    limits = np.iinfo(field.type)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        return None
    return values.astype(field.type, order="C", copy=False).astype(field.dtype, copy=False)


def _objects(field: Field, values: Array) -> Array | None:
    """Python values all of whose types are the field's own."""
    if not gather.allowed(field).issuperset(map(type, values.reshape(-1).tolist())):
        return None
    if field.type == "string" and not field.shape:
        return values
    try:
        return values.astype(field.dtype) if field.shape else column_of(field, values.tolist())
    except _UNFIT:
        return None


def _judged(field: Field, values: Array) -> Verdict:
    good: list[Any] = []
    problems: list[Problem] = []
    for row, value in enumerate(_listed(values), 1):
        judged, problem = (
            field.judge(value) if type(value) is not bytes else (None, field.wrong("bytes that are no text"))
        )
        if problem is None:
            good.append(judged)
        else:
            problems.append(problem.at(row))
    return (None, problems) if problems else (column_of(field, good), [])


def _listed(values: Array) -> list[Any]:
    """Values for `judge`: times stay NumPy's, all others are Python's own."""
    return list(values) if values.dtype.kind == "M" else list(values.tolist())


def merged(problems: Sequence[list[Problem]]) -> list[Problem]:
    """Of each row the first one, as the verdict on whole rows tells them."""
    first: dict[int, Problem] = {}
    for problem in chain.from_iterable(problems):
        first.setdefault(problem.row or 0, problem)
    return [first[row] for row in sorted(first)]


def own(value: Any) -> object:
    """A value of NumPy as Python's own."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
