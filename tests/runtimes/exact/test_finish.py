"""Finish: every linear estimator's answers, and its formulas at the ends of their range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn import linear_model, svm
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import extmath

from bimodal.errors import NotCompiled
from bimodal.rows import Dictionary, Rows
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.links import LINKS, expit, softmax
from tests.models import DIABETES, IRIS, NAMES, PROGRESS, SPECIES
from tests.runtimes.exact.oracle import Pair, same
from tests.runtimes.exact.test_pipeline import SHOP

PEOPLE = SHOP[["price", "kind", "town", "shelf"]]
KINDS = np.array(["few", "many", "none"])[SHOP["shelf"].to_numpy() % 3]
COUNTS = SHOP["shelf"].to_numpy() + 1.0

REGRESSORS = [
    linear_model.ARDRegression(),
    linear_model.BayesianRidge(),
    linear_model.ElasticNet(alpha=0.1),
    linear_model.ElasticNetCV(cv=2),
    linear_model.HuberRegressor(max_iter=2000),
    linear_model.Lars(),
    linear_model.LarsCV(cv=2),
    linear_model.Lasso(alpha=0.1),
    linear_model.LassoCV(cv=2),
    linear_model.LassoLars(alpha=0.1),
    linear_model.LassoLarsCV(cv=2),
    linear_model.LassoLarsIC(),
    linear_model.LinearRegression(),
    linear_model.LinearRegression(fit_intercept=False),
    linear_model.OrthogonalMatchingPursuit(),
    linear_model.OrthogonalMatchingPursuitCV(cv=2),
    linear_model.PoissonRegressor(),
    linear_model.GammaRegressor(),
    linear_model.TweedieRegressor(power=0),
    linear_model.TweedieRegressor(power=1.5),
    linear_model.QuantileRegressor(alpha=0.1),
    linear_model.Ridge(),
    linear_model.RidgeCV(),
    linear_model.SGDRegressor(random_state=0),
    linear_model.TheilSenRegressor(random_state=0, max_subpopulation=200),
    svm.LinearSVR(max_iter=20_000),
]
SEVERAL = [
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    linear_model.MultiTaskElasticNet(),
    linear_model.MultiTaskElasticNetCV(cv=2),
    linear_model.MultiTaskLasso(),
    linear_model.MultiTaskLassoCV(cv=2),
]
CLASSIFIERS = [
    linear_model.LogisticRegression(max_iter=3000),
    linear_model.LogisticRegression(max_iter=3000, fit_intercept=False),
    linear_model.Perceptron(),
    linear_model.RidgeClassifier(),
    linear_model.RidgeClassifierCV(),
    linear_model.SGDClassifier(random_state=0),
    linear_model.SGDClassifier(loss="log_loss", random_state=0),
    linear_model.SGDClassifier(loss="modified_huber", random_state=0),
    linear_model.SGDClassifier(loss="perceptron", random_state=0),
    svm.LinearSVC(max_iter=20_000),
    LinearDiscriminantAnalysis(),
]
SPARSE = [
    each for each in CLASSIFIERS if type(each).__name__ not in ("LinearDiscriminantAnalysis", "RidgeClassifierCV")
]


@pytest.mark.parametrize("regressor", REGRESSORS, ids=str)
def test_a_regressor_answers_as_its_library(regressor: Any) -> None:
    pair = Pair.of(make_pipeline(StandardScaler(), regressor).fit(DIABETES, PROGRESS))
    pair.agree(DIABETES)
    pair.alone(DIABETES[:50])


@pytest.mark.parametrize("regressor", SEVERAL, ids=str)
def test_a_regressor_of_several_numbers_answers_as_its_library(regressor: Any) -> None:
    pair = Pair.of(regressor.fit(DIABETES, np.column_stack([PROGRESS, -PROGRESS, PROGRESS**2])))
    assert pair.signature.output("prediction").shape == (3,)
    pair.agree(DIABETES)
    pair.alone(DIABETES[:50])


@pytest.mark.parametrize("target", [SPECIES, SPECIES == 1, NAMES, SPECIES - 1.0, np.where(SPECIES, "yes", "no")])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_a_classifier_answers_as_its_library(classifier: Any, target: Any) -> None:
    pair = Pair.of(make_pipeline(StandardScaler(), classifier).fit(IRIS, target))
    pair.agree(IRIS)
    pair.alone(IRIS[:50])


@pytest.mark.parametrize("target", [KINDS, KINDS == "few"], ids=["three", "two"])
@pytest.mark.parametrize("classifier", SPARSE, ids=str)
def test_a_classifier_of_sparse_columns_has_its_library_s_bits(classifier: Any, target: Any) -> None:
    pair = Pair.of(make_pipeline(_hot(), classifier).fit(PEOPLE, target))
    assert pair.program.steady
    pair.agree(PEOPLE)
    pair.alone(PEOPLE.head(50))


@pytest.mark.parametrize(
    "regressor",
    [
        linear_model.ElasticNet(alpha=0.01),
        linear_model.Lasso(alpha=0.01),
        linear_model.LinearRegression(),
        linear_model.PoissonRegressor(),
        linear_model.Ridge(),
        linear_model.SGDRegressor(random_state=0),
        svm.LinearSVR(max_iter=20_000),
    ],
    ids=str,
)
def test_a_regressor_of_sparse_columns_has_its_library_s_bits(regressor: Any) -> None:
    pair = Pair.of(make_pipeline(_hot(), regressor).fit(PEOPLE, COUNTS))
    assert pair.program.steady
    pair.agree(PEOPLE)
    pair.alone(PEOPLE.head(50))


def _hot() -> ColumnTransformer:
    hot = OneHotEncoder(handle_unknown="ignore")
    return ColumnTransformer([("n", StandardScaler(), ["price", "shelf"]), ("t", hot, ["kind", "town"])])


def test_expit_has_the_bits_of_scipy() -> None:
    random = np.random.default_rng(0)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e-310, 709.78, -709.79, 745.2, -745.2, 36.8, -36.8]
    values = np.concatenate([random.uniform(-750, 750, 500_000), random.normal(size=500_000) * 8, ends])
    theirs = special.expit(values)
    assert np.array_equal(expit(values.reshape(-1, 1))[:, 0].view(np.int64), theirs.view(np.int64))
    pairs = LINKS["logistic"]["probability"](values.reshape(-1, 1), Finish("logistic", {}))
    assert np.array_equal(np.asarray(pairs), np.column_stack([1 - theirs, theirs]), equal_nan=True)


def test_a_formula_holds_at_the_ends_of_its_range() -> None:
    raw = np.array([[0.0, -0.0, 1e308], [-750.0, 750.0, 1.0], [np.inf, 0.0, 1.0], [np.nan, 1.0, 2.0], [3.0, 3.0, 3.0]])
    with np.errstate(all="ignore"):
        theirs = extmath.softmax(raw.copy())
    assert np.array_equal(softmax(raw, Finish("softmax", {})), theirs, equal_nan=True)
    kept = raw.copy()
    for link in ("softmax", "one_by_one", "clipped", "score", "exponential", "identity"):
        finish = Finish(link, {"prediction": "int64"}, (0, 1, 2))
        for formula in LINKS[link].values():
            assert len(formula(raw, finish)) == 5
    assert np.array_equal(raw, kept, equal_nan=True)


def test_scores_that_are_all_nothing_are_shared_equally() -> None:
    raw = np.full((2, 4), -np.inf)
    for link in ("one_by_one", "clipped"):
        shares = LINKS[link]["probability"](raw, Finish(link, {}))
        assert np.asarray(shares).tolist() == [[0.25] * 4] * 2


def test_text_labels_come_as_a_dictionary_and_others_in_their_type() -> None:
    raw = np.array([[1.0], [-1.0], [0.0]])
    words = Finish("score", {"prediction": "string", "score": "float64"}, ("no", "yes")).outputs(raw, ["prediction"])
    assert isinstance(words["prediction"], Dictionary)
    assert words.array("prediction").tolist() == ["yes", "no", "no"]
    for kind, classes in {"int32": (4, 7), "bool": (False, True), "float64": (0.5, 1.5), "any": ("a", 1)}.items():
        made = Finish("score", {"prediction": kind}, classes).outputs(raw, ["prediction"])
        assert made.array("prediction").tolist() == [classes[1], classes[0], classes[0]]
        same(
            made.array("prediction"), np.array([classes[1], classes[0], classes[0]], object if kind == "any" else kind)
        )


def test_only_what_is_asked_is_given_in_its_order() -> None:
    finish = Finish("logistic", {"prediction": "int64", "probability": "float64"}, (0, 1))
    raw = np.array([[2.0]])
    assert list(finish.outputs(raw, ["probability", "prediction"])) == ["probability", "prediction"]
    assert list(finish.outputs(raw, ["prediction"])) == ["prediction"]
    assert isinstance(finish.outputs(raw, ["prediction"]), Rows)


def test_a_threshold_decides_from_the_probability() -> None:
    raw = np.array([[-2.0], [-0.5], [0.5], [2.0]])
    fields = {"prediction": "string", "probability": "float64"}
    for positive, expected in {1: ["no", "yes", "yes", "yes"], 0: ["no", "no", "no", "yes"]}.items():
        numbers = {"threshold": special.expit(-0.5), "positive": positive}
        finish = Finish("logistic", fields, ("no", "yes"), numbers)
        assert finish.outputs(raw, ["prediction"]).array("prediction").tolist() == expected
        assert list(finish.outputs(raw, ["prediction", "probability"])) == ["prediction", "probability"]


def test_a_finish_is_told_and_told_again() -> None:
    finish = Finish("logistic", {"prediction": "any", "probability": "float64"}, ("a", 1), {"threshold": 0.3})
    assert Finish.retold(*finish.told()) == finish
    with pytest.raises(ValueError, match="no function"):
        Finish.retold({**finish.told()[0], "after": "guess"}, {})
    with pytest.raises(ValueError, match="no link"):
        Finish.retold({**finish.told()[0], "link": "guess"}, {})


@pytest.mark.parametrize("model", [svm.SVC(), linear_model.RidgeClassifier()], ids=["kernel", "many labels"])
def test_an_estimator_of_another_formula_is_not_compiled(model: Any) -> None:
    target = SPECIES if isinstance(model, svm.SVC) else np.column_stack([SPECIES == 0, SPECIES == 1]).astype(int)
    with pytest.raises(NotCompiled):
        Pair.of(model.fit(IRIS, target))
