"""Prepare: from Rows to the columns of numbers that a model's core works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from bimodal.rows import Array, Dictionary, Rows
from bimodal.runtimes.exact.built import kernels

Op = tuple[Any, ...]  # (name, *numbers): see Number
OPS = (
    "fill",
    "subtract",
    "divide",
    "multiply",
    "add",
    "clip",
    "missing",
    "float32",
    "squash",
    "above",
    "absent",
)  # as in columns.c
TAKES = {"clip": 2, "missing": 0, "float32": 0, "absent": 0}  # numbers, where it is not one


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
    most c · ("above", c): 1 where greater, else 0 · ("absent",): NaN where 0
    """

    source: int
    ops: tuple[Op, ...] = ()

    width = 1


@dataclass(frozen=True)
class Lookup:
    """Prepared columns looked up by a category. table [values + 2, width] float64: a row for each value, one for any
    other, one for null."""

    source: int
    values: tuple[Any, ...]
    table: Array

    @property
    def width(self) -> int:
        return int(self.table.shape[1])


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

    @cached_property
    def width(self) -> int:
        """How many prepared columns there are."""
        return sum(each.width for each in self.columns)

    @cached_property
    def identity(self) -> str | None:
        """The name of the vector column that is the prepared columns, as it is."""
        names = {each.name for each in self.inputs}
        if len(names) != 1 or len(self.columns) != len(self.inputs):
            return None
        for place, each in enumerate(self.columns):
            if not isinstance(each, Number) or each.ops or self.inputs[each.source].place != place:
                return None
        return names.pop()

    @cached_property
    def kernel(self) -> Any:
        """The same in C: `kernels.Columns`."""
        return compiled(self)

    def matrix(self, rows: Rows) -> Array:
        """The prepared columns: float64 [rows, width], C order. Where nothing is to be done, the vector column."""
        if self.identity is not None:
            whole = rows[self.identity]
            if isinstance(whole, np.ndarray) and whole.shape[1:] == (self.width,):
                return np.ascontiguousarray(whole, np.float64)
        out = np.empty((rows.count, self.width))
        self.kernel.matrix(rows._columns, out)
        return out

    def edges(self, thresholds: Mapping[int, Array]) -> dict[tuple[str, int | None], Array]:
        """By input: the thresholds of its prepared columns, brought back through their ops (nearly: rounding is not
        undone), and the categories that they know."""
        found: dict[tuple[str, int | None], list[Any]] = {}
        at = 0
        for each in self.columns:
            source = self.inputs[each.source]
            near = back(each.ops, thresholds.get(at)) if isinstance(each, Number) else list(each.values)
            if len(near):
                found.setdefault((source.name, source.place), []).extend(near)
            at += each.width
        return {source: _distinct(values) for source, values in found.items()}

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        arrays: dict[str, Array] = {}
        columns: list[dict[str, Any]] = []
        numbers: list[float] = []  # of the ops, one after another: an array keeps infinity too
        for at, each in enumerate(self.columns):
            if isinstance(each, Number):
                columns.append({"number": each.source, "ops": [op[0] for op in each.ops]})
                numbers.extend(number for op in each.ops for number in op[1:])
            elif isinstance(each, Lookup):
                columns.append({"lookup": each.source, "values": each.values})
                arrays[f"table{at}"] = each.table
            else:
                columns.append({"one_hot": each.source, "values": each.values, "width": each.width})
                arrays[f"places{at}"] = each.places
        arrays["numbers"] = np.array(numbers, float)
        return {"inputs": [[each.name, each.place] for each in self.inputs], "columns": columns}, arrays

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Prepare:
        columns: list[Prepared] = []
        numbers = iter(arrays["numbers"].tolist())
        for at, told in enumerate(values["columns"]):
            if "number" in told:
                ops = tuple((name, *islice(numbers, TAKES.get(name, 1))) for name in told["ops"])
                columns.append(Number(told["number"], ops))
            elif "lookup" in told:
                columns.append(Lookup(told["lookup"], tuple(told["values"]), arrays[f"table{at}"]))
            else:
                places = arrays[f"places{at}"]
                columns.append(OneHot(told["one_hot"], tuple(told["values"]), places, told["width"]))
        made = cls(tuple(Input(name, place) for name, place in values["inputs"]), tuple(columns))
        _ = made.kernel  # judges every number of it
        return made


# -- operations --------------------------------------------------------------------------------------------------------


def done(ops: Sequence[Op], values: Array) -> Array:
    """The operations on float64 values, in NumPy: for tables made when a model is compiled."""
    for name, *numbers in ops:
        values = _DO[name](values, *numbers)
    return values


_DO: dict[str, Any] = {
    "fill": lambda v, c: np.where(np.isnan(v), c, v),
    "subtract": np.subtract,
    "divide": np.divide,
    "multiply": np.multiply,
    "add": np.add,
    "clip": np.clip,
    "missing": lambda v: np.isnan(v).astype(float),
    "float32": lambda v: v.astype(np.float32).astype(float),
    "squash": lambda v, c: np.where(np.abs(v) <= c, 0.0, v),
    "above": lambda v, c: np.where(np.isnan(v), v, (v > c).astype(float)),
    "absent": lambda v: np.where(v == 0, np.nan, v),
}


def back(ops: Sequence[Op], values: Array | None) -> list[float]:
    """Values before the operations that become about these. Nothing where a column does not turn at them."""
    if values is None:
        return []
    near = np.asarray(values, float)
    for name, *numbers in reversed(ops):
        if name == "subtract":
            near = near + numbers[0]
        elif name == "divide":
            near = near * numbers[0]
        elif name == "multiply":
            near = near / numbers[0] if numbers[0] else near[:0]
        elif name == "add":
            near = near - numbers[0]
        elif name == "squash":
            near = np.concatenate([near, [-numbers[0], numbers[0]]])
        elif name == "above":
            near = np.array([numbers[0]])
        elif name == "absent":
            near = np.append(near, 0.0)
        elif name == "missing":
            near = near[:0]
    found: list[float] = near[~np.isnan(near)].tolist()
    return found


def _distinct(values: Sequence[Any]) -> Array:
    """Each value once: numbers sorted, as float64; else as objects."""
    if all(isinstance(value, int | float) for value in values):
        return np.unique(np.asarray(values, float))
    kept = list(dict.fromkeys(values))
    made = np.empty(len(kept), object)
    made[:] = kept
    return made


# -- in C --------------------------------------------------------------------------------------------------------------


def compiled(prepare: Prepare) -> Any:
    """The Prepare as `kernels.Columns`. Raises ValueError where its parts do not fit together."""
    feeds = tuple(dict.fromkeys(each.name for each in prepare.inputs))
    sources: dict[tuple[Any, ...], int] = {}
    steps = []
    for each in prepare.columns:
        if not 0 <= each.source < len(prepare.inputs):
            raise ValueError("a column of no input")
        values = None if isinstance(each, Number) else each.values
        key = (each.source, None if values is None else tuple((type(value), value) for value in values))
        source = sources.setdefault(key, len(sources))
        steps.append(_step(each, source))
    told = tuple(_source(prepare.inputs[key[0]], feeds, key[1]) for key in sources)
    return kernels.Columns(feeds, told, tuple(steps), Dictionary)


def _source(source: Input, feeds: tuple[str, ...], values: tuple[Any, ...] | None) -> tuple[Any, ...]:
    at, place = feeds.index(source.name), -1 if source.place is None else source.place
    if values is None:
        return at, place, None, None, None
    known = [value for _, value in values]
    places = {value: where for where, value in enumerate(known)}
    if len(places) != len(known):
        raise ValueError("a category stands twice")
    if not known or not all(isinstance(value, int | float) for value in known):
        return at, place, places, None, None
    numbers = np.array(known, float)
    order = np.argsort(numbers, kind="stable").astype(np.int32)
    return at, place, places, numbers[order].tobytes(), order.tobytes()


def _step(each: Prepared, source: int) -> tuple[Any, ...]:
    if isinstance(each, Number):
        ops = tuple((OPS.index(name), *(*map(float, numbers), 0.0, 0.0)[:2]) for name, *numbers in each.ops)
        return 0, source, 1, ops
    if isinstance(each, Lookup):
        return 1, source, each.width, np.ascontiguousarray(each.table, np.float64).tobytes()
    return 2, source, each.width, np.ascontiguousarray(each.places, np.int32).tobytes()
