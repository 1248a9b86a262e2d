"""Gather: decoded rows of named scalars straight to Rows, in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from bimodal.field import Field
from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.runtimes.exact.built import kernels
from bimodal.signature import Signature

KINDS = {"float64": 0, "int64": 1, "bool": 2, "string": 3}  # as in gather.c
BLOCKS = tuple(np.dtype(each) for each in (np.float64, np.int64, np.bool_, np.int32))  # the column of each kind

Gather = Callable[[Sequence[msgspec.Struct]], Rows | None]


def gather(signature: Signature) -> Gather | None:
    """A function from decoded rows (`signature.row_type`) to Rows, which gives None where a value needs the full
    verdict of `Signature.check`. None where an input is of a kind that only `Signature.gather` takes.

    Text comes as a Dictionary whose values are the categories (the same array every time), or as objects where one is
    unknown.
    """
    if kernels is None or not all(_plain(each) for each in signature.inputs):
        return None
    fields = tuple(_field(f"f{place}", each) for place, each in enumerate(signature.inputs))
    columns: Callable[[list[Any]], list[Column] | None] = kernels.Gather(
        fields, np.empty, BLOCKS, np.dtype(object), Dictionary
    )
    names = [each.name for each in signature.inputs]

    def gathered(rows: Sequence[msgspec.Struct]) -> Rows | None:
        found = columns(rows if isinstance(rows, list) else list(rows))
        return None if found is None else Rows(dict(zip(names, found, strict=True)), len(rows))

    return gathered


Vectors = Callable[[Sequence[list[Any]], Callable[..., Array], int, float], Array | None]


def vectors() -> Vectors | None:
    """A function from the rows of several requests (a list of lists of lists of numbers), np.empty, a width and a bound
    to float64 [rows, width]. It gives None where a row is not of that width, or holds what is no number of a magnitude
    below the bound. None without the kernels.
    """
    return None if kernels is None else cast(Vectors, kernels.vectors)


def _plain(each: Field) -> bool:
    """A scalar of which a decoded value is good by itself: see `field.plainly_good`."""
    return not (each.shape or each.nested) and each.type in KINDS and (not each.closed or each.type == "string")


def _field(attribute: str, each: Field) -> tuple[Any, ...]:
    known, values = None, None
    if each.type == "string" and each.categories and all(isinstance(value, str) for value in each.categories):
        known = {value: code for code, value in enumerate(dict.fromkeys(each.categories))}
        values = np.empty(len(known), object)
        values[:] = list(known)
    closed = each.closed and each.type == "string"
    return attribute, KINDS[each.type], each.nullable, closed, known, values
