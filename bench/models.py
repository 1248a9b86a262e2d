"""The models of the comparisons, and rows to ask them: made once, kept in bench/data/."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

DATA = Path(__file__).parent / "data"
ASKED = 32  # different rows that a load cycles through

NUMBERS = ("month", "hour", "distance", "air_time", "dep_delay")
TEXTS = ("carrier", "origin", "dest", "tailnum_maker")


@dataclass(frozen=True)
class Case:
    """A saved model, JSON bodies of one row each, and the label that the model itself gives for each."""

    name: str
    model: Path
    bodies: tuple[bytes, ...]
    labels: tuple[object, ...]
    onnx: Path | None = None


def mixed_pipeline(numbers: tuple[str, ...], texts: tuple[str, ...]) -> Pipeline:
    """Named columns as most people have them: numbers imputed and scaled, texts one-hot encoded, a linear model."""
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(numbers)),
            ("texts", OneHotEncoder(handle_unknown="ignore"), list(texts)),
        ]
    )
    return make_pipeline(prepare, LogisticRegression(max_iter=1000))


def linear() -> Case:
    """StandardScaler and LogisticRegression over 30 numbers, scikit-learn's and the same in ONNX."""
    values, target = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(values, target)
    rows = values[:: len(values) // ASKED][:ASKED]
    bodies = tuple(json.dumps({"input": row.tolist()}).encode() for row in rows)
    path = _save(pipeline, "linear.pkl")
    return Case("linear", path, bodies, tuple(pipeline.predict(rows).tolist()), _convert(pipeline, values.shape[1]))


def wide(columns: int, rows: int) -> Case:
    """A linear regression over so many numbers, and one body with so many rows."""
    random = np.random.default_rng(0)
    values = random.normal(size=(2 * columns, columns))
    path = _save(LinearRegression().fit(values, values[:, 0]), f"wide-{columns}.pkl")
    asked = np.round(random.normal(size=(rows, columns)), 6)
    return Case("wide", path, (json.dumps({"input": asked.tolist()}).encode(),), ())


def mixed() -> Case:
    """A ColumnTransformer pipeline over five numbers (some null) and four texts."""
    table = _flights(20_000)
    target = (table["dep_delay"].fillna(0) + table["hour"] > 30).astype(int)
    pipeline = mixed_pipeline(NUMBERS, TEXTS).fit(table, target)
    rows = table.dropna().head(ASKED)
    bodies = tuple(json.dumps({"rows": [row]}).encode() for row in rows.to_dict("records"))
    return Case("mixed", _save(pipeline, "mixed.pkl"), bodies, tuple(pipeline.predict(rows).tolist()))


def _flights(count: int) -> pd.DataFrame:
    random = np.random.default_rng(7)
    delay = random.exponential(20, count).round(1)
    delay[random.random(count) < 0.02] = np.nan
    return pd.DataFrame(
        {
            "month": random.integers(1, 13, count).astype(float),
            "hour": random.integers(5, 24, count).astype(float),
            "distance": random.integers(80, 4984, count).astype(float),
            "air_time": random.integers(20, 690, count).astype(float),
            "dep_delay": delay,
            "carrier": random.choice(["AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN"], count),
            "origin": random.choice(["EWR", "JFK", "LGA"], count),
            "dest": random.choice([f"D{number:02}" for number in range(60)], count),
            "tailnum_maker": random.choice(["AIRBUS", "BOEING", "CESSNA", "EMBRAER"], count),
        }
    )


def _save(pipeline: Pipeline, name: str) -> Path:
    DATA.mkdir(exist_ok=True)
    joblib.dump(pipeline, DATA / name)
    return DATA / name


def _convert(pipeline: Pipeline, features: int) -> Path:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    options = {id(pipeline): {"zipmap": False}}
    model = to_onnx(pipeline, initial_types=[("input", DoubleTensorType([None, features]))], options=options)
    path = DATA / "linear.onnx"
    path.write_bytes(model.SerializeToString())
    return path
