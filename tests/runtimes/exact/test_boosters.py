"""XGBoost and LightGBM as Programs: their own bits, in bulk and row by row, at every threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb

from bimodal.errors import NotCompiled
from bimodal.rows import Array, Dictionary, Rows
from bimodal.runtimes.exact.program import Exact, Program
from tests.boosters import frame, kinds, loaded, near, numbers, rows_of, same, sums

HIGH = (sums() > 0.4).astype(int)
THREE = np.digitize(sums(), [-0.5, 0.5])
POSITIVE = np.abs(sums()) + 0.1
SHARE = 1 / (1 + np.exp(-sums()))
SEVERAL = np.stack([sums(), -sums(), sums() * 2], axis=1)
GROUPS = [100] * 8

XGBOOST: dict[str, tuple[Any, dict[str, Any]]] = {
    "logistic": (HIGH, {"objective": "binary:logistic"}),
    "logistic from another base": (HIGH, {"objective": "binary:logistic", "base_score": 0.3}),
    "logistic regression": (HIGH, {"objective": "reg:logistic"}),
    "raw": (HIGH, {"objective": "binary:logitraw"}),
    "hinge": (HIGH, {"objective": "binary:hinge"}),
    "classes": (THREE, {"objective": "multi:softprob", "num_class": 3}),
    "best class": (THREE, {"objective": "multi:softmax", "num_class": 3}),
    "square": (sums(), {"objective": "reg:squarederror"}),
    "absolute": (sums(), {"objective": "reg:absoluteerror"}),
    "quantiles": (sums(), {"objective": "reg:quantileerror", "quantile_alpha": [0.3, 0.6]}),
    "counts": (POSITIVE, {"objective": "count:poisson"}),
    "gamma": (POSITIVE, {"objective": "reg:gamma"}),
    "tweedie": (POSITIVE, {"objective": "reg:tweedie"}),
    "survival": (POSITIVE, {"objective": "survival:cox"}),
    "ranking": (THREE, {"objective": "rank:ndcg"}),
    "several targets": (SEVERAL, {"objective": "reg:squarederror"}),
    "several targets a leaf": (SEVERAL, {"objective": "reg:squarederror", "multi_strategy": "multi_output_tree"}),
    "several labels": ((SEVERAL > 0).astype(int), {"objective": "binary:logistic"}),
    "forest": (sums(), {"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.5}),
    "dart": (sums(), {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.3}),
    "single leaves": (HIGH, {"objective": "binary:logistic", "gamma": 1e9}),
}
LIGHTGBM: dict[str, tuple[Any, dict[str, Any]]] = {
    "binary": (HIGH, {"objective": "binary"}),
    "binary, steep": (HIGH, {"objective": "binary", "sigmoid": 2.5}),
    "zeros missing": (HIGH, {"objective": "binary", "zero_as_missing": True}),
    "nothing missing": (HIGH, {"objective": "binary", "use_missing": False}),
    "classes": (THREE, {"objective": "multiclass", "num_class": 3}),
    "classes one by one": (THREE, {"objective": "multiclassova", "num_class": 3, "sigmoid": 1.7}),
    "square": (sums(), {"objective": "regression"}),
    "root": (POSITIVE, {"objective": "regression", "reg_sqrt": True}),
    "absolute": (sums(), {"objective": "regression_l1"}),
    "huber": (sums(), {"objective": "huber"}),
    "quantile": (sums(), {"objective": "quantile"}),
    "counts": (POSITIVE, {"objective": "poisson"}),
    "gamma": (POSITIVE, {"objective": "gamma"}),
    "tweedie": (POSITIVE, {"objective": "tweedie"}),
    "shares": (SHARE, {"objective": "cross_entropy"}),
    "shares, other": (SHARE, {"objective": "cross_entropy_lambda"}),
    "ranking": (THREE, {"objective": "lambdarank"}),
    "forest": (HIGH, {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
    "dart": (sums(), {"objective": "regression", "boosting": "dart"}),
    "single leaves": (sums() * 0, {"objective": "regression"}),
}


def saved_xgboost(folder: Path, target: Any, parameters: dict[str, Any]) -> tuple[Path, xgb.Booster]:
    data = xgb.DMatrix(numbers(), target, nthread=1)
    if parameters["objective"].startswith("rank"):
        data.set_group(GROUPS)
    booster = xgb.train({"nthread": 1, "max_depth": 4, "verbosity": 0, **parameters}, data, 12)
    booster.save_model(folder / "model.ubj")
    return folder / "model.ubj", booster


def saved_lightgbm(folder: Path, target: Any, parameters: dict[str, Any]) -> tuple[Path, lgb.Booster]:
    groups = GROUPS if "rank" in parameters["objective"] else None
    data = lgb.Dataset(numbers(), target, group=groups)
    told = {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5, **parameters}
    booster = lgb.train(told, data, 12)
    booster.save_model(folder / "model.txt")
    return folder / "model.txt", booster


def wide(program: Program, infinite: bool = False) -> Array:
    random = np.random.default_rng(6)
    table = random.normal(size=(2000, numbers().shape[1]))
    table[random.random(table.shape) < 0.1] = np.nan
    if infinite:
        table[::50, 0], table[::51, 1] = np.inf, -np.inf
    return near(program, table)


def prove(path: Path, own: Any, *, infinite: bool = False) -> None:
    """The Program's answers are the booster's own ones, all at once and row by row, and the native runtime's."""
    model = loaded(path)
    assert model.lower is not None
    program = model.lower()
    table = wide(program, infinite)
    rows, names = Rows({"input": table}), [each.name for each in model.signature.outputs]
    answers = Exact(program).run(rows, names)
    expected = own(table)
    told = answers.array(names[-1])
    assert same(told[:, 1] if told.shape == (*expected.shape, 2) else told, expected.astype(told.dtype))
    native = model.runtime.run(rows, names)
    for name in names:
        assert same(answers.array(name), native.array(name)), name
    for place in range(0, len(table), 37):
        alone = Exact(program).run(rows.slice(place, place + 1), names)
        assert all(same(alone.array(name), answers.array(name)[place : place + 1]) for name in names)


@pytest.mark.parametrize("name", XGBOOST)
def test_xgboost_has_its_own_bits(name: str, tmp_path: Path) -> None:
    path, booster = saved_xgboost(tmp_path, *XGBOOST[name])
    prove(path, lambda table: booster.predict(xgb.DMatrix(table, nthread=1)))


@pytest.mark.parametrize("name", LIGHTGBM)
def test_lightgbm_has_its_own_bits(name: str, tmp_path: Path) -> None:
    path, booster = saved_lightgbm(tmp_path, *LIGHTGBM[name])
    prove(path, lambda table: booster.predict(table, num_threads=1), infinite=True)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["logistic", "classes", "dart"])
def test_xgboost_has_its_own_bits_on_a_hundred_thousand_rows(name: str, tmp_path: Path) -> None:
    path, booster = saved_xgboost(tmp_path, *XGBOOST[name])
    lower = loaded(path).lower
    assert lower is not None
    table = np.random.default_rng(0).normal(size=(100_000, numbers().shape[1]))
    finish = Exact(lower()).run(Rows({"input": table}), [*lower().finish.fields])
    told = finish.array([*lower().finish.fields][-1])
    expected = booster.predict(xgb.DMatrix(table, nthread=1))
    assert same(told[:, 1] if told.ndim > expected.ndim else told, expected)


def test_categories_by_number_are_read_as_lightgbm_reads_them(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = numbers().copy()
    table[:, 3], table[:, 4] = random.integers(0, 40, len(table)), random.integers(-2, 6, len(table))
    target = (sums() + (table[:, 3] % 3 == 1) * 2 > 1).astype(int)
    data = lgb.Dataset(table, target, categorical_feature=[3, 4])
    told = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1}
    booster = lgb.train(told, data, 15)
    booster.save_model(tmp_path / "model.txt")
    asked = random.normal(size=(3000, 5))
    odd = [0, 1, 2.7, 5, -1, -0.5, 39, 40, 1000, 2.0**31, 1e300, -1e300, np.inf, -np.inf, np.nan, 31, 32, 63, 64]
    asked[:, 3], asked[:, 4] = random.choice(odd, len(asked)), random.choice(odd, len(asked))
    model = loaded(tmp_path / "model.txt")
    assert model.lower is not None
    answer = Exact(model.lower()).run(Rows({"input": asked}), ["probability"]).array("probability")
    assert same(answer[:, 1].copy(), np.asarray(booster.predict(asked)))


def test_categories_by_number_are_read_as_xgboost_reads_them(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = numbers().copy()
    table[:, 3] = random.integers(0, 40, len(table))
    types = ["q", "q", "q", "c", "q"]
    data = xgb.DMatrix(table, (table[:, 3] % 3 == 1) + sums(), feature_types=types, nthread=1)
    booster = xgb.train({"max_cat_to_onehot": 1, "max_depth": 3, "nthread": 1}, data, 9)
    booster.save_model(tmp_path / "model.json")
    asked = random.normal(size=(2000, 5))
    asked[:, 3] = random.choice([0, 1, 2.7, 5, -1, -0.5, 39, 40, 1000, 2.0**24, 2.0**25, np.nan, 31, 32], len(asked))
    model = loaded(tmp_path / "model.json")
    assert model.lower is not None
    answer = Exact(model.lower()).run(Rows({"input": asked}), ["prediction"]).array("prediction")
    assert same(answer, booster.predict(xgb.DMatrix(asked, feature_types=types, nthread=1)))


def framed_xgboost(folder: Path) -> tuple[Path, Array]:
    data = xgb.DMatrix(frame(), kinds(), enable_categorical=True, nthread=1)
    told = {"objective": "multi:softprob", "num_class": 3, "max_cat_to_onehot": 1, "nthread": 1}
    booster = xgb.train(told, data, 10)
    booster.save_model(folder / "model.json")
    return folder / "model.json", booster.predict(data)


def framed_lightgbm(folder: Path) -> tuple[Path, Array]:
    told = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "min_data_per_group": 5, "num_threads": 1}
    booster = lgb.train(told, lgb.Dataset(frame(), kinds()), 10)
    booster.save_model(folder / "model.txt")
    return folder / "model.txt", np.asarray(booster.predict(frame()))


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_categories_of_a_frame_become_the_codes_of_the_training(library: str, encoded: bool, tmp_path: Path) -> None:
    path, expected = (framed_xgboost if library == "xgboost" else framed_lightgbm)(tmp_path)
    model = loaded(path)
    assert model.lower is not None
    rows = rows_of(frame(), list(frame().columns))
    if encoded:
        rows = Rows({**rows, "city": Dictionary.encode(rows.array("city").tolist())})
    program = model.lower()
    assert same(Exact(program).run(rows, ["probability"]).array("probability"), expected)
    assert same(model.runtime.run(rows, ["probability"]).array("probability"), expected)
    program.save(tmp_path / "exact.npz")
    again = Exact(Program.load(tmp_path / "exact.npz")).run(rows, ["prediction", "probability"])
    assert same(again.array("probability"), expected)
    assert again.array("prediction").tolist() == expected.argmax(axis=1).tolist()


def test_a_linear_booster_says_why_it_is_not_compiled(tmp_path: Path) -> None:
    path, booster = saved_xgboost(tmp_path, sums(), {"booster": "gblinear", "objective": "reg:squarederror"})
    model = loaded(path)
    assert model.lower is not None
    with pytest.raises(NotCompiled, match="not made of trees"):
        model.lower()
    table = numbers()
    answer = model.runtime.run(Rows({"input": table}), ["prediction"]).array("prediction")
    assert same(answer, booster.predict(xgb.DMatrix(table, nthread=1)))


def test_linear_trees_say_why_they_are_not_compiled(tmp_path: Path) -> None:
    data = lgb.Dataset(np.nan_to_num(numbers()), sums(), params={"linear_tree": True})
    lgb.train({"linear_tree": True, "verbosity": -1}, data, 3).save_model(tmp_path / "model.txt")
    lower = loaded(tmp_path / "model.txt").lower
    assert lower is not None
    with pytest.raises(NotCompiled, match="linear trees"):
        lower()


@pytest.mark.parametrize(
    ("objective", "classes"), [("binary:logistic", 1), ("count:poisson", 1), ("multi:softprob", 4)]
)
def test_links_are_xgboosts_own_far_from_zero(objective: str, classes: int, tmp_path: Path) -> None:
    """Scores as large as they come, by a margin to begin with, which the kernel's formula gets as they are."""
    told = {"objective": objective, "nthread": 1, **({"num_class": classes} if classes > 1 else {})}
    target = np.arange(len(numbers())) % max(classes, 2)
    booster = xgb.train(told, xgb.DMatrix(numbers(), target, nthread=1), 2)
    booster.save_model(tmp_path / "model.ubj")
    random = np.random.default_rng(0)
    data = xgb.DMatrix(np.zeros((20_000, 5)), nthread=1)
    margins = np.concatenate([random.uniform(-120, 120, (10_000, classes)), random.normal(0, 3, (10_000, classes))])
    data.set_base_margin(margins.astype(np.float32))
    lower = loaded(tmp_path / "model.ubj").lower
    assert lower is not None
    finish = lower().finish
    raw = np.ascontiguousarray(booster.predict(data, output_margin=True).reshape(-1, classes))
    name = list(finish.fields)[-1]
    told_by_link = finish.outputs(raw, [name]).array(name)
    expected = booster.predict(data)
    assert same(told_by_link[:, 1].copy() if objective == "binary:logistic" else told_by_link, expected)
