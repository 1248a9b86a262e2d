"""Matrix: what stands between two steps of a fitted pipeline, as a recipe for each of its columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.field import FLOATS, INTEGERS, Field
from bimodal.rows import Array
from bimodal.runtimes.exact.prepare import Input, Lookup, Number, OneHot, Op, Prepare, Prepared, done

LARGEST = 4_000_000  # numbers in one looked-up table


@dataclass(frozen=True)
class Origin:
    """An input of the model. place: among the Prepare's inputs. null: how the model is given a missing value. coded:
    the model is given it in a type of pandas that steps may treat in ways of their own.
    """

    place: int
    field: Field
    null: Any = math.nan
    coded: bool = False

    @property
    def number(self) -> bool:
        return self.field.type in (*FLOATS, *INTEGERS, "bool")


@dataclass(frozen=True)
class Raw:
    """An input as it came. fill: what a missing value was replaced with, where `filled`."""

    origin: Origin
    filled: bool = False
    fill: Any = None


@dataclass(frozen=True)
class Sum:
    """A number from an input, by operations."""

    origin: Origin
    ops: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Looked:
    """A number for every category: table [values + 2] float64, NaN where no row can come to."""

    origin: Origin
    values: tuple[Any, ...]
    table: Array


@dataclass(frozen=True, eq=False)
class Block:
    """The columns that one encoder made of one column, at most one of them 1. places as in OneHot."""

    origin: Origin
    values: tuple[Any, ...]
    places: Array
    width: int


@dataclass(frozen=True)
class Hot:
    """One column of a Block. ops: done on its 0 and 1."""

    block: Block
    place: int
    ops: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Unused:
    """A column of the training that no step uses: the signature does not have it."""

    name: str


Recipe = Raw | Sum | Looked | Hot | Unused


@dataclass(frozen=True)
class Matrix:
    """The columns in order. sparse: scikit-learn holds it as a sparse matrix."""

    columns: tuple[Recipe, ...]
    sparse: bool = False

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, places: Sequence[int]) -> Matrix:
        return replace(self, columns=tuple(self.columns[place] for place in places))

    def each(self, *ops: Sequence[Op]) -> Matrix:
        """With these operations on its columns, one sequence for each."""
        return replace(self, columns=tuple(changed(column, its) for column, its in zip(self.columns, ops, strict=True)))


def changed(column: Recipe, ops: Sequence[Op]) -> Recipe:
    """The column with further operations, as a number."""
    if isinstance(column, Hot):
        return replace(column, ops=(*column.ops, *ops))
    if isinstance(column, Looked):
        return replace(column, table=done(ops, column.table))
    column = number(column)
    return replace(column, ops=(*column.ops, *ops))


def number(column: Raw | Sum | Unused) -> Sum:
    """As a number: what is no number is not compiled."""
    if isinstance(column, Unused):
        raise NotCompiled(f"column {column.name!r} is used, and the signature does not have it")
    if isinstance(column, Sum):
        return column
    if not column.origin.number or column.origin.coded or isinstance(column.fill, str):
        raise NotCompiled(f"column {column.origin.field.name!r} of type {column.origin.field.type} is used as a number")
    return Sum(column.origin, (("fill", float(column.fill)),) if column.filled else ())


# -- to a Prepare ------------------------------------------------------------------------------------------------------


def lowered(matrix: Matrix, inputs: Sequence[Input]) -> Prepare:
    """The Prepare that makes the matrix from these inputs; those that nothing uses are left out."""
    columns: list[Prepared] = []
    at = 0
    while at < len(matrix.columns):
        first = matrix.columns[at]
        run = 1
        if isinstance(first, Hot):
            while at + run < len(matrix.columns) and _follows(matrix.columns[at + run], first, run):
                run += 1
            columns.append(_hot([each for each in matrix.columns[at : at + run] if isinstance(each, Hot)]))
        else:
            columns.append(_plain(first))
        at += run
    return _pruned(columns, inputs)


def _follows(column: Recipe, first: Hot, run: int) -> bool:
    return isinstance(column, Hot) and column.block is first.block and bool(column.ops) == bool(first.ops)


def _hot(columns: Sequence[Hot]) -> Prepared:
    """Neighbouring columns of one Block."""
    block = columns[0].block
    to = np.full(block.width + 1, -1, np.int32)  # the last place is that of none
    for place, column in enumerate(columns):
        to[column.place] = place
    places = to[block.places]
    if not columns[0].ops and len({column.place for column in columns}) == len(columns):
        return OneHot(block.origin.place, block.values, places, len(columns))
    if len(places) * len(columns) > LARGEST:
        raise NotCompiled(f"column {block.origin.field.name!r} has too many categories for a scaled encoding")
    table = np.empty((len(places), len(columns)))
    for place, column in enumerate(columns):
        off, on = done(column.ops, np.array([0.0, 1.0]))
        table[:, place] = np.where(block.places == column.place, on, off)
    return Lookup(block.origin.place, block.values, table)


def _plain(column: Recipe) -> Prepared:
    if isinstance(column, Looked):
        return Lookup(column.origin.place, column.values, column.table.reshape(-1, 1))
    assert not isinstance(column, Hot)
    plain = number(column)
    return Number(plain.origin.place, plain.ops)


def _pruned(columns: Sequence[Prepared], inputs: Sequence[Input]) -> Prepare:
    used = sorted({column.source for column in columns})
    places = {source: place for place, source in enumerate(used)}
    kept = tuple(replace(column, source=places[column.source]) for column in columns)
    return Prepare(tuple(inputs[source] for source in used), kept)
