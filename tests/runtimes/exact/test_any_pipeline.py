"""Pipelines put together at random, on columns of every kind: the library's answers, or a reason for none."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier

from bimodal.errors import BimodalError, InputError, NotCompiled
from tests.runtimes.exact.oracle import Pair

NUMBERS = ["whole", "part", "gaps", "flag"]
TEXTS = ["town", "kind", "none", "mark", "level"]


def table(count: int, seed: int) -> pd.DataFrame:
    """whole: integers; part: floats; gaps: floats with nulls; flag: booleans; town: text with NaN; kind: text; none:
    text with None; mark: booleans and nulls; level: floats that are categories, with nulls."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "whole": rng.integers(-5, 40, count),
            "part": rng.normal(size=count) * 10.0 ** rng.integers(-3, 4, count),
            "gaps": np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count)),
            "flag": rng.random(count) < 0.4,
            "town": rng.choice([f"t{n}" for n in range(30)], count),
            "kind": rng.choice(list("abc"), count).astype(object),
            "none": rng.choice(np.array(["x", "y", None], object), count),
            "mark": rng.choice(np.array([True, False, None], object), count),
            "level": rng.choice([0.5, 1.0, 2.0, np.nan], count),
        }
    )
    frame.loc[::7, "town"] = np.nan
    return frame


def of_numbers(dice: random.Random) -> Any:
    scalers = [StandardScaler(), MinMaxScaler(), MinMaxScaler(clip=True), MaxAbsScaler(), RobustScaler(), Binarizer()]
    imputers = [
        SimpleImputer(),
        SimpleImputer(strategy="median", add_indicator=True),
        SimpleImputer(strategy="constant"),
    ]
    steps = [dice.choice(imputers), *dice.sample(scalers, dice.randint(0, 2))]
    return make_pipeline(*steps) if dice.random() < 0.7 else make_union(make_pipeline(*steps), SimpleImputer())


def of_texts(dice: random.Random) -> Any:
    encoders = [
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=8),
        OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3),
        OneHotEncoder(handle_unknown="ignore", drop="first"),
        OneHotEncoder(),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-3),
        TargetEncoder(cv=2),
    ]
    encoder = dice.choice(encoders)
    if dice.random() < 0.4:
        strategy = dice.choice(["most_frequent", "constant"])
        fill = {"fill_value": "?"} if strategy == "constant" else {}
        encoder = make_pipeline(SimpleImputer(strategy=strategy, **fill), encoder)
    return encoder if dice.random() < 0.8 else make_pipeline(encoder, StandardScaler(with_mean=False))


def pipeline(dice: random.Random) -> Any:
    texts = dice.sample(TEXTS, dice.randint(1, 3))
    parts = [("n", of_numbers(dice), dice.sample(NUMBERS, dice.randint(1, 4)))]
    parts += [(f"t{place}", of_texts(dice), [text]) for place, text in enumerate(texts)]
    dice.shuffle(parts)
    front = ColumnTransformer(parts, sparse_threshold=dice.choice([0.0, 0.3, 1.0]))
    between = dice.choice([[], [], [VarianceThreshold()], [MaxAbsScaler()], [SelectKBest(k=3)]])
    lasts = [LogisticRegression(max_iter=200), Ridge(), DecisionTreeClassifier(random_state=0)]
    return make_pipeline(front, *between, dice.choice(lasts))


def odd(frame: pd.DataFrame, pair: Pair, dice: random.Random) -> pd.DataFrame:
    """The frame with values that the training did not have, where the signature takes them."""
    strange = frame.head(40).copy().astype(dict.fromkeys(TEXTS[:3], "object"))
    for each in pair.signature.inputs:
        rows = dice.sample(range(40), 8)
        values: Sequence[Any] = []
        if each.type == "float64":
            values = [0.0, -0.0, 1e-300, -1e9, 2.0**24 + 1, 7.25, *([np.nan] * 2 if each.nullable else [])]
        elif each.type == "string":
            values = ["nowhere", "", "T1", *([None, np.nan] if each.nullable else [])]
        if each.closed or (each.type == "float64" and each.name in ("flag", "mark")):
            values = [value for value in values if value is None or value != value]
        for row, value in zip(rows, values, strict=False):
            if each.name in ("whole", "flag") and value != value:
                strange[each.name] = strange[each.name].astype(float)
            strange[each.name] = strange[each.name].astype(float) if each.name == "whole" else strange[each.name]
            strange.loc[strange.index[row], each.name] = value
    return strange


def tried(seed: int) -> str:
    """What became of one pipeline: "" where it is compiled and agrees, else why it is not compiled."""
    dice = random.Random(seed)
    frame = table(150, seed)
    target = (frame["part"] > 0) ^ (frame["kind"] == "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = pipeline(dice).fit(frame, target)
        except (ValueError, TypeError) as error:  # scikit-learn itself does not take this combination
            return f"unfit: {error}"
        try:
            pair = Pair.of(model)
        except (NotCompiled, BimodalError) as error:
            return str(error)
    for rows in (frame, odd(frame, pair, dice)):
        try:
            taken = pair.rows(rows)
        except InputError as error:  # booleans with a text filled in: the signature takes text alone
            return f"refused: {error}"
        pair.prepared(taken)
        pair.agree(taken)
        pair.alone(taken.slice(0, 20))
    return ""


@pytest.mark.parametrize("seed", range(15))
def test_a_pipeline_at_random_agrees_or_is_refused(seed: int) -> None:
    assert "cannot be read" not in tried(seed)


@pytest.mark.soak
def test_most_pipelines_at_random_are_compiled() -> None:
    outcomes = [tried(seed) for seed in range(1000, 1400)]
    fit = [each for each in outcomes if not each.startswith("unfit")]
    assert not [each for each in fit if "cannot be read" in each]
    assert sum(not each for each in fit) > 0.5 * len(fit), sorted(set(fit))
