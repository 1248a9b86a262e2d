"""The fingerprint of a row: 64 bits of its feature values, as the model gets them.

The same for a row of a batch and for one sent live, whatever its numbers were in JSON: a number counts by the bits of
its float64 (one zero; an integer that no float64 holds by its own bits), a text by its content, a missing value (null,
NaN, NaT) as one thing. Two rows that differ in one value always differ in their fingerprints where that value is a
number or a time: each step is a bijection of it. 0 is never given: it stands for "not known".
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.signature import Signature

Words = NDArray[np.uint64]

MASK = (1 << 64) - 1
START = 0x9E3779B97F4A7C15
STEP = 0xD6E8FEB86659FD93
END = 0xBF58476D1CE4E5B9
MISSING = 0x7FF8000000000000  # the bits of the one NaN
WHOLE = 0x5851F42D4C957F2D  # goes into an integer that no float64 holds
TIME = 0x14057B7EF767814F  # goes into a time
EXACT = 2**53
FEW = 24  # rows up to which Python is quicker than NumPy
TEXTS = 4096  # texts that are remembered

_float = Struct("<d").pack
_word = Struct("<Q").unpack
_texts: dict[str, int] = {}


def fingerprint(rows: Rows, signature: Signature) -> NDArray[np.int64]:
    """The fingerprints of rows that were judged: int64 [n]."""
    columns = [rows[each.name] for each in signature.inputs]
    if rows.count <= FEW:
        lists = [_listed(column) for column in columns]
        return np.array([_of_row([each[row] for each in lists]) for row in range(rows.count)], np.int64)
    state = np.full(rows.count, START, np.uint64)
    for column in columns:
        for words in _words(column):
            state ^= words
            state *= np.uint64(STEP)
            state ^= state >> np.uint64(32)
    state *= np.uint64(END)
    state ^= state >> np.uint64(29)
    state[state == 0] = 1
    return state.view(np.int64)


# -- one row, in Python ----------------------------------------------------------------------------------------------


def _of_row(values: list[list[int]]) -> int:
    state = START
    for words in values:
        for word in words:
            state = ((state ^ word) * STEP) & MASK
            state ^= state >> 32
    state = (state * END) & MASK
    state ^= state >> 29
    return state - (1 << 64) if state >> 63 else state or 1


def _listed(column: Column) -> list[list[int]]:
    """Of each row its words."""
    array = column.decode() if isinstance(column, Dictionary) else column
    if array.dtype.kind == "M":
        word: Callable[[Any], int] = _of_time
        array = array.astype("datetime64[us]").view(np.int64)
    elif array.dtype.kind == "f":
        word, array = _of_float, array.astype(np.float64, copy=False)
    else:
        word = _of_value
    if array.ndim == 1:
        return [[word(value)] for value in array.tolist()]
    return [[word(value) for value in row] for row in array.reshape(len(array), -1).tolist()]


def _of_float(value: float) -> int:
    if value != value:
        return MISSING
    word: int = _word(_float(value + 0.0))[0]  # -0.0 + 0.0 is 0.0
    return word


def _of_time(value: int) -> int:
    return MISSING if value == -(2**63) else (value & MASK) ^ TIME


def _of_value(value: object) -> int:
    """A value of a column of objects, of integers or of booleans."""
    if isinstance(value, str):
        return _of_text(value)
    if value is None:
        return MISSING
    if isinstance(value, int | np.integer | np.bool_):
        return _of_float(float(value)) if -EXACT <= value <= EXACT else (int(value) & MASK) ^ WHOLE
    if isinstance(value, float | np.floating):
        return _of_float(float(value))
    if isinstance(value, np.datetime64):
        return _of_time(int(value.astype("datetime64[us]").view(np.int64)))
    return _of_text(repr(value))


def _of_text(value: str) -> int:
    word = _texts.get(value)
    if word is None:
        word = int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        if len(_texts) < TEXTS and len(value) < TEXTS:
            _texts[value] = word
    return word


# -- many rows, in NumPy ---------------------------------------------------------------------------------------------


def _words(column: Column) -> list[Words]:
    """A column's words, one array for each place of an inner dimension: uint64 [n]."""
    if isinstance(column, Dictionary):
        known = np.array([*map(_of_text, column.values), MISSING], np.uint64)
        return [known[column.codes]]
    if column.ndim > 1:
        flat = column.reshape(len(column), -1)
        return [_word_of(flat[:, place]) for place in range(flat.shape[1])]
    return [_word_of(column)]


def _word_of(array: Array) -> Words:
    kind = array.dtype.kind
    if kind == "f":
        numbers = array.astype(np.float64)
        numbers += 0.0
        words = numbers.view(np.uint64)
        words[np.isnan(numbers)] = MISSING
        return words
    if kind in "iub":
        return _of_integers(array)
    if kind == "M":
        times = array.astype("datetime64[us]")
        words = times.view(np.uint64) ^ np.uint64(TIME)
        words[np.isnat(times)] = MISSING
        return words
    values = array.tolist()
    if all(isinstance(value, str) for value in values):
        return _of_texts(values)
    return np.fromiter(map(_of_value, values), np.uint64, len(values))


def _of_integers(array: Array) -> Words:
    words: Words = array.astype(np.float64).view(np.uint64)
    if array.dtype.itemsize == 8:
        large = (array > EXACT) | ((array < -EXACT) if array.dtype.kind == "i" else False)
        if large.any():
            words[large] = array[large].astype(np.uint64) ^ np.uint64(WHOLE)
    return words


def _of_texts(values: list[str]) -> Words:
    """Each text is hashed once."""
    known = {value: _of_text(value) for value in set(values)}
    return np.fromiter(map(known.__getitem__, values), np.uint64, len(values))
