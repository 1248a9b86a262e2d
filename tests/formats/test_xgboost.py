"""XGBoost models: recognised by content, their own signature and answers, bare and inside pickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import bimodal
from bimodal import formats
from bimodal.errors import ModelError
from bimodal.formats.contract import Source
from bimodal.rows import Rows
from bimodal.runtimes.exact.program import Exact, Program
from tests.boosters import frame, kinds, loaded, numbers, rows_of, same, sums

TOLD = {"nthread": 1, "max_depth": 3, "verbosity": 0}


def trained(folder: Path, name: str = "model.json", **told: Any) -> tuple[Path, xgb.Booster]:
    """On the frame, with its categories."""
    data = xgb.DMatrix(frame(), kinds(), enable_categorical=True, nthread=1)
    booster = xgb.train({**TOLD, "objective": "multi:softprob", "num_class": 3, **told}, data, 8)
    booster.save_model(folder / name)
    return folder / name, booster


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    path, _ = trained(tmp_path, name)
    other = path.rename(tmp_path / "no_suffix")
    assert formats.recognise(str(other)).name == "xgboost"
    assert loaded(other).facts == {"booster": "gbtree", "objective": "multi:softprob", "rounds": 8}


def test_other_json_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"rows": [1, 2, 3]}))
    with pytest.raises(ModelError, match="is not a model that Bimodal knows"):
        formats.recognise(str(tmp_path / "model.json"))


def test_what_xgboost_says_is_told_also_where_it_quotes_bytes_that_are_no_text(tmp_path: Path) -> None:
    path, _ = trained(tmp_path, "model.json")
    path.write_bytes(path.read_bytes().replace(b'"learner":', b'"learner":\xff', 1))
    with pytest.raises(ModelError, match=r"is no model that XGBoost .* can read \(.*Expecting"):
        loaded(path)


def test_a_file_that_was_cut_is_no_model(tmp_path: Path) -> None:
    path, _ = trained(tmp_path, "model.ubj")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is no model that XGBoost"):
        loaded(path)


@pytest.mark.parametrize("head", [b"binf\x00\x00\x00\x3f", b"\x00\x00\x00\x3f"])
def test_the_old_binary_format_says_how_to_save_it(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "old.model").write_bytes(head + bytes(200))
    with pytest.raises(ModelError, match=r"save it again: booster\.save_model\('model\.ubj'\)"):
        loaded(tmp_path / "old.model")


def test_names_types_and_categories_are_the_booster_s(tmp_path: Path) -> None:
    path, _ = trained(tmp_path)
    signature = loaded(path).signature
    known = {each.name: (each.type, each.categories, each.closed, each.nullable) for each in signature.inputs}
    assert known == {
        "age": ("float64", None, False, True),
        "visits": ("float64", None, False, True),
        "city": ("string", ("Pune", "Oslo", "Ede", "Lima"), True, True),
        "zone": ("float64", (10, 20, 30), True, True),
    }
    assert [(each.name, each.type, each.shape) for each in signature.outputs] == [
        ("prediction", "int64", ()),
        ("probability", "float32", (3,)),
    ]
    assert signature.classes == (0, 1, 2)


def test_a_frame_gets_the_booster_s_own_answers(tmp_path: Path) -> None:
    path, booster = trained(tmp_path)
    answer = bimodal.load(path).predict(frame(), outputs=["prediction", "probability"])
    expected = booster.predict(xgb.DMatrix(frame(), enable_categorical=True, nthread=1))
    assert answer["prediction"].tolist() == expected.argmax(axis=1).tolist()
    assert same(answer.filter(like="probability").to_numpy(), expected)


def test_what_the_library_refuses_is_refused(tmp_path: Path) -> None:
    path, _ = trained(tmp_path)
    signature = loaded(path).signature
    good = {"age": 40, "visits": 2, "city": "Oslo", "zone": 10}
    assert signature.check([good, {**good, "age": None, "city": None, "zone": None}])[2] == []
    for column, value, code in [
        ("age", np.inf, "not_finite"),
        ("age", 1e39, "out_of_range"),
        ("city", "Rome", "unknown_category"),
        ("zone", 40, "unknown_category"),
    ]:
        (problem,) = signature.check([{**good, column: value}])[2]
        assert (problem.code, problem.column) == (code, column)


def test_a_model_of_nameless_columns_takes_them_by_place_or_by_new_names(tmp_path: Path) -> None:
    booster = xgb.train({**TOLD, "objective": "binary:logistic"}, xgb.DMatrix(numbers(), sums() > 0), 5)
    booster.save_model(tmp_path / "model.ubj")
    signature = loaded(tmp_path / "model.ubj").signature
    assert (signature.named, signature.width, signature.classes) == (False, 5, (0, 1))
    model = loaded(tmp_path / "model.ubj", features=("a", "b", "c", "d", "e"))
    assert [each.name for each in model.signature.inputs] == ["a", "b", "c", "d", "e"]
    rows = Rows({name: numbers()[:, place].copy() for place, name in enumerate("abcde")})
    expected = booster.predict(xgb.DMatrix(numbers(), nthread=1))
    assert same(model.runtime.run(rows, ["probability"]).array("probability")[:, 1].copy(), expected)
    with pytest.raises(ModelError, match="--features names 2 columns; the model has 5 features"):
        loaded(tmp_path / "model.ubj", features=("a", "b"))


def test_codes_are_taken_where_the_file_holds_no_categories(tmp_path: Path) -> None:
    table = pd.DataFrame(np.nan_to_num(numbers()), columns=list("abcde")).assign(d=np.arange(len(numbers())) % 4)
    types = ["q", "q", "q", "c", "q"]
    data = xgb.DMatrix(table.to_numpy(), sums(), feature_names=list("abcde"), feature_types=types, nthread=1)
    booster = xgb.train(TOLD, data, 5)
    booster.save_model(tmp_path / "model.json")
    model = loaded(tmp_path / "model.json")
    assert model.warnings == (
        "the file does not hold the categories of d: those columns take the categories' codes, counted from 0",
    )
    answer = model.runtime.run(rows_of(table, list("abcde")), ["prediction"]).array("prediction")
    assert same(answer, booster.predict(data))


@pytest.mark.parametrize("wrapped", [True, False])
def test_training_that_stopped_early_answers_as_who_saved_it(wrapped: bool, tmp_path: Path) -> None:
    half = len(numbers()) // 2
    model = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1, learning_rate=1.0)
    high = (sums() > 0).astype(int)
    model.fit(numbers()[:half], high[:half], eval_set=[(numbers()[half:], high[half:])], verbose=False)
    booster = model.get_booster()
    assert booster.num_boosted_rounds() > model.best_iteration + 1
    (model if wrapped else booster).save_model(tmp_path / "model.ubj")
    if not wrapped:
        booster.set_attr(scikit_learn=None)
        booster.save_model(tmp_path / "model.ubj")
    bare = loaded(tmp_path / "model.ubj")
    assert any("stopped early" in each for each in bare.warnings) is not wrapped
    expected = model.predict_proba(numbers())[:, 1] if wrapped else booster.predict(xgb.DMatrix(numbers()))
    assert bare.lower is not None
    for runtime in (bare.runtime, Exact(bare.lower())):
        answer = runtime.run(Rows({"input": numbers()}), ["probability"]).array("probability")
        assert same(answer[:, 1].copy(), expected)


def of_texts() -> ColumnTransformer:
    return ColumnTransformer(
        [("numbers", SimpleImputer(), ["age", "visits"]), ("texts", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )


TEXTS = frame().assign(city=frame()["city"].astype(object).fillna("none").astype(str))
NUMBERS = frame()[["age", "visits"]]
HIGH = (kinds() > 0).astype(int)
WRAPPED: dict[str, tuple[Any, Any, Any]] = {
    "categories": (
        xgb.XGBClassifier(n_estimators=8, n_jobs=1, enable_categorical=True, max_cat_to_onehot=1),
        frame(),
        kinds(),
    ),
    "two classes": (xgb.XGBClassifier(n_estimators=8, n_jobs=1), NUMBERS, HIGH),
    "an array": (xgb.XGBClassifier(n_estimators=8, n_jobs=1), NUMBERS.to_numpy(), kinds()),
    "several labels": (xgb.XGBClassifier(n_estimators=8, n_jobs=1), NUMBERS, np.stack([HIGH, 1 - HIGH], axis=1)),
    "a regressor": (xgb.XGBRegressor(n_estimators=8, n_jobs=1), NUMBERS, kinds() * 1.5),
    "several targets": (xgb.XGBRegressor(n_estimators=8, n_jobs=1), NUMBERS, np.stack([kinds(), -kinds()], axis=1)),
    "dart": (xgb.XGBRegressor(n_estimators=8, n_jobs=1, booster="dart", rate_drop=0.3), NUMBERS, kinds() * 1.5),
    "a forest": (xgb.XGBRFClassifier(n_estimators=8, n_jobs=1), NUMBERS, HIGH),
    "a forest regressor": (xgb.XGBRFRegressor(n_estimators=8, n_jobs=1), NUMBERS, kinds() * 1.5),
    "a pipeline": (make_pipeline(of_texts(), xgb.XGBClassifier(n_estimators=8, n_jobs=1)), TEXTS, kinds()),
    "scaled": (make_pipeline(StandardScaler(), xgb.XGBRegressor(n_estimators=8, n_jobs=1)), NUMBERS, kinds() * 1.5),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_an_estimator_in_a_pickle_has_its_own_answers(name: str, tmp_path: Path) -> None:
    model, table, target = WRAPPED[name]
    joblib.dump(model.fit(table, target), tmp_path / "model.pkl")
    ours = loaded(tmp_path / "model.pkl")
    names = [each.name for each in ours.signature.outputs]
    inputs = [each.name for each in ours.signature.inputs]
    rows = rows_of(table, inputs) if isinstance(table, pd.DataFrame) else Rows({"input": table})
    assert ours.lower is not None
    for runtime in (ours.runtime, Exact(ours.lower())):
        answer = runtime.run(rows, names)
        assert np.array_equal(answer.array("prediction"), model.predict(table))
        if "probability" in names:
            assert same(answer.array("probability"), np.ascontiguousarray(model.predict_proba(table)))


@pytest.mark.parametrize("before", ["passthrough", SimpleImputer(), StandardScaler()])
def test_a_zero_of_a_sparse_matrix_is_missing_as_for_the_library(before: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"steps": random.integers(-3, 4, 900).astype(float), "size": random.normal(size=900)})
    table["code"] = random.choice([f"k{place}" for place in range(40)], 900)
    table.loc[::7, "steps"] = np.nan
    for place, tiny in enumerate([0.0, -0.0, 1e-40, 1e-320, -1e-35]):
        table.loc[place::50, "size"] = tiny
    columns = [("numbers", before, ["steps", "size"]), ("texts", OneHotEncoder(handle_unknown="ignore"), ["code"])]
    model = make_pipeline(ColumnTransformer(columns), xgb.XGBClassifier(n_estimators=20, n_jobs=1))
    model.fit(table, (table["steps"] > 0) ^ (table["code"] < "k2"))
    assert model[0].sparse_output_
    joblib.dump(model, tmp_path / "model.pkl")
    ours = loaded(tmp_path / "model.pkl")
    assert ours.lower is not None
    program = ours.lower()
    program.save(tmp_path / "exact.npz")
    rows, expected = rows_of(table, list(table.columns)), np.ascontiguousarray(model.predict_proba(table))
    for runtime in (ours.runtime, Exact(program), Exact(Program.load(tmp_path / "exact.npz"))):
        assert same(runtime.run(rows, ["probability"]).array("probability"), expected)


def test_a_pickled_estimator_s_categories_are_its_signature_s(tmp_path: Path) -> None:
    model = xgb.XGBClassifier(n_estimators=3, n_jobs=1, enable_categorical=True).fit(frame(), HIGH)
    joblib.dump(model, tmp_path / "model.pkl")
    city = loaded(tmp_path / "model.pkl").signature.input("city")
    assert (city.type, city.categories, city.closed) == ("string", ("Pune", "Oslo", "Ede", "Lima"), True)


def test_another_missing_value_stays_native(tmp_path: Path) -> None:
    table = NUMBERS.fillna(-999)
    model = xgb.XGBClassifier(n_estimators=3, n_jobs=1, missing=-999).fit(table, HIGH)
    joblib.dump(model, tmp_path / "model.pkl")
    ours = formats.recognise(str(tmp_path / "model.pkl")).load(Source(str(tmp_path / "model.pkl")))
    assert ours.lower is not None
    with pytest.raises(ModelError, match="takes -999 for a missing value"):
        ours.lower()
    answer = ours.runtime.run(rows_of(table, ["age", "visits"]), ["prediction"])
    assert answer.array("prediction").tolist() == model.predict(table).tolist()


def test_an_estimator_that_was_not_trained_says_so(tmp_path: Path) -> None:
    joblib.dump(xgb.XGBClassifier(), tmp_path / "model.pkl")
    with pytest.raises(ModelError, match="holds XGBClassifier, which is not fitted: call fit"):
        loaded(tmp_path / "model.pkl")
