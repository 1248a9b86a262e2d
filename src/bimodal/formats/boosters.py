"""Estimators of XGBoost, LightGBM and CatBoost: what they say of their columns that scikit-learn's do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bimodal.formats.library import library
from bimodal.runtimes.exact.readers.modeltext import ModelText

# By place: the categories in the order of the training; or a type: "string", "any" where numbers are taken for text.
Categories = dict[int, Sequence[Any] | str]
# XGBoost means to refuse a category that it has not seen, and takes some for their neighbours (3.2); for LightGBM it is
# a missing value.
CLOSED = ("xgboost",)
LIBRARIES = ("xgboost", "lightgbm", "catboost")
THREADS = ("n_jobs", "num_threads", "num_thread", "nthread", "nthreads")  # as LightGBM calls it


def home(step: Any) -> str:
    """The library of an estimator that is fitted; "" where it is none of the three."""
    root = type(step).__module__.partition(".")[0]
    return root if root in LIBRARIES and fitted(step) else ""


def fitted(step: Any) -> bool:
    """Whether an estimator of one of the three was trained."""
    if callable(getattr(step, "is_fitted", None)):  # CatBoost's
        return bool(step.is_fitted())
    return getattr(step, "_Booster", None) is not None


def categories(step: Any) -> Categories:
    """The columns that were no numbers in the training."""
    root = home(step)
    if root == "xgboost":
        return {**xgboost_categories(step.get_booster())}
    if root == "lightgbm":
        return {**(lightgbm_categories(step.booster_, ModelText.of(step.booster_)) or {})}
    if root == "catboost":
        return catboost_types(step)
    return {}


def xgboost_categories(booster: Any) -> dict[int, list[Any]]:
    """A model of XGBoost before 3.1 does not hold them, nor does one that is not made of trees."""
    if not hasattr(booster, "get_categories"):
        return {}
    try:
        held = booster.get_categories(export_to_arrow=True)
    except library("xgboost").core.XGBoostError:
        return {}
    if held.empty():
        return {}
    columns = enumerate(held.to_arrow())
    return {place: values.to_pylist() for place, (_, values) in columns if values is not None}


def lightgbm_categories(booster: Any, text: ModelText) -> dict[int, list[Any]] | None:
    """None where the model does not tell which of its columns they belong to."""
    known = booster.pandas_categorical or []
    places = text.categorical(known) if known else ()
    return dict(zip(places, known, strict=True)) if len(places) == len(known) else None


def names(model: Any) -> tuple[str, ...] | None:
    """The names of CatBoost's columns: it has no `feature_names_in_`, and calls nameless ones 0, 1, …"""
    if home(model) != "catboost":
        return None
    return catboost_names(model)


def spelled(names: Sequence[str], shown: Sequence[str]) -> tuple[str, ...]:
    """LightGBM writes `_` for a space in a name: the names as the sample, or `--features`, shows them."""
    meant = {each.replace(" ", "_"): each for each in shown}
    return tuple(meant.get(name, name) for name in names)


def width(model: Any) -> int | None:
    """How many columns CatBoost's take: read from a pickle, `n_features_in_` is 0."""
    return len(model.feature_names_) if home(model) == "catboost" else None


def catboost_names(model: Any) -> tuple[str, ...] | None:
    told = tuple(str(name) for name in model.feature_names_)
    return None if told == tuple(str(place) for place in range(len(told))) else told


def catboost_types(model: Any) -> Categories:
    """It holds no categories, and takes 7 for "7"."""
    types: Categories = dict.fromkeys(model.get_cat_feature_indices(), "any")
    return types | dict.fromkeys(model.get_text_feature_indices(), "string")


def one_thread(step: Any) -> None:
    """A row then costs no waking of threads. (CatBoost wakes none for a few rows.)"""
    if home(step) == "xgboost":
        step.n_jobs = 1
        step.get_booster().set_param({"nthread": 1})
    elif home(step) == "lightgbm":
        step.set_params(**{name: 1 for name in THREADS if name in step.get_params()})
