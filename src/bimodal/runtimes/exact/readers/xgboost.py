"""XGBoost's trees, read from the UBJSON that the library writes of itself.

Layout: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html (json schema). A row goes left where its
float32 value is below the split; the leaves' float32 values are added to the base score in float32, tree after tree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.field import Field
from bimodal.rows import Array
from bimodal.runtimes.exact import built
from bimodal.runtimes.exact.boosted import LOG, applied
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.program import Program
from bimodal.runtimes.exact.readers.booster import prepared
from bimodal.runtimes.exact.readers.ubjson import decoded
from bimodal.runtimes.exact.trees import Tree, Trees
from bimodal.signature import Signature

CLASSIFIERS = ("XGBClassifier", "XGBRFClassifier")
WRAPPERS = (*CLASSIFIERS, "XGBRegressor", "XGBRFRegressor", "XGBRanker")
RANKING = ("rank:ndcg", "rank:pairwise", "rank:map")
PLAIN = (
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:squaredlogerror",
    "binary:logitraw",
    *RANKING,
)
POSITIVE = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
PAIRED = ("binary:logistic", "reg:logistic")
SEVERAL = ("multi:softprob", "multi:softmax")


def core(estimator: Any, width: int) -> tuple[Trees, Finish, bool] | None:
    """XGBoost's estimators for scikit-learn; None for all others. Raises NotCompiled."""
    kind = type(estimator)
    if kind.__module__ != "xgboost.sklearn" or kind.__name__ not in WRAPPERS:
        return None
    if not _is_nan(estimator.missing):
        raise NotCompiled(f"{kind.__name__} takes {estimator.missing} for a missing value")
    booster = estimator.get_booster()
    if booster.num_features() != width:
        raise NotCompiled(f"{kind.__name__} takes {booster.num_features()} columns, not {width}")
    best = booster.attr("best_iteration")
    model = Written.of(booster, 0 if best is None else int(best) + 1, inplace=True)
    if kind.__name__ in CLASSIFIERS:
        return model.trees(), _classified(model, estimator), True
    if model.objective in SEVERAL:
        raise NotCompiled(f"{kind.__name__} learnt {model.objective}")
    outputs = (Field("prediction", "float32", model.shape),)
    return model.trees(), Finish(model.link(), {each.name: each.type for each in outputs}), True


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _classified(model: Written, estimator: Any) -> Finish:
    classes = tuple(np.asarray(estimator.classes_).tolist())
    fields = {"prediction": "int64", "probability": "float32"}
    if model.objective == "binary:logistic" and model.width > 1:  # several labels a row
        return Finish(model.link(labels=True), {**fields, "prediction": "float64"}, classes)
    if model.objective == "multi:softprob" or model.objective == "binary:logistic":
        return Finish(model.link(labels=True), fields, classes)
    raise NotCompiled(f"a classifier that learnt {model.objective} with {model.width} scores")


def program(booster: Any, signature: Signature, rounds: int) -> Program:
    """A bare Booster. rounds: how many of boosting answer, 0 for all. Raises NotCompiled."""
    model = Written.of(booster, rounds)
    fields = {each.name: each.type for each in signature.outputs}
    link = model.link(labels="probability" in fields)
    return Program(prepared(signature), model.trees(), Finish(link, fields, signature.classes))


@dataclass(frozen=True)
class Written:
    """A booster as it writes itself. features: how many columns it takes. model: its trees. weights: of each tree, for
    dart."""

    features: int
    objective: str
    base: Array
    model: Mapping[str, Any]
    rounds: int
    weights: Array | None
    inplace: bool

    @classmethod
    def of(cls, booster: Any, rounds: int, *, inplace: bool = False) -> Written:
        """inplace: as `inplace_predict` answers, which the estimators use."""
        built.require()
        learner = decoded(bytes(booster.save_raw("ubj")))["learner"]
        boosting = learner["gradient_booster"]
        if boosting["name"] not in ("gbtree", "dart"):
            raise NotCompiled(f"XGBoost's booster {boosting['name']} is not made of trees")
        dart = boosting["name"] == "dart"
        model = boosting["gbtree"]["model"] if dart else boosting["model"]
        weights = np.asarray(boosting["weight_drop"], np.float32) if dart else None
        objective = str(learner["objective"]["name"])
        told = learner["learner_model_param"]
        base = np.atleast_1d(np.array(json.loads(told["base_score"]), np.float32))
        width = max(int(told["num_class"]), int(told.get("num_target", 1)), 1)
        return cls(
            int(told["num_feature"]),
            objective,
            _raw(objective, np.resize(base, width)),
            model,
            rounds,
            weights,
            inplace,
        )

    @property
    def width(self) -> int:
        """How many raw scores a row has."""
        return len(self.base)

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self.width == 1 else (self.width,)

    def link(self, *, labels: bool = False) -> str:
        """labels: the outputs are a label and probabilities."""
        if labels and self.objective == "binary:logistic":
            return "boosted pair" if self.width == 1 else "boosted targets"
        if labels:
            return "boosted softmax"
        if self.objective in PAIRED:
            return "boosted logistic"
        if self.objective in POSITIVE:
            return "boosted exponential"
        return {"multi:softmax": "boosted largest", "binary:hinge": "boosted sign"}.get(self.objective, "boosted")

    def trees(self) -> Trees:
        written = self.model["trees"][: self._count()]
        groups = self.model["tree_info"]
        trees = [_tree(each, int(groups[place])) for place, each in enumerate(written)]
        if self.weights is not None:
            trees = [self._weighted(tree, weight) for tree, weight in zip(trees, self.weights, strict=False)]
        return Trees.build(trees, self.base, single=True, width=self.features)

    def _weighted(self, tree: Tree, weight: np.float32) -> Tree:
        """A tree of dart. In place, its leaves are added to the base score and that is taken away again."""
        value = tree.value.astype(np.float32)
        if self.inplace:
            base = self.base[tree.first : tree.first + value.shape[1]]
            value = (value + base) - base
        return replace(tree, value=(value * weight).astype(np.float64))

    def _count(self) -> int:
        """How many trees the rounds have."""
        if not self.rounds:
            return len(self.model["trees"])
        return int(self.model["iteration_indptr"][self.rounds])


def _raw(objective: str, base: Array) -> Array:
    """The base score as a raw one, in XGBoost's own float32. Raises NotCompiled where the objective is not known."""
    if objective in PAIRED:
        one = np.float32(1)
        return -applied(LOG, one / base - one)
    if objective in POSITIVE:
        return applied(LOG, base)
    if objective in (*PLAIN, *SEVERAL, "binary:hinge"):
        return base
    raise NotCompiled(f"XGBoost's objective {objective} is not known here")


def _tree(told: Mapping[str, Any], group: int) -> Tree:
    left, right = told["left_children"], told["right_children"]
    leaf = left == -1
    width = int(told["tree_param"]["size_leaf_vector"])
    nan_left = told["default_left"].astype(bool)
    categories = _categories(told)
    swapped = np.isin(np.arange(len(left)), list(categories))  # the categories that are listed go right
    return Tree(
        feature=np.where(leaf, -1, told["split_indices"]).astype(np.int32),
        threshold=np.nextafter(told["split_conditions"], np.float32(-np.inf)).astype(np.float64),
        left=np.where(swapped, right, left),
        right=np.where(leaf, -1, np.where(swapped, left, right)),
        nan_left=nan_left ^ swapped,
        value=_leaves(told, leaf, width).astype(np.float64),
        first=group if width <= 1 else 0,
        categories=categories,
    )


def _leaves(told: Mapping[str, Any], leaf: Array, width: int) -> Array:
    """The values of the leaves: float32 [nodes, width]."""
    if width <= 1:
        return np.where(leaf, told["split_conditions"], np.float32(0)).reshape(-1, 1)
    value = np.zeros((len(leaf), width), np.float32)
    value[leaf] = told["leaf_weights"].reshape(-1, width)[told["right_children"][leaf]]
    return value


def _categories(told: Mapping[str, Any]) -> dict[int, frozenset[int]]:
    """By node of a split by category: those that go right."""
    pieces = zip(told["categories_nodes"], told["categories_segments"], told["categories_sizes"], strict=True)
    return {int(node): frozenset(told["categories"][start : start + size].tolist()) for node, start, size in pieces}
