"""Data sets for estimators of every kind: what they are trained on, and the rows that they are asked, as frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from tests.models import DIABETES, FEELINGS, IRIS_FRAME, PROGRESS, SPECIES, TEXTS, churned, customers

UNSEEN = 50  # rows beside those of the training


@dataclass(frozen=True)
class Data:
    """train: rows with their target (None where there is none). asked: the rows to predict."""

    train: pd.DataFrame
    target: Any
    asked: pd.DataFrame


def _with_unseen(train: pd.DataFrame) -> pd.DataFrame:
    """The rows of the training and some between their least and their largest values."""
    random = np.random.default_rng(9)
    values = train.to_numpy()
    unseen = random.uniform(values.min(axis=0), values.max(axis=0), (UNSEEN, values.shape[1]))
    return pd.DataFrame(np.vstack([values, unseen]), columns=train.columns)


def _numbers(train: pd.DataFrame, target: Any) -> Data:
    return Data(train, target, _with_unseen(train))


def _progress() -> pd.DataFrame:
    return pd.DataFrame(DIABETES[:200], columns=[f"measure {place}" for place in range(DIABETES.shape[1])])


def _counts() -> pd.DataFrame:
    words = ("tea", "milk", "salt", "rice", "soap", "wine")
    return pd.DataFrame(np.random.default_rng(2).poisson(1.5, (120, len(words))), columns=list(words))


def _holes() -> pd.DataFrame:
    frame = IRIS_FRAME.copy()
    frame.iloc[::7, 0] = np.nan
    frame.iloc[::11, 2] = np.nan
    return frame


def _similar() -> pd.DataFrame:
    rows = IRIS_FRAME.to_numpy()[::5]
    return pd.DataFrame(rows @ rows.T, columns=[f"to {place}" for place in range(len(rows))])


def _scaled() -> pd.DataFrame:
    return (IRIS_FRAME - IRIS_FRAME.min()) / (IRIS_FRAME.max() - IRIS_FRAME.min())


def _mixed() -> pd.DataFrame:
    return customers()[["city", "plan", "year", "member"]].fillna({"city": "Oslo"})


def _texts() -> pd.DataFrame:
    return pd.DataFrame({"text": [*TEXTS, "", "unheard of", "good bad good"]})


def _records() -> pd.DataFrame:
    return customers()[["age", "plan", "visits"]].fillna({"age": 0.0})


def _labels() -> pd.DataFrame:
    return customers()[["plan"]]


def _images() -> pd.DataFrame:
    pixels = np.random.default_rng(4).random((12, 6, 5))
    return pd.DataFrame({"image": [each.tolist() for each in pixels]})


def _sets() -> pd.DataFrame:
    tags = np.random.default_rng(6).choice(["red", "green", "blue"], (20, 2))
    return pd.DataFrame({"first": tags[:, 0], "second": tags[:, 1]})


def _same(train: pd.DataFrame, target: Any = None) -> Data:
    return Data(train, target, train)


def _two_targets() -> Any:
    return np.column_stack([PROGRESS[:200], np.sqrt(PROGRESS[:200])])


def _partly() -> Any:
    return np.where(np.arange(len(SPECIES)) % 3 == 0, -1, SPECIES)


SETS: dict[str, Callable[[], Data]] = {
    "flowers": lambda: _numbers(IRIS_FRAME, SPECIES),
    "two kinds": lambda: _numbers(IRIS_FRAME, SPECIES == 1),
    "partly known": lambda: _numbers(IRIS_FRAME, _partly()),
    "two labels": lambda: _numbers(IRIS_FRAME, np.column_stack([SPECIES == 0, SPECIES == 1]).astype(int)),
    "known flowers": lambda: _same(IRIS_FRAME, SPECIES),
    "scaled": lambda: _numbers(_scaled(), SPECIES),
    "holes": lambda: _same(_holes(), SPECIES),
    "progress": lambda: _numbers(_progress(), PROGRESS[:200]),
    "known progress": lambda: _same(_progress(), PROGRESS[:200]),
    "two targets": lambda: _numbers(_progress(), _two_targets()),
    "one measure": lambda: _numbers(_progress()[["measure 2"]], PROGRESS[:200]),
    "counts": lambda: _same(_counts(), np.arange(120) % 3),
    "similar": lambda: _same(_similar(), SPECIES[::5]),
    "customers": lambda: _same(customers(), churned()),
    "mixed": lambda: _same(_mixed(), churned() == "leaves"),
    "texts": lambda: Data(_texts().iloc[: len(TEXTS)], FEELINGS, _texts()),
    "records": lambda: _same(_records(), churned()),
    "labels": lambda: _same(_labels()),
    "sets": lambda: _same(_sets()),
    "images": lambda: _same(_images()),
}


@cache
def data(name: str) -> Data:
    """The data set of that name."""
    return SETS[name]()
