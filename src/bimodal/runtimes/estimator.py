"""A native estimator: Rows in the shape it was trained on, its own methods, its answers as Rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bimodal.errors import ModelFailed, refused_by_model
from bimodal.field import INTEGERS, Field
from bimodal.rows import Array, Column, Dictionary, Rows
from bimodal.runtimes.contract import Runtime

log = logging.getLogger("bimodal.model")
Feed = Callable[[Rows], Any]
FEW = 256  # up to so many texts are encoded without the help of pandas


def vector(name: str) -> Feed:
    """Rows of one vector column, as the 2-D array that they are."""

    def feed(rows: Rows) -> Any:
        values = rows.array(name)
        return values if values.flags.writeable else values.copy()  # some compiled code refuses read-only memory

    return feed


def stacked(names: Sequence[str]) -> Feed:
    """Named numbers as one 2-D float64 array."""

    def feed(rows: Rows) -> Any:
        block = np.empty((rows.count, len(names)))
        for place, name in enumerate(names):
            block[:, place] = rows.array(name)
        return block

    return feed


def mixed(names: Sequence[str], nulls: Mapping[str, object]) -> Feed:
    """Named columns of several types as one 2-D object array."""

    def feed(rows: Rows) -> Any:
        block = np.empty((rows.count, len(names)), object)
        for place, name in enumerate(names):
            block[:, place] = marked(rows[name], nulls[name])
        return block

    return feed


def texts(name: str) -> Feed:
    """One text column as a list of str."""
    return lambda rows: rows.array(name).tolist()


def column(name: str) -> Feed:
    """One column as a 1-D array: of labels."""
    return lambda rows: rows.array(name)


def sets(name: str) -> Feed:
    """Rows of one vector column as lists of what is in them; a null stands for nothing."""
    return lambda rows: [[each for each in row if each is not None and each == each] for row in rows.array(name)]


def records(names: Sequence[str]) -> Feed:
    """Named columns as a list of dicts."""

    def feed(rows: Rows) -> Any:
        lists = [marked(rows[name], math.nan).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]

    return feed


def pairs(names: Sequence[str]) -> Feed:
    """Named columns as a list of lists of (name, value)."""
    told = records(names)
    return lambda rows: [list(each.items()) for each in told(rows)]


def words(names: Sequence[str]) -> Feed:
    """The texts of named columns as a list of lists, without those that are null."""
    told = records(names)
    return lambda rows: [[text for text in each.values() if text == text] for each in told(rows)]


def marked(column: Column, null: object) -> Array:
    """The column with its missing values written as the model knows them: NaN or None."""
    if isinstance(column, Dictionary):
        values = np.empty(len(column.values) + 1, object)
        values[:-1] = column.values
        values[-1] = null
        return values[column.codes]
    if column.dtype != object or null is None:
        return column
    missing = np.fromiter((value is None for value in column), bool, len(column))
    return np.where(missing, np.array(null, object), column) if missing.any() else column


class Frame:
    """Rows as a pandas frame, with the columns of the training in their order.

    opaque: columns that reach code which may look at the frame's types; they get the type that pandas itself gives.
    categories: columns of pandas' type `category`, with their categories in the order of the training; what is none of
    them becomes a missing value, as pandas has it.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        nulls: Mapping[str, object],
        opaque: frozenset[str] = frozenset(),
        categories: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        import pandas

        self._pandas = pandas
        self._text = pandas.Series(["text"]).dtype  # `str` from pandas 3 on, `object` before
        self._index = pandas.Index([each.name for each in fields])
        self._fields = tuple(fields)
        self._nulls = dict(nulls)
        self._opaque = opaque
        self._time = pandas.to_datetime(["2024-01-01T00:00:00"]).dtype  # by the nanosecond before pandas 3
        held = {each.name: each.categories or () for each in fields if each.frame == "category"}
        known = {**(categories or {}), **held}
        self._known = {name: pandas.CategoricalDtype(list(values)) for name, values in known.items()}
        self._plain = not self._known and all(each.type == "float64" for each in fields)

    def __call__(self, rows: Rows) -> Any:
        if not self._plain:
            columns = {each.name: self._column(each, rows[each.name]) for each in self._fields}
            return self._pandas.DataFrame(columns, copy=False)
        block = np.empty((len(self._fields), rows.count))
        for place, each in enumerate(self._fields):
            block[place] = rows.array(each.name)
        return self._pandas.DataFrame(block.T, columns=self._index, copy=False)

    def _column(self, each: Field, column: Column) -> Any:
        if each.name in self._known:
            made = self._categorical(self._known[each.name], column)
            if each.frame is not None and (made.codes < 0).sum() > _missing(column):
                raise ValueError("a category that the training did not have would become a missing value")
            return made
        if each.name in self._opaque:
            return self._as_read(each, column, self._nulls[each.name])
        if isinstance(column, Dictionary) or column.dtype == object:
            return self._pandas.Series(marked(column, self._nulls[each.name]), dtype=object, copy=False)
        return column

    def _categorical(self, known: Any, column: Column) -> Any:
        if not isinstance(column, Dictionary):
            return self._pandas.Categorical.from_codes(known.categories.get_indexer(column), dtype=known)
        places = np.full(len(column.values) + 1, -1, np.int32)  # the last one is that of a null
        places[:-1] = known.categories.get_indexer(column.values)
        return self._pandas.Categorical.from_codes(places[column.codes], dtype=known)

    def _as_read(self, each: Field, column: Column, null: object) -> Any:
        """With the type that the training's frame had, as the sample shows it, or that pandas reads from a file."""
        if each.type == "timestamp":
            return self._times(each, column)
        held = each.frame or ("Int64" if each.nullable and each.type in INTEGERS else None)
        if held is not None:
            return self._pandas.array(marked(column, None).tolist(), dtype=held)
        if each.nullable and each.type == "bool":  # the same beside a null as without
            return self._pandas.Series(marked(column, null), dtype=object)
        if not isinstance(column, Dictionary) and column.dtype != object:
            return column
        values = marked(column, null).tolist()
        if each.type == "string":
            return self._pandas.Series(values, dtype=self._text)
        if all(value is None or value != value for value in values):  # NaN is not itself
            return np.full(len(values), math.nan)
        return self._pandas.Series(values)

    def _times(self, each: Field, column: Column) -> Any:
        series = self._pandas.Series(column)
        held: Any = each.frame or self._time
        return (series.dt.tz_localize("UTC") if "," in str(held) else series).astype(held)


def _missing(column: Column) -> int:
    """How many values are missing."""
    if isinstance(column, Dictionary):
        return int((column.codes < 0).sum())
    if column.dtype == object:
        return sum(value is None for value in column)
    return int(np.isnan(column).sum()) if column.dtype.kind in "fM" else 0


@dataclass(frozen=True)
class Answer:
    """Where an output comes from: the estimator's method, and the place in its list of arrays, or the column.

    several: the method gives equally many rows for each one, which are that row's answer.
    """

    method: str
    place: int | None = None
    column: int | None = None
    several: bool = False


class Estimator(Runtime):
    """An estimator with predict, predict_proba, decision_function, score_samples or transform."""

    name = "native"

    def __init__(
        self,
        model: Any,
        feed: Feed,
        answers: Mapping[str, Answer],
        fields: Sequence[Field],
        *,
        unsure: bool = False,
    ) -> None:
        """unsure: the types of its columns are not known, so they may be what it fails for."""
        self.model = model
        self.feed = feed
        self._unsure = unsure
        self._answers = dict(answers)
        self._fields = {each.name: each for each in fields}
        plain = type(model).__name__ == "Pipeline" and type(model).__module__.startswith("sklearn.") and len(model) > 1
        self._front: Any = model[:-1] if plain else None
        self._last: Any = model[-1] if plain else model

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        model, data = self.model, self.feed(rows)
        methods = dict.fromkeys(self._answers[name].method for name in outputs)
        if len(methods) > 1 and self._front is not None:  # the rows are prepared once for all of them
            model, data = self._last, self._ask(self._front, "transform", data)
        results = {method: rowed(self._ask(model, method, data), rows.count) for method in methods}
        return Rows({name: self._column(name, results, rows.count) for name in outputs}, rows.count)

    def _ask(self, model: Any, method: str, data: Any) -> Any:
        """Call the method; what it raises goes to the log in full and to the caller without a word of the data."""
        try:
            return getattr(model, method)(data)
        except Exception as error:
            if self._unsure:  # whose remedy is in the error itself
                raise unsettled(error) from error
            log.exception("%s raised", method)
            raise refused(error) from error

    def _column(self, name: str, results: Mapping[str, Any], count: int) -> Column:
        answer = self._answers[name]
        values = part(results[answer.method], answer)
        if answer.several and len(values) % count == 0:
            values = values.reshape(count, -1, *values.shape[1:])
        if len(values) != count:
            raise ModelFailed(f"the model gave {len(values)} answers for {count} rows")
        return answered(values, self._fields[name])


def rowed(result: Any, count: int) -> Any:
    """The answer to a single row with its axis of rows, which SparsePCA leaves out."""
    lost = count == 1 and isinstance(result, np.ndarray) and result.ndim == 1 and len(result) != 1
    return result[np.newaxis] if lost else result


def refused(error: BaseException) -> ModelFailed:
    """The model's own error may quote the rows: only its type is told."""
    return refused_by_model(
        error, f"the model raised {type(error).__name__} on these rows; the log has its traceback (standard error)"
    )


def unsettled(error: BaseException) -> ModelFailed:
    """The same where a column may have come as another type than the model was trained with."""
    return refused_by_model(
        error,
        f"the model raised {type(error).__name__} on these rows; the types of its columns are not known from the model "
        "(what a CSV file holds is then text): --sample FILE, rows of the right types, settles them",
    )


def part(result: Any, answer: Answer) -> Array:
    """One output out of a method's result."""
    if answer.place is not None:
        result = result[answer.place]
    if hasattr(result, "toarray"):
        result = result.toarray()
    if answer.column is not None and hasattr(result, "iloc"):
        return np.asarray(result.iloc[:, answer.column])
    values = np.asarray(result)
    return values if answer.column is None else (values[:, answer.column] if values.ndim > 1 else values)


def answered(values: Array, each: Field) -> Column:
    """A model's answers as the column that its signature promises, or ModelFailed: nothing is bent to fit."""
    if values.ndim == 2 and not each.shape and values.shape[1] == 1:
        values = values[:, 0]
    fits = values.ndim == len(each.shape) + 1
    if not fits or any(size not in (-1, given) for size, given in zip(each.shape, values.shape[1:], strict=True)):
        raise ModelFailed(
            f"the model gave {each.name} of shape {values.shape[1:]} a row where {each.shape} was promised"
        )
    if each.type == "string":
        return encoded(values, each.name) if values.ndim == 1 else np.asarray(values, object)
    if each.type == "any" or np.can_cast(values.dtype, each.dtype, "same_kind"):
        return values.astype(each.dtype, copy=False)
    return _exactly(values, each)


def _exactly(values: Array, each: Field) -> Array:
    """Another type is taken where it holds the same values: floats without a fraction for integers."""
    try:
        with np.errstate(invalid="ignore"):  # of NaN as an integer
            cast = values.astype(each.dtype)
        same = bool((cast == values).all()) or (each.dtype.kind == "f" and values.dtype == np.dtype(object))
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise ModelFailed(f"the model gave {each.name} as {_told(values)} where {each.type} was promised")
    return cast


def _told(values: Array) -> str:
    """What answers of a wrong type are, without the answers."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{type_of(values)} with NaN or infinity"
    if values.dtype.kind == "f":
        return f"{type_of(values)} with a fraction or out of range"
    if values.dtype == object and type_of(values) == "any" and values.size:
        return f"an object of type {type(values.ravel()[0]).__name__}"
    return type_of(values)


def encoded(values: Array, name: str) -> Dictionary:
    """Text answers as a Dictionary."""
    if len(values) <= FEW:
        found = Dictionary.encode(values.tolist())
    else:
        import pandas

        codes, known = pandas.factorize(values.astype(object))
        kept = np.empty(len(known), object)
        kept[:] = list(known)
        found = Dictionary(codes.astype(np.int32), kept)
    if not all(isinstance(value, str) for value in found.values):
        raise ModelFailed(f"the model gave {name} of several types where text was promised")
    return found


def type_of(values: NDArray[Any]) -> str:
    """The type, in the words of a Field, of an array of answers."""
    kinds = {"f": "float64", "i": "int64", "u": "uint64", "b": "bool", "U": "string", "S": "string", "M": "timestamp"}
    if values.dtype.kind in "fiu" and values.dtype.name in (
        "float32",
        "float64",
        "int32",
        "int64",
        "int16",
        "int8",
        "uint8",
    ):
        return values.dtype.name
    if values.dtype == object:
        types = {type(value) for value in values.ravel()[:100]}
        return "string" if types and all(issubclass(each, str) for each in types) else "any"
    return kinds.get(values.dtype.kind, "any")
