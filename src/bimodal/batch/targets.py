"""Targets: a column of right answers, as the labels or the numbers that a model's answers are compared with.

A column seldom has the type of the model's classes: a CSV file holds text, integers beside a null are floats. A value
is taken for the class that it spells; what cannot be read is no error, since the row is predicted all the same.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MISSING_CODE = -1
TRUTHS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Labels:
    """A column of labels. codes: [n], the place of the row's class; behind those the place in `strange` of a label that
    is no class; -1 where none is given. kind: what the values are, in words.
    """

    codes: NDArray[np.int64]
    strange: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Numbers:
    """A column of numbers. values: [n], NaN where there is none. unreadable: values that are no finite number."""

    values: NDArray[np.float64]
    unreadable: int
    kind: str


def labels_of(
    column: pa.ChunkedArray | pa.Array, classes: Sequence[Any], kind: str, missing: Collection[str]
) -> Labels:
    """The column as places in the classes. kind: of the classes (`kind_of`). missing: words for a missing value."""
    array = _encoded(column)
    if array is None:
        return Labels(np.full(len(column), MISSING_CODE), (), words(column.type))
    known = {_key(kind, each): place for place, each in enumerate(classes)}
    strange: dict[str, int] = {}
    behind = len(classes)
    table = [_code(value, known, kind, missing, strange, behind) for value in array.dictionary.to_pylist()]
    places = np.asarray(array.indices.fill_null(len(table)))
    codes = np.array([*table, MISSING_CODE], np.int64)[places]
    return Labels(codes, tuple(strange), words(column.type))


def numbers_of(column: pa.ChunkedArray | pa.Array, missing: Collection[str], mark: str = ".") -> Numbers:
    """The column as float64. mark: the decimal mark of text."""
    array, kind = _plain(column), column.type
    if _is_number(kind) or pa.types.is_boolean(kind):
        floats = array.cast(pa.int8()) if pa.types.is_boolean(kind) else array
        values = np.array(floats.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        infinite = np.isinf(values)
        values[infinite] = np.nan
        return Numbers(values, int(infinite.sum()), words(kind))
    if not _is_text(kind):
        return Numbers(np.full(len(array), np.nan), len(array) - array.null_count, words(kind))
    texts = _encoded(array)
    assert texts is not None, "text can be encoded"
    read = [_number(text, missing, mark) for text in texts.dictionary.to_pylist()]
    places = np.asarray(texts.indices.fill_null(len(read)))
    bad = np.array([value is None for value in read] + [False])
    values = np.array([math.nan if value is None else value for value in read] + [math.nan])
    return Numbers(values[places], int(bad[places].sum()), words(kind))


def kind_of(classes: Sequence[Any], type_: str) -> str:
    """What the labels are: boolean, integer, number, text or mixed. type_: of the prediction, where none are known."""
    kinds = {_kind(each) for each in classes}
    if not kinds:
        return {"bool": "boolean", "string": "text", "any": "mixed"}.get(type_, "integer")
    return kinds.pop() if len(kinds) == 1 else "number" if kinds == {"integer", "number"} else "mixed"


def shown(label: object) -> str:
    """A label as text, the same for 1, 1.0 and "1"."""
    if isinstance(label, bool | np.bool_):
        return str(bool(label))
    if isinstance(label, float | np.floating) and float(label).is_integer() and abs(float(label)) < 1e15:
        return str(int(label))
    return str(label)


def words(kind: pa.DataType) -> str:
    """What the values of a column are, for a message."""
    if pa.types.is_dictionary(kind):
        return words(kind.value_type)
    if _is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "booleans"
    if pa.types.is_integer(kind):
        return "integers"
    if _is_number(kind):
        return "numbers"
    if pa.types.is_temporal(kind):
        return "times"
    return "nothing" if pa.types.is_null(kind) else "lists" if pa.types.is_nested(kind) else "values of another type"


# -- one value --------------------------------------------------------------------------------------------------------


def _code(
    value: Any, known: dict[Any, int], kind: str, missing: Collection[str], strange: dict[str, int], behind: int
) -> int:
    """The place of the value's class, or the place behind the classes that a strange label gets."""
    readings = _readings(kind, value)
    for key in readings:
        if key in known:
            return known[key]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING_CODE
    if isinstance(value, str) and (value in missing or not value.strip()):
        return MISSING_CODE
    label = shown(value if kind in ("text", "mixed") or not readings else readings[0])
    return behind + strange.setdefault(label, len(strange))


def _readings(kind: str, value: Any) -> list[Any]:
    """As what the value may be meant, the likeliest first, as `_key` writes labels."""
    if value is None:
        return []
    reader: Callable[[Any], Any] = _READERS.get(kind, shown)
    if kind in ("text", "mixed"):
        texts = [str(value), shown(value)] + ([str(value).lower()] if isinstance(value, bool) else [])
        return [*texts, texts[0].strip()]
    try:
        read = reader(value)
    except (ValueError, ArithmeticError, TypeError):
        return []
    return [] if read is None else [read]


def _key(kind: str, label: Any) -> Any:
    """A class as `_readings` writes values."""
    if kind == "mixed":
        return shown(label)
    return {"boolean": bool, "integer": int, "number": float}.get(kind, str)(label)


def _as_integer(value: Any) -> int | None:
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, str):
        word = value.strip()
        if word.lower() in ("true", "false"):
            return int(TRUTHS[word.lower()])
        try:
            return int(word)
        except ValueError:
            value = float(word)
    return int(value) if isinstance(value, float | decimal.Decimal) and value == int(value) else None


def _as_number(value: Any) -> float | None:
    return float(value) if isinstance(value, bool | int | float | str | decimal.Decimal) else None


def _as_truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return TRUTHS.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


_READERS: dict[str, Callable[[Any], Any]] = {"integer": _as_integer, "number": _as_number, "boolean": _as_truth}


def _number(text: str | None, missing: Collection[str], mark: str) -> float | None:
    """What the text spells: NaN for a missing value, None where it is no finite number."""
    if text is None or text in missing or not text.strip():
        return math.nan
    word = text.strip() if mark == "." else text.strip().replace(".", "").replace(mark, ".")
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in word else None


def _kind(label: Any) -> str:
    if isinstance(label, bool | np.bool_):
        return "boolean"
    if isinstance(label, int | np.integer):
        return "integer"
    return "number" if isinstance(label, float | np.floating) else "text" if isinstance(label, str) else "mixed"


# -- columns of Arrow -------------------------------------------------------------------------------------------------


def _plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column in one piece, without a dictionary and without a type of somebody's own."""
    if isinstance(column, pa.ChunkedArray):
        whole = column.combine_chunks()
        column = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _encoded(column: pa.ChunkedArray | pa.Array) -> Any:
    """The column as a dictionary array, None where its values have no equals (lists)."""
    array = _plain(column)
    if pa.types.is_nested(array.type):
        return None
    return array.cast(pa.string()).dictionary_encode() if pa.types.is_null(array.type) else pc.dictionary_encode(array)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
