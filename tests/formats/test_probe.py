"""What a model takes is asked of the model itself: nulls, infinity, unknown categories."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from bimodal.formats import probe
from bimodal.formats.probe import example_rows
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.table import Binding
from tests.formats.test_fitted import load
from tests.models import CASES


def signature(name: str, folder: Path) -> Signature:
    return load(CASES[name].model, folder).signature


@pytest.mark.parametrize(
    ("name", "nullable", "finite"),
    [
        ("logistic", False, True),
        ("svm", False, True),
        ("tree", True, True),
        ("boosting", True, False),
        ("scaler", True, True),
    ],
)
def test_a_model_of_numbers_says_whether_it_takes_nulls_and_infinity(
    name: str, nullable: bool, finite: bool, tmp_path: Path
) -> None:
    (field,) = signature(name, tmp_path).inputs
    assert (field.nullable, field.finite) == (nullable, finite)


def test_columns_are_judged_by_the_step_that_receives_them(tmp_path: Path) -> None:
    taken = {each.name: each for each in signature("mixed", tmp_path).inputs}
    assert all(each.nullable for each in taken.values())
    assert taken["city"].categories == ("Lima", "Oslo", "Pune")
    assert not any(each.closed for each in taken.values())


def test_an_encoder_that_raises_on_unknown_categories_is_closed(tmp_path: Path) -> None:
    taken = {each.name: each for each in signature("closed", tmp_path).inputs}
    assert taken["plan"].closed
    assert taken["plan"].categories == ("free", "pro", "team")
    assert not taken["plan"].nullable


def test_one_encoder_may_know_nulls_in_one_column_and_not_in_another(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["x", np.nan, "y", "x"], "b": ["u", "v", "u", "v"]})
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [0, 1, 0, 1])
    taken = {each.name: each for each in load(model, tmp_path).signature.inputs}
    assert taken["a"].nullable
    assert taken["a"].categories == ("x", "y")
    assert not taken["b"].nullable


@pytest.mark.parametrize("null", [None, np.nan])
def test_a_null_is_written_as_the_encoder_knows_it(null: object, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.Series(["x", null, "y", "x"], dtype=object)})
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [0, 1, 0, 0])
    loaded = load(model, tmp_path)
    column = np.array(["x", None, "y"], object)
    answer = loaded.runtime.run(Rows({"a": column}), ["probability"])
    np.testing.assert_array_equal(answer.array("probability"), model.predict_proba(frame[:3]))


def test_an_imputer_of_nan_gets_nan(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.Series(["x", np.nan, "y", "x"], dtype=object), "n": [1.0, np.nan, 3.0, 4.0]})
    text = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder())
    model = make_pipeline(ColumnTransformer([("t", text, ["a"]), ("n", SimpleImputer(), ["n"])]), LogisticRegression())
    model.fit(frame, [0, 1, 0, 0])
    loaded = load(model, tmp_path)
    rows = Rows({"a": np.array(["x", None, "y", "x"], object), "n": frame["n"].to_numpy()})
    answer = loaded.runtime.run(rows, ["prediction"])
    np.testing.assert_array_equal(answer.array("prediction"), model.predict(frame))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.sampled])
def test_the_example_is_answered_and_passes_the_check(name: str, tmp_path: Path) -> None:
    loaded = load(CASES[name].model, tmp_path)
    inputs = loaded.signature.inputs
    assert loaded.runtime.run(example_rows(inputs), [loaded.signature.outputs[0].name]).count == 1
    _, good, problems = loaded.signature.check([{each.name: each.example for each in inputs}])
    assert good.all(), problems


def test_an_example_is_no_row_of_the_training_data(tmp_path: Path) -> None:
    (field,) = signature("neighbours", tmp_path).inputs
    assert not (np.isclose(CASES["neighbours"].model._fit_X, field.example).all(axis=1)).any()


def test_columns_that_the_model_drops_are_not_asked_for(tmp_path: Path) -> None:
    assert [each.name for each in signature("closed", tmp_path).inputs] == ["income", "plan"]


def test_an_unknown_number_is_refused_alike_in_values_and_columns(tmp_path: Path) -> None:
    taken = signature("integers", tmp_path)
    assert {each.name: each.closed for each in taken.inputs} == {"year": True, "member": True}
    records = [{"year": year, "member": True} for year in (2021, 1999, 2023)]
    _, good, problems = taken.check(records)
    table = pa.Table.from_pylist(records)
    _, kept, same = Binding.bind(taken, table.column_names).rows(table)
    assert good.tolist() == kept.tolist() == [True, False, True]
    assert [str(each) for each in problems] == [str(each) for each in same]
    assert problems[0].code == "unknown_category"
    assert taken.gather([taken.row_type(f0=1999, f1=True)]) is None


def test_boosting_with_categories_takes_numbers_beside_them(tmp_path: Path) -> None:
    taken = {each.name: each.type for each in signature("boosted_categories", tmp_path).inputs}
    assert taken == {"age": "float64", "plan": "string", "income": "float64"}


def test_a_machine_that_others_use_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the time that the model works, not the time that it waits for the processor."""
    monkeypatch.setattr(probe, "LONGEST", 0.05)

    class Waits:
        def predict(self, rows: Any) -> Any:
            time.sleep(0.1)
            return np.zeros(len(rows))

    asked = probe.Probe(Waits(), "predict", lambda rows: np.zeros((rows.count, 1)), bare=False)
    assert [asked.takes(Rows({"x": np.array([1.0])})) for _ in range(5)] == [True] * 5


class Clock:
    """Stands in for `time`: of each clock, how many seconds it goes on at each look."""

    def __init__(self, **steps: float) -> None:
        self._steps = steps
        self._now = dict.fromkeys(("perf_counter", "monotonic", "process_time", "thread_time"), 0.0)

    def __getattr__(self, name: str) -> Callable[[], float]:
        def look() -> float:
            self._now[name] += self._steps.get(name, 0.0)
            return self._now[name]

        return look


BUSY = {"perf_counter": 1.0, "monotonic": 1.0, "process_time": 1.0}  # of a machine with much else to do


@pytest.mark.parametrize("name", ["mixed", "closed", "logistic", "boosting", "integers"])
def test_what_a_model_takes_does_not_hang_on_how_busy_the_machine_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = signature(name, tmp_path)
    monkeypatch.setattr(probe, "time", Clock(**BUSY))
    assert signature(name, tmp_path) == idle


@pytest.mark.parametrize(
    ("bound", "value"), [("time", Clock(thread_time=60.0)), ("time", Clock(perf_counter=100.0)), ("MOST", 1)]
)
@pytest.mark.parametrize("name", ["mixed", "closed"])
def test_what_a_model_was_not_asked_is_left_to_it(
    name: str, bound: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, bound, value)
    taken = signature(name, tmp_path)
    assert not any(each.closed for each in taken.inputs)
    assert all(each.nullable for each in taken.inputs)
    assert "is asked no more" in caplog.text
    assert len(caplog.records) == 1
