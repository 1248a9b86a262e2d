"""Tree models of scikit-learn: their tables of nodes, and the formula of their answers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.rows import Array
from bimodal.runtimes.estimator import type_of
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.trees import Tree, Trees

TREES = {
    "sklearn.tree._classes": {
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
    }
}
FORESTS = {
    "sklearn.ensemble._forest": {
        "RandomForestClassifier",
        "RandomForestRegressor",
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
    }
}
STEADY = 8  # from so many classes on, the library sums a row's shares in another order where it stands alone

Core = tuple[Trees, Finish, bool]


def core(estimator: Any, width: int) -> Core | None:
    """None where it is no tree model that is known. width: how many columns it gets.

    Steady: a row's bits are the library's own, whatever its neighbours.
    """
    reader = _reader(estimator)
    if reader is None:
        return None
    known = getattr(estimator, "n_features_in_", None)
    if known != width:
        raise NotCompiled(f"{type(estimator).__name__} was fitted on {known} columns and gets {width}")
    return reader(estimator, width)


def _reader(estimator: Any) -> Callable[[Any, int], Core] | None:
    readers = ((TREES, _tree), (FORESTS, _forest), (BOOSTED, _boosted), (HIST, _hist), (ISOLATION, _isolation))
    return next((reader for classes, reader in readers if _is(estimator, classes)), None)


def _is(estimator: Any, classes: dict[str, set[str]]) -> bool:
    kind = type(estimator)
    return kind.__name__ in classes.get(kind.__module__, ())


# -- trees and forests -------------------------------------------------------------------------------------------------


def _tree(estimator: Any, width: int) -> Core:
    return _mean([estimator], estimator, width)


def _forest(estimator: Any, width: int) -> Core:
    for each in estimator.estimators_:
        if not _is(each, TREES):
            raise NotCompiled(f"{type(estimator).__name__} of {type(each).__name__}")
    return _mean(estimator.estimators_, estimator, width)


def _mean(members: list[Any], estimator: Any, width: int) -> Core:
    """The trees' values summed one after another, divided by their number. One tree's value stays as it is: it is added
    to -0.0, which changes no bit."""
    several = hasattr(estimator, "classes_") and estimator.n_outputs_ > 1
    counts = estimator.n_classes_ if several else None
    tables = [_table(each.tree_, _flat(each.tree_, counts)) for each in members]
    alone = members[0] is estimator
    base = np.full(tables[0].value.shape[1], -0.0 if alone else 0.0)
    trees = Trees.build(tables, base, rounded=True, refuses=_refuses(members[0]), width=width)
    return trees, _mean_finish(estimator, float(len(members))), True


def _mean_finish(estimator: Any, trees: float) -> Finish:
    numbers = {"trees": trees}
    if not hasattr(estimator, "classes_"):
        return Finish("mean", {"prediction": "float64"}, None, numbers)
    if estimator.n_outputs_ == 1:
        return _classified("shares", estimator.classes_, numbers)
    kinds = {np.asarray(each).dtype for each in estimator.classes_}
    if len(kinds) > 1:
        raise NotCompiled(f"{type(estimator).__name__} with outputs of several types")
    fields = {"prediction": type_of(np.asarray(estimator.classes_[0]))}
    fields |= {f"probability_{place}": "float64" for place in range(estimator.n_outputs_)}
    return Finish("several_shares", fields, tuple(tuple(each.tolist()) for each in estimator.classes_), numbers)


def _classified(link: str, classes: Any, numbers: dict[str, float] | None = None) -> Finish:
    labels = np.asarray(classes)
    fields = {"prediction": type_of(labels), "probability": "float64"}
    return Finish(link, fields, tuple(labels.tolist()), numbers or {})


def _flat(tree: Any, counts: Any) -> Array:
    """What the nodes give, one row a node: of several outputs, the shares of one after those of another."""
    value = np.asarray(tree.value, float)
    if counts is None:
        return value.reshape(len(value), -1)
    return np.concatenate([value[:, place, :count] for place, count in enumerate(counts)], axis=1)


def _table(tree: Any, value: Array, first: int = 0) -> Tree:
    kind = type(tree)
    if (kind.__module__, kind.__name__) != ("sklearn.tree._tree", "Tree"):
        raise NotCompiled(f"a tree of the class {kind.__name__}")
    left = np.asarray(tree.children_left)
    feature = np.where(left < 0, -1, tree.feature).astype(np.int32)
    missing = np.asarray(tree.missing_go_to_left).astype(bool)
    return Tree(feature, np.asarray(tree.threshold), left, np.asarray(tree.children_right), missing, value, first)


def _refuses(tree: Any) -> str:
    return "infinite" if tree._support_missing_values(np.zeros((1, 1))) else "missing"


# -- boosting ----------------------------------------------------------------------------------------------------------

BOOSTED = {"sklearn.ensemble._gb": {"GradientBoostingClassifier", "GradientBoostingRegressor"}}
CONSTANT = {
    ("DummyClassifier", "prior"),
    ("DummyClassifier", "most_frequent"),
    ("DummyClassifier", "constant"),
    ("DummyRegressor", "mean"),
    ("DummyRegressor", "median"),
    ("DummyRegressor", "quantile"),
    ("DummyRegressor", "constant"),
}
SHARES = {  # of classifiers, by their loss
    "HalfBinomialLoss": "not_negative",
    "ExponentialLoss": "half_logistic",
    "HalfMultinomialLoss": "softmax",
}


def _boosted(estimator: Any, width: int) -> Core:
    tables = []
    for stage in estimator.estimators_:
        for place, each in enumerate(stage):
            if not _is(each, TREES):
                raise NotCompiled(f"{type(estimator).__name__} of {type(each).__name__}")
            value = float(estimator.learning_rate) * np.asarray(each.tree_.value, float).reshape(-1, 1)
            tables.append(_table(each.tree_, value, place))
    trees = Trees.build(tables, _begin(estimator, width), rounded=True, refuses="missing", width=width)
    if not hasattr(estimator, "classes_"):
        return trees, Finish("identity", {"prediction": "float64"}), True
    return trees, _classified(_share(estimator, SHARES), estimator.classes_), True


def _begin(estimator: Any, width: int) -> Array:
    """The scores before the first tree: the library's own, where they are the same for every row."""
    init = estimator.init_
    kind = type(init)
    constant = kind.__module__ == "sklearn.dummy" and (kind.__name__, getattr(init, "strategy", "")) in CONSTANT
    if not constant and not (isinstance(init, str) and init == "zero"):
        raise NotCompiled(f"{type(estimator).__name__} that begins with {kind.__name__}")
    return np.asarray(estimator._raw_predict_init(np.zeros((1, width), np.float32))[0], float)


def _share(estimator: Any, known: dict[str, str]) -> str:
    loss = type(estimator._loss).__name__
    if loss not in known:
        raise NotCompiled(f"{type(estimator).__name__} with {loss}")
    return known[loss]


# -- histogram boosting ------------------------------------------------------------------------------------------------

HIST = {
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": {
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    }
}
HIST_SHARES = {"HalfBinomialLoss": "logistic", "HalfMultinomialLoss": "softmax_columns"}
INVERSES = {"IdentityLink": "identity", "LogLink": "exponential"}  # of regressors, by the link of their loss


def _hist(estimator: Any, width: int) -> Core:
    """Its columns come as its own preprocessor (of categories) gives them."""
    tables = [_hist_table(each, place) for stage in estimator._predictors for place, each in enumerate(stage)]
    trees = Trees.build(tables, np.asarray(estimator._baseline_prediction, float).ravel(), width=width)
    if hasattr(estimator, "classes_"):
        finish = _classified(_share(estimator, HIST_SHARES), estimator.classes_)
        return trees, finish, len(estimator.classes_) < STEADY
    link = type(estimator._loss.link).__name__
    if link not in INVERSES:
        raise NotCompiled(f"{type(estimator).__name__} with {link}")
    return trees, Finish(INVERSES[link], {"prediction": "float64"}), True


def _hist_table(predictor: Any, first: int) -> Tree:
    if type(predictor).__name__ != "TreePredictor":
        raise NotCompiled(f"a tree of the class {type(predictor).__name__}")
    nodes = predictor.nodes
    leaf = nodes["is_leaf"] != 0
    chosen = np.flatnonzero(~leaf & (nodes["is_categorical"] != 0))
    return Tree(
        np.where(leaf, -1, nodes["feature_idx"]).astype(np.int32),
        np.array(nodes["num_threshold"]),
        nodes["left"].astype(np.int64),
        nodes["right"].astype(np.int64),
        nodes["missing_go_to_left"] != 0,
        nodes["value"].reshape(-1, 1),
        first,
        {int(node): _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]]) for node in chosen},
    )


def _members(words: Array) -> frozenset[int]:
    """The categories of a set of bits, 32 a word."""
    bits = np.unpackbits(np.ascontiguousarray(words, "<u4").view(np.uint8), bitorder="little")
    return frozenset(np.flatnonzero(bits).tolist())


# -- isolation ---------------------------------------------------------------------------------------------------------

ISOLATION = {"sklearn.ensemble._iforest": {"IsolationForest"}}


def _isolation(estimator: Any, width: int) -> Core:
    tables = []
    for place, (each, columns) in enumerate(zip(estimator.estimators_, estimator.estimators_features_, strict=True)):
        if not _is(each, TREES):
            raise NotCompiled(f"IsolationForest of {type(each).__name__}")
        length = estimator._decision_path_lengths[place] + estimator._average_path_length_per_tree[place] - 1.0
        table = _table(each.tree_, np.asarray(length, float).reshape(-1, 1))
        feature = np.where(table.feature < 0, -1, np.asarray(columns)[table.feature]).astype(np.int32)
        tables.append(Tree(feature, table.threshold, table.left, table.right, table.nan_left, table.value))
    trees = Trees.build(tables, np.zeros(1), rounded=True, width=width)
    average = sys.modules[type(estimator).__module__]._average_path_length([estimator._max_samples])
    numbers = {"depths": float(len(tables) * average[0]), "offset": float(estimator.offset_)}
    return trees, Finish("isolation", {"prediction": "int64", "score": "float64"}, None, numbers), True
