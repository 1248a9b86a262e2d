"""Signature: what a model takes and gives, and the one verdict on every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.errors import InputError, Problem, UsageError
from bimodal.field import Field, column_of, kind, listed, plainly_good, scalar_type, wrong_width
from bimodal.rows import Column, Rows

EMPTY = Problem("empty", "no rows were given")


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs.

    named: columns are found by name; otherwise (a model trained on arrays) a table's columns are taken by position.
    open: rows of numbers of any one width are taken (a model that cannot say its width). classes: the labels, in the
    order of the columns of `probability`; None where there are none.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    classes: tuple[Any, ...] | None = None
    named: bool = True
    open: bool = False
    _cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def vector(self) -> Field | None:
        """The one vector input of a model that was trained on arrays, if that is all it takes."""
        only = self.inputs[0] if len(self.inputs) == 1 else None
        return only if only is not None and len(only.shape) == 1 else None

    @property
    def width(self) -> int:
        """How many plain columns make a row; -1 where any number does."""
        return self.vector.shape[0] if self.vector is not None else len(self.inputs)

    @property
    def flat(self) -> bool:
        """A row is a plain list of scalars."""
        return self.vector is not None or all(not each.shape for each in self.inputs)

    def input(self, name: str) -> Field:
        return next(each for each in self.inputs if each.name == name)

    def output(self, name: str) -> Field:
        return next(each for each in self.outputs if each.name == name)

    def with_features(self, names: Sequence[str]) -> Signature:
        """The same model with names for its columns (`--features`), in the order in which it was trained."""
        if self.width not in (-1, len(names)):
            raise UsageError(f"--features names {len(names)} columns; the model has {self.width} features")
        if self.named:
            unknown = [name for name in names if name not in {each.name for each in self.inputs}]
            if unknown:
                raise UsageError(
                    f"--features {unknown[0]!r}: the model's features are {listed([f.name for f in self.inputs])}"
                )
            return self
        if self.vector is not None:
            example = self.vector.example if isinstance(self.vector.example, list | tuple) else [None] * len(names)
            inputs = [
                replace(self.vector, name=name, shape=(), example=value)
                for name, value in zip(names, example, strict=True)
            ]
        else:
            inputs = [replace(each, name=name) for each, name in zip(self.inputs, names, strict=True)]
        return replace(self, inputs=tuple(inputs), named=True, open=False, _cache={})

    def example(self) -> Any:
        """One row that the model takes, as JSON would carry it: an object for named columns, else a list (or one
        value).
        """
        shown = [each for each in self.inputs if each.example is not None or not each.optional]
        values = [_shown(each) for each in shown]
        if self.named:
            return dict(zip([each.name for each in shown], values, strict=True))
        if len(values) == 1:
            return values[0].tolist() if isinstance(values[0], np.ndarray) else values[0]
        return values

    def example_rows(self, count: int = 1) -> Rows:
        """The example, `count` times over."""
        rows, _, problems = self.check([self.example()] * count)
        require(problems)
        return rows

    def empty_outputs(self, names: Sequence[str]) -> Rows:
        """The outputs for no rows."""
        return _empty([self.output(name) for name in names])

    def told(self) -> dict[str, Any]:
        """The signature as plain values, for another process; `Signature.retold` reads them."""
        values: dict[str, Any] = msgspec.to_builtins(
            {
                "inputs": self.inputs,
                "outputs": self.outputs,
                "classes": self.classes,
                "named": self.named,
                "open": self.open,
            },
            enc_hook=_plain_value,
        )
        return values

    @classmethod
    def retold(cls, values: Mapping[str, Any]) -> Signature:
        inputs = msgspec.convert(values["inputs"], tuple[Field, ...])
        outputs = msgspec.convert(values["outputs"], tuple[Field, ...])
        return cls(inputs, outputs, classes=_tuples(values["classes"]), named=values["named"], open=values["open"])

    # -- the verdict on Python values -------------------------------------------------------------------------------

    def check(self, records: Sequence[object]) -> tuple[Rows, NDArray[np.bool_], list[Problem]]:
        """Judge rows given as Python values: dicts by name, lists by position, a scalar for a model of one feature.

        Returns the Rows of the good ones, which of the records they are (bool [n]), and the Problems (rows count
        from 1).
        """
        if not records:
            return self.empty(), np.zeros(0, bool), [EMPTY]
        if not self.named:
            records = self._positional(records)
        absent = self._absent(records)
        if absent:
            return self.empty(), np.zeros(len(records), bool), absent
        good = np.ones(len(records), bool)
        problems: list[Problem] = []
        values: list[list[Any]] = []
        for number, record in enumerate(records, 1):
            row, problem = self._row(record)
            if problem is not None:
                problems.append(problem.at(number))
                good[number - 1] = False
            else:
                values.append(row)
        problems += self._ragged(values, good)
        return (self.columns(values) if good.any() else self.empty()), good, problems

    def check_columns(self, columns: Mapping[str, object]) -> tuple[Rows, NDArray[np.bool_], list[Problem]]:
        """The same for named columns: a mapping from name to a list of values."""
        for name, column in columns.items():
            if not isinstance(column, list | tuple | np.ndarray):
                return (
                    self.empty(),
                    np.zeros(0, bool),
                    [Problem("wrong_type", f"{kind(column)} where a list of values is needed", column=name)],
                )
        lists = {name: column for name, column in columns.items() if isinstance(column, list | tuple | np.ndarray)}
        lengths = {name: len(column) for name, column in lists.items()}
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            return (
                self.empty(),
                np.zeros(0, bool),
                [Problem("ragged", f"columns of one length are needed, not {sizes}")],
            )
        missing = [
            each.missing(self.spare(list(lists)))
            for each in self.inputs
            if each.name not in lists and not each.optional
        ]
        if missing and self.named:
            return self.empty(), np.zeros(0, bool), missing
        if missing:
            return self.check([list(row) for row in zip(*lists.values(), strict=True)])
        names = [each.name for each in self.inputs if each.name in lists]
        wanted = [lists[name] for name in names]
        return self.check([dict(zip(names, row, strict=True)) for row in zip(*wanted, strict=True)])

    def empty(self) -> Rows:
        """No rows, with all columns."""
        return _empty(self.inputs)

    def spare(self, names: Sequence[str]) -> list[str]:
        """The names that are no features."""
        mine = {each.name for each in self.inputs}
        return [name for name in names if name not in mine]

    def _positional(self, records: Sequence[object]) -> Sequence[object]:
        """Objects that all have the same names, given to a model that knows none: their values in the first one's
        order, as a table's columns are taken."""
        first = records[0]
        if not isinstance(first, dict) or any(each.name in first for each in self.inputs):
            return records
        if not all(isinstance(record, dict) and record.keys() == first.keys() for record in records):
            return records
        return [[record[name] for name in first] for record in records if isinstance(record, dict)]

    def _absent(self, records: Sequence[object]) -> list[Problem]:
        """The columns that no record has."""
        if not all(isinstance(record, dict) for record in records):
            return []
        names: dict[str, None] = {}
        for record in records:
            names.update(dict.fromkeys(record))  # type: ignore[call-overload]  # all are dicts, checked above
        return [
            each.missing(self.spare(list(names)))
            for each in self.inputs
            if each.name not in names and not each.optional
        ]

    def _row(self, record: object) -> tuple[list[Any], Problem | None]:
        if isinstance(record, Mapping):
            for each in self.inputs:
                if (
                    each.name not in record and not each.optional
                ):  # a null is written; what is not there may be a slip in its name
                    return [], each.missing(self.spare(list(record)))
            given = [record.get(each.name) for each in self.inputs]
        elif self.vector is not None or (
            len(self.inputs) == 1 and (self.inputs[0].shape or not isinstance(record, list | tuple))
        ):
            given = [record]
        elif isinstance(record, list | tuple | np.ndarray):
            if len(record) != len(self.inputs):
                return [], wrong_width(len(self.inputs), len(record))
            given = list(record)
        else:
            return [], Problem(
                "wrong_type", f"{kind(record)} where a row is needed: an object or a list of {self.width} values"
            )
        row = []
        for each, value in zip(self.inputs, given, strict=True):
            judged, problem = each.judge(value)
            if problem is not None:
                return [], problem
            row.append(judged)
        return row, None

    def _ragged(self, rows: list[list[Any]], good: NDArray[np.bool_]) -> list[Problem]:
        """In a model that takes any width, all rows of one request have the first one's."""
        if len(self.inputs) != 1 or -1 not in self.inputs[0].shape or not rows:
            return []
        size = _size(rows[0][0])
        problems = []
        for place, row in zip(np.flatnonzero(good), list(rows), strict=True):
            if _size(row[0]) != size:
                problems.append(_other_size(size, _size(row[0])).at(int(place) + 1))
                good[place] = False
                rows.remove(row)
        return problems

    def columns(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Judged rows as columns."""
        return Rows(
            {each.name: column_of(each, [row[i] for row in rows]) for i, each in enumerate(self.inputs)}, len(rows)
        )

    # -- the generated type: decoding and checking a request in one C call -------------------------------------------

    @property
    def row_type(self) -> type[msgspec.Struct]:
        """A msgspec Struct of one named row: attributes f0, f1, … under the features' names."""
        if "row_type" not in self._cache:
            self._cache["row_type"] = msgspec.defstruct(
                "Row",
                [(f"f{i}", scalar_type(each)) for i, each in enumerate(self.inputs)],
                rename={f"f{i}": each.name for i, each in enumerate(self.inputs)},
                gc=False,
            )
        kept: type[msgspec.Struct] = self._cache["row_type"]
        return kept

    def gather(self, rows: Sequence[msgspec.Struct]) -> Rows | None:
        """Rows of many decoded `row_type`s, or None where a value needs the full verdict (`check`)."""
        getters = self._cache.get("getters")
        if getters is None:
            getters = self._cache["getters"] = [attrgetter(f"f{i}") for i in range(len(self.inputs))]
        columns: dict[str, Column] = {}
        for each, getter in zip(self.inputs, getters, strict=True):
            column = column_of(each, list(map(getter, rows)))
            if not plainly_good(each, column):
                return None
            columns[each.name] = column
        return Rows(columns, len(rows))


def _shown(each: Field) -> Any:
    """The example of a column."""
    if each.nested and isinstance(each.example, str):
        return msgspec.json.decode(each.example)
    return each.filler if each.example is None else each.example


def _size(value: Any) -> tuple[int, ...]:
    """The lengths of nested lists, along the first of each."""
    sizes = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    return tuple(sizes)


def _other_size(first: tuple[int, ...], given: tuple[int, ...]) -> Problem:
    if len(first) == len(given) == 1:
        return wrong_width(first[0], given[0])
    sizes = [" × ".join(map(str, each)) for each in (first, given)]
    return Problem("wrong_width", f"{sizes[1]} values, where the first row has {sizes[0]}; one request, one size")


def _empty(fields: Sequence[Field]) -> Rows:
    return Rows({each.name: np.empty((0, *(max(n, 0) for n in each.shape)), each.dtype) for each in fields}, 0)


def _plain_value(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a signature cannot hold a {type(value).__name__}")


def _tuples(values: Any) -> Any:
    return tuple(_tuples(value) for value in values) if isinstance(values, list | tuple) else values


def require(problems: Sequence[Problem]) -> None:
    """Raise the first problem, if there is one."""
    if problems:
        raise InputError.of(problems)
