"""Every estimator of scikit-learn, fitted to data that suit it: none is left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn.base import is_regressor
from sklearn.decomposition import PCA
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401 - they add estimators
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.discovery import all_estimators

from tests.sweep.data import Data, data

SKLEARN: dict[str, Any] = dict(all_estimators())
BOOSTERS: dict[str, Any] = {
    each.__name__: each
    for each in (
        xgboost.XGBClassifier,
        xgboost.XGBRegressor,
        xgboost.XGBRFClassifier,
        xgboost.XGBRFRegressor,
        lightgbm.LGBMClassifier,
        lightgbm.LGBMRegressor,
        catboost.CatBoostClassifier,
        catboost.CatBoostRegressor,
    )
}
CLASSES = {**SKLEARN, **BOOSTERS}


@dataclass(frozen=True)
class Recipe:
    """How one estimator is fitted.

    data: the name of a data set; None: flowers, or progress for a regressor. options: its arguments, made anew each
    time. ways: as what the rows are given to the library, one fitted estimator each (`WAYS`).
    """

    data: str | None = None
    options: Callable[[], Mapping[str, Any]] = dict
    ways: tuple[str, ...] = ("array", "frame")
    sampled: bool = False  # it needs `--sample` to say what it takes
    target: bool = True
    files: tuple[str, ...] = ("model.joblib",)


def _records(frame: pd.DataFrame) -> Any:
    return frame.to_dict(orient="records")


# As what the library is given the rows of a file that pandas read.
WAYS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "array": lambda frame: np.ascontiguousarray(frame.to_numpy()),
    "objects": lambda frame: frame.to_numpy(object),
    "frame": lambda frame: frame,
    "texts": lambda frame: frame["text"].tolist(),
    "records": _records,
    "labels": lambda frame: frame.iloc[:, 0].to_numpy(object),
    "sets": lambda frame: [set(row) for row in frame.to_numpy(object).tolist()],
    "images": lambda frame: np.array([[list(line) for line in image] for image in frame["image"]]),
    "column": lambda frame: frame.iloc[:, 0].to_numpy(),
}


@dataclass(frozen=True)
class Trained:
    """A fitted estimator, and what it is asked."""

    name: str
    way: str
    model: Any
    asked: pd.DataFrame
    sampled: bool = False
    file: str = "model.joblib"

    def save(self, folder: Path) -> Path:
        """With joblib, or as its own library saves it."""
        path = folder / self.file
        if path.suffix == ".joblib":
            joblib.dump(self.model, path)
        else:
            (self.model.booster_ if path.suffix == ".txt" else self.model).save_model(str(path))
        return path

    def loaded(self, path: Path) -> Trained:
        """As its library reads it again from where it was saved: arrays that lie otherwise in memory than before are
        summed up in another order."""
        if path.suffix != ".joblib":
            return self
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that go away in the next version
            return replace(self, model=joblib.load(path))

    def rows(self, frame: pd.DataFrame) -> Any:
        """The rows of a frame as the library's own user gives them to it."""
        return WAYS[self.way](frame)


def _logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=2000)


def _of(estimator: Callable[[], Any], **more: Any) -> Callable[[], Mapping[str, Any]]:
    return lambda: {"estimator": estimator(), **more}


def _columns() -> Mapping[str, Any]:
    return {
        "transformers": [
            ("numbers", StandardScaler(), ["income", "visits"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
        ]
    }


CHOICES = {"C": [0.1, 1.0]}
CLASSIFIERS = _of(_logistic)
REGRESSORS = _of(Ridge)
VOTERS = [("logistic", _logistic), ("tree", lambda: DecisionTreeClassifier(random_state=0))]
JUDGES = [("ridge", Ridge), ("tree", lambda: DecisionTreeRegressor(max_depth=4, random_state=0))]


def _several(named: list[tuple[str, Callable[[], Any]]]) -> Callable[[], Mapping[str, Any]]:
    return lambda: {"estimators": [(name, make()) for name, make in named]}


RECIPES: dict[str, Recipe] = {
    **dict.fromkeys(("AffinityPropagation",), Recipe(options=lambda: {"random_state": 0, "damping": 0.9})),
    "BernoulliRBM": Recipe("scaled"),
    **dict.fromkeys(("CCA", "PLSCanonical", "PLSRegression", "PLSSVD"), Recipe("two targets")),
    **dict.fromkeys(("MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso"), Recipe("two targets")),
    "MultiTaskLassoCV": Recipe("two targets"),
    "CategoricalNB": Recipe("counts"),
    "ClassifierChain": Recipe("two labels", CLASSIFIERS),
    "RegressorChain": Recipe("two targets", REGRESSORS),
    "MultiOutputClassifier": Recipe("two labels", CLASSIFIERS),
    "MultiOutputRegressor": Recipe("two targets", REGRESSORS),
    "ColumnTransformer": Recipe("customers", _columns, ("frame",)),
    **dict.fromkeys(("ComplementNB", "MultinomialNB", "LatentDirichletAllocation"), Recipe("counts")),
    "TfidfTransformer": Recipe("counts"),
    **dict.fromkeys(("CountVectorizer", "TfidfVectorizer"), Recipe("texts", ways=("texts",))),
    "HashingVectorizer": Recipe("texts", lambda: {"n_features": 256}, ("texts",)),  # a million columns otherwise
    "DictVectorizer": Recipe("records", ways=("records",)),
    "FeatureHasher": Recipe("records", lambda: {"n_features": 16}, ("records",), sampled=True),
    "FeatureUnion": Recipe(options=lambda: {"transformer_list": [("scaled", StandardScaler()), ("pca", PCA(2))]}),
    **dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), Recipe("two kinds", CLASSIFIERS)),
    "GaussianRandomProjection": Recipe(options=lambda: {"n_components": 2}),
    "SparseRandomProjection": Recipe(options=lambda: {"n_components": 2}),
    "FrozenEstimator": Recipe(),
    **dict.fromkeys(("GridSearchCV", "HalvingGridSearchCV"), Recipe(options=_of(_logistic, param_grid=CHOICES))),
    "HalvingRandomSearchCV": Recipe(options=_of(_logistic, param_distributions=CHOICES, random_state=0)),
    "RandomizedSearchCV": Recipe(options=_of(_logistic, param_distributions=CHOICES, n_iter=2)),
    "IsotonicRegression": Recipe("one measure", ways=("array", "column")),
    "KernelCenterer": Recipe("similar"),
    "LabelBinarizer": Recipe("labels", ways=("labels",), target=False),
    "LabelEncoder": Recipe("labels", ways=("labels",), target=False),
    "MultiLabelBinarizer": Recipe("sets", ways=("sets",), target=False),
    "LocalOutlierFactor": Recipe(options=lambda: {"novelty": True}),
    **dict.fromkeys(("IterativeImputer", "KNNImputer", "MissingIndicator", "SimpleImputer"), Recipe("holes")),
    **dict.fromkeys(("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"), Recipe("mixed", ways=("frame", "objects"))),
    **dict.fromkeys(("OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier"), Recipe(options=CLASSIFIERS)),
    **dict.fromkeys(("RFE", "RFECV", "SelectFromModel", "SequentialFeatureSelector"), Recipe(options=CLASSIFIERS)),
    "PatchExtractor": Recipe("images", lambda: {"patch_size": (3, 3)}, ("images",), target=False),
    "Pipeline": Recipe(options=lambda: {"steps": [("scaled", StandardScaler()), ("logistic", _logistic())]}),
    **dict.fromkeys(("RadiusNeighborsClassifier",), Recipe("known flowers")),
    **dict.fromkeys(("RadiusNeighborsRegressor", "RadiusNeighborsTransformer"), Recipe("known progress")),
    "SelfTrainingClassifier": Recipe("partly known", CLASSIFIERS),
    "SparseCoder": Recipe(options=lambda: {"dictionary": np.array([[1.0, 0, 0, 0], [0, 0.6, 0.8, 0]])}),
    **dict.fromkeys(("LabelPropagation", "LabelSpreading"), Recipe("partly known")),
    "StackingClassifier": Recipe(options=_several(VOTERS)),
    "VotingClassifier": Recipe(options=_several(VOTERS)),
    "StackingRegressor": Recipe(options=_several(JUDGES)),
    "VotingRegressor": Recipe(options=_several(JUDGES)),
    "TransformedTargetRegressor": Recipe(
        options=lambda: {"regressor": LinearRegression(), "func": np.log1p, "inverse_func": np.expm1}
    ),
}


XGBOOST = Recipe(options=lambda: {"n_estimators": 20}, files=("model.joblib", "model.ubj", "model.json"))
RECIPES |= {
    "XGBClassifier": XGBOOST,
    "XGBRegressor": XGBOOST,
    "XGBRFClassifier": XGBOOST,
    "XGBRFRegressor": XGBOOST,
    **dict.fromkeys(
        ("LGBMClassifier", "LGBMRegressor"),
        Recipe(  # it writes `_` for the spaces in names: the sample shows how the user spells them
            options=lambda: {"n_estimators": 20, "verbose": -1}, files=("model.joblib", "model.txt"), sampled=True
        ),
    ),
    **dict.fromkeys(
        ("CatBoostClassifier", "CatBoostRegressor"),
        Recipe(
            options=lambda: {"iterations": 20, "verbose": False, "allow_writing_files": False},
            files=("model.joblib", "model.cbm"),
        ),
    ),
}


def answers(name: str) -> bool:
    """Whether it has `predict` or `transform` for new rows; a FrozenEstimator has those of the one inside it."""
    return name == "FrozenEstimator" or any(hasattr(CLASSES[name], verb) for verb in ("predict", "transform"))


@cache
def trained(name: str) -> tuple[Trained, ...]:
    """The estimator fitted in each of the ways in which it is trained."""
    recipe = RECIPES.get(name, Recipe())
    fitted = [_fitted(name, recipe, way) for way in recipe.ways]
    return tuple(replace(each, file=file) for file in recipe.files for each in fitted)


def _fitted(name: str, recipe: Recipe, way: str) -> Trained:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: how well it learned is of no concern here
        model = _made(name, recipe, way)
        chosen = data(recipe.data or ("progress" if is_regressor(model) else "flowers"))
        model.fit(*_given(chosen, recipe, way))
    return Trained(name, way, model, chosen.asked, recipe.sampled)


def _made(name: str, recipe: Recipe, way: str) -> Any:
    if name == "FrozenEstimator":
        return CLASSES[name](make_pipeline(StandardScaler(), _logistic()).fit(*_given(data("flowers"), recipe, way)))
    return CLASSES[name](**recipe.options())


def _given(chosen: Data, recipe: Recipe, way: str) -> tuple[Any, ...]:
    rows = WAYS[way](chosen.train)
    return (rows, chosen.target) if recipe.target else (rows,)
