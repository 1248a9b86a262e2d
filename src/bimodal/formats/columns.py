"""Columns: what a booster says of the columns it was trained on, as a signature's inputs and as the way to feed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bimodal.errors import ModelError
from bimodal.field import Field, listed
from bimodal.formats.library import library
from bimodal.formats.routes import kind_of
from bimodal.runtimes import estimator as native
from bimodal.runtimes.estimator import Feed


@dataclass(frozen=True)
class Columns:
    """names: of a model trained on named columns; None where it was trained on an array. categories: by place, in the
    order of the training. closed: other categories are refused. most: the largest magnitude of a number, None where
    every number is taken, infinity too.
    """

    names: tuple[str, ...] | None
    width: int
    categories: Mapping[int, Sequence[Any]] = field(default_factory=dict)
    closed: bool = False
    most: float | None = None

    def named(self, features: Sequence[str] | None) -> Columns:
        """With the names of `--features`, where it knows none. Raises ModelError where their number is another."""
        if self.names is not None or not features:
            return self
        if len(features) != self.width:
            raise ModelError(f"--features names {len(features)} columns; the model has {self.width} features")
        return replace(self, names=tuple(features))

    def fields(self) -> tuple[Field, ...]:
        """The inputs: one a column, or one vector."""
        if self.names is None:
            bounds: dict[str, Any] = {"finite": self.most is not None, "most": self.most}
            return (Field("input", "float64", (self.width,), nullable=True, example=[0.0] * self.width, **bounds),)
        return tuple(self._field(place, name) for place, name in enumerate(self.names))

    def _field(self, place: int, name: str) -> Field:
        known = self.categories.get(place)
        if known is None:
            return Field(name, "float64", nullable=True, finite=self.most is not None, most=self.most, example=0.0)
        kind = kind_of(known)
        if kind == "any":
            raise ModelError(f"the categories of the column {name!r} are of several types: {listed(list(known))}")
        example = known[0] if len(known) else None
        return Field(name, kind, nullable=kind != "bool", categories=tuple(known), closed=self.closed, example=example)

    def feed(self) -> Feed:
        """Rows as the 2-D array, or the pandas frame, that the library takes."""
        if self.names is None:
            return native.vector("input")
        if not self.categories:
            return native.stacked(self.names)
        library("pandas")
        fields = self.fields()
        known = {self.names[place]: values for place, values in self.categories.items()}
        return native.Frame(fields, {each.name: None for each in fields}, categories=known)
