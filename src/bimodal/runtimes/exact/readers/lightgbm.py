"""LightGBM's trees, read from its model text.

Layout and meaning: https://github.com/microsoft/LightGBM, Tree::ToString and Tree::Decision. A row goes left where its
float64 value is at most the threshold; numbers of a magnitude up to ZERO count as 0; the leaves are added to 0 in
float64, round after round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.rows import Array
from bimodal.runtimes.estimator import type_of
from bimodal.runtimes.exact import built
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.program import Program
from bimodal.runtimes.exact.readers.booster import prepared
from bimodal.runtimes.exact.readers.modeltext import Block, ModelText
from bimodal.runtimes.exact.trees import Tree, Trees
from bimodal.signature import Signature

ZERO = float(np.float32(1e-35))  # kZeroThreshold
WRAPPERS = ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")
# By objective: the link where only the prediction is given.
PLAIN = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
LINKS = {
    **dict.fromkeys(PLAIN, "boosted"),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "boosted exponential"),
    "cross_entropy": "boosted logistic",
    "cross_entropy_lambda": "boosted softplus",
    "": "boosted",
}
LABELLED = {"binary": "boosted pair", "multiclass": "boosted softmax", "multiclassova": "boosted one by one"}


def core(estimator: Any, width: int) -> tuple[Trees, Finish, bool] | None:
    """LightGBM's estimators for scikit-learn; None for all others. Raises NotCompiled."""
    kind = type(estimator)
    if kind.__module__ != "lightgbm.sklearn" or kind.__name__ not in WRAPPERS:
        return None
    altered = [name for name in estimator.get_params() if name.startswith(("pred", "start_iteration", "num_iteration"))]
    if altered or callable(estimator.objective):
        raise NotCompiled(f"{kind.__name__} with {(altered or ['an objective of its own'])[0]}")
    booster = estimator.booster_
    if booster.num_feature() != width:
        raise NotCompiled(f"{kind.__name__} takes {booster.num_feature()} columns, not {width}")
    model = Written.of(booster)
    if kind.__name__ != "LGBMClassifier":
        return model.trees(width), model.finish({"prediction": "float64"}), True
    if model.kind not in LABELLED:
        raise NotCompiled(f"a classifier that learnt {model.kind}")
    labels = np.asarray(estimator.classes_)
    fields = {"prediction": type_of(labels), "probability": "float64"}
    return model.trees(width), model.finish(fields, tuple(labels.tolist())), True


def program(booster: Any, signature: Signature) -> Program:
    """A bare Booster. Raises NotCompiled."""
    model = Written.of(booster)
    fields = {each.name: each.type for each in signature.outputs}
    trees = model.trees(booster.num_feature())
    return Program(prepared(signature), trees, model.finish(fields, signature.classes))


@dataclass(frozen=True)
class Written:
    """A booster as it writes itself. options: what stands behind the objective's name."""

    text: ModelText
    kind: str
    options: Mapping[str, str]

    @classmethod
    def of(cls, booster: Any) -> Written:
        built.require()
        text = ModelText.of(booster)
        kind, *options = text.objective.split() or [""]
        if kind not in LINKS and kind not in LABELLED:
            raise NotCompiled(f"LightGBM's objective {kind} is not known here")
        if any(each.get("is_linear", "0") != "0" for each in text.trees):
            raise NotCompiled("LightGBM's linear trees have no compiled form")
        pairs = (each.partition(":") for each in options)
        return cls(text, kind, {name: value for name, _, value in pairs})

    def trees(self, width: int) -> Trees:
        """width: how many columns it takes."""
        classes = self.text.classes
        trees = [_tree(each, place % classes) for place, each in enumerate(self.text.trees)]
        return Trees.build(trees, np.zeros(classes), width=width)

    def finish(self, fields: Mapping[str, str], classes: tuple[Any, ...] | None = None) -> Finish:
        link = LABELLED[self.kind] if "probability" in fields else LINKS[self.kind]
        if "sqrt" in self.options:
            link = "boosted square"
        numbers = {"slope": float(self.options.get("sigmoid", 1.0))}
        if self.text.averaged:
            numbers["rounds"] = float(len(self.text.trees) // self.text.classes)
        return Finish(link, dict(fields), classes, numbers)


def _tree(told: Block, first: int) -> Tree:
    """Its inner nodes in LightGBM's order, then its leaves (which it counts -1, -2, …)."""
    leaves = int(told["num_leaves"])
    inner = leaves - 1
    nodes = inner + leaves
    kinds = _padded(told, "decision_type", np.int8, inner, nodes)
    default = kinds & 2 != 0
    missing = (kinds >> 2) & 3
    threshold = _padded(told, "threshold", np.float64, inner, nodes)
    value = np.zeros((nodes, 1))
    value[inner:, 0] = _numbers(told, "leaf_value", np.float64)
    chosen = kinds & 1 != 0
    feature = _padded(told, "split_feature", np.int32, inner, nodes)
    feature[inner:] = -1
    return Tree(
        feature=feature,
        threshold=_around_zero(threshold),
        left=_children(told, "left_child", inner, nodes),
        right=_children(told, "right_child", inner, nodes),
        # without a rule of its own a missing number is 0; a missing category goes right
        nan_left=np.where(missing == 0, threshold >= 0, default) & ~chosen,
        value=value,
        first=first,
        categories=_categories(told, chosen, threshold),
        zero_missing=(missing == 1) & ~chosen,
    )


def _around_zero(threshold: Array) -> Array:
    """Thresholds by which numbers up to ZERO go where 0 goes."""
    near = np.abs(threshold) <= ZERO
    return np.where(near, np.where(threshold >= 0, ZERO, np.nextafter(-ZERO, -np.inf)), threshold)


def _numbers(told: Block, name: str, kind: Any) -> Array:
    return np.array(told.get(name, "").split(), kind)


def _padded(told: Block, name: str, kind: Any, inner: int, nodes: int) -> Array:
    """Numbers of the inner nodes, and 0 for the leaves."""
    out = np.zeros(nodes, kind)
    if inner:
        out[:inner] = _numbers(told, name, kind)
    return out


def _children(told: Block, name: str, inner: int, nodes: int) -> Array:
    children = _padded(told, name, np.int32, inner, nodes)
    children[inner:] = -1
    return np.where((children < 0) & (np.arange(nodes) < inner), inner - 1 - children, children)


def _categories(told: Block, chosen: Array, threshold: Array) -> dict[int, frozenset[int]]:
    """By node of a split by category: those that go left, from sets of bits."""
    if not chosen.any():
        return {}
    bounds = _numbers(told, "cat_boundaries", np.int64)
    words = _numbers(told, "cat_threshold", np.uint32)
    found = {}
    for node in np.flatnonzero(chosen).tolist():
        place = int(threshold[node])
        bits = np.unpackbits(words[bounds[place] : bounds[place + 1]].view(np.uint8), bitorder="little")
        found[node] = frozenset(np.flatnonzero(bits).tolist())
    return found
