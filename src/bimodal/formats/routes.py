"""What each column of an estimator meets inside it: an encoder, a vectorizer, a scaler, code of unknown effect.

From that comes the column's type, the categories it knows, how a missing value is written and a plausible value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bimodal.formats import boosters, estimators
from bimodal.formats.plausible import plausible

Columns = list[
    int | None
]  # for each column that reaches a step, the model's column that it is; None where it is derived


@dataclass(frozen=True)
class Claim:
    """What one step says of one column. step: which step said it (columns of one step are probed together). coded: it
    takes pandas' type `category`, with its own categories in their order. closed: it must not be given others."""

    type: str
    step: int
    categories: tuple[Any, ...] | None = None
    null: object = math.nan  # how the step knows a missing value
    knows_null: bool = False
    example: Any = None
    coded: bool = False
    closed: bool = False


@dataclass
class Feature:
    """All that was said of one column of the model."""

    claims: list[Claim] = field(default_factory=list)

    @property
    def used(self) -> bool:
        return bool(self.claims)

    @property
    def type(self) -> str:
        said = {claim.type for claim in self.claims}
        return next((each for each in ("string", "any", "bool", "timestamp", "int64") if each in said), "float64")

    @property
    def opaque(self) -> bool:
        """Code that cannot be looked into receives it."""
        return any(claim.type == "any" for claim in self.claims)

    @property
    def categories(self) -> tuple[Any, ...] | None:
        return next((claim.categories for claim in self.claims if claim.categories is not None), None)

    @property
    def coded(self) -> tuple[Any, ...] | None:
        """The categories of a column that pandas must hold as such."""
        return next((claim.categories for claim in self.claims if claim.coded), None)

    @property
    def closed(self) -> bool:
        return any(claim.closed for claim in self.claims)

    @property
    def null(self) -> object:
        """NaN, or None where an encoder knows that."""
        return None if any(claim.null is None for claim in self.claims) else math.nan

    @property
    def group(self) -> tuple[int, bool, str]:
        """Columns of one group treat missing and unknown values alike."""
        first = self.claims[0] if self.claims else Claim("float64", 0)
        return first.step, any(claim.knows_null for claim in self.claims), self.type

    @property
    def example(self) -> Any:
        known = next((claim.example for claim in self.claims if claim.example is not None), None)
        if known is not None:
            return known
        return {"string": "text", "bool": False, "int64": 0}.get(self.type, 0.0)


class Routes:
    """Follows the columns of a fitted estimator through its steps."""

    def __init__(self, width: int) -> None:
        self.features = [Feature() for _ in range(width)]

    @classmethod
    def through(cls, estimator: Any, width: int) -> list[Feature]:
        routes = cls(width)
        handed = routes.follow(estimator, list(range(width)))
        for column in handed or ():
            if column is not None and not routes.features[column].used:  # it comes out as it went in
                routes.features[column].claims.append(Claim("any", id(estimator)))
        return routes.features

    def follow(self, step: Any, columns: Columns) -> Columns | None:
        """Claim the columns for the step; returns the columns it hands on, None where that is not known."""
        name = estimators.kind(step)
        if name in ("passthrough", "Pipeline", "ColumnTransformer", "FeatureUnion"):
            return {
                "passthrough": self._passthrough,
                "Pipeline": self._pipeline,
                "ColumnTransformer": self._column_transformer,
                "FeatureUnion": self._union,
            }[name](step, columns)
        inner = estimators.inner(step)
        if inner:
            handed = None
            for each in inner:
                handed = self.follow(each, columns)
            if estimators.attribute(step, "predict") is None:
                return handed
            self._say(handed or [], "float64", step)  # it works on what the one inside hands on
            return None
        if name == "numbers":
            self._numbers(step, columns)
            return _handed_on(step, columns)
        if name == "encoder":
            self._encoder(step, columns)
        else:
            self._say(columns, "string" if name == "vectorizer" else "any", step)
        return None

    def _say(self, columns: Columns, kind: str, step: Any) -> None:
        for column in columns:
            if column is not None:
                self.features[column].claims.append(Claim(kind, id(step)))

    def _passthrough(self, step: Any, columns: Columns) -> Columns:
        return columns

    def _pipeline(self, pipeline: Any, columns: Columns) -> Columns | None:
        now: Columns | None = columns
        for _, step in pipeline.steps:
            if now is None:
                return None
            if step is not None and (hasattr(step, "fit_resample") and not hasattr(step, "transform")):
                continue  # imbalanced-learn's samplers act in training alone
            now = self.follow(step, now)
        return now

    def _column_transformer(self, transformer: Any, columns: Columns) -> Columns | None:
        out: Columns = [None] * max((piece.stop or 0 for piece in transformer.output_indices_.values()), default=0)
        for name, step, _ in transformer.transformers_:
            if isinstance(step, str) and step == "drop":
                continue
            places = transformer._transformer_to_input_indices[name]
            handed = self.follow(step, [columns[place] for place in places])
            piece = transformer.output_indices_.get(name, slice(0, 0))
            if handed is not None and len(handed) == piece.stop - piece.start:
                out[piece] = handed
        return out

    def _union(self, union: Any, columns: Columns) -> Columns | None:
        out: Columns | None = []
        for _, step in union.transformer_list:
            if isinstance(step, str) and step == "drop":
                continue
            handed = self.follow(step, columns)
            out = None if out is None or handed is None else out + handed
        return out

    def _encoder(self, encoder: Any, columns: Columns) -> None:
        for column, values in zip(columns, encoder.categories_, strict=False):
            if column is not None:
                self.features[column].claims.append(_encoded(encoder, values))

    def _numbers(self, step: Any, columns: Columns) -> None:
        chosen = boosters.categories(step)
        for place, values in chosen.items():
            column = columns[place]
            if column is not None:
                self.features[column].claims.append(_chosen(step, values))
        if chosen:
            columns = [None if place in chosen else column for place, column in enumerate(columns)]
        examples = plausible(step, len(columns))
        null = None if estimators.marks_null_as_none(step) else math.nan
        kind = "carried" if estimators.carries_text(step) else "float64"
        gaps = estimators.gaps(step)
        for place, column in enumerate(columns):
            if column is not None:
                example = examples[place] if examples is not None else None
                if kind == "carried":
                    claim = _carried(step, example, null)
                else:
                    claim = Claim(kind, id(step), null=null, example=example, knows_null=place in gaps)
                self.features[column].claims.append(claim)


def _encoded(encoder: Any, values: Any) -> Claim:
    """An encoder's word on a column, from the categories it knows."""
    if values.dtype.kind == "M":
        return Claim("timestamp", id(encoder), example=str(values[0]) if len(values) else None)
    known = [value for value in values.tolist() if not _is_missing(value)]
    has_none = any(value is None for value in values.tolist())
    types = {type(value) for value in known}
    kind = (
        {str: "string", bool: "bool", int: "int64", float: "float64"}.get(types.pop(), "any")
        if len(types) == 1
        else "any"
    )
    null: object = None if has_none else math.nan
    return Claim(kind, id(encoder), tuple(known), null, len(known) < len(values), known[0] if known else None)


def _chosen(step: Any, values: Sequence[Any] | str) -> Claim:
    """A booster's word on a column of categories: those of the training, or a type."""
    if isinstance(values, str):
        return Claim(values, id(step), null=None)
    kind = kind_of(values)
    closed = boosters.home(step) in boosters.CLOSED
    first = values[0] if len(values) else None
    return Claim(kind, id(step), tuple(values), None, example=first, coded=True, closed=closed)


def kind_of(categories: Sequence[Any]) -> str:
    """The type of a column of these categories: numbers are float64, which can hold a missing one too."""
    types = {type(value) for value in categories}
    if types <= {str}:
        return "string"
    if types == {bool}:
        return "bool"
    return "float64" if types <= {int, float} else "any"


def _carried(step: Any, example: Any, null: object) -> Claim:
    """An imputer that takes text as well as numbers: the value it fills in tells which."""
    text = isinstance(example, str)
    return Claim("string" if text else "float64", id(step), null=null, example=example, knows_null=True)


def _handed_on(step: Any, columns: Columns) -> Columns | None:
    """Which of its columns a step of scikit-learn hands on in place."""
    if hasattr(step, "get_support"):
        kept: Sequence[bool] = step.get_support().tolist()
        return (
            [column for column, keep in zip(columns, kept, strict=True) if keep] if len(kept) == len(columns) else None
        )
    if hasattr(step, "statistics_"):
        empty = getattr(step, "keep_empty_features", False)
        out: Columns = [
            column
            for column, value in zip(columns, step.statistics_, strict=False)
            if empty or isinstance(value, str) or not _is_nan(value)
        ]
        indicator = getattr(step, "indicator_", None)
        return out + [None] * (0 if indicator is None else len(indicator.features_))
    return columns if estimators.one_to_one(step) else None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or _is_nan(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and math.isnan(value)
