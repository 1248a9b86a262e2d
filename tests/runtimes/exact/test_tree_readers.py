"""scikit-learn's tree models, compiled: the library's own answers, bit by bit, on the edges of their thresholds."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, tree
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from bimodal.errors import ModelFailed, NotCompiled
from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.readers.trees import core
from bimodal.runtimes.exact.trees import floor32
from tests.runtimes.exact.oracle import Pair, same

WIDTH = 6
RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(900, WIDTH)).round(3)
SIGNAL = X[:, 0] + X[:, 1] * X[:, 2] - np.abs(X[:, 3]) + RANDOM.normal(size=900) * 0.3
TWO = SIGNAL > 0
FOUR = np.array(["ash", "birch", "cedar", "oak"])[np.digitize(SIGNAL, [-1.5, -0.5, 0.5])]
NINE = np.digitize(SIGNAL, np.linspace(-2, 2, 8))
HOLES = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)
POSITIVE = np.exp(SIGNAL / 2)
PAIRS = np.stack([FOUR, np.where(TWO, "yes", "no")], axis=1)

# By name: the model, its rows and targets. Those in MISSING take NaN, those in INFINITE infinities too.
FITS: dict[str, tuple[Any, Array, Array]] = {
    "tree_classifier": (tree.DecisionTreeClassifier(random_state=0), X, FOUR),
    "tree_holes": (tree.DecisionTreeClassifier(random_state=0), HOLES, FOUR),
    "tree_regressor": (tree.DecisionTreeRegressor(random_state=0), X, SIGNAL),
    "tree_median": (tree.DecisionTreeRegressor(criterion="absolute_error", max_depth=4, random_state=0), X, SIGNAL),
    "tree_root": (tree.DecisionTreeRegressor(max_leaf_nodes=2, min_samples_leaf=900), X, SIGNAL),
    "tree_outputs": (tree.DecisionTreeRegressor(random_state=0), X, np.stack([SIGNAL, POSITIVE], axis=1)),
    "tree_pairs": (tree.DecisionTreeClassifier(max_depth=5, random_state=0), X, PAIRS),
    "extra_tree": (tree.ExtraTreeClassifier(random_state=0), X, TWO),
    "extra_tree_regressor": (tree.ExtraTreeRegressor(random_state=0), X, SIGNAL),
    "forest": (ensemble.RandomForestClassifier(30, random_state=0), X, TWO),
    "forest_small": (ensemble.RandomForestClassifier(30, max_depth=5, random_state=0), X, FOUR),
    "forest_holes": (ensemble.RandomForestClassifier(20, random_state=0), HOLES, FOUR),
    "forest_pairs": (ensemble.RandomForestClassifier(10, max_depth=6, random_state=0), X, PAIRS),
    "forest_nine": (ensemble.RandomForestClassifier(10, random_state=0), X, NINE),
    "forest_regressor": (ensemble.RandomForestRegressor(20, random_state=0), X, SIGNAL),
    "forest_outputs": (ensemble.RandomForestRegressor(9, max_depth=5), X, np.stack([SIGNAL, POSITIVE], axis=1)),
    "extra_trees": (ensemble.ExtraTreesClassifier(20, random_state=0), X, FOUR),
    "extra_trees_holes": (ensemble.ExtraTreesRegressor(20, max_depth=6, random_state=0), HOLES, SIGNAL),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0), X, TWO),
    "boosting_four": (ensemble.GradientBoostingClassifier(n_estimators=15, subsample=0.5, random_state=0), X, FOUR),
    "boosting_nine": (ensemble.GradientBoostingClassifier(n_estimators=4, random_state=0), X, NINE),
    "boosting_zero": (ensemble.GradientBoostingClassifier(n_estimators=10, init="zero", random_state=0), X, FOUR),
    "boosting_constant": (
        ensemble.GradientBoostingClassifier(n_estimators=9, init=DummyClassifier(strategy="most_frequent")), X, TWO),
    "boosting_exponential": (ensemble.GradientBoostingClassifier(loss="exponential", n_estimators=20), X, TWO),
    "boosting_regressor": (ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0), X, SIGNAL),
    "boosting_absolute": (ensemble.GradientBoostingRegressor(loss="absolute_error", n_estimators=9), X, SIGNAL),
    "boosting_huber": (ensemble.GradientBoostingRegressor(loss="huber", n_estimators=9), X, SIGNAL),
    "boosting_quantile": (ensemble.GradientBoostingRegressor(loss="quantile", n_estimators=9), X, SIGNAL),
    "hist": (ensemble.HistGradientBoostingClassifier(max_iter=30), X, TWO),
    "hist_holes": (ensemble.HistGradientBoostingClassifier(max_iter=20), HOLES, FOUR),
    "hist_nine": (ensemble.HistGradientBoostingClassifier(max_iter=3), HOLES, NINE),
    "hist_large": (
        ensemble.HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=None, min_samples_leaf=1), HOLES, TWO),
    "hist_regressor": (ensemble.HistGradientBoostingRegressor(max_iter=20), HOLES, SIGNAL),
    "hist_absolute": (ensemble.HistGradientBoostingRegressor(loss="absolute_error", max_iter=5), HOLES, SIGNAL),
    "hist_quantile": (ensemble.HistGradientBoostingRegressor(loss="quantile", quantile=0.2, max_iter=5), X, SIGNAL),
    "hist_poisson": (ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=20), HOLES, POSITIVE),
    "hist_gamma": (ensemble.HistGradientBoostingRegressor(loss="gamma", max_iter=20), HOLES, POSITIVE),
    "isolation": (ensemble.IsolationForest(n_estimators=20, random_state=0), X, TWO),
    "isolation_some": (ensemble.IsolationForest(n_estimators=20, max_features=0.5, contamination=0.1), X, TWO),
}  # fmt: skip
MISSING = {name for name in FITS if "holes" in name or name.startswith("hist")}
INFINITE = {name for name in FITS if name.startswith("hist")}
UNSTEADY = {"hist_nine"}  # from eight classes on the library sums the shares of one row in another order


@cache
def pair(name: str) -> Pair:
    model, rows, target = FITS[name]
    return Pair.of(model.fit(rows, target))


def edges(made: Pair, name: str) -> Array:
    """Rows of the training, and others of thresholds, numbers one ulp beside them, and strange numbers."""
    random = np.random.default_rng(12)
    blocks = [np.nan_to_num(X[:100])]
    for column, values in made.program.core.thresholds().items():
        chosen = random.choice(values[np.isfinite(values)], min(len(values), 15))
        single = chosen.astype(np.float32)
        beside = [np.nextafter(single, np.float32(side)).astype(float) for side in (-np.inf, np.inf)]
        for each in (chosen, np.nextafter(chosen, np.inf), np.nextafter(chosen, -np.inf), floor32(chosen), *beside):
            block = X[random.integers(0, len(X), len(each))].copy()
            block[:, column] = each
            blocks.append(block)
    strange = [0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e-40, -1e-40, 2.0**24 + 1, 2.0**53 + 1, 3e38]
    strange += [np.nan] * (name in MISSING) + [np.inf, -np.inf, 1e300] * (name in INFINITE)
    for value in strange:
        block = X[:20].copy()
        block[random.random(block.shape) < 0.4] = value
        blocks.append(block)
    return np.concatenate(blocks)


@pytest.mark.parametrize("name", FITS)
def test_the_bits_are_the_librarys_own(name: str, tmp_path: Path) -> None:
    made = pair(name)
    assert made.program.steady is (name not in UNSTEADY)
    rows = Rows({"input": edges(made, name)})
    made.agree(rows)
    kept = made.kept(tmp_path)
    for output, column in made.exact.run(rows, made.outputs).items():
        same(
            kept.run(rows, made.outputs).array(output),
            np.asarray(column) if isinstance(column, np.ndarray) else column.decode(),
        )


@pytest.mark.parametrize("name", ["forest", "forest_small", "boosting_nine", "hist_holes", "hist_nine", "isolation"])
def test_a_rows_bits_do_not_depend_on_its_neighbours(name: str) -> None:
    made = pair(name)
    matrix = edges(made, name)
    made.alone(Rows({"input": np.concatenate([matrix] * 3)[:1100]}), sizes=(1, 2, 7, 64, 1000))


@pytest.mark.parametrize(("name", "value"), [("forest", np.inf), ("boosting", np.nan), ("tree_holes", -np.inf)])
def test_numbers_that_the_library_refuses_are_refused(name: str, value: float) -> None:
    made = pair(name)
    matrix = X[:70].copy()
    matrix[69, 5] = value
    with pytest.raises(ValueError):
        FITS[name][0].predict(matrix)
    with pytest.raises(ModelFailed):
        made.exact.run(Rows({"input": matrix}), made.outputs)


def test_categories_go_through_the_models_own_preprocessor() -> None:
    random = np.random.default_rng(13)
    frame = pd.DataFrame(
        {
            "size": HOLES[:, 0],
            "tree": pd.Categorical(FOUR[random.permutation(900)]),
            "depth": X[:, 1],
            "code": pd.Categorical(random.choice([3, 1, 40], 900)),
        }
    )
    frame.loc[::9, "tree"] = None
    target = SIGNAL + frame["tree"].isin(["oak", "ash"]) * 2 - (frame["code"] == 40)
    for model in (
        ensemble.HistGradientBoostingRegressor(max_iter=20, categorical_features="from_dtype"),
        ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features="from_dtype"),
    ):
        answers = target if "Regressor" in type(model).__name__ else target > 1
        made = Pair.of(model.fit(frame, answers))
        made.agree(frame)
        made.alone(frame)


def test_categories_by_number_and_unknown_ones() -> None:
    random = np.random.default_rng(14)
    matrix = X.copy()
    matrix[:, 2] = random.integers(0, 60, 900)
    matrix[:, 4] = random.choice([2.5, -1.0, 7.0, np.nan], 900)
    target = SIGNAL + (matrix[:, 2] % 3) - (matrix[:, 4] == 7)
    model = ensemble.HistGradientBoostingRegressor(max_iter=30, categorical_features=[2, 4], min_samples_leaf=3)
    made = Pair.of(model.fit(matrix, target))
    assert any(tree.nodes["is_categorical"].any() for (tree,) in model._predictors)
    other = matrix.copy()
    other[::3, 2] = random.choice([-1, 60, 1e9, 0.5, np.nan], 300)
    other[::5, 4] = random.choice([2.0, np.nan, -0.0, 8.0], 180)
    made.agree(Rows({"input": np.concatenate([matrix, other])}))


class Own(tree.DecisionTreeClassifier):  # type: ignore[misc]  # the library has no types
    """A class of the user's own may do anything."""


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ensemble.GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()), "LogisticRegression"),
        (ensemble.GradientBoostingClassifier(n_estimators=2, init=DummyClassifier(strategy="uniform")), "Dummy"),
        (Own(max_depth=2), "Own"),
        (ensemble.AdaBoostClassifier(n_estimators=2), "AdaBoost"),
    ],
)
def test_what_is_not_known_is_not_compiled(model: Any, reason: str) -> None:
    with pytest.raises(NotCompiled, match=reason):
        Pair.of(model.fit(X, TWO))


def test_another_class_is_none_of_its_own() -> None:
    assert core(LogisticRegression().fit(X, TWO), WIDTH) is None
    with pytest.raises(NotCompiled, match="6 columns"):
        core(FITS["tree_root"][0].fit(X, SIGNAL), WIDTH + 1)


def test_a_forest_with_a_member_of_another_class_is_not_compiled() -> None:
    model = pickle.loads(pickle.dumps(ensemble.RandomForestClassifier(3, max_depth=2).fit(X, TWO)))
    model.estimators_[1] = Own(max_depth=2).fit(X, TWO)
    with pytest.raises(NotCompiled, match="Own"):
        core(model, WIDTH)
