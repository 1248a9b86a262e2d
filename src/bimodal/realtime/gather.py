"""Decoded values of many requests as one Rows: arrays are built once a batch, not once a request.

A gather takes the values of several requests, one after another, and gives None where any of them needs the full
verdict of `Signature.check`: it never judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from bimodal.field import FLOATS, INTEGERS, Field, column_of, plainly_good
from bimodal.rows import Rows
from bimodal.runtimes.exact import gather as exact
from bimodal.signature import Signature

Gather = Callable[[Sequence[list[Any]]], Rows | None]
_UNFIT = (ValueError, TypeError, OverflowError)  # what NumPy raises on values that are no column


def ready(parts: Sequence[list[Any]]) -> Rows | None:
    """Values that are Rows already: [Rows] of each request."""
    return Rows.concat([part[0] for part in parts])


def vectors(field: Field) -> Gather:
    """Rows of a model of vectors: a list of lists of numbers of each request."""
    width, dtype, name = field.shape[0], field.dtype, field.name
    plain = width > 0 and dtype == np.float64 and not field.closed
    quick = exact.vectors() if plain else None
    ordinary, empty = field.ordinary if plain else 0.0, np.empty

    def gather(parts: Sequence[list[Any]]) -> Rows | None:
        array = None if quick is None else quick(parts, empty, width, ordinary)
        if array is not None:
            return Rows({name: array})
        rows = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
        try:
            array = np.array(rows, dtype)
        except _UNFIT:
            return None
        if array.ndim != 2 or (width not in (-1, array.shape[1])) or not plainly_good(field, array):
            return None
        return Rows({name: array})

    return gather


def records(signature: Signature) -> Gather:
    """Rows of named columns: a list of `signature.row_type` of each request."""
    inner = exact.gather(signature) or signature.gather

    def gather(parts: Sequence[list[Any]]) -> Rows | None:
        try:
            return inner(parts[0] if len(parts) == 1 else list(chain.from_iterable(parts)))
        except _UNFIT:
            return None

    return gather


def columns(signature: Signature) -> Gather:
    """Named columns: of each request a list of columns in the order of the inputs, each a list of plain values."""
    fields = [(each, allowed(each)) for each in signature.inputs]

    def gather(parts: Sequence[list[Any]]) -> Rows | None:
        made: dict[str, Any] = {}
        for place, (each, kinds) in enumerate(fields):
            values = parts[0][place] if len(parts) == 1 else [value for part in parts for value in part[place]]
            if not kinds.issuperset(map(type, values)):
                return None
            try:
                column = column_of(each, values)
            except _UNFIT:
                return None
            if not plainly_good(each, column):
                return None
            made[each.name] = column
        return Rows(made)

    return gather


def allowed(field: Field) -> frozenset[type]:
    """The Python types that need no verdict in a column of scalars; none where text holds JSON."""
    if field.nested:
        return frozenset()
    if field.type in FLOATS:
        kinds: tuple[type, ...] = (float, int)
    elif field.type in INTEGERS:
        kinds = (int,)
    else:
        kinds = {"string": (str,), "bool": (bool,)}.get(field.type, ())
    return frozenset((*kinds, type(None)) if field.nullable and field.type not in INTEGERS else kinds)


def scalars(signature: Signature) -> bool:
    """Whether every input is a scalar of a type that a gather can take without the full verdict."""
    return all(not each.shape and allowed(each) for each in signature.inputs)
