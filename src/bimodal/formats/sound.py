"""Trees of scikit-learn are sound: every node they point at and every feature they look at exists.

scikit-learn walks them without a look at their bounds: a crafted file reads memory that is not its own, or never
ends. An unpickled model could do worse anyhow; a skops file, which runs no code, must not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bimodal.errors import ModelError
from bimodal.formats import estimators
from bimodal.rows import Array


def require_sound_trees(model: Any, path: str) -> None:
    """Raise ModelError where a tree within the model leads out of itself."""
    for each in estimators.parts(model):
        held = getattr(each, "__dict__", {})
        tree = held.get("tree_")
        if tree is not None and not _sound(tree.children_left, tree.children_right, tree.feature, tree.n_features):
            raise _damaged(path)
        width = held.get("_n_features")
        for row in held.get("_predictors") or ():
            if not all(_sound_predictor(predictor, width) for predictor in row):
                raise _damaged(path)


def _sound_predictor(predictor: Any, width: int | None) -> bool:
    """A tree of histogram boosting: a leaf's own children count for nothing."""
    nodes = predictor.nodes
    inner = nodes["is_leaf"] == 0
    left, right = (np.where(inner, nodes[side].astype(np.int64), -1) for side in ("left", "right"))
    if width is None or not _sound(left, right, nodes["feature_idx"], width):
        return False
    places = nodes["bitset_idx"][inner & (nodes["is_categorical"] != 0)]
    return bool((places < min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))).all())


def _sound(left: Array, right: Array, features: Array, width: int) -> bool:
    """Children stand after their parent, so that a walk ends; both are there or neither."""
    inner = left != -1
    place = np.arange(len(left))
    ends = (inner == (right != -1)).all() and len(left) > 0
    inside = all(bool(((side > place) & (side < len(left)))[inner].all()) for side in (left, right))
    return bool(ends and inside and ((features >= 0) & (features < width))[inner].all())


def _damaged(path: str) -> ModelError:
    return ModelError(f"{path} holds a tree that leads out of itself: it is damaged, or made to do harm")
