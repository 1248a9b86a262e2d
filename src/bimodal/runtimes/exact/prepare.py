"""Prepare: from Rows to the columns of numbers that a model's core works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bimodal.rows import Array, Rows

Op = tuple[Any, ...]  # (name, *numbers): see Number


@dataclass(frozen=True)
class Input:
    """Where a prepared column comes from: a column of the Rows, or one place of a vector column."""

    name: str
    place: int | None = None


@dataclass(frozen=True)
class Number:
    """One prepared column from one number. source: place among the inputs. ops: done one after another, each in float64
    and rounded as NumPy rounds.

    ("fill", c): c where NaN · ("subtract", c) · ("divide", c) · ("multiply", c) · ("add", c) · ("clip", low, high) ·
    ("missing",): 1 where NaN, else 0 · ("float32",): rounded to float32 · ("squash", c): 0 where the magnitude is at
    most c
    """

    source: int
    ops: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Lookup:
    """Prepared columns looked up by a category. table [values + 2, width] float64: a row for each value, one for any
    other, one for null."""

    source: int
    values: tuple[Any, ...]
    table: Array


@dataclass(frozen=True)
class OneHot:
    """`width` prepared columns, at most one of them 1, the others 0. places int32 [values + 2]: which (-1: none), for
    each value, for any other, for null."""

    source: int
    values: tuple[Any, ...]
    places: Array
    width: int


Prepared = Number | Lookup | OneHot


@dataclass(frozen=True)
class Prepare:
    """The prepared columns, in order."""

    inputs: tuple[Input, ...]
    columns: tuple[Prepared, ...]

    @property
    def width(self) -> int:
        """How many prepared columns there are."""
        raise NotImplementedError

    def matrix(self, rows: Rows) -> Array:
        """The prepared columns: float64 [rows, width], C order. Where nothing is to be done, the vector column itself."""
        raise NotImplementedError

    def edges(self, thresholds: Mapping[int, Array]) -> dict[tuple[str, int | None], Array]:
        """The thresholds of prepared columns as values of the inputs."""
        raise NotImplementedError

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        raise NotImplementedError

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Prepare:
        raise NotImplementedError
