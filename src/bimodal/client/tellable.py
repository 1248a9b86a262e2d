"""Tellable: what JSON can carry, and where a value stands that it cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from bimodal.client.failure import made
from bimodal.client.given import PLAIN, Given, spoken
from bimodal.errors import BimodalError, InputError, Problem
from bimodal.longdouble import ROUNDED, is_long

MISSING = ("NAType", "NaTType")  # pandas' own words for null
WHOLE = PLAIN - {float}
INFINITY = Problem(
    "not_finite", "infinity cannot be told in JSON; send an array [rows, features], a frame or an Arrow table"
)
BYTES = Problem("wrong_type", "bytes cannot be told in JSON; decode them to text")
HALF = Problem("wrong_type", "half of a surrogate pair, which is no Unicode text")

Inputs = Sequence[tuple[str, Sequence[int]]]  # name and shape of each: what rows without names hold


def encoded(body: Any, given: Given, row: int | None = 1, inputs: Inputs = ()) -> bytes:
    """The JSON of a body that holds the data. row: which one a record is. Raises InputError telling the row and column
    of the first value that JSON cannot carry; inputs: by which a column without a name is told (none: it is not).
    """
    if _lost(given.value) is None:
        try:
            return _encode(body)
        except (UnicodeEncodeError, TypeError):
            pass  # it is told which value that is
    problems = _problems(given, lambda value: _lost(value) or _refused(value), row, inputs)
    raise InputError.of(problems or [replace(HALF, message=f"a name has {HALF.message}")])


def held(given: Given, inputs: Inputs) -> None:
    """Raises InputError telling row and column of the first longdouble that float64 does not hold."""
    if _long(given.value):
        raise InputError.of(_problems(given, lambda value: ROUNDED if _long(value) else None, 1, inputs))


def _problems(given: Given, why: Callable[[Any], Problem | None], first: int | None, inputs: Inputs) -> list[Problem]:
    """The first problem of each row."""
    problems: dict[int | None, Problem] = {}
    for row, column, value in _cells(given, first, inputs):
        problem = why(value)
        if problem is not None:
            problems.setdefault(row, replace(problem, row=row, column=column))
    return list(problems.values())


def as_given(error: BimodalError, given: Given) -> BimodalError:
    """The server's error in words of the data: JSON has no NaN, so that the server saw a null in its place, and a
    tensor of numbers has no null.
    """
    if error.code != "null" or given.kind == "table":
        return error
    rows, columns = (None, error.row), (None, error.column)
    seen = [each for row, column, each in _cells(given, 1) if row in rows and column in columns]
    if any(each is None or type(each).__name__ in MISSING for each in seen):
        message = error.message.replace("NaN where", "null where", 1)
    elif any(isinstance(each, float) and math.isnan(each) for each in seen):
        message = error.message.replace("null where", "NaN where", 1)
    else:
        return error
    return made(error.code, message, error.row, error.column)


def finite(data: Any) -> bool:
    """Whether an array is without infinity; of other data it is not asked."""
    numbers = getattr(getattr(data, "dtype", None), "kind", "") == "f"
    return not (numbers and bool((abs(data) == math.inf).any()))


def _lost(value: Any) -> Problem | None:
    """Why JSON would carry another value: it has null for infinity, and no bytes."""
    if type(value) in WHOLE or isinstance(value, str):
        return None
    if isinstance(value, float):
        return INFINITY if math.isinf(value) else None
    if isinstance(value, Mapping):
        return next(filter(None, map(_lost, value.values())), None)
    if isinstance(value, list | tuple):
        return None if WHOLE.issuperset(map(type, value)) else next(filter(None, map(_lost, value)), None)
    if isinstance(value, bytes | bytearray | memoryview) or getattr(getattr(value, "dtype", None), "kind", "") == "S":
        return BYTES
    if is_long(value):
        return ROUNDED
    return None if finite(value) else INFINITY


def _long(value: Any) -> bool:
    """Whether there is a longdouble in it, of which `Given` has left none that float64 holds."""
    if type(value) in PLAIN:
        return False
    if isinstance(value, Mapping):
        return any(map(_long, value.values()))
    if isinstance(value, list | tuple):
        return not PLAIN.issuperset(map(type, value)) and any(map(_long, value))
    return is_long(value)


def _refused(value: Any) -> Problem | None:
    """Why there is no JSON of a value."""
    try:
        _encode(value)
    except UnicodeEncodeError:
        return HALF
    except TypeError as error:
        return Problem("wrong_type", str(error))
    return None


def _cells(given: Given, first: int | None, inputs: Inputs = ()) -> Iterator[tuple[int | None, str | None, Any]]:
    """Row, column and value of each value."""
    value = spoken(given.value) if hasattr(given.value, "tolist") else given.value
    if given.kind == "record":
        yield from ((first, name, each) for name, each in value.items())
    elif given.kind == "columns":
        yield from ((row, name, each) for name, column in value.items() for row, each in enumerate(column, 1))
    else:
        for row, record in enumerate(value, 1):
            if isinstance(record, Mapping):
                yield from ((row, name, each) for name, each in record.items())
            elif isinstance(record, list | tuple):
                yield from ((row, _column(inputs, at), each) for at, each in enumerate(record, 1))
            else:  # of one row, or the only one of a row
                yield (*_alone(inputs, row), record)


def _column(inputs: Inputs, at: int) -> str | None:
    """The column at a position, counted from 1, in the model's words."""
    if len(inputs) == 1 and inputs[0][1]:
        return f"{inputs[0][0]}[{at}]"
    return inputs[at - 1][0] if at <= len(inputs) else None


def _alone(inputs: Inputs, at: int) -> tuple[int | None, str | None]:
    """Row and column of a value at a position of a flat list."""
    if not inputs:
        return None, None
    name, shape = inputs[0]
    return (at, name) if len(inputs) == 1 and list(shape) in ([], [1]) else (1, _column(inputs, at))


def _plain(value: object) -> object:
    told = value.tolist() if hasattr(value, "tolist") else value
    if type(told) is not type(value):
        return told
    raise TypeError(f"a {type(value).__name__} cannot be told in JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
