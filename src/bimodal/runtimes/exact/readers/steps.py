"""Steps: what each transformer of scikit-learn makes of a Matrix."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.runtimes.exact.prepare import Op
from bimodal.runtimes.exact.readers import encoders
from bimodal.runtimes.exact.readers.matrix import Looked, Matrix, Raw, Recipe, changed

Step = Callable[[Any, Matrix], Matrix]


def follow(step: Any, matrix: Matrix) -> Matrix:
    """What the fitted step makes of it. Raises NotCompiled where it is not known, or not exactly."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return matrix
    name, home = type(step).__name__, type(step).__module__
    known = STEPS.get(name)
    if known is None or not home.startswith("sklearn."):
        raise NotCompiled(f"{name} has no compiled form")
    if hasattr(step, "n_features_in_") and step.n_features_in_ != len(matrix):
        raise NotCompiled(f"{name} was fitted on {step.n_features_in_} columns and gets {len(matrix)}")
    return known(step, matrix)


def _pipeline(step: Any, matrix: Matrix) -> Matrix:
    for _, each in step.steps:
        matrix = follow(each, matrix)
    return matrix


def _column_transformer(step: Any, matrix: Matrix) -> Matrix:
    columns: list[Recipe] = []
    for name, each, _ in step.transformers_:
        piece = step.output_indices_[name]
        if piece.start == piece.stop or (isinstance(each, str) and each == "drop"):
            continue
        made = follow(each, matrix.take(step._transformer_to_input_indices[name]))
        made = _weighted(made, (step.transformer_weights or {}).get(name))
        if piece != slice(len(columns), len(columns) + len(made)):
            raise NotCompiled(f"ColumnTransformer's {name!r} gives another number of columns than it says")
        columns += made.columns
    return Matrix(tuple(columns), bool(step.sparse_output_))


def _union(step: Any, matrix: Matrix) -> Matrix:
    parts = [
        _weighted(follow(each, matrix), (step.transformer_weights or {}).get(name))
        for name, each in step.transformer_list
        if not (isinstance(each, str) and each == "drop")
    ]
    return Matrix(tuple(column for part in parts for column in part.columns), any(part.sparse for part in parts))


def _weighted(matrix: Matrix, weight: float | None) -> Matrix:
    return matrix if weight is None else _all(matrix, [("multiply", np.full(len(matrix), float(weight)))])


def _all(matrix: Matrix, ops: Sequence[tuple[Any, ...]]) -> Matrix:
    """The same operations on all columns, with numbers of their own: ("subtract", [a number for each column]), …"""
    return matrix.each(
        *(
            tuple((name, *(float(each[place]) for each in numbers)) for name, *numbers in ops)
            for place in range(len(matrix))
        )
    )


# -- imputers ----------------------------------------------------------------------------------------------------------


def _imputer(step: Any, matrix: Matrix) -> Matrix:
    fills = step.statistics_.tolist()
    columns = tuple(
        _filled(column, fill, step.missing_values)
        for column, fill in zip(matrix.columns, fills, strict=True)
        if step.keep_empty_features or not _is_nan(fill)
    )
    made = replace(matrix, columns=columns)
    if not step.add_indicator:
        return made
    return replace(made, columns=(*columns, *_indicators(step.indicator_, matrix)))


def _filled(column: Recipe, fill: Any, missing: Any) -> Recipe:
    if not _same_null(column, missing):
        return column
    if not isinstance(column, Raw):
        return changed(column, [("fill", float(fill))])
    return column if column.filled else Raw(column.origin, filled=True, fill=fill)


def _same_null(column: Recipe, missing: Any) -> bool:
    """Whether a missing value as the model is given it is one as the step knows it: it looks over None for NaN."""
    null = column.origin.null if isinstance(column, Raw) else math.nan
    if not (_is_nan(missing) or (missing is None and null is None)):
        raise NotCompiled(f"an imputer of missing_values={missing!r}")
    return null is None if missing is None else null is not None


def _indicator(step: Any, matrix: Matrix) -> Matrix:
    if step.features != "all" and step.error_on_new:
        raise NotCompiled("MissingIndicator that refuses rows with error_on_new=True")
    if matrix.sparse or step.sparse is True:
        raise NotCompiled("MissingIndicator on sparse columns")
    return Matrix(_indicators(step, matrix))


def _indicators(step: Any, matrix: Matrix) -> tuple[Recipe, ...]:
    return tuple(_is_missing(matrix.columns[place], step.missing_values) for place in step.features_)


def _is_missing(column: Recipe, missing: Any) -> Recipe:
    known = _same_null(column, missing)
    if isinstance(column, Raw) and (not known or not column.origin.number):
        return Looked(column.origin, (), np.array([0.0, 1.0 if known and not column.filled else 0.0]))
    return changed(column, [("missing",)])


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


# -- scalers -----------------------------------------------------------------------------------------------------------


def _standard(step: Any, matrix: Matrix) -> Matrix:
    ops: list[tuple[Any, ...]] = []
    if step.with_mean:
        ops.append(("subtract", step.mean_))
    if step.with_std:
        ops.append(_scaled(step.scale_, matrix))
    return _all(matrix, ops)


def _scaled(scale: Any, matrix: Matrix) -> tuple[Any, ...]:
    """Sparse columns are multiplied by the reciprocal, dense ones divided: other bits."""
    return ("multiply", 1.0 / scale) if matrix.sparse else ("divide", scale)


def _min_max(step: Any, matrix: Matrix) -> Matrix:
    ops: list[tuple[Any, ...]] = [("multiply", step.scale_), ("add", step.min_)]
    if step.clip:
        ops.append(_clip(step.feature_range[0], step.feature_range[1], len(matrix)))
    return _all(matrix, ops)


def _max_abs(step: Any, matrix: Matrix) -> Matrix:
    ops = [_scaled(step.scale_, matrix)]
    if getattr(step, "clip", False):
        ops.append(_clip(-1.0, 1.0, len(matrix)))
    return _all(matrix, ops)


def _clip(low: float, high: float, width: int) -> tuple[Any, ...]:
    return "clip", np.full(width, float(low)), np.full(width, float(high))


def _robust(step: Any, matrix: Matrix) -> Matrix:
    ops: list[tuple[Any, ...]] = []
    if step.with_centering:
        ops.append(("subtract", step.center_))
    if step.with_scaling:
        ops.append(_scaled(step.scale_, matrix))
    return _all(matrix, ops)


def _binarizer(step: Any, matrix: Matrix) -> Matrix:
    op: Op = ("above", float(step.threshold))
    return matrix.each(*[[op]] * len(matrix))


# -- others ------------------------------------------------------------------------------------------------------------


def _selected(step: Any, matrix: Matrix) -> Matrix:
    return matrix.take(np.flatnonzero(step.get_support()).tolist())


def _function(step: Any, matrix: Matrix) -> Matrix:
    if step.func is None or _is_check(step.func):
        return matrix
    raise NotCompiled(f"FunctionTransformer of {getattr(step.func, '__name__', 'a function')!r}")


def _is_check(function: Any) -> bool:
    """scikit-learn's own check of numbers, which histogram boosting puts before its numerical columns."""
    inner: Any = function.func if isinstance(function, functools.partial) else None
    return getattr(inner, "__module__", "") == "sklearn.utils.validation" and inner.__name__ == "check_array"


def _frozen(step: Any, matrix: Matrix) -> Matrix:
    return follow(step.estimator, matrix)


STEPS: dict[str, Step] = {
    "Binarizer": _binarizer,
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _union,
    "FrozenEstimator": _frozen,
    "FunctionTransformer": _function,
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "MissingIndicator": _indicator,
    "OneHotEncoder": encoders.one_hot,
    "OrdinalEncoder": encoders.valued,
    "Pipeline": _pipeline,
    "RobustScaler": _robust,
    "SimpleImputer": _imputer,
    "StandardScaler": _standard,
    "TargetEncoder": encoders.valued,
    **dict.fromkeys(
        (
            "GenericUnivariateSelect",
            "RFE",
            "RFECV",
            "SelectFdr",
            "SelectFpr",
            "SelectFromModel",
            "SelectFwe",
            "SelectKBest",
            "SelectPercentile",
            "SequentialFeatureSelector",
            "VarianceThreshold",
        ),
        _selected,
    ),
}
