"""Linear models of scikit-learn: coefficients, intercept, and the formula of their answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.rows import Array
from bimodal.runtimes.estimator import type_of
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.linear import Linear

HOMES = ("sklearn.linear_model.", "sklearn.svm.", "sklearn.discriminant_analysis")
REGRESSORS = frozenset(
    {
        "ARDRegression",
        "BayesianRidge",
        "ElasticNet",
        "ElasticNetCV",
        "HuberRegressor",
        "Lars",
        "LarsCV",
        "Lasso",
        "LassoCV",
        "LassoLars",
        "LassoLarsCV",
        "LassoLarsIC",
        "LinearRegression",
        "LinearSVR",
        "MultiTaskElasticNet",
        "MultiTaskElasticNetCV",
        "MultiTaskLasso",
        "MultiTaskLassoCV",
        "OrthogonalMatchingPursuit",
        "OrthogonalMatchingPursuitCV",
        "QuantileRegressor",
        "Ridge",
        "RidgeCV",
        "SGDRegressor",
        "TheilSenRegressor",
        "PassiveAggressiveRegressor",
    }
)
LOGARITHMIC = frozenset({"PoissonRegressor", "GammaRegressor", "TweedieRegressor"})
SCORED = frozenset(
    {"LinearSVC", "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier"}
)
PROBABLE = frozenset({"LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"})
LOSSES = {"log_loss": "one_by_one", "modified_huber": "clipped"}  # of SGDClassifier, with probabilities


def core(estimator: Any, width: int) -> tuple[Linear, Finish, bool] | None:
    """None where it is no linear model that is known. width: how many columns it gets.

    Not steady by itself: on dense columns the library sums in an order that changes with a row's neighbours.
    """
    kind = type(estimator)
    if not kind.__module__.startswith(HOMES):
        return None
    name = kind.__name__
    if name in REGRESSORS:
        return _sums(estimator, width), Finish("identity", {"prediction": "float64"}), False
    if name in LOGARITHMIC:
        return _sums(estimator, width), Finish(_inverse(estimator), {"prediction": "float64"}), False
    if name in SCORED or name in PROBABLE:
        sums = _sums(estimator, width)
        return sums, _classifier(estimator, name, len(sums.weights)), False
    return None


def _sums(estimator: Any, width: int) -> Linear:
    weights, intercept = estimator.coef_, estimator.intercept_
    if not isinstance(weights, np.ndarray) or weights.dtype != np.float64 or weights.ndim > 2:
        raise NotCompiled(f"{type(estimator).__name__} with coefficients that are no float64 array")
    weights = np.ascontiguousarray(np.atleast_2d(weights))
    if weights.shape[1] != width:
        raise NotCompiled(f"{type(estimator).__name__} has {weights.shape[1]} coefficients for {width} columns")
    return Linear(weights, _each(intercept, len(weights)))


def _each(intercept: Any, count: int) -> Array:
    """One intercept for each score."""
    values = np.asarray(intercept, np.float64).ravel()
    return np.ascontiguousarray(np.broadcast_to(values, count))


def _inverse(estimator: Any) -> str:
    link = type(estimator._base_loss.link).__name__
    found = {"LogLink": "exponential", "IdentityLink": "identity"}.get(link)
    if found is None:
        raise NotCompiled(f"{type(estimator).__name__} with {link}")
    return found


def _classifier(estimator: Any, name: str, scores: int) -> Finish:
    classes = np.asarray(estimator.classes_)
    if classes.ndim != 1 or scores != (1 if len(classes) == 2 else len(classes)):
        raise NotCompiled(f"{name} with {len(classes)} classes and {scores} scores")
    link, kind = _link(estimator, name, scores), type_of(classes)
    second = "score" if link == "score" else "probability"
    return Finish(link, {"prediction": kind, second: "float64"}, tuple(classes.tolist()))


def _link(estimator: Any, name: str, scores: int) -> str:
    if name in SCORED:
        link = LOSSES.get(estimator.loss, "score") if name == "SGDClassifier" else "score"
        return "logistic" if link == "one_by_one" and scores == 1 else link
    if getattr(estimator, "multi_class", "auto") not in ("auto", "deprecated", "warn"):
        raise NotCompiled(f"{name} with multi_class={estimator.multi_class!r}, which the library no longer has")
    return "logistic" if scores == 1 else "softmax"
