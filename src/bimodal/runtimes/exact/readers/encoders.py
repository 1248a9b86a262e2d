"""Encoders of scikit-learn as tables: each is asked what it makes of its categories, of another value, of null."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.field import EXACT
from bimodal.formats.library import library
from bimodal.rows import Array
from bimodal.runtimes.exact.readers.matrix import Block, Hot, Looked, Matrix, Origin, Raw, Recipe

STRANGE = "\x00unknown"  # a text that no encoder has seen


@dataclass(frozen=True)
class Question:
    """What one column can hold: each of the values, another one, null; `asks` has them as the encoder gets them.

    never: which of these (bool [values + 2]) no row can come to.
    """

    origin: Origin
    values: tuple[Any, ...]
    asks: tuple[Any, ...]
    never: Array


def one_hot(encoder: Any, matrix: Matrix) -> Matrix:
    _floats(encoder)
    questions = _questions(encoder, matrix)
    out = library("scipy.sparse").csr_matrix(_asked(encoder, questions))
    columns: list[Recipe] = []
    at = 0
    for place, each in enumerate(questions):
        width = _width(encoder, place)
        part = out[: len(each.asks), at : at + width].tocoo()
        places = np.full(len(each.asks), -1, np.int32)
        places[part.row] = part.col
        places[each.never] = -1
        block = Block(each.origin, each.values, places, width)
        columns += [Hot(block, hot) for hot in range(width)]
        at += width
    if at != out.shape[1]:
        raise NotCompiled("OneHotEncoder gives another number of columns than its categories say")
    return Matrix(tuple(columns), bool(encoder.sparse_output))


def _width(encoder: Any, place: int) -> int:
    """How many columns it makes of this one."""
    width = len(encoder.categories_[place])
    rare = encoder.infrequent_categories_[place] if hasattr(encoder, "_infrequent_indices") else None
    if rare is not None:
        width -= len(rare) - 1
    dropped = encoder.drop_idx_ is not None and encoder.drop_idx_[place] is not None
    return width - 1 if dropped else width


def valued(encoder: Any, matrix: Matrix) -> Matrix:
    """OrdinalEncoder, TargetEncoder: the same number of columns for every one."""
    if type(encoder).__name__ == "OrdinalEncoder":
        _floats(encoder)
    questions = _questions(encoder, matrix)
    out = np.asarray(_asked(encoder, questions), float)
    each_width, rest = divmod(out.shape[1], len(questions))
    if rest:
        raise NotCompiled(f"{type(encoder).__name__} gives a number of columns that cannot be told apart")
    columns: list[Recipe] = []
    for place, each in enumerate(questions):
        for one in range(each_width):
            table = out[: len(each.asks), place * each_width + one].copy()
            table[each.never] = math.nan
            columns.append(Looked(each.origin, each.values, table))
    return Matrix(tuple(columns))


def _floats(encoder: Any) -> None:
    if np.dtype(encoder.dtype) == np.float64 or np.dtype(encoder.dtype).kind in "iu":
        return
    raise NotCompiled(f"{type(encoder).__name__} with dtype={np.dtype(encoder.dtype).name}")


def _asked(encoder: Any, questions: Sequence[Question]) -> Any:
    """Its answer to all questions at once: it encodes every column by itself."""
    pandas = library("pandas")
    longest = max(len(each.asks) for each in questions)
    names = getattr(encoder, "feature_names_in_", range(len(questions)))
    frame = {
        name: pandas.Series([*each.asks, *[each.asks[0]] * (longest - len(each.asks))], dtype=_dtype(each.asks, known))
        for name, each, known in zip(names, questions, encoder.categories_, strict=True)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the unknown values that it is asked about
        return encoder.transform(pandas.DataFrame(frame))


def _dtype(asks: Sequence[Any], known: Array) -> Any:
    """Numbers among numbers; whatever else is compared as objects are."""
    kinds = {type(value) for value in asks}
    if known.dtype == object or not kinds <= {int, float}:
        return object
    return float if float in kinds else int


def _questions(encoder: Any, matrix: Matrix) -> list[Question]:
    strict = getattr(encoder, "handle_unknown", "ignore") == "error"
    if matrix.sparse:
        raise NotCompiled(f"{type(encoder).__name__} on sparse columns")
    return [
        _question(column, categories, strict=strict)
        for column, categories in zip(matrix.columns, encoder.categories_, strict=True)
    ]


def _question(column: Recipe, categories: Any, *, strict: bool) -> Question:
    known = [value for value in categories.tolist() if not _missing(value)]
    for value in known:
        if type(value) not in (str, int, float, bool) or (type(value) in (int, float) and not abs(value) < EXACT):
            raise NotCompiled(f"an encoder with categories of type {type(value).__name__}")
    null_known = len(known) < len(categories)
    if isinstance(column, Raw):
        question = _of_raw(column, known, strict=strict, null_known=null_known)
    elif isinstance(column, Looked):
        question = _of_looked(column, known, strict=strict, null_known=null_known)
    else:
        raise NotCompiled("an encoder of computed numbers")
    return question


def _of_raw(column: Raw, known: list[Any], *, strict: bool, null_known: bool) -> Question:
    origin = column.origin
    if origin.coded:
        raise NotCompiled(f"column {origin.field.name!r} in a type of pandas")
    null = column.fill if column.filled else origin.null
    never = np.zeros(len(known) + 2, bool)
    asks = [*known, _strange(known), null]
    if strict:
        _only_known(origin, known, nullable=origin.field.nullable and null not in known and not null_known)
    never[-2] = strict or asks[-2] is None
    never[-1] = not origin.field.nullable
    first = known[0] if known else null
    asks = [first if bad else value for value, bad in zip(asks, never, strict=True)]
    return Question(origin, tuple(known), tuple(asks), never)


def _only_known(origin: Origin, known: list[Any], *, nullable: bool) -> None:
    """An encoder that refuses unknown values has a signature that refuses them first, or it stays native."""
    closed = origin.field.closed and set(origin.field.categories or ()) <= set(known)
    if (not closed and origin.field.type != "bool") or nullable:
        raise NotCompiled(f"column {origin.field.name!r}: the encoder refuses values that the signature takes")


def _of_looked(column: Looked, known: list[Any], *, strict: bool, null_known: bool) -> Question:
    asks = column.table.tolist()
    never = np.zeros(len(asks), bool)
    if strict:
        never = np.array([_missing(value) and not null_known for value in asks])
        if any(value not in known for value, bad in zip(asks, never, strict=True) if not bad and not _missing(value)):
            raise NotCompiled("an encoder that refuses values which another one gives")
    asks = [known[0] if bad else value for value, bad in zip(asks, never, strict=True)]
    return Question(column.origin, column.values, tuple(asks), never)


def _strange(known: Sequence[Any]) -> Any:
    """A value that the encoder does not know, of the kind that it knows; None where there is none."""
    kinds = {type(value) for value in known}
    if kinds <= {bool} and known:
        return next((value for value in (False, True) if value not in known), None)
    if kinds <= {int, float, bool} and known:
        return max(known) + 1
    return STRANGE


def _missing(value: Any) -> bool:
    return value is None or value != value
