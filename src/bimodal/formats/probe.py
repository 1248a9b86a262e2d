"""Asking an estimator, with made-up rows, what it takes: nulls, infinity, unknown categories. Its behaviour decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.field import EXACT, FLOATS, Field
from bimodal.formats.routes import Feature
from bimodal.rows import Array, Column, Rows
from bimodal.runtimes.estimator import Feed

log = logging.getLogger("bimodal.model")
MOST = 60  # calls of the model
LONGEST = 10.0  # seconds in calls, of the processor's time: others on the machine change no signature
PATIENCE = 60.0  # the same by the clock, for a model that waits
LARGEST = float(np.finfo(np.float64).max)
# Sums of numbers beyond the first overflow, which is no answer; trees compute in float32, and take nothing beyond it.
LIMITS = (1e100, float(np.finfo(np.float32).max))
STRANGE = "\x00unknown"  # a text that no encoder has seen


def example_rows(fields: Sequence[Field], count: int = 1) -> Rows:
    """The fields' examples, `count` times the same row."""
    return Rows({each.name: _column(each, [each.example] * count) for each in fields}, count)


def _column(each: Field, values: list[Any]) -> Column:
    if each.type in ("string", "any") and not each.shape:
        column: Array = np.empty(len(values), object)
        column[:] = values
        return column
    return np.array(values, each.dtype)


class Probe:
    """Asks one method of an estimator; counts its calls and their time.

    What is not asked any more is taken: a model refuses for itself what it does not take, while rows that are refused
    in its name never reach it.
    """

    def __init__(self, model: Any, method: str, feed: Feed, *, bare: bool, scores: Sequence[str] = ()) -> None:
        self._model = model
        self._method = method
        self._scores = tuple(scores)  # the methods of its other outputs
        self._feed = feed
        self._bare = bare  # the answers may be NaN where the input was: a transformer's
        self._calls = 0
        self._worked = self._waited = 0.0  # seconds in calls, of the processor and by the clock
        self._told = False

    def takes(self, rows: Rows) -> bool:
        """Whether the model answers these rows, and with numbers."""
        return self._answers(self._method, rows)

    def _answers(self, method: str, rows: Rows) -> bool:
        if self._spent():
            return True
        self._calls += 1
        start, worked = time.perf_counter(), time.thread_time()  # others may be answered beside it in this process
        try:
            with np.errstate(all="ignore"):  # what made-up extremes do to its sums is no news to the user
                answer = getattr(self._model, method)(self._feed(rows))
        except Exception:  # what a model raises on rows it does not take is its own choice
            return False
        finally:
            if self._calls > 1:  # the first may load libraries
                self._worked += time.thread_time() - worked
                self._waited += time.perf_counter() - start
        return self._bare or _is_number(answer)

    def _spent(self) -> bool:
        """Whether it was asked as much as it may be; the log is told once."""
        spent = self._calls >= MOST or self._worked > LONGEST or self._waited > PATIENCE
        if spent and not self._told:
            self._told = True
            log.warning(
                "the model was asked %d made-up rows in %.1f s, and is asked no more; whether its other columns take "
                "nulls, infinity and unknown categories is left to it at each call",
                self._calls,
                self._waited,
            )
        return spent

    def settle(self, fields: Sequence[Field], features: Sequence[Feature]) -> tuple[Field, ...]:
        """The fields with what the model was seen to take. features: what is known of each, in the same order."""
        groups: dict[object, list[int]] = {}
        for place, feature in enumerate(features):
            groups.setdefault(feature.group, []).append(place)
        settled = list(fields)
        for places in groups.values():
            alike = not features[places[0]].opaque
            if alike:  # code of unknown effect gets integers as integers
                settled = self._widened(settled, {settled[place].name for place in places})
            group = self._group(settled, [settled[place] for place in places], alike=alike)
            for place, each in zip(places, group, strict=True):
                settled[place] = replace(each, closed=each.closed or features[place].closed)
        return tuple(settled)

    def _widened(self, fields: list[Field], group: set[str]) -> list[Field]:
        """Integer columns in which the model takes a null become float64 where no digit is lost: it can hold one."""
        integers = [each for each in fields if each.name in group and each.type == "int64" and _exact(each)]
        if not integers:
            return fields
        wide = [replace(each, type="float64") if each in integers else each for each in fields]
        taken = self._with(wide, [each for each in wide if each.name in {one.name for one in integers}], None)
        return wide if taken else fields

    def _group(self, fields: Sequence[Field], group: list[Field], *, alike: bool) -> list[Field]:
        """Columns of one step: asked together; one by one where nothing says that they are alike."""
        numbers = [each for each in group if each.type in (*FLOATS, "any")]
        nullable = self._which(fields, group, None, alike=alike)
        boundless = self._which(fields, numbers, np.inf, alike=alike)
        finite = [each for each in numbers if each.name not in boundless]
        most = self._most(fields, finite)
        known = [each for each in group if each.categories is not None]
        closed = bool(known) and not self._with(fields, known, STRANGE)
        return [
            replace(
                each,
                nullable=each.name in nullable,
                finite=each.name not in boundless,
                most=most if each in finite else None,
                closed=closed and each.categories is not None,
            )
            for each in group
        ]

    def _most(self, fields: Sequence[Field], group: Sequence[Field]) -> float | None:
        """The largest magnitude that the columns take together, of those in LIMITS; None where they take any."""
        if not group or self._up_to(fields, group, LARGEST):
            return None
        return next((limit for limit in LIMITS if self._up_to(fields, group, limit)), None)

    def _up_to(self, fields: Sequence[Field], group: Sequence[Field], limit: float) -> bool:
        """Whether the model takes numbers so large, all of one sign, and of both: sums that overflow may cancel out.
        Its scores must be numbers too, where a label alone would hide that they are not.
        """
        both = [self._changed(fields, group, limit, swing=swing) for swing in (False, True)]
        return all(
            rows is not None and all(self._answers(method, rows) for method in (self._method, *self._scores))
            for rows in both
        )

    def _which(self, fields: Sequence[Field], group: Sequence[Field], value: Any, *, alike: bool) -> set[str]:
        """The columns of the group that take the value."""
        able = [each for each in group if _changed(each, value) is not None]
        if not able or self._with(fields, able, value):
            return {each.name for each in able}
        if len(able) > 1 and not alike:
            return {each.name for each in able if self._with(fields, [each], value)}
        return set()

    def _with(self, fields: Sequence[Field], group: Sequence[Field], value: Any) -> bool:
        """Whether the model takes the example row with this value in the group's columns."""
        rows = self._changed(fields, group, value)
        return rows is not None and self.takes(rows)

    def _changed(
        self, fields: Sequence[Field], group: Sequence[Field], value: Any, *, swing: bool = False
    ) -> Rows | None:
        """The example row with this value in the group's columns; swing: negative in every second place. None where a
        column cannot hold it.
        """
        rows = dict(example_rows(fields))
        for place, each in enumerate(group):
            changed = _changed(each, value)
            if changed is None:
                return None
            rows[each.name] = _swung(each, changed, place) if swing else changed
        return Rows(rows)


def _changed(each: Field, value: Any) -> Column | None:
    """A column of one row with the value in it, None where it cannot hold such a value."""
    if each.shape:
        row = np.array([each.example], each.dtype)
        row[:] = _held(each, value)
        return row
    if each.type in FLOATS:
        return np.array([_held(each, value)], each.dtype)
    if each.type in ("string", "any"):
        return _column(each, [value])
    if value is None:
        if each.type == "timestamp":
            return np.array(["NaT"], each.dtype)
        return np.array([None], object) if each.nullable or _known_truth(each) else None
    if value is STRANGE and each.dtype.kind == "i":
        return np.array([np.iinfo(each.dtype).max // 3], each.dtype)
    return None


def _held(each: Field, value: Any) -> Any:
    """The value as a column of numbers can hold it."""
    if value is None:
        return np.nan
    if value is STRANGE:
        return -1.25e9
    largest = float(np.finfo(each.dtype).max) if each.dtype.kind == "f" else value
    return min(value, largest) if np.isfinite(value) else value


def _swung(each: Field, column: Column, place: int) -> Column:
    """Every second number negative: within a vector, or from column to column."""
    if not isinstance(column, np.ndarray) or each.type not in FLOATS:
        return column
    signs = np.where(np.arange(column.size).reshape(column.shape) % 2, -1.0, 1.0)
    return (column * signs if each.shape else column * (-1.0) ** place).astype(column.dtype)


def _known_truth(each: Field) -> bool:
    """An encoder's column of true and false: objects, where one of them is missing."""
    return each.type == "bool" and each.categories is not None


def _exact(each: Field) -> bool:
    """Whether a float64 holds every value that the column is known to have."""
    return not each.shape and all(abs(value) < EXACT for value in each.categories or ())


def _is_number(answer: Any) -> bool:
    values = np.asarray(answer[0] if isinstance(answer, list) else answer)
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def works(model: Any, method: str, data: Any) -> ModelFailed | None:
    """None where the method answers; else the error in the model's own words, since the rows are made up."""
    try:
        getattr(model, method)(data)
    except Exception as error:  # a model may raise anything
        first = (str(error).strip().splitlines() or [""])[0]
        return ModelFailed(f"{type(error).__name__}: {first}"[:300])
    return None
