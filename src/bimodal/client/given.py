"""Given: the data of a call as both wires take it, so that they take the same and refuse the same."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bimodal.errors import InputError, UsageError
from bimodal.field import Field
from bimodal.formats.library import library
from bimodal.lazy import collected
from bimodal.longdouble import narrowed, short
from bimodal.rows import Array

PLAIN = frozenset((int, float, str, bool, type(None)))
NUMBERS = "biufSU"  # kinds of arrays that stay arrays
UNSET = ("NAType", "NaTType")  # pandas' words for no value


@dataclass(frozen=True)
class Given:
    """kind: table, array, columns (name to values), record (one), records (dicts), rows (whatever else a list holds).
    A longdouble becomes a float where that is the same number, and stays where it is not.

    value: the table or the array as they came, another library's frame as an Arrow table; of the others the values in
    plain Python, times as ISO text. frame: that other library's frame, in whose kind a table is answered.
    """

    kind: str
    value: Any
    frame: Any = None

    @classmethod
    def of(cls, data: Any) -> Given:
        """Raises UsageError where it is no data, InputError where it is an array of no rows."""
        data = collected(data)
        if is_table(data):
            return cls("table", data)
        if is_stream(data):
            return cls("table", library("bimodal.table").as_table(data), data)
        if isinstance(data, Mapping):
            many = all(_many(value) for value in data.values())
            return cls("columns" if many else "record", spoken(data))
        if isinstance(data, list | tuple):
            named = bool(data) and all(isinstance(record, Mapping) for record in data)
            return cls("records" if named else "rows", spoken(data))
        if hasattr(data, "tolist") and hasattr(data, "ndim") and not hasattr(data, "iloc"):
            if not data.ndim:
                raise InputError("an array of rows is needed, [rows, features], not a single value")
            return cls("array", narrowed(data) if _numeric(data) else spoken(data))
        took = f"a {type(data).__name__}{_hint(data)}"
        raise UsageError(f"predict takes a frame, an Arrow table, records, columns or an array, not {took}")

    def back(self, told: Any) -> Any:
        """The answer in the kind of the data."""
        return told if self.frame is None else library("bimodal.given").like(told, self.frame)

    @property
    def columnar(self) -> bool:
        """Whether the answer is columns: what was given is not rows side by side."""
        if self.kind in ("rows", "records"):
            return not self.value or not isinstance(self.value[0], list | tuple | Mapping)
        return True


def spoken(value: Any) -> Any:
    """A value as JSON has it, times as ISO text; of other kinds as it is."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, list | tuple):
        return value if PLAIN.issuperset(map(type, value)) else [spoken(each) for each in value]
    if isinstance(value, Mapping):
        if PLAIN.issuperset(map(type, value.values())):
            return value
        return {name: spoken(each) for name, each in value.items()}
    if type(value).__name__ in UNSET:
        return None
    if type(value).__name__ == "Decimal":
        return float(value)
    if isinstance(value, datetime.date):  # of which datetime and pandas' Timestamp are kinds
        return value.isoformat()
    if hasattr(value, "tolist"):
        times = getattr(getattr(value, "dtype", None), "kind", "") == "M"
        if times and type(value).__module__ == "numpy":  # whose nanoseconds would be plain numbers
            value = micros(value)
        told = value.tolist()
        return short(value) if type(told) is type(value) else spoken(told)
    return value


def micros(times: Array) -> Array:
    """Times of NumPy by the microsecond. InputError where one is beyond the calendar, and would wrap around."""
    field = Field("", "timestamp")
    if field.untimely(times).any():
        raise InputError.of([replace(field.timeless(), column=None)])
    return times.astype("datetime64[us]")


def row_of(row: Any) -> Any:
    """One row: a dict, a list of values, or the only value. Raises UsageError."""
    if is_table(row) or hasattr(row, "iloc"):
        raise UsageError(f"one row is needed, a dict or a list of values, not a {type(row).__name__}{_hint(row)}")
    return spoken(row)


def is_table(data: Any) -> bool:
    """Whether it is a pandas frame or of Arrow."""
    if type(data).__module__.startswith("pyarrow"):
        return hasattr(data, "schema")
    return hasattr(data, "iloc") and hasattr(data, "columns")


def is_stream(data: Any) -> bool:
    """Whether it is a frame that gives itself as Arrow: of polars, of DuckDB."""
    return hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns")


def names_of(outputs: Sequence[str] | None, what: str = "outputs needs a list of names") -> list[str] | None:
    """The names, each once. Raises UsageError, also for a text, whose letters are no names."""
    if outputs is None:
        return None
    if isinstance(outputs, str) or not all(isinstance(each, str) for each in outputs):
        raise UsageError(f'{what}, as in ["prediction"]')
    return list(dict.fromkeys(outputs))


def options_of(outputs: Sequence[str] | None, threshold: float | None, keep: bool | Sequence[str]) -> dict[str, Any]:
    """What else a prediction is asked with. Raises UsageError."""
    kept = keep if isinstance(keep, bool) else names_of(keep, "keep needs True or a list of columns")
    return {"outputs": names_of(outputs), "threshold": threshold, "keep": kept or None}


def _many(value: Any) -> bool:
    """Whether it is the values of a column."""
    return isinstance(value, list | tuple) or (hasattr(value, "tolist") and getattr(value, "ndim", 1) != 0)


def _numeric(array: Any) -> bool:
    return type(array).__module__ == "numpy" and array.dtype.kind in NUMBERS


def _hint(data: Any) -> str:
    return "; one row of a frame is frame.iloc[[0]], or .to_dict() of it" if hasattr(data, "iloc") else ""
