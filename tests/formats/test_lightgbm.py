"""LightGBM models: recognised by content, their own signature and answers, bare and inside pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

import bimodal
from bimodal import formats
from bimodal.errors import ModelError
from bimodal.field import Field
from bimodal.rows import Rows
from bimodal.runtimes.exact.program import Exact
from tests.boosters import frame, kinds, loaded, numbers, rows_of, same, sums
from tests.models import IRIS_FRAME, NAMES, SPECIES

TOLD = {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5, "min_data_per_group": 5}


def trained(folder: Path, **told: Any) -> tuple[Path, lgb.Booster]:
    """On the frame, with its categories."""
    data = lgb.Dataset(frame(), kinds())
    booster = lgb.train({**TOLD, "objective": "multiclass", "num_class": 3, **told}, data, 8)
    booster.save_model(folder / "model.txt")
    return folder / "model.txt", booster


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    path, _ = trained(tmp_path)
    other = path.rename(tmp_path / "no_suffix")
    assert formats.recognise(str(other)).name == "lightgbm"
    assert loaded(other).facts == {"objective": "multiclass num_class:3", "trees": 24}


def test_other_text_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("tree of life\n")
    with pytest.raises(ModelError, match="is not a model that Bimodal knows"):
        formats.recognise(str(tmp_path / "model.txt"))


def test_a_damaged_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("tree\nversion=v4\nnum_class=1\n\nend of trees\n")
    with pytest.raises(ModelError, match="is no model that LightGBM"):
        loaded(tmp_path / "model.txt")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_file_that_was_cut_off_says_so(share: float, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(60), "plan": pd.Categorical(["free", "pro", "team"] * 20)})
    file = tmp_path / "model.txt"
    lgb.train({"verbose": -1, "min_data_in_leaf": 1}, lgb.Dataset(frame, frame["x"] % 3), 3).save_model(file)
    whole = file.read_text()
    trees = whole.index("end of trees")
    file.write_text(whole[: int(trees * share)])
    with pytest.raises(ModelError, match=r"model\.txt is cut off: a LightGBM model ends with"):
        bimodal.load(file)
    file.write_text(whole.rstrip()[:-2])  # within its last line, the categories
    with pytest.raises(ModelError, match="is cut off"):
        bimodal.load(file)


def test_names_and_categories_are_the_booster_s(tmp_path: Path) -> None:
    path, _ = trained(tmp_path)
    signature = loaded(path).signature
    known = {each.name: (each.type, each.categories, each.closed, each.nullable) for each in signature.inputs}
    assert known == {
        "age": ("float64", None, False, True),
        "visits": ("float64", None, False, True),
        "city": ("string", ("Pune", "Oslo", "Ede", "Lima"), False, True),
        "zone": ("float64", (10, 20, 30), False, True),
    }
    assert [(each.name, each.type, each.shape) for each in signature.outputs] == [
        ("prediction", "int64", ()),
        ("probability", "float64", (3,)),
    ]
    assert signature.classes == (0, 1, 2)


def test_a_frame_gets_the_booster_s_own_answers(tmp_path: Path) -> None:
    path, booster = trained(tmp_path)
    answer = bimodal.load(path).predict(frame(), outputs=["prediction", "probability"])
    expected = np.asarray(booster.predict(frame()))
    assert answer["prediction"].tolist() == expected.argmax(axis=1).tolist()
    assert same(answer.filter(like="probability").to_numpy(), expected)


def test_a_category_it_has_not_seen_is_a_missing_value_as_for_the_library(tmp_path: Path) -> None:
    path, booster = trained(tmp_path)
    strange = frame().head(50).assign(city=pd.Categorical(["Rome"] * 50), zone=pd.Categorical([40] * 50))
    expected = np.asarray(booster.predict(strange))
    model = loaded(path)
    assert model.lower is not None
    rows = rows_of(strange, list(strange.columns))
    for runtime in (model.runtime, Exact(model.lower())):
        assert same(runtime.run(rows, ["probability"]).array("probability"), expected)


def test_columns_that_were_called_categorical_though_they_were_numbers_are_told_apart(tmp_path: Path) -> None:
    table = frame().assign(visits=frame()["visits"] * 3)
    data = lgb.Dataset(table, kinds(), categorical_feature=["visits", "city", "zone"])
    booster = lgb.train({**TOLD, "objective": "multiclass", "num_class": 3}, data, 5)
    booster.save_model(tmp_path / "model.txt")
    model = loaded(tmp_path / "model.txt")
    assert model.signature.input("visits").categories is None
    assert model.signature.input("city").type == "string"
    expected = np.asarray(booster.predict(table))
    assert model.lower is not None
    for runtime in (model.runtime, Exact(model.lower())):
        answer = runtime.run(rows_of(table, list(table.columns)), ["probability"]).array("probability")
        assert same(answer, expected)


def test_categories_that_the_file_does_not_place_are_placed_by_the_sample(tmp_path: Path) -> None:
    """Ordered categories are not among the columns that the text lists as categorical."""
    table = frame()[["visits", "city"]].assign(visits=frame()["visits"] % 3)
    table["city"] = table["city"].cat.as_ordered()
    booster = lgb.train({**TOLD, "objective": "binary"}, lgb.Dataset(table, kinds() > 0), 5)
    booster.save_model(tmp_path / "model.txt")
    with pytest.raises(ModelError, match="columns of categories, and does not say which; --sample FILE shows them"):
        loaded(tmp_path / "model.txt")
    sample = (Field("visits", "int64", example=1), Field("city", "string", example="Oslo"))
    model = loaded(tmp_path / "model.txt", sample=sample)
    answer = model.runtime.run(rows_of(table, ["visits", "city"]), ["probability"]).array("probability")
    assert same(answer[:, 1].copy(), np.asarray(booster.predict(table)))


def test_a_model_of_nameless_columns_takes_them_by_place_or_by_new_names(tmp_path: Path) -> None:
    booster = lgb.train({**TOLD, "objective": "regression"}, lgb.Dataset(numbers(), sums()), 5)
    booster.save_model(tmp_path / "model.txt")
    signature = loaded(tmp_path / "model.txt").signature
    assert (signature.named, signature.width, signature.classes) == (False, 5, None)
    model = loaded(tmp_path / "model.txt", features=tuple("abcde"))
    rows = Rows({name: numbers()[:, place].copy() for place, name in enumerate("abcde")})
    assert model.lower is not None
    for runtime in (model.runtime, Exact(model.lower())):
        answer = runtime.run(rows, ["prediction"]).array("prediction")
        assert same(answer, np.asarray(booster.predict(numbers())))


def test_names_with_spaces_are_spelled_as_the_sample_spells_them(tmp_path: Path) -> None:
    model = lgb.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(IRIS_FRAME, SPECIES)
    model.booster_.save_model(tmp_path / "model.txt")
    joblib.dump(model, tmp_path / "model.pkl")
    names = list(IRIS_FRAME.columns)
    assert names[0] == "sepal length (cm)"
    for file in ("model.txt", "model.pkl"):
        ours = loaded(tmp_path / file, sample=tuple(Field(name, "float64") for name in names))
        assert [each.name for each in ours.signature.inputs] == names
        assert ours.lower is not None
        for runtime in (ours.runtime, Exact(ours.lower())):
            answer = runtime.run(rows_of(IRIS_FRAME, names), ["prediction"])
            assert answer.array("prediction").tolist() == model.predict(IRIS_FRAME).tolist()  # type: ignore[union-attr]


def test_training_that_stopped_early_answers_up_to_its_best_round(tmp_path: Path) -> None:
    half = len(numbers()) // 2
    model = lgb.LGBMRegressor(n_estimators=80, learning_rate=0.8, verbose=-1, n_jobs=1)
    stop = lgb.early_stopping(3, verbose=False)
    model.fit(numbers()[:half], sums()[:half], eval_X=numbers()[half:], eval_y=sums()[half:], callbacks=[stop])
    assert 0 < model.best_iteration_ < 80
    joblib.dump(model, tmp_path / "model.pkl")
    model.booster_.save_model(tmp_path / "model.txt")
    for name in ("model.pkl", "model.txt"):
        ours = loaded(tmp_path / name)
        assert ours.lower is not None
        for runtime in (ours.runtime, Exact(ours.lower())):
            answer = runtime.run(Rows({"input": numbers()}), ["prediction"]).array("prediction")
            assert same(answer, np.asarray(model.predict(numbers())))


def before() -> ColumnTransformer:
    unknown: dict[str, Any] = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    return ColumnTransformer(
        [("numbers", "passthrough", ["age", "visits"]), ("texts", OrdinalEncoder(**unknown), ["city"])]
    )


def sparse() -> ColumnTransformer:
    return ColumnTransformer(
        [("numbers", SimpleImputer(), ["age", "visits"]), ("texts", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )


TEXTS = frame().assign(city=frame()["city"].astype(object).fillna("none").astype(str))
PLAIN = frame()[["age", "visits"]]
LABELS = np.where(kinds() > 0, "stays", "leaves")
SMALL: dict[str, Any] = {"n_estimators": 8, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}
WRAPPED: dict[str, tuple[Any, Any, Any]] = {
    "categories": (lgb.LGBMClassifier(**SMALL, min_data_per_group=5, max_cat_to_onehot=1), frame(), kinds()),
    "labels of text": (lgb.LGBMClassifier(**SMALL), PLAIN, LABELS),
    "an array": (lgb.LGBMClassifier(**SMALL), IRIS_FRAME.to_numpy(), NAMES),
    "one by one": (lgb.LGBMClassifier(**SMALL, objective="multiclassova"), PLAIN, kinds()),
    "a regressor": (lgb.LGBMRegressor(**SMALL), frame(), kinds() * 1.5),
    "counts": (lgb.LGBMRegressor(**SMALL, objective="poisson"), PLAIN, kinds()),
    "a forest": (lgb.LGBMClassifier(**SMALL, boosting_type="rf", subsample=0.5, subsample_freq=1), PLAIN, LABELS),
    "a pipeline": (make_pipeline(before(), lgb.LGBMClassifier(**SMALL)), TEXTS, LABELS),
    "a sparse pipeline": (make_pipeline(sparse(), lgb.LGBMClassifier(**SMALL)), TEXTS, kinds()),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
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
        assert answer.array("prediction").tolist() == model.predict(table).tolist()
        if "probability" in names:
            assert same(answer.array("probability"), np.ascontiguousarray(model.predict_proba(table)))


def test_an_objective_of_one_s_own_gives_raw_scores(tmp_path: Path) -> None:
    def squares(scores: Any, data: Any) -> tuple[Any, Any]:
        return scores - data.get_label(), np.ones(len(scores))

    booster = lgb.train({**TOLD, "objective": squares}, lgb.Dataset(numbers(), sums()), 5)
    booster.save_model(tmp_path / "model.txt")
    model = loaded(tmp_path / "model.txt")
    assert model.warnings == ("it learnt an objective of its own: prediction is its raw score",)
    assert model.lower is not None
    for runtime in (model.runtime, Exact(model.lower())):
        answer = runtime.run(Rows({"input": numbers()}), ["prediction"]).array("prediction")
        assert same(answer, np.asarray(booster.predict(numbers())))


def test_an_estimator_that_was_not_trained_says_so(tmp_path: Path) -> None:
    joblib.dump(lgb.LGBMClassifier(), tmp_path / "model.pkl")
    with pytest.raises(ModelError, match="holds LGBMClassifier, which is not fitted: call fit"):
        loaded(tmp_path / "model.pkl")
