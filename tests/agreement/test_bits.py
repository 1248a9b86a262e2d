"""Same row, same bits: in real time and in batch, alone and whatever its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xgboost
from sklearn import ensemble, linear_model, pipeline, preprocessing, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer

from bimodal.batch.run import predict_file
from bimodal.formats.sklearn import Sklearn
from bimodal.location import Location
from bimodal.model import Model
from bimodal.runtimes.exact.program import Exact
from bimodal.runtimes.process import Report
from tests.models import churned, customers, prepare
from tests.realtime.desk import Ask, Desk

ROWS = 150
WIDE = [f"code {place}" for place in range(40)]


def frame() -> pd.DataFrame:
    rows = customers().head(ROWS)[["age", "income", "visits", "city", "plan"]].copy()
    rows["code"] = [WIDE[place % 40] for place in range(ROWS)]
    return rows


def numbers(last: Any) -> Any:
    prepared = ColumnTransformer(
        [
            ("numbers", SimpleImputer(add_indicator=True), ["age", "income", "visits"]),
            ("plan", preprocessing.OrdinalEncoder(), ["plan"]),
        ]
    )
    return pipeline.make_pipeline(prepared, last)


def sparse() -> Any:
    """Wide enough in one-hot columns for scikit-learn to keep them sparse."""
    texts = preprocessing.OneHotEncoder(handle_unknown="ignore")
    scaled = pipeline.make_pipeline(SimpleImputer(), preprocessing.StandardScaler())
    prepared = ColumnTransformer([("numbers", scaled, ["age", "income"]), ("texts", texts, ["city", "plan", "code"])])
    return pipeline.make_pipeline(prepared, linear_model.LogisticRegression())


KINDS: dict[str, Callable[[], Any]] = {
    "dense linear": lambda: pipeline.make_pipeline(prepare(), linear_model.LogisticRegression(max_iter=2000)),
    "sparse linear": sparse,
    "tree": lambda: numbers(tree.DecisionTreeClassifier(random_state=0)),
    "forest": lambda: numbers(ensemble.RandomForestClassifier(30, random_state=0)),
    "gradient boosting": lambda: numbers(ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0)),
    "histogram boosting": lambda: numbers(ensemble.HistGradientBoostingClassifier(max_iter=20)),
    "xgboost": lambda: numbers(xgboost.XGBClassifier(n_estimators=20)),
    "lightgbm": lambda: numbers(lightgbm.LGBMClassifier(n_estimators=20, verbose=-1)),
}
STEADY = set(KINDS) - {"dense linear"}  # the library too gives a row the same bits in any company


def engine(name: str, folder: Path) -> tuple[Any, Model]:
    """The library's model of a kind, and the same in the exact engine."""
    fitted = KINDS[name]().fit(frame(), preprocessing.LabelEncoder().fit_transform(churned()[:ROWS]))
    path = folder / "model.pkl"
    joblib.dump(fitted, path)
    location = Location.find(path)
    loaded = Sklearn().load(location.source)
    assert loaded.lower is not None
    report = Report(loaded.signature, loaded.versions, (), loaded.facts, {1: 1e-5, 64: 1e-4})
    return fitted, Model(location, Exact(loaded.lower()), report)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Model]:
    return request.param, *engine(request.param, tmp_path_factory.mktemp("bits"))


def test_a_row_has_the_same_bits_in_real_time_and_in_batch(kind: tuple[str, Any, Model], tmp_path: Path) -> None:
    name, fitted, model = kind
    rows = frame()
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    desk = Desk(model, outputs=("probability",))
    alone = [desk.answer({"rows": [record]})["probability"][0] for record in records]
    whole = desk.answer({"rows": records})["probability"]
    several = [
        answer
        for start in range(0, ROWS, 7)
        for answer in desk.together([Ask(body={"rows": [record]}) for record in records[start : start + 7]])
    ]
    desk.close()
    rows.to_parquet(tmp_path / "in.parquet")
    predict_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet", outputs=["probability"], keep="none")
    batch = np.column_stack([column.to_numpy() for column in pq.read_table(tmp_path / "out.parquet").columns])
    np.testing.assert_array_equal(alone, whole)
    np.testing.assert_array_equal(alone, batch)
    assert [answer.body for answer in several] == [_body(values) for values in alone]
    expected = fitted.predict_proba(rows)
    if name in STEADY:
        np.testing.assert_array_equal(batch, expected)
    else:
        np.testing.assert_allclose(batch, expected, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(batch.argmax(axis=1), expected.argmax(axis=1))


def _body(values: list[float]) -> bytes:
    return b'{"probability":[[' + ",".join(map(repr, values)).encode() + b"]]}"
