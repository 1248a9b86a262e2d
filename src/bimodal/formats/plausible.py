"""Plausible values for a model's columns, from what the model learned of them: means, centres, thresholds.

Never a row of the training data itself: the values are shown in examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Attributes that hold one value a column, or rows of such values whose mean is taken.
LEARNED = ("mean_", "center_", "data_min_", "xbar_", "location_", "offset_")
TABLES = ("cluster_centers_", "theta_", "means_", "centroids_", "quantiles_", "support_vectors_", "_fit_X")


def plausible(step: Any, width: int) -> list[Any] | None:
    """One value for each of the `width` columns that reach a fitted step; None where it learned none."""
    statistics = getattr(step, "statistics_", None)
    if statistics is not None and len(statistics) == width:
        return [_plain(value) for value in statistics]
    for name in LEARNED:
        values = _numbers(getattr(step, name, None))
        if values is not None and values.shape == (width,):
            return [_plain(value) for value in values]
    for name in TABLES:
        values = _numbers(getattr(step, name, None))
        if values is not None and values.ndim == 2 and values.shape[1] == width and len(values):
            return [_plain(value) for value in values.mean(axis=0)]
    knots = _numbers(getattr(step, "X_thresholds_", None))
    if knots is not None and width == 1:
        return [_plain(np.median(knots))]
    return _thresholds(step, width)


def _numbers(values: Any) -> NDArray[np.float64] | None:
    return (
        values if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and np.isfinite(values).all() else None
    )


def _thresholds(step: Any, width: int) -> list[Any] | None:
    """The middle threshold of each column, over a tree or the first trees of a forest."""
    bins = getattr(getattr(step, "_bin_mapper", None), "bin_thresholds_", None)
    if bins is not None and len(bins) == width:
        return [_plain(each[len(each) // 2]) if len(each) else 0.0 for each in bins]
    trees = [step] if hasattr(step, "tree_") else list(np.ravel(getattr(step, "estimators_", [])))[:10]
    trees = [tree.tree_ for tree in trees if hasattr(tree, "tree_")]
    if not trees or trees[0].n_features != width:
        return None
    features = np.concatenate([tree.feature for tree in trees])
    thresholds = np.concatenate([tree.threshold for tree in trees])
    return [
        _plain(np.median(thresholds[features == place])) if (features == place).any() else 0.0 for place in range(width)
    ]


def _plain(value: Any) -> Any:
    """A short number, or the value as it is."""
    if isinstance(value, str | bool | np.bool_):
        return value if isinstance(value, str) else bool(value)
    if isinstance(value, int | float | np.number):
        return float(f"{float(value):.4g}") if np.isfinite(value) else None
    return None
