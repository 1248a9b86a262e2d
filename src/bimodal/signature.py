"""Field and Signature: what a model takes and gives, and the one verdict on every row.

`Field.judge` looks at Python values (JSON, records); `table.py` looks at Arrow columns by the same rules. Both make
their Problems with the functions of this file, so that the same bad row reads the same in every door.
"""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.errors import InputError, Problem, UsageError
from bimodal.rows import Array, Column, Rows

EXACT = 2**53  # beyond it a float64 no longer holds every integer
FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
TYPES = (*FLOATS, *INTEGERS, "bool", "string", "timestamp", "any")
NEEDS = {"string": "text", "timestamp": "a timestamp", "bool": "true or false"}
NEAR = 0.72  # how alike two names are (difflib's ratio) to be taken for a slip


@dataclass(frozen=True)
class Field:
    """One named input or output of a model.

    type: one of TYPES. shape: of ONE row, () for a scalar, (n,) for a vector, -1 where any length is taken.
    nullable: a missing value is taken. finite: infinity is refused. categories: the values the model knows; closed:
    it takes no others. most: the largest magnitude of a number that it takes, None where it takes every finite one.
    """

    name: str
    type: str
    shape: tuple[int, ...] = ()
    nullable: bool = False
    finite: bool = True
    categories: tuple[Any, ...] | None = None
    closed: bool = False
    most: float | None = None
    example: Any = None

    @property
    def needs(self) -> str:
        """What a value must be, in words."""
        if self.shape:
            many = "" if self.shape[0] < 0 else f"{self.shape[0]} "
            return f"a list of {many}number{'s' if self.shape[0] != 1 else ''}"
        if self.type in INTEGERS:
            return "an integer"
        return NEEDS.get(self.type, "a number")

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of the column."""
        if self.type in ("string", "any"):
            return np.dtype(object)
        return np.dtype("datetime64[us]") if self.type == "timestamp" else np.dtype(self.type)

    @cached_property
    def known(self) -> frozenset[Any]:
        return frozenset(self.categories or ())

    def null(self) -> Problem:
        return Problem(
            "null", f"null where {self.needs} is needed; the model takes no missing value here", column=self.name
        )

    def wrong(self, seen: str) -> Problem:
        """`seen`: what stands there, in words (`kind` says it of a Python value)."""
        return Problem("wrong_type", f"{seen} where {self.needs} is needed", column=self.name)

    def infinite(self) -> Problem:
        return Problem(
            "not_finite",
            f"infinity where {self.needs} is needed; the model takes finite numbers only",
            column=self.name,
        )

    def inexact(self) -> Problem:
        return Problem(
            "inexact_integer", f"an integer beyond 2**53 cannot be held exactly as {self.type}", column=self.name
        )

    def outside(self) -> Problem:
        return Problem("out_of_range", f"an integer that does not fit {self.type}", column=self.name)

    @cached_property
    def bound(self) -> float:
        """The largest magnitude of a number; infinity where every finite one is taken."""
        held = float(np.finfo(self.type).max) if self.type in FLOATS and self.type != "float64" else math.inf
        return held if self.most is None else min(held, self.most)

    def beyond(self) -> Problem:
        return Problem(
            "out_of_range", f"a number beyond {self.bound:.2g}, the largest that the model takes", column=self.name
        )

    def unknown(self) -> Problem:
        return Problem(
            "unknown_category",
            f"a value the model does not know; it knows {listed(self.categories or ())}",
            column=self.name,
        )

    def missing(self, names: Sequence[str] = ()) -> Problem:
        """The column is not there at all; `names` are the unused ones that are."""
        near = nearest(self.name, names)
        if near is None:
            return Problem("missing_column", "the column is missing", column=self.name)
        return Problem(
            "missing_column",
            f"the column is missing; {near!r} is near: rename it ({near}={self.name})",
            column=self.name,
        )

    def judge(self, value: object) -> tuple[Any, Problem | None]:
        """One Python value as the column holds it, or the Problem with it. Shapes other than () are judged
        elementwise.
        """
        if self.shape:
            return _vector(self, value)
        good, problem = _JUDGES.get(self.type, _number)(self, value)
        if problem is None and self.closed and not _is_null(good) and good not in self.known:
            return None, self.unknown()
        return good, problem

    @property
    def filler(self) -> object:
        """What stands in the place of a refused value, until its row is left out."""
        if self.shape:
            return np.zeros(tuple(max(n, 0) for n in self.shape))
        return {"string": "", "any": 0.0, "timestamp": np.datetime64(0, "us")}.get(self.type, 0)


def listed(values: Sequence[Any], most: int = 8) -> str:
    """The values as a short list in words."""
    shown = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name most like `name`, if any is near enough to be a slip."""
    plain = {_plain(other): other for other in names}
    near = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=NEAR)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def kind(value: object) -> str:
    """What a Python value is, in words."""
    if isinstance(value, bool | np.bool_):
        return "a boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float | np.number):
        return "a number"
    if isinstance(value, datetime.date | np.datetime64):
        return "a date"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple | np.ndarray):
        return "a list"
    return "null" if value is None else "a value of another type"


def _is_null(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return bool(isinstance(value, np.datetime64) and np.isnat(value)) or type(value).__name__ in ("NAType", "NaTType")


def _number(field: Field, value: object) -> tuple[Any, Problem | None]:
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return (math.nan, None) if field.nullable else (None, field.null())
        if math.isinf(value):
            return (None, field.infinite()) if field.finite else (float(value), None)
        return (None, field.beyond()) if abs(float(value)) > field.bound else (float(value), None)
    if isinstance(value, int | np.integer | np.bool_):
        return (None, field.inexact()) if abs(int(value)) > EXACT else (float(value), None)
    if _is_null(value):
        return (math.nan, None) if field.nullable else (None, field.null())
    if type(value).__name__ == "Decimal":
        return _number(field, float(value))  # type: ignore[arg-type]  # decimal is not imported for this alone
    return None, field.wrong(kind(value))


def _integer(field: Field, value: object) -> tuple[Any, Problem | None]:
    if _is_null(value):
        return None, field.null()
    if isinstance(value, float | np.floating):
        if math.isinf(value):
            return None, field.infinite()
        if not float(value).is_integer():
            return None, field.wrong("a number with a fraction")
        value = int(value)
    if not isinstance(value, int | np.integer | np.bool_):
        return None, field.wrong(kind(value))
    limits = np.iinfo(field.type)
    return (int(value), None) if limits.min <= int(value) <= limits.max else (None, field.outside())


def _text(field: Field, value: object) -> tuple[Any, Problem | None]:
    if isinstance(value, str):
        return (None, field.unknown()) if field.closed and value not in field.known else (str(value), None)
    if _is_null(value):
        return (None, None) if field.nullable else (None, field.null())
    return None, field.wrong(kind(value))


def _boolean(field: Field, value: object) -> tuple[Any, Problem | None]:
    if isinstance(value, bool | np.bool_):
        return bool(value), None
    if isinstance(value, int | float | np.number) and value in (0, 1):
        return bool(value), None
    return None, field.null() if _is_null(value) else field.wrong(kind(value))


def _timestamp(field: Field, value: object) -> tuple[Any, Problem | None]:
    if _is_null(value):
        return (np.datetime64("NaT", "us"), None) if field.nullable else (None, field.null())
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None, field.wrong("text that is no ISO 8601 time")
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(value, datetime.date | np.datetime64):
        return np.datetime64(value).astype("datetime64[us]"), None
    return None, field.wrong(kind(value))


def _anything(field: Field, value: object) -> tuple[Any, Problem | None]:
    if _is_null(value):
        return (None, None) if field.nullable else (None, field.null())
    if isinstance(value, bool | np.bool_ | str):
        return value, None
    if isinstance(value, int | float | np.number):
        return (None, field.infinite()) if field.finite and math.isinf(value) else (value, None)
    return None, field.wrong(kind(value))


_JUDGES: dict[str, Callable[[Field, object], tuple[Any, Problem | None]]] = {
    "string": _text,
    "bool": _boolean,
    "timestamp": _timestamp,
    "any": _anything,
    **dict.fromkeys(INTEGERS, _integer),
}


def _vector(field: Field, value: object) -> tuple[Any, Problem | None]:
    """A list (nested for more than one axis) of scalars of the field's type."""
    if not isinstance(value, list | tuple | np.ndarray):
        return None, field.null() if _is_null(value) else field.wrong(kind(value))
    width, inner = field.shape[0], field.shape[1:]
    if width not in (-1, len(value)):
        return None, wrong_width(width, len(value), field.name if inner else None)
    element = replace(field, shape=inner)
    judged = []
    for position, item in enumerate(value, 1):
        good, problem = element.judge(item)
        if problem is not None:
            column = f"{field.name}[{position}]" if "[" not in field.name else field.name
            return None, Problem(problem.code, problem.message, column=column)
        judged.append(good)
    return judged, None


def wrong_width(needed: int, given: int, column: str | None = None) -> Problem:
    """The row has another number of features than the model."""
    many = "1 feature is needed" if needed == 1 else f"{needed} features are needed"
    return Problem("wrong_width", f"{many}, {given} {'was' if given == 1 else 'were'} given", column=column)


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
        values = [each.filler if each.example is None else each.example for each in self.inputs]
        if self.named:
            return dict(zip([each.name for each in self.inputs], values, strict=True))
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
        missing = [each.missing(self.spare(list(lists))) for each in self.inputs if each.name not in lists]
        if missing and self.named:
            return self.empty(), np.zeros(0, bool), missing
        if missing:
            return self.check([list(row) for row in zip(*lists.values(), strict=True)])
        wanted = [lists[each.name] for each in self.inputs]
        return self.check(
            [dict(zip([each.name for each in self.inputs], row, strict=True)) for row in zip(*wanted, strict=True)]
        )

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
        return [each.missing(self.spare(list(names))) for each in self.inputs if each.name not in names]

    def _row(self, record: object) -> tuple[list[Any], Problem | None]:
        if isinstance(record, Mapping):
            for each in self.inputs:
                if each.name not in record:  # a null is written; what is not there may be a slip in its name
                    return [], each.missing(self.spare(list(record)))
            given = [record[each.name] for each in self.inputs]
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
        if self.vector is None or self.vector.shape[0] != -1 or not rows:
            return []
        width = len(rows[0][0])
        problems = []
        for place, row in zip(np.flatnonzero(good), list(rows), strict=True):
            if len(row[0]) != width:
                problems.append(wrong_width(width, len(row[0])).at(int(place) + 1))
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


def _empty(fields: Sequence[Field]) -> Rows:
    return Rows({each.name: np.empty((0, *(max(n, 0) for n in each.shape)), each.dtype) for each in fields}, 0)


def _plain_value(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a signature cannot hold a {type(value).__name__}")


def _tuples(values: Any) -> Any:
    return tuple(_tuples(value) for value in values) if isinstance(values, list | tuple) else values


def scalar_type(each: Field) -> Any:
    """The type annotation under which msgspec decodes the field."""
    plain: Any = {"string": str, "bool": bool, "timestamp": str, "any": bool | float | str}.get(each.type, float)
    if each.type in INTEGERS:
        plain = int
    for _ in each.shape:
        plain = list[plain]
    return plain | None if each.nullable else plain


def column_of(each: Field, values: Sequence[Any]) -> Array:
    """One column of judged (or decoded) values."""
    if each.dtype == object and not each.shape:
        column = np.empty(len(values), object)
        column[:] = values
        return column
    if each.type == "timestamp":
        return np.array([np.datetime64("NaT", "us") if value is None else value for value in values], each.dtype)
    return np.array(values, each.dtype)


def plainly_good(each: Field, column: Array) -> bool:
    """Whether a decoded column needs no further look. False does not mean bad: `check` then decides."""
    if each.closed and each.type != "string":
        return False
    if each.type in FLOATS:
        # one pass: NaN and infinity fail the comparison as a large number does
        bounded = np.abs(column) < EXACT
        if bounded.all():
            return True
        return each.nullable and bool((bounded | np.isnan(column)).all())
    if each.type == "string":
        return not each.closed or each.known.issuperset(column)
    return each.type == "bool" or each.type in INTEGERS


def require(problems: Sequence[Problem]) -> None:
    """Raise the first problem, if there is one."""
    if problems:
        raise InputError.of(problems)
