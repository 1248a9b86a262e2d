"""Tiny named models, really trained, each made when it is first asked for.

`CASES` holds one of every kind; a test asks the model itself for the right answer: `case.model.predict(case.rows)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from sklearn import (
    calibration,
    cluster,
    compose,
    decomposition,
    ensemble,
    feature_selection,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_diabetes, load_iris
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS_FRAME: pd.DataFrame = load_iris(as_frame=True).data
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
TEXTS = ["good food", "bad service", "good staff", "awful food", "great", "bad, bad", "good", "awful place"] * 4
FEELINGS = [1, 0, 1, 0, 1, 0, 1, 0] * 4


@cache
def customers(count: int = 200) -> pd.DataFrame:
    """Mixed columns as they come from a CSV file: numbers, integers, texts, booleans, some of them missing."""
    random = np.random.default_rng(5)
    age = random.uniform(18, 90, count).round(1)
    age[::13] = np.nan
    city = random.choice(["Oslo", "Lima", "Pune"], count).astype(object)
    city[::17] = np.nan
    return pd.DataFrame(
        {
            "age": age,
            "income": random.normal(50_000, 9_000, count).round(2),
            "city": pd.Series(city).astype("str"),
            "plan": random.choice(["free", "pro", "team"], count),
            "year": random.choice([2021, 2022, 2023], count),
            "member": random.random(count) < 0.5,
            "visits": random.integers(0, 40, count),
            "note": random.choice(["likes tea", "likes coffee", "no calls please"], count),
        }
    )


@cache
def churned() -> Any:
    frame = customers()
    return ((frame["income"] > 50_000) ^ (frame["plan"] == "pro")).map({True: "leaves", False: "stays"}).to_numpy()


@dataclass(frozen=True)
class Case:
    """make: the trained model. rows: what it is asked, as the library itself takes it."""

    name: str
    make: Callable[[], Any]
    rows: Any
    sampled: bool = False  # it needs `--sample` to say what it takes

    @cached_property
    def model(self) -> Any:
        return _trained(self.name)


@cache
def _trained(name: str) -> Any:
    return CASES[name].make()


class Doubler(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A transformer of one's own, which looks at names and cannot be looked into."""

    def fit(self, data: Any, target: Any = None) -> Doubler:
        self.fitted_ = True
        return self

    def transform(self, data: Any) -> Any:
        made = data.assign(double=data["visits"] * 2, key=data["year"].astype(str) + data["plan"].str.upper())
        return made[["double", "key", "income"]]


class Nearest(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of one's own that does not say how many features it has."""

    def fit(self, data: Any, target: Any) -> Nearest:
        self.classes_ = np.unique(target)
        self.centres_ = np.array([np.asarray(data)[target == each].mean(axis=0) for each in self.classes_])
        return self

    def predict(self, data: Any) -> Any:
        distances = ((np.asarray(data)[:, None] - self.centres_) ** 2).sum(axis=2)
        return self.classes_[distances.argmin(axis=1)]


def prepare(**changed: Any) -> ColumnTransformer:
    """Numbers imputed and scaled, texts one-hot encoded: the pipeline that most people have."""
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "income", "visits"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
        ],
        **changed,
    )


def on_customers(prepared: Any, last: Any = None) -> Callable[[], Any]:
    last = LogisticRegression(max_iter=2000) if last is None else last
    return lambda: make_pipeline(prepared, last).fit(customers(), churned())


def on_iris(model: Any, target: Any = SPECIES) -> Callable[[], Any]:
    return lambda: model.fit(IRIS, target)


def on_frame(model: Any, target: Any = NAMES) -> Callable[[], Any]:
    return lambda: model.fit(IRIS_FRAME, target)


def on_diabetes(model: Any, target: Any = PROGRESS) -> Callable[[], Any]:
    return lambda: model.fit(DIABETES, target)


def on_texts(model: Any) -> Callable[[], Any]:
    return lambda: model.fit(TEXTS, FEELINGS)


def _upper(texts: Any) -> Any:
    return texts.str.upper()


def _all() -> list[Case]:
    logistic = LogisticRegression(max_iter=2000)
    mixed = customers()
    bare = mixed[["age", "income"]].fillna(0.0)
    objects = mixed[["city", "age", "plan"]].fillna({"city": "Oslo"}).to_numpy(object)
    forest = ensemble.RandomForestClassifier(8, random_state=0, n_jobs=2)
    arrays = {
        "logistic": on_iris(LogisticRegression(max_iter=2000)),
        "labelled": on_iris(LogisticRegression(max_iter=2000), NAMES),
        "boolean": on_iris(LogisticRegression(max_iter=2000), SPECIES == 1),
        "tree": on_iris(tree.DecisionTreeClassifier(random_state=0)),
        "forest": on_iris(forest, NAMES),
        "boosting": on_iris(ensemble.HistGradientBoostingClassifier(max_iter=5), NAMES),
        "gradient": on_iris(ensemble.GradientBoostingClassifier(n_estimators=4), NAMES),
        "ada": on_iris(ensemble.AdaBoostClassifier(n_estimators=4), NAMES),
        "bagging": on_iris(ensemble.BaggingClassifier(n_estimators=3, random_state=0, n_jobs=2)),
        "neighbours": on_iris(neighbors.KNeighborsClassifier(n_jobs=2)),
        "bayes": on_iris(naive_bayes.GaussianNB()),
        "network": on_iris(
            make_pipeline(
                StandardScaler(), neural_network.MLPClassifier((5,), solver="lbfgs", max_iter=5000, random_state=0)
            )
        ),
        "svm": on_iris(svm.SVC(), NAMES),
        "ridge": on_iris(linear_model.RidgeClassifier()),
        "voting": on_iris(ensemble.VotingClassifier([("a", logistic), ("b", forest)], voting="soft"), NAMES),
        "stacking": on_iris(ensemble.StackingClassifier([("a", logistic), ("b", tree.DecisionTreeClassifier())])),
        "calibrated": on_iris(calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3), NAMES),
        "one_vs_rest": on_iris(multiclass.OneVsRestClassifier(LogisticRegression()), NAMES),
        "selected": on_iris(make_pipeline(feature_selection.SelectKBest(k=2), LogisticRegression())),
        "polynomial": on_iris(make_pipeline(preprocessing.PolynomialFeatures(), StandardScaler(), logistic)),
        "search": on_iris(model_selection.GridSearchCV(make_pipeline(StandardScaler(), svm.SVC()), {"svc__C": [1, 2]})),
        "threshold": on_iris(model_selection.FixedThresholdClassifier(logistic, threshold=0.2), SPECIES == 1),
        "clusters": on_iris(cluster.KMeans(3, n_init=1, random_state=0)),
        "mixture": on_iris(mixture.GaussianMixture(2, random_state=0)),
        "isolation": on_iris(ensemble.IsolationForest(n_estimators=5, random_state=0)),
        "novelty": on_iris(neighbors.LocalOutlierFactor(novelty=True)),
        "one_class": on_iris(svm.OneClassSVM()),
        "scaler": on_iris(StandardScaler()),
        "pca": on_iris(make_pipeline(StandardScaler(), decomposition.PCA(2))),
        "many_labels": on_iris(
            multioutput.MultiOutputClassifier(LogisticRegression(max_iter=2000)), np.column_stack([NAMES, NAMES[::-1]])
        ),
        "many_labels_forest": on_iris(
            ensemble.RandomForestClassifier(4, random_state=0), np.column_stack([SPECIES, SPECIES == 1])
        ),
        "chain": on_iris(
            multioutput.ClassifierChain(LogisticRegression()), np.column_stack([SPECIES == 0, SPECIES == 1])
        ),
    }
    regressors = {
        "linear": on_diabetes(LinearRegression()),
        "linear_column": on_diabetes(LinearRegression(), PROGRESS.reshape(-1, 1)),
        "extra_trees": on_diabetes(ensemble.ExtraTreesRegressor(5, random_state=0, n_jobs=2)),
        "many_numbers": on_diabetes(LinearRegression(), np.column_stack([PROGRESS, -PROGRESS])),
        "boosted_numbers": on_diabetes(
            multioutput.MultiOutputRegressor(ensemble.HistGradientBoostingRegressor(max_iter=3)),
            np.column_stack([PROGRESS, -PROGRESS]),
        ),
        "transformed_target": on_diabetes(
            compose.TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1)
        ),
    }
    encoded = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    frames = {
        "frame_logistic": (on_frame(LogisticRegression(max_iter=2000)), IRIS_FRAME),
        "frame_forest": (on_frame(ensemble.RandomForestClassifier(5, random_state=0)), IRIS_FRAME),
        "mixed": (on_customers(prepare()), mixed),
        "mixed_search": (
            lambda: model_selection.GridSearchCV(
                make_pipeline(prepare(), LogisticRegression(max_iter=2000)), {"logisticregression__C": [0.1, 1.0]}, cv=2
            ).fit(customers(), churned()),
            mixed,
        ),
        "mixed_calibrated": (
            lambda: calibration.CalibratedClassifierCV(
                make_pipeline(prepare(), LogisticRegression(max_iter=2000)), cv=2
            ).fit(customers(), churned()),
            mixed,
        ),
        "mixed_voting": (
            lambda: ensemble.VotingClassifier(
                [
                    ("a", make_pipeline(prepare(), LogisticRegression(max_iter=2000))),
                    ("b", make_pipeline(prepare(), tree.DecisionTreeClassifier(random_state=0))),
                ]
            ).fit(customers(), churned()),
            mixed,
        ),
        "closed": (
            on_customers(
                ColumnTransformer([("plan", OneHotEncoder(), ["plan"]), ("n", "passthrough", ["income"])]),
                tree.DecisionTreeClassifier(random_state=0),
            ),
            mixed,
        ),
        "imputed_text": (
            on_customers(
                ColumnTransformer(
                    [("t", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city", "plan"])]
                )
            ),
            mixed,
        ),
        "ordinal_forest": (
            on_customers(
                ColumnTransformer([("t", encoded, ["city", "plan", "year"]), ("b", "passthrough", ["member"])]),
                ensemble.RandomForestClassifier(5, random_state=0),
            ),
            mixed,
        ),
        "target_encoded": (on_customers(ColumnTransformer([("t", TargetEncoder(cv=2), ["plan", "year"])])), mixed),
        "integers": (on_customers(ColumnTransformer([("y", OneHotEncoder(), ["year", "member"])])), mixed),
        "by_position": (
            on_customers(
                ColumnTransformer(
                    [("n", StandardScaler(), [1]), ("t", OneHotEncoder(), [3]), ("r", "passthrough", slice(6, 7))]
                )
            ),
            mixed,
        ),
        "by_mask": (
            on_customers(
                ColumnTransformer([("t", OneHotEncoder(), [False, False, False, True, False, False, False, False])])
            ),
            mixed,
        ),
        "by_selector": (
            on_customers(
                ColumnTransformer(
                    [
                        ("t", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="str")),
                        ("n", SimpleImputer(), make_column_selector(dtype_include="number")),
                    ]
                ),
                tree.DecisionTreeClassifier(random_state=0),
            ),
            mixed,
        ),
        "nested": (
            on_customers(
                ColumnTransformer(
                    [
                        (
                            "inner",
                            make_pipeline(prepare(), StandardScaler(with_mean=False)),
                            ["age", "income", "visits", "city", "plan"],
                        )
                    ],
                    remainder="drop",
                )
            ),
            mixed,
        ),
        "vectorized_column": (
            on_customers(ColumnTransformer([("note", TfidfVectorizer(), "note"), ("n", StandardScaler(), ["income"])])),
            mixed,
        ),
        "one_hot_alone": (
            lambda: make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(
                customers()[["city", "plan"]], churned()
            ),
            mixed[["city", "plan"]],
        ),
        "imputed_numbers": (
            lambda: make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression()).fit(
                customers()[["age", "income"]], churned()
            ),
            mixed[["age", "income"]],
        ),
        "boosted_categories": (
            lambda: ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=["plan"]).fit(
                customers()[["age", "plan", "income"]].astype({"plan": "category"}), churned()
            ),
            mixed[["age", "plan", "income"]].astype({"plan": "category"}),
        ),
        "custom": (
            on_customers(
                make_pipeline(
                    Doubler(),
                    ColumnTransformer(
                        [("k", OneHotEncoder(handle_unknown="ignore"), ["key"])], remainder="passthrough"
                    ),
                ),
                tree.DecisionTreeClassifier(random_state=0),
            ),
            mixed,
        ),
        "function_text": (
            on_customers(
                ColumnTransformer([("t", make_pipeline(FunctionTransformer(_upper), TfidfVectorizer()), "plan")])
            ),
            mixed,
        ),
        "function_numbers": (
            lambda: make_pipeline(FunctionTransformer(np.log1p), LinearRegression()).fit(bare, customers()["visits"]),
            bare,
        ),
        "prepared": (lambda: prepare().fit(customers()), mixed),
        "prepared_frame": (
            lambda: (
                ColumnTransformer([("n", StandardScaler(), ["income"]), ("p", "passthrough", ["visits", "plan"])])
                .set_output(transform="pandas")
                .fit(customers())
            ),
            mixed,
        ),
        "union": (
            lambda: make_pipeline(
                FeatureUnion([("s", StandardScaler()), ("p", decomposition.PCA(1))]), LinearRegression()
            ).fit(bare, customers()["visits"]),
            bare,
        ),
    }
    lists = {
        "text": on_texts(make_pipeline(TfidfVectorizer(), LogisticRegression())),
        "text_hashed": on_texts(
            make_pipeline(HashingVectorizer(n_features=64), linear_model.SGDClassifier(random_state=0))
        ),
        "text_union": on_texts(
            make_pipeline(
                FeatureUnion([("a", TfidfVectorizer()), ("b", HashingVectorizer(n_features=16))]), LogisticRegression()
            )
        ),
        "text_search": on_texts(
            model_selection.GridSearchCV(
                Pipeline([("v", TfidfVectorizer()), ("c", LogisticRegression())]), {"c__C": [1, 2]}, cv=2
            )
        ),
    }
    return [
        *(Case(name, make, IRIS[::7]) for name, make in arrays.items()),
        *(Case(name, make, DIABETES[::31]) for name, make in regressors.items()),
        *(Case(name, make, rows, name == "custom") for name, (make, rows) in frames.items()),
        *(Case(name, make, TEXTS[:8]) for name, make in lists.items()),
        Case(
            "objects",
            lambda: make_pipeline(
                ColumnTransformer([("t", OneHotEncoder(), [0, 2]), ("n", SimpleImputer(), [1])]),
                LogisticRegression(max_iter=2000),
            ).fit(objects, churned()),
            objects,
        ),
        Case("own", lambda: Nearest().fit(IRIS, SPECIES), IRIS[::7]),
    ]


CASES = {case.name: case for case in _all()}
