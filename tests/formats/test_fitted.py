"""Estimators of every kind: the signature they tell, and their own answers, row for row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

from bimodal import model as models
from bimodal import sample
from bimodal.field import Field
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.sklearn import Sklearn
from bimodal.rows import Rows
from bimodal.runtimes.estimator import Estimator
from bimodal.table import Binding
from tests.models import CASES, Case


def load(model: Any, folder: Path, **told: Any) -> Loaded:
    path = folder / "model.joblib"
    joblib.dump(model, path)
    return Sklearn().load(Source(str(path), **told))


def as_csv(case: Case) -> bytes:
    frame = case.rows if isinstance(case.rows, pd.DataFrame) else pd.DataFrame(case.rows)
    return frame.to_csv(index=False).encode()


def read(text: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    options = csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=["", "nan"])
    return csv.read_csv(io.BytesIO(text), convert_options=options)


def sample_of(case: Case) -> tuple[Field, ...]:
    kinds = {"f": "float64", "i": "int64", "b": "bool"}
    first = case.rows.iloc[1]
    return tuple(
        Field(name, kinds.get(dtype.kind, "string"), example=first[name]) for name, dtype in case.rows.dtypes.items()
    )


def rows_of(loaded: Loaded, text: bytes) -> Rows:
    """The rows of a CSV file as the batch mode reads them, none refused."""
    names = text.split(b"\n", 1)[0].decode().strip().split(",")
    binding = Binding.bind(loaded.signature, names)
    types = binding.arrow_types()
    try:
        table = read(text, types)
    except pa.ArrowInvalid:  # as batch does: what does not parse is read as text, and judged cell by cell
        table = read(text, dict.fromkeys(types, pa.string()))
    rows, good, problems = binding.rows(table, text=True)
    assert good.all(), problems[:3]
    return rows


def asked(case: Case, text: bytes) -> Any:
    """The same file as the library's own user reads it."""
    if isinstance(case.rows, pd.DataFrame):
        return pd.read_csv(io.BytesIO(text))
    return case.rows


def dense(values: Any) -> Any:
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_the_models_own(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    loaded = load(case.model, tmp_path, sample=sample_of(case) if case.sampled else None)
    text = as_csv(case)
    rows, data = rows_of(loaded, text), asked(case, text)
    outputs = [each.name for each in loaded.signature.outputs]
    answer = loaded.runtime.run(rows, outputs)
    assert isinstance(loaded.runtime, Estimator)
    own = loaded.runtime.model  # the model itself, with one job a call: several are not repeatable
    for field in loaded.signature.outputs:
        values = answer.array(field.name)
        assert values.shape[1:] == field.shape
        assert values.dtype == field.dtype
    if "prediction" not in outputs:
        ours = np.column_stack([answer.array(each) for each in outputs])
        np.testing.assert_array_equal(ours, dense(own.transform(data)))
        assert outputs == list(own.get_feature_names_out())
        return
    predicted = np.asarray(own.predict(data))
    np.testing.assert_array_equal(answer.array("prediction"), predicted.reshape(answer.array("prediction").shape))
    if "score" in outputs:
        np.testing.assert_array_equal(answer.array("score"), own.decision_function(data))
    if not hasattr(own, "predict_proba"):
        assert loaded.signature.classes is None
        return
    probabilities = own.predict_proba(data)
    if isinstance(probabilities, list):
        for place, each in enumerate(probabilities):
            np.testing.assert_array_equal(answer.array(f"probability_{place}"), each)
        assert loaded.signature.classes == tuple(tuple(each.tolist()) for each in own.classes_)
    else:
        np.testing.assert_array_equal(answer.array("probability"), probabilities)
        assert loaded.signature.classes is not None
        assert len(loaded.signature.classes) == probabilities.shape[1]


def test_a_sample_settles_what_own_code_hides(tmp_path: Path) -> None:
    case = CASES["custom"]
    loaded = load(case.model, tmp_path, sample=sample.fields(case.rows))
    types = {each.name: each.type for each in loaded.signature.inputs}
    assert types["year"] == "int64"  # its own code makes "2021" of it, not "2021.0"
    assert types["plan"] == "string"
    assert not loaded.warnings


def test_a_row_is_answered_alike_alone_and_in_company(tmp_path: Path) -> None:
    case = CASES["custom"]
    loaded = load(case.model, tmp_path, sample=sample.fields(case.rows))
    rows = rows_of(loaded, as_csv(case))
    whole = loaded.runtime.run(rows, ["prediction"]).array("prediction")
    alone = [loaded.runtime.run(rows.slice(i, i + 1), ["prediction"]).array("prediction")[0] for i in range(20)]
    assert alone == whole[:20].tolist()


def test_a_number_beyond_float32_is_refused_by_a_model_that_computes_in_it(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 40).reshape(-1, 2)
    scaled = make_pipeline(StandardScaler(), LinearRegression())
    for made, most in (
        (DecisionTreeRegressor(), np.finfo(np.float32).max),
        (scaled, 1e100),
        (LinearSVC(), 1e100),
        (DummyRegressor(), None),
    ):
        joblib.dump(made.fit(rows, rows[:, 0] > 0.5), tmp_path / "model.pkl")
        with models.load(tmp_path / "model.pkl") as loaded:
            assert loaded.signature.inputs[0].most == most


def test_a_null_is_taken_in_an_integer_category_where_the_encoder_ignores_the_unknown(tmp_path: Path) -> None:
    frame = pd.DataFrame({"month": [1, 2, 3, 4] * 10, "x": np.linspace(-1, 1, 40)})
    encoder = OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(
        ColumnTransformer([("month", encoder, ["month"])], remainder="passthrough"), LogisticRegression()
    )
    model.fit(frame, frame["x"] > 0)
    holes = frame.assign(month=frame["month"].where(frame["x"] < 0.5))
    joblib.dump(model, tmp_path / "model.pkl")
    with models.load(tmp_path / "model.pkl") as loaded:
        assert loaded.signature.input("month").nullable
        np.testing.assert_array_equal(loaded.predict(holes)["prediction"], model.predict(holes))
