"""Pipelines of scikit-learn, compiled: the library's own answers are the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # HalvingGridSearchCV needs it
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RANSACRegressor, Ridge
from sklearn.model_selection import FixedThresholdClassifier, HalvingGridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier

from bimodal.errors import NotCompiled
from bimodal.formats.contract import Source
from bimodal.formats.fitted import understand
from bimodal.rows import Dictionary, Rows
from bimodal.runtimes.exact.program import Exact
from tests.models import CASES, DIABETES, IRIS, IRIS_FRAME, PROGRESS, SPECIES, customers, prepare
from tests.runtimes.exact.oracle import Pair, same

COMPILED = {
    "logistic", "labelled", "boolean", "ridge", "selected", "threshold", "linear", "linear_column", "many_numbers",
    "frame_logistic", "mixed", "mixed_search", "closed", "imputed_text", "ordinal_forest", "target_encoded",
    "integers", "by_position", "by_mask", "by_selector", "nested", "one_hot_alone", "imputed_numbers",
    "boosted_categories", "objects", "transformed_target",
}  # fmt: skip
STEADY = {"one_hot_alone"}
NATIVE = {
    "polynomial": "PolynomialFeatures",
    "network": "MLPClassifier",
    "vectorized_column": "TfidfVectorizer",
    "function_numbers": "log1p",
    "function_text": "_upper",
    "union": "PCA",
    "scaler": "StandardScaler",
    "text": "which columns",
    "own": "which columns",
    "custom": "which columns",
}


def shop(count: int = 600) -> pd.DataFrame:
    """Numbers and texts, some missing, with so many categories that scikit-learn keeps them sparse."""
    random = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "price": random.lognormal(3, 1, count).round(2),
            "weight": random.normal(5, 2, count),
            "town": random.choice([f"town {n}" for n in range(40)], count).astype(object),
            "kind": random.choice([f"kind {n}" for n in range(25)], count).astype(object),
            "shelf": random.integers(0, 30, count),
            "new": random.random(count) < 0.3,
        }
    )
    frame.loc[::9, "weight"] = np.nan
    frame.loc[::14, "town"] = np.nan
    return frame


def sold(frame: pd.DataFrame) -> Any:
    late = frame["weight"].fillna(3) + frame["shelf"] / 10 + (frame["kind"] > "kind 2") > 6
    return np.where(late, "late", "soon")


SHOP = shop()
SOLD = sold(SHOP)
NUMBERS, TEXTS = ["price", "weight"], ["town", "kind"]


def fitted(transformer: Any, last: Any = None, columns: list[str] | None = None) -> Pair:
    data = SHOP if columns is None else SHOP[columns]
    model = make_pipeline(transformer, LogisticRegression(max_iter=3000) if last is None else last)
    return Pair.of(model.fit(data, SOLD))


def strange(frame: pd.DataFrame = SHOP) -> pd.DataFrame:
    """Rows with values that the training did not have."""
    rows = frame.head(12).copy()
    rows.loc[rows.index[:3], "town"] = ["nowhere", "", "town 1 "]
    rows.loc[rows.index[3:6], "weight"] = [0.0, -0.0, np.nan]
    rows.loc[rows.index[6:9], "price"] = [1e300, 5e-324, float(2**53 + 2)]
    return rows


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_a_known_model_is_compiled_and_answers_as_its_library(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    pair = Pair.of(case.model)
    rows = pair.rows(case.rows)
    pair.agree(rows)
    pair.alone(rows, sizes=(1, 7))
    kept = pair.kept(tmp_path)
    for output in pair.outputs:
        same(pair.exact.run(rows, pair.outputs).array(output), kept.run(rows, pair.outputs).array(output))
    if name in STEADY:
        assert pair.program.steady


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_a_model_that_is_not_compiled_says_why(name: str) -> None:
    with pytest.raises(NotCompiled, match=NATIVE[name]):
        Pair.of(CASES[name].model)


def test_sparse_columns_give_the_library_s_own_bits() -> None:
    pair = fitted(
        ColumnTransformer(
            [
                ("n", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
                ("t", OneHotEncoder(handle_unknown="ignore"), TEXTS),
                ("r", "passthrough", ["shelf", "new"]),
            ]
        )
    )
    assert pair.program.steady
    pair.agree(SHOP)
    pair.agree(strange())
    pair.alone(SHOP, sizes=(1, 7, 200))


@pytest.mark.parametrize(
    "scaler", [StandardScaler(with_mean=False), MaxAbsScaler(), RobustScaler(with_centering=False)], ids=str
)
def test_a_scaler_of_sparse_columns_multiplies_by_the_reciprocal(scaler: Any) -> None:
    inner = ColumnTransformer([("t", OneHotEncoder(handle_unknown="ignore"), TEXTS), ("n", "passthrough", ["price"])])
    pair = fitted(make_pipeline(inner, scaler))
    assert pair.program.steady
    pair.agree(SHOP)
    pair.agree(strange())


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_std=False),
        StandardScaler(with_mean=False),
        MinMaxScaler(),
        MinMaxScaler(feature_range=(-3, 7), clip=True),
        MaxAbsScaler(),
        RobustScaler(),
        RobustScaler(with_scaling=False),
    ],
    ids=str,
)
def test_scaled_numbers_reach_a_tree_bit_by_bit(scaler: Any) -> None:
    model = make_pipeline(scaler, DecisionTreeClassifier(random_state=0)).fit(SHOP[["price", "shelf"]], SOLD)
    pair = Pair.of(model)
    rows = pair.rows(SHOP[["price", "shelf"]])
    assert np.array_equal(pair.program.prepare.matrix(rows), scaler.transform(SHOP[["price", "shelf"]]))
    pair.agree(rows)


ENCODERS = [
    OneHotEncoder(handle_unknown="ignore"),
    OneHotEncoder(handle_unknown="ignore", drop="first"),
    OneHotEncoder(handle_unknown="ignore", drop="if_binary", sparse_output=False),
    OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20),
    OneHotEncoder(handle_unknown="ignore", max_categories=5),
    OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=4, drop="first"),
    OneHotEncoder(handle_unknown="ignore", dtype=np.int64),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=99, min_frequency=15, encoded_missing_value=50),
    TargetEncoder(cv=2),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_an_encoder_is_looked_up(encoder: Any) -> None:
    pair = fitted(ColumnTransformer([("t", encoder, [*TEXTS, "shelf", "new"])]))
    odd = strange()
    odd["shelf"] = [0, 1, 2, 500, -3, 29, 7, 8, 9, 10, 11, 12]
    for rows in (SHOP, odd):
        pair.prepared(rows)
        pair.agree(rows)


def test_an_encoder_that_refuses_the_unknown_is_compiled_where_the_signature_refuses_it_too() -> None:
    pair = fitted(ColumnTransformer([("t", OneHotEncoder(), ["kind", "shelf"]), ("o", OrdinalEncoder(), ["kind"])]))
    assert all(each.closed for each in pair.signature.inputs)
    pair.prepared(SHOP)
    pair.agree(SHOP)


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value="none"),
        SimpleImputer(strategy="constant", fill_value="town 3", add_indicator=True),
    ],
    ids=str,
)
def test_imputed_text_is_encoded(imputer: Any) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore")
    pair = fitted(ColumnTransformer([("t", make_pipeline(imputer, encoder), TEXTS)]))
    for rows in (SHOP, strange()):
        pair.prepared(rows)
        pair.agree(rows)


def test_imputed_integers_are_encoded() -> None:
    encoder = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    pair = fitted(ColumnTransformer([("t", encoder, ["shelf", "kind"]), ("n", SimpleImputer(), ["weight"])]))
    for rows in (SHOP, strange()):
        pair.prepared(rows)
        pair.agree(rows)


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median", add_indicator=True),
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value=-7),
        FeatureUnion([("a", SimpleImputer()), ("b", MissingIndicator(features="all"))]),
        FeatureUnion(
            [("a", SimpleImputer()), ("b", MissingIndicator(error_on_new=False))], transformer_weights={"b": 3}
        ),
    ],
    ids=str,
)
def test_missing_numbers_are_imputed_and_told(imputer: Any) -> None:
    pair = fitted(make_pipeline(imputer, StandardScaler()), columns=["price", "weight", "shelf"])
    rows = strange()[["price", "weight", "shelf"]]
    rows.loc[rows.index[0], ["price", "shelf"]] = np.nan
    pair.prepared(SHOP)
    pair.prepared(rows)
    pair.agree(rows)
    pair.alone(rows)


@pytest.mark.filterwarnings("ignore:Skipping features")
@pytest.mark.parametrize("keep", [False, True])
def test_a_column_that_was_always_empty_is_dropped_or_kept(keep: bool) -> None:
    data = SHOP[["price", "shelf"]].assign(weight=np.nan)
    pair = Pair.of(make_pipeline(SimpleImputer(keep_empty_features=keep), LogisticRegression()).fit(data, SOLD))
    assert pair.program.prepare.width == 2 + keep
    pair.prepared(data)
    pair.agree(data)


def test_encoded_numbers_are_scaled_and_selected() -> None:
    encoder = make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2), StandardScaler()
    )
    hot = make_pipeline(OneHotEncoder(handle_unknown="ignore", sparse_output=False), StandardScaler())
    pair = fitted(
        make_pipeline(
            ColumnTransformer([("o", encoder, TEXTS), ("h", hot, ["kind"]), ("w", MinMaxScaler(), ["price"])]),
            VarianceThreshold(0.01),
            SelectKBest(f_classif, k=9),
        )
    )
    for rows in (SHOP, strange()):
        pair.prepared(rows)
        pair.agree(rows)


def test_columns_are_found_by_name_position_mask_and_selector() -> None:
    hot = OneHotEncoder(handle_unknown="ignore")
    ways: list[Any] = [
        ["town", "kind"],
        [2, 3],
        slice(2, 4),
        [False, False, True, True, False, False],
        make_column_selector(dtype_include=["object", "str"]),
        lambda frame: ["kind"],
    ]
    for way in ways:
        pair = fitted(ColumnTransformer([("t", hot, way)], remainder="drop"))
        pair.prepared(SHOP)
        pair.agree(SHOP)


def test_what_remains_is_passed_through_or_followed() -> None:
    hot = OneHotEncoder(handle_unknown="ignore")
    for rest in ("passthrough", make_pipeline(SimpleImputer(), StandardScaler())):
        transformer = ColumnTransformer(
            [("t", hot, TEXTS), ("d", "drop", ["new"]), ("none", "passthrough", [])],
            remainder=rest,
            transformer_weights={"t": 0.5},
        )
        data = SHOP.assign(weight=SHOP["weight"].fillna(1.0))
        pair = Pair.of(make_pipeline(transformer, LogisticRegression(max_iter=3000)).fit(data, SOLD))
        pair.prepared(data)
        pair.agree(data)


def test_a_frame_as_output_changes_nothing() -> None:
    transformer = ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore", sparse_output=False), TEXTS), ("n", StandardScaler(), ["price"])]
    ).set_output(transform="pandas")
    pair = fitted(transformer)
    pair.prepared(SHOP)
    pair.agree(SHOP)


def test_one_column_may_be_used_twice() -> None:
    union = make_union(
        StandardScaler(), MinMaxScaler(), Binarizer(threshold=20.0), FunctionTransformer(), "passthrough"
    )
    pair = fitted(union, columns=["price", "shelf"])
    pair.prepared(SHOP[["price", "shelf"]])
    pair.agree(SHOP[["price", "shelf"]])


def test_what_stands_around_the_last_estimator_is_walked_through() -> None:
    inner = make_pipeline(prepare(), LogisticRegression(max_iter=2000))
    frame = customers()
    target = frame["visits"] > 20
    for model in (
        HalvingGridSearchCV(inner, {"logisticregression__C": [0.5, 1.0]}, cv=2, min_resources=100),
        make_pipeline(FrozenEstimator(prepare().fit(frame)), LogisticRegression(max_iter=2000)),
        FrozenEstimator(inner.fit(frame, target)),
        FixedThresholdClassifier(inner, threshold=0.3, pos_label=False, response_method="predict_proba"),
        TunedThresholdClassifierCV(inner, cv=2),
    ):
        pair = Pair.of(model.fit(frame, target))
        pair.agree(frame)
        pair.alone(frame, sizes=(7,))


def test_numbers_given_as_columns_of_their_own_are_a_model_of_vectors_too() -> None:
    """`--features` names the columns of a model that was trained on arrays."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(IRIS, SPECIES)
    loaded = understand(model, Source("model", features=("a", "b", "c", "d")))
    assert loaded.lower is not None
    rows = Rows({name: IRIS[:, place].copy() for place, name in enumerate("abcd")})
    ours = Exact(loaded.lower()).run(rows, ["prediction", "probability"])
    theirs = loaded.runtime.run(rows, ["prediction", "probability"])
    same(theirs.array("prediction"), ours.array("prediction"))
    same(theirs.array("probability"), ours.array("probability"), exactly=False)


def test_text_as_objects_and_as_a_dictionary_is_the_same() -> None:
    pair = fitted(ColumnTransformer([("t", OneHotEncoder(handle_unknown="ignore"), TEXTS)]))
    coded = pair.rows(strange())
    assert all(isinstance(coded[name], Dictionary) for name in TEXTS)
    plain = Rows({name: coded.array(name) for name in coded})
    for name in pair.outputs:
        same(pair.exact.run(coded, pair.outputs).array(name), pair.exact.run(plain, pair.outputs).array(name))


def test_unnamed_and_named_models_of_numbers_are_compiled() -> None:
    for data in (IRIS, IRIS_FRAME):
        pair = Pair.of(make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(data, SPECIES))
        pair.prepared(data)
        pair.agree(data)


class Own(StandardScaler):  # type: ignore[misc]  # scikit-learn has no types
    """A class of one's own may do anything."""


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Own(), "Own has no compiled form"),
        (Normalizer(), "Normalizer has no compiled form"),
        (FunctionTransformer(np.log1p), "FunctionTransformer of 'log1p'"),
        (SimpleImputer(missing_values=-1.0), "missing_values=-1.0"),
        (OneHotEncoder(handle_unknown="ignore", dtype=np.float32), "dtype=float32"),
        (make_pipeline(StandardScaler(), OneHotEncoder(handle_unknown="ignore")), "computed numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_that_is_not_known_exactly_is_not_compiled(step: Any, reason: str) -> None:
    with pytest.raises(NotCompiled, match=reason):
        fitted(step, columns=["price", "shelf"])


def test_a_changed_target_is_changed_back_by_numpy_s_own_function() -> None:
    ways: list[Any] = [(np.log1p, np.expm1), (np.log, np.exp), (np.sqrt, np.square), (None, None)]
    for there, back in ways:
        model = TransformedTargetRegressor(Ridge(), func=there, inverse_func=back, check_inverse=False)
        pair = Pair.of(model.fit(DIABETES, PROGRESS / 50))
        pair.agree(DIABETES)
        pair.alone(DIABETES[:30])
    pair = Pair.of(RANSACRegressor(random_state=0).fit(DIABETES, PROGRESS))
    pair.agree(DIABETES)


@pytest.mark.parametrize("change", [{"transformer": StandardScaler()}, {"func": np.log1p, "inverse_func": abs}])
def test_another_way_back_is_not_compiled(change: dict[str, Any]) -> None:
    with pytest.raises(NotCompiled, match="TransformedTargetRegressor with"):
        Pair.of(TransformedTargetRegressor(Ridge(), check_inverse=False, **change).fit(DIABETES, PROGRESS))


def test_coefficients_of_another_type_are_not_compiled() -> None:
    model = LinearRegression().fit(IRIS, SPECIES)
    model.coef_ = model.coef_.astype(np.float32)
    with pytest.raises(NotCompiled, match="LinearRegression with coefficients"):
        Pair.of(model)
