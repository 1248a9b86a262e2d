"""CatBoost models: recognised by content, their own signature and answers, bare and inside pickles."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import catboost
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import bimodal
from bimodal import formats
from bimodal.errors import ModelError
from bimodal.field import Field
from bimodal.rows import Rows
from tests.boosters import frame, kinds, loaded, numbers, rows_of, same, sums

TOLD: dict[str, Any] = {"iterations": 6, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
LABELS = np.where(kinds() > 0, "stays", "leaves")


@cache
def table() -> pd.DataFrame:
    """Numbers, some missing; categories of text and of integers; a text."""
    notes = np.random.default_rng(0).choice(["likes tea", "likes coffee very much", "no calls"], len(frame()))
    city = frame()["city"].astype(object).fillna("none").astype(str)
    return frame().assign(city=city, zone=frame()["zone"].astype(int), note=notes)


@cache
def classifier() -> catboost.CatBoostClassifier:
    model = catboost.CatBoostClassifier(**TOLD, cat_features=["city", "zone"], text_features=["note"])
    model.fit(table(), LABELS)
    return model


def saved(model: Any, folder: Path) -> Path:
    model.save_model(str(folder / "model.cbm"))
    return folder / "model.cbm"


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    other = saved(classifier(), tmp_path).rename(tmp_path / "no_suffix")
    assert formats.recognise(str(other)).name == "catboost"
    assert loaded(other).facts == {"loss": "Logloss", "trees": 6}


def test_a_file_that_was_cut_is_no_model(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="is no model that CatBoost"):
        loaded(path)


def test_a_file_that_is_found_damaged_at_the_first_answer_is_no_model(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"class_names"', b'"class_nbmes"'))
    with pytest.raises(ModelError, match=r"is no model that CatBoost .* can read \(.*class_nbmes"):
        loaded(path)


@pytest.mark.parametrize(
    "words", [b'"loss_function"\xff', b'"loss_function"}', b'"loss_function":["type","Logloss","params",{}],']
)
def test_a_file_whose_own_words_are_damaged_is_no_model(tmp_path: Path, words: bytes) -> None:
    path = saved(classifier(), tmp_path)
    whole = path.read_bytes()
    start = whole.index(b'"loss_function":{"type":"Logloss","params":{}},')
    path.write_bytes(whole[:start] + words + whole[start + len(words) :])
    with pytest.raises(ModelError, match=r"is no model that CatBoost .* can read"):
        loaded(path)


def test_names_types_and_labels_are_the_model_s(tmp_path: Path) -> None:
    signature = loaded(saved(classifier(), tmp_path)).signature
    assert [(each.name, each.type, each.nullable) for each in signature.inputs] == [
        ("age", "float64", True),
        ("visits", "float64", True),
        ("city", "any", False),
        ("zone", "any", False),
        ("note", "string", False),
    ]
    assert [(each.name, each.type, each.shape) for each in signature.outputs] == [
        ("prediction", "string", ()),
        ("probability", "float64", (2,)),
    ]
    assert signature.classes == ("leaves", "stays")


def test_a_frame_gets_the_model_s_own_answers(tmp_path: Path) -> None:
    model = bimodal.load(saved(classifier(), tmp_path))
    answer = model.predict(table(), outputs=["prediction", "probability"])
    assert answer["prediction"].tolist() == classifier().predict(table()).tolist()
    assert same(answer.filter(like="probability").to_numpy(), classifier().predict_proba(table()))


def answers(path: Path, records: list[Any], name: str) -> Any:
    """By the runtime directly, for rows as a request would give them."""
    model = loaded(path)
    rows, good, problems = model.signature.check(records)
    assert good.all(), problems
    return model.runtime.run(rows, [name]).array(name)


def test_a_category_of_integers_is_taken_as_text_too_and_none_is_refused(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path)
    row = {"age": 40, "visits": 2, "city": "Oslo", "zone": 20, "note": "likes tea"}
    one, other = answers(path, [row, {**row, "zone": "20"}], "probability").tolist()
    assert one == other
    (problem,) = loaded(path).signature.check([{**row, "city": None}])[2]
    assert (problem.code, problem.column) == ("null", "city")


def test_the_sample_settles_the_type_of_a_category(tmp_path: Path) -> None:
    sample = (Field("zone", "int64", example=10), Field("city", "string", example="Oslo"))
    model = loaded(saved(classifier(), tmp_path), sample=sample)
    assert [model.signature.input(name).type for name in ("zone", "city")] == ["int64", "string"]
    rows = Rows({**rows_of(table(), list(table().columns)), "zone": table()["zone"].to_numpy(np.int64)})
    answer = model.runtime.run(rows, ["probability"]).array("probability")
    assert same(answer, classifier().predict_proba(table()))


LOSSES: dict[str, tuple[Any, Any]] = {
    "RMSE": (catboost.CatBoostRegressor, sums()),
    "Poisson": (catboost.CatBoostRegressor, np.abs(sums())),
    "Tweedie:variance_power=1.5": (catboost.CatBoostRegressor, np.abs(sums())),
    "RMSEWithUncertainty": (catboost.CatBoostRegressor, sums()),
    "MultiRMSE": (catboost.CatBoostRegressor, np.stack([sums(), -sums()], axis=1)),
    "Logloss": (catboost.CatBoostClassifier, sums() > 0),
    "CrossEntropy": (catboost.CatBoostClassifier, (sums() > 0).astype(int)),
    "MultiClass": (catboost.CatBoostClassifier, np.digitize(sums(), [-0.5, 0.5])),
    "MultiClassOneVsAll": (catboost.CatBoostClassifier, np.digitize(sums(), [-0.5, 0.5])),
    "MultiLogloss": (catboost.CatBoostClassifier, (np.stack([sums(), -sums()], axis=1) > 0).astype(int)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_answers_as_its_estimator_does(loss: str, tmp_path: Path) -> None:
    kind, target = LOSSES[loss]
    model = kind(**TOLD, loss_function=loss).fit(numbers(), target)
    joblib.dump(model, tmp_path / "model.pkl")
    expected = model.predict(numbers())
    for path in (saved(model, tmp_path), tmp_path / "model.pkl"):
        ours = loaded(path)
        assert (ours.signature.named, ours.signature.width) == (False, 5)
        names = [each.name for each in ours.signature.outputs]
        answer = ours.runtime.run(Rows({"input": numbers()}), names)
        assert answer.array("prediction").tolist() == expected.reshape(answer.array("prediction").shape).tolist()
        assert ("probability" in names) is (kind is catboost.CatBoostClassifier)
        if "probability" in names:
            assert same(answer.array("probability"), model.predict_proba(numbers()))


def test_nameless_columns_with_categories_go_by_place(tmp_path: Path) -> None:
    rows = table()[["age", "city"]].to_numpy(object)
    model = catboost.CatBoostClassifier(**TOLD, cat_features=[1]).fit(rows, LABELS)
    path = saved(model, tmp_path)
    assert not loaded(path).signature.named
    asked = [[age if age == age else None, city] for age, city in rows[:40].tolist()]
    assert answers(path, asked, "prediction").tolist() == model.predict(rows[:40]).tolist()


def test_an_estimator_in_a_pickle_has_its_own_answers(tmp_path: Path) -> None:
    joblib.dump(classifier(), tmp_path / "model.pkl")
    model = loaded(tmp_path / "model.pkl")
    rows = Rows({**rows_of(table(), list(table().columns)), "zone": table()["zone"].to_numpy(object)})
    answer = model.runtime.run(rows, ["prediction", "probability"])
    assert answer.array("prediction").tolist() == classifier().predict(table()).tolist()
    assert same(answer.array("probability"), classifier().predict_proba(table()))


def test_the_last_step_of_a_pipeline_has_its_own_answers(tmp_path: Path) -> None:
    before = ColumnTransformer([("numbers", "passthrough", ["age", "visits"]), ("texts", OrdinalEncoder(), ["city"])])
    model = make_pipeline(before, catboost.CatBoostClassifier(**TOLD)).fit(table(), LABELS)
    joblib.dump(model, tmp_path / "model.pkl")
    ours = loaded(tmp_path / "model.pkl")
    answer = ours.runtime.run(rows_of(table(), ["age", "visits", "city"]), ["prediction"])
    assert answer.array("prediction").tolist() == model.predict(table()).tolist()


def test_an_estimator_that_was_not_trained_says_so(tmp_path: Path) -> None:
    joblib.dump(catboost.CatBoostClassifier(), tmp_path / "model.pkl")
    with pytest.raises(ModelError, match="holds CatBoostClassifier, which is not fitted: call fit"):
        loaded(tmp_path / "model.pkl")
