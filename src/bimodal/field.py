"""Field: one named input or output of a model, and the verdict on a value of it.

`Field.judge` looks at Python values (JSON, records); `table.py` looks at Arrow columns by the same rules. Both make
their Problems with the functions of this file, so that the same bad row reads the same in every door.
"""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from bimodal.conversation import conversation
from bimodal.errors import InputError, Problem
from bimodal.longdouble import ROUNDED, is_long, short
from bimodal.rows import Array

_FEW = 4096  # numbers whose squares are summed sooner than they are compared
EXACT = 2**53  # beyond it a float64 no longer holds every integer
FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
TYPES = (*FLOATS, *INTEGERS, "bool", "string", "timestamp", "any")
NEEDS = {"string": "text", "timestamp": "a timestamp", "bool": "true or false"}
HOLDS = {"object": "an object", "list": "a list", "messages": "a list of messages"}  # what JSON of a column is
YEARS = (np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us"))  # of ISO 8601
FINE = ("ns", "ps", "fs", "as")  # units that hold no time beyond YEARS
NEAR = 0.72  # how alike two names are (difflib's ratio) to be taken for a slip


@dataclass(frozen=True)
class Field:
    """One named input or output of a model.

    type: one of TYPES. shape: of ONE row, () for a scalar, (n,) for a vector, -1 where any length is taken.
    nullable: a missing value is taken. finite: infinity is refused. categories: the values the model knows; closed:
    it takes no others. most: the largest magnitude of a number that it takes, None where it takes every finite one.
    nested (of text): the text holds JSON; objects and lists are taken too, and kept as such text. holds: which JSON
    that is, one of HOLDS, None where any is taken. optional: the column may be left out altogether, which is as if it
    were null.
    frame: the type of pandas in which the training held it (`Int64`, `category`, `datetime64[ns, UTC]`), where code of
    unknown effect gets it; None where that is what pandas reads from a file.
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
    frame: str | None = None
    nested: bool = False
    holds: str | None = None
    optional: bool = False

    @property
    def needs(self) -> str:
        """What a value must be, in words."""
        if self.shape:
            many = "" if self.shape[0] < 0 else f"{self.shape[0]} "
            thing = "text" if self.type == "string" else "number"
            return f"a list of {many}{thing}{'s' if self.shape[0] != 1 else ''}"
        if self.type in INTEGERS:
            return "an integer"
        if self.nested:
            return HOLDS.get(self.holds or "", "JSON")
        return NEEDS.get(self.type, "a number")

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of the column: of objects where its own type could hold no null."""
        if self.type in ("string", "any") or (self.nullable and not self.shape and self.type in (*INTEGERS, "bool")):
            return np.dtype(object)
        return np.dtype("datetime64[us]") if self.type == "timestamp" else np.dtype(self.type)

    @cached_property
    def known(self) -> frozenset[Any]:
        return frozenset(self.categories or ())

    def null(self, seen: str = "null") -> Problem:
        """`seen`: NaN, where that stands there."""
        return Problem(
            "null", f"{seen} where {self.needs} is needed; the model takes no missing value here", column=self.name
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
            "inexact_integer",
            f"an integer beyond 2**53, where {self.type} does not hold every one; as a float, with .0, it is rounded",
            column=self.name,
        )

    def outside(self) -> Problem:
        return Problem("out_of_range", f"an integer that does not fit {self.type}", column=self.name)

    @cached_property
    def bound(self) -> float:
        """The largest magnitude of a number; infinity where every finite one is taken."""
        held = float(np.finfo(self.type).max) if self.type in FLOATS and self.type != "float64" else math.inf
        return held if self.most is None else min(held, self.most)

    @cached_property
    def ordinary(self) -> float:
        """Numbers of a smaller magnitude need no further look. The field's own type can hold it, so that a column of it
        can be compared with it.
        """
        return min(self.bound, EXACT)

    @cached_property
    def times(self) -> tuple[np.datetime64, np.datetime64]:
        """The first and the last time that is taken, in UTC: of ISO 8601, or what the training's frame holds."""
        if "[ns" not in (self.frame or ""):
            return YEARS
        most = int(np.iinfo(np.int64).max) // 1000
        return np.datetime64(-most, "us"), np.datetime64(most, "us")

    def untimely(self, times: Array | np.datetime64) -> Array:
        """Which times are not taken. They are compared in their own unit: in a finer one they may wrap around."""
        first, last = self.times
        if np.datetime_data(times.dtype)[0] in FINE:
            times = times.astype("datetime64[us]")
        low, high = first.astype(times.dtype), last.astype(times.dtype)  # rounded down
        return np.asarray((times < low + int(low < first)) | (times > high))

    def timeless(self) -> Problem:
        taken = "the years 1 to 9999 are"
        if self.times != YEARS:
            taken = "those from {} to {} are".format(*(each.astype("datetime64[D]") for each in self.times))
        return Problem("out_of_range", f"a time out of range; {taken} taken", column=self.name)

    def beyond(self) -> Problem:
        return Problem(
            "out_of_range", f"a number beyond {self.bound}, the largest that the model takes", column=self.name
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
        if type(value) is np.longdouble:
            value = short(value)
            if is_long(value):
                return None, replace(ROUNDED, column=self.name)
        good, problem = _JUDGES.get(self.type, _number)(self, value)
        if problem is None and self.closed and not is_null(good) and good not in self.known:
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
    if isinstance(value, complex | np.complexfloating):
        return "a complex number"
    if isinstance(value, int | float | np.number):
        return "a number"
    if isinstance(value, datetime.date | np.datetime64):
        return "a date"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple | np.ndarray):
        return "a list"
    return "null" if value is None else "a value of another type"


def is_null(value: object) -> bool:
    """Whether it stands for no value."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return bool(isinstance(value, np.datetime64) and np.isnat(value)) or type(value).__name__ in ("NAType", "NaTType")


def _number(field: Field, value: object) -> tuple[Any, Problem | None]:
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return (math.nan, None) if field.nullable else (None, field.null("NaN"))
        if math.isinf(value):
            return (None, field.infinite()) if field.finite else (float(value), None)
        return (None, field.beyond()) if abs(float(value)) > field.bound else (float(value), None)
    if isinstance(value, int | np.integer | np.bool_):
        size = abs(int(value))
        if size > EXACT:
            return None, field.inexact()
        return (None, field.beyond()) if size > field.bound else (float(value), None)
    if is_null(value):
        return (math.nan, None) if field.nullable else (None, field.null())
    if type(value).__name__ == "Decimal":
        return _number(field, float(value))  # type: ignore[arg-type]  # decimal is not imported for this alone
    return None, field.wrong(kind(value))


def _integer(field: Field, value: object) -> tuple[Any, Problem | None]:
    if is_null(value):
        seen = "NaN" if isinstance(value, float | np.floating) else "null"
        return (None, None) if field.nullable and not field.shape else (None, field.null(seen))
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
    if field.nested:
        return _nested(field, value)
    if isinstance(value, str):
        return (None, field.unknown()) if field.closed and value not in field.known else (str(value), None)
    if is_null(value):
        return (None, None) if field.nullable else (None, field.null())
    return None, field.wrong(kind(value))


def _nested(field: Field, value: object) -> tuple[Any, Problem | None]:
    """JSON, as text or as what it stands for; it is kept as text, messages in the one form that models get."""
    told = value
    if isinstance(value, str):
        try:
            told = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return None, field.wrong("text that is no JSON")
    if is_null(told):
        return (None, None) if field.nullable else (None, field.null())
    if field.holds == "messages":
        try:
            told = value = conversation(told, field.name)
        except InputError as error:
            return None, Problem("wrong_type", error.message, column=error.column)
    needed = {"object": dict, "list": list}.get(field.holds or "", object if isinstance(value, str) else dict | list)
    if not isinstance(told, needed):
        return None, field.wrong(kind(told))
    try:
        return (str(value) if isinstance(value, str) else msgspec.json.encode(value).decode()), None
    except TypeError:  # values within it that JSON has not
        return None, field.wrong(f"{kind(told)} of values that are no JSON")


def _boolean(field: Field, value: object) -> tuple[Any, Problem | None]:
    if isinstance(value, bool | np.bool_):
        return bool(value), None
    if isinstance(value, int | float | np.number) and value in (0, 1):
        return bool(value), None
    if field.nullable and is_null(value):
        return None, None
    return None, field.null() if is_null(value) else field.wrong(kind(value))


def _timestamp(field: Field, value: object) -> tuple[Any, Problem | None]:
    if is_null(value):
        return (np.datetime64("NaT", "us"), None) if field.nullable else (None, field.null())
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None, field.wrong("text that is no ISO 8601 time")
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        try:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        except (OverflowError, ValueError):  # the latter of pandas' Timestamp
            return None, field.timeless()
    if isinstance(value, datetime.date | np.datetime64):
        time = np.datetime64(value)
        return (None, field.timeless()) if field.untimely(time) else (time.astype("datetime64[us]"), None)
    return None, field.wrong(kind(value))


def _anything(field: Field, value: object) -> tuple[Any, Problem | None]:
    if is_null(value):
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
        return None, field.null() if is_null(value) else field.wrong(kind(value))
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
    uneven = next((each for each in judged if inner and len(each) != len(judged[0])), None)
    if uneven is not None:
        return None, wrong_width(len(judged[0]), len(uneven), field.name)
    return judged, None


def wrong_width(needed: int, given: int, column: str | None = None) -> Problem:
    """The row has another number of features than the model."""
    many = "1 feature is needed" if needed == 1 else f"{needed} features are needed"
    return Problem("wrong_width", f"{many}, {given} {'was' if given == 1 else 'were'} given", column=column)


def scalar_type(each: Field) -> Any:
    """The type annotation under which msgspec decodes the field."""
    plain: Any = {"string": str, "bool": bool, "timestamp": str, "any": bool | float | str}.get(each.type, float)
    if each.type in INTEGERS:
        plain = int
    for _ in each.shape:
        plain = list[plain]
    return plain | None if each.nullable else plain


def column_of(each: Field, values: Sequence[Any]) -> Array:
    """One column of judged (or decoded) values; ValueError, TypeError or OverflowError where they make none."""
    if each.dtype == object and not each.shape:
        column = np.empty(len(values), object)
        column[:] = values
        return column
    if each.type == "timestamp":
        if any(isinstance(value, str) for value in values):
            raise ValueError("a time that was not judged")  # NumPy reads other texts as times than `judge` does
        return np.array([np.datetime64("NaT", "us") if value is None else value for value in values], each.dtype)
    return np.array(values, each.dtype)


def plainly_good(each: Field, column: Array) -> bool:
    """Whether a decoded column needs no further look. False does not mean bad: `check` then decides."""
    if each.closed and each.type != "string":
        return False
    if each.type in FLOATS:
        # NaN and infinity fail the comparisons as a large number does
        if column.dtype == np.float64 and column.size <= _FEW and np.vdot(column, column) < each.ordinary**2:
            return True
        bounded = np.abs(column) < each.ordinary
        if bounded.all():
            return True
        return each.nullable and bool((bounded | np.isnan(column)).all())
    if each.type == "string":
        return not each.nested and (not each.closed or each.known.issuperset(column))
    return each.type == "bool" or (each.type in INTEGERS and column.dtype != object)  # objects may be of any size
