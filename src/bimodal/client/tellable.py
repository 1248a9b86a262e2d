"""Tellable: what JSON can carry, and where a value stands that it cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from bimodal.client.failure import made
from bimodal.client.given import PLAIN, Given
from bimodal.errors import BimodalError, InputError, Problem

MISSING = ("NAType", "NaTType")  # pandas' own words for null
WHOLE = PLAIN - {float}
INFINITY = Problem("not_finite", "infinity cannot be told in JSON; send a frame or an Arrow table")
BYTES = Problem("wrong_type", "bytes cannot be told in JSON; decode them to text")
HALF = Problem("wrong_type", "half of a surrogate pair, which is no Unicode text")


def encoded(body: Any, given: Given, row: int | None = 1) -> bytes:
    """The JSON of a body that holds the data. row: which one a record is. Raises InputError telling the row and column
    of the first value that JSON cannot carry.
    """
    if _lost(given.value) is None:
        try:
            return _encode(body)
        except (UnicodeEncodeError, TypeError):
            pass  # it is told which value that is
    problems: dict[int | None, Problem] = {}
    for at, column, value in _cells(given, row):
        why = _lost(value) or _refused(value)
        if why is not None:
            problems.setdefault(at, replace(why, row=at, column=column))
    raise InputError.of(list(problems.values()) or [replace(HALF, message=f"a name has {HALF.message}")])


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
    return None if finite(value) else INFINITY


def _refused(value: Any) -> Problem | None:
    """Why there is no JSON of a value."""
    try:
        _encode(value)
    except UnicodeEncodeError:
        return HALF
    except TypeError as error:
        return Problem("wrong_type", str(error))
    return None


def _cells(given: Given, first: int | None) -> Iterator[tuple[int | None, str | None, Any]]:
    """Row, column and value of each value."""
    value = given.value.tolist() if hasattr(given.value, "tolist") else given.value
    if given.kind == "record":
        yield from ((first, name, each) for name, each in value.items())
    elif given.kind == "columns":
        yield from ((row, name, each) for name, column in value.items() for row, each in enumerate(column, 1))
    else:
        for row, record in enumerate(value, 1):
            if isinstance(record, Mapping):
                yield from ((row, name, each) for name, each in record.items())
            elif isinstance(record, list | tuple):
                yield from ((row, None, each) for each in record)
            else:
                yield None, None, record  # of one row, or the only one of a row


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be told in JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
