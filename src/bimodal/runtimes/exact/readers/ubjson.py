"""UBJSON, the binary JSON in which XGBoost writes itself: every number with its own bits."""

from __future__ import annotations

from typing import Any

import numpy as np

# By marker: big-endian numbers.
NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
PLAIN = {"Z": None, "T": True, "F": False}


def decoded(data: bytes) -> Any:
    """The value; arrays of one type of number as NumPy arrays. Raises ValueError where it is no UBJSON."""
    try:
        value, _ = _value(data, _marker(data, 0), 1)
    except (IndexError, KeyError, RecursionError) as error:
        raise ValueError(f"no UBJSON ({type(error).__name__})") from error
    return value


def _marker(data: bytes, at: int) -> str:
    return chr(data[at])


def _value(data: bytes, marker: str, at: int) -> tuple[Any, int]:
    """The value of the marker before `at`, and the place after it."""
    if marker in NUMBERS:
        numbers, at = _numbers(data, marker, 1, at)
        return numbers[0].item(), at
    if marker == "S":
        return _text(data, at)
    if marker == "[":
        return _array(data, at)
    if marker == "{":
        return _object(data, at)
    return PLAIN[marker], at


def _numbers(data: bytes, marker: str, count: int, at: int) -> tuple[np.ndarray[Any, Any], int]:
    kind = np.dtype(NUMBERS[marker])
    return np.frombuffer(data, kind, count, at), at + count * kind.itemsize


def _length(data: bytes, at: int) -> tuple[int, int]:
    length, at = _value(data, _marker(data, at), at + 1)
    return int(length), at


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _length(data, at)
    return data[at : at + length].decode(), at + length


def _array(data: bytes, at: int) -> tuple[Any, int]:
    if _marker(data, at) == "$":
        kind = _marker(data, at + 1)
        count, at = _length(data, at + 3)  # "#" stands between them
        numbers, at = _numbers(data, kind, count, at)
        return numbers.astype(numbers.dtype.newbyteorder("=")), at
    values: list[Any] = []
    count = -1
    if _marker(data, at) == "#":
        count, at = _length(data, at + 1)
    while count != len(values):
        if count < 0 and _marker(data, at) == "]":
            return values, at + 1
        value, at = _value(data, _marker(data, at), at + 1)
        values.append(value)
    return values, at


def _object(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    while _marker(data, at) != "}":
        name, at = _text(data, at)
        values[name], at = _value(data, _marker(data, at), at + 1)
    return values, at + 1
