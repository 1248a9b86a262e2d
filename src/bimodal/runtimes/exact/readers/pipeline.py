"""Pipelines of scikit-learn: from the model's inputs through its transformers to its last estimator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import NotCompiled
from bimodal.field import Field
from bimodal.formats import boosters, estimators
from bimodal.formats.routes import Feature, Routes
from bimodal.runtimes.exact import built
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.links import AFTER
from bimodal.runtimes.exact.prepare import Input
from bimodal.runtimes.exact.program import Program
from bimodal.runtimes.exact.readers import cores
from bimodal.runtimes.exact.readers.booster import coded
from bimodal.runtimes.exact.readers.matrix import Matrix, Origin, Raw, Recipe, Unused, lowered
from bimodal.runtimes.exact.readers.steps import follow
from bimodal.runtimes.exact.trees import Trees
from bimodal.signature import Signature

SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
THRESHOLDS = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
Walked = tuple[Linear | Trees, Finish, bool, Matrix]


def read(model: Any, signature: Signature) -> Program:
    """The fitted model as a Program. Raises NotCompiled with the reason."""
    built.require()
    try:
        return _read(model, signature)
    except NotCompiled:
        raise
    except Exception as error:  # a model saved by another version may lack anything
        raise NotCompiled(f"it cannot be read as this version's ({type(error).__name__}: {error})") from error


def _read(model: Any, signature: Signature) -> Program:
    matrix, inputs = _start(model, signature)
    core, finish, steady, last = _walk(model, matrix)
    promised = {each.name: each.type for each in signature.outputs}
    if finish.fields != promised:
        raise NotCompiled(f"it gives {finish.fields} where the model gives {promised}")
    return Program(lowered(last, inputs), core, finish, steady)


def _start(model: Any, signature: Signature) -> tuple[Matrix, list[Input]]:
    """The columns that the model is given, and where in the Rows each of them stands."""
    names, width = estimators.columns(model), estimators.width(model)
    if names is not None and boosters.home(model) == "lightgbm":
        names = boosters.spelled(names, [each.name for each in signature.inputs])
    count = width if names is None else len(names)
    if count is None or signature.open:
        raise NotCompiled("a model that does not say which columns it takes")
    features = Routes.through(model, count)
    vector = signature.vector
    fields = {each.name: each for each in signature.inputs}
    if vector is not None and vector.shape == (count,):
        places = tuple(Raw(Origin(place, vector)) for place in range(count))
        return Matrix(places), [Input(vector.name, place) for place in range(count)]
    if names is None and len(fields) == count:
        names = tuple(fields)
    if names is None or any(name not in names for name in fields):
        raise NotCompiled("a model whose columns are not those of its signature")
    inputs = [Input(name) for name in names]
    columns: list[Recipe] = [
        Raw(_origin(place, fields[name], features[place])) if name in fields else Unused(name)
        for place, name in enumerate(names)
    ]
    return Matrix(tuple(columns)), inputs


def _origin(place: int, field: Field, feature: Feature) -> Origin:
    """How the native runtime hands the column over (`runtimes.estimator.Frame`)."""
    null = feature.null if field.dtype == object else math.nan
    return Origin(place, field, null, feature.coded is not None or field.frame is not None)


def _walk(model: Any, matrix: Matrix) -> Walked:
    """Through what stands around the last estimator, and its core."""
    name = type(model).__name__
    if not type(model).__module__.startswith("sklearn."):
        return _core(model, matrix)
    if name == "Pipeline":
        for _, step in model.steps[:-1]:
            matrix = follow(step, matrix)
        return _walk(model.steps[-1][1], matrix)
    if name in SEARCHES:
        return _walk(model.best_estimator_, matrix)
    if name == "FrozenEstimator":
        return _walk(model.estimator, matrix)
    if name == "RANSACRegressor":
        return _walk(model.estimator_, matrix)
    if name == "TransformedTargetRegressor":
        return _transformed(model, matrix)
    if name in THRESHOLDS:
        return _thresholded(model, matrix)
    if name.startswith("HistGradientBoosting") and getattr(model, "_preprocessor", None) is not None:
        return _core(model, follow(model._preprocessor, matrix))
    return _core(model, matrix)


def _core(estimator: Any, matrix: Matrix) -> Walked:
    core, finish, steady = cores.core(estimator, len(matrix))
    matrix = coded(estimator, matrix)
    return core, finish, steady or (matrix.sparse and isinstance(core, Linear)), matrix


def _transformed(model: Any, matrix: Matrix) -> Walked:
    """A regressor of a changed target, whose predictions are changed back by a function of NumPy's."""
    core, finish, steady, matrix = _walk(model.regressor_, matrix)
    back = model.transformer_
    function = getattr(back, "inverse_func", None)
    if type(back).__name__ != "FunctionTransformer" or back.inv_kw_args or list(finish.fields) != ["prediction"]:
        raise NotCompiled(f"TransformedTargetRegressor with {type(back).__name__}")
    if function is None:
        return core, finish, steady, matrix
    name = getattr(function, "__name__", "")
    if name not in AFTER or getattr(np, name) is not function or finish.after is not None:
        raise NotCompiled(f"TransformedTargetRegressor with inverse_func={name or 'a function'}")
    return core, replace(finish, after=name), steady, matrix


def _thresholded(model: Any, matrix: Matrix) -> Walked:
    """A classifier of two classes whose prediction is made at another threshold of the probability."""
    core, finish, steady, matrix = _walk(model.estimator_, matrix)
    classes = finish.classes or ()
    if "probability" not in finish.fields or len(classes) != 2 or list(classes) != np.asarray(model.classes_).tolist():
        raise NotCompiled(f"{type(model).__name__} without the probabilities of two classes")
    if model.response_method not in ("auto", "predict_proba"):
        raise NotCompiled(f"{type(model).__name__} with response_method={model.response_method!r}")
    label = (
        model.pos_label if type(model).__name__ == "FixedThresholdClassifier" else model._curve_scorer._get_pos_label()
    )
    threshold = getattr(model, "best_threshold_", None) or model.threshold
    threshold = 0.5 if threshold == "auto" else float(threshold)
    positive = 1 if label is None else classes.index(label)
    return (
        core,
        replace(finish, numbers={**finish.numbers, "threshold": threshold, "positive": positive}),
        steady,
        matrix,
    )
