"""The time that a call of the model may take; a row that hangs is found, and the others are predicted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bimodal
from bimodal import predict_file
from bimodal.errors import ModelHung, UsageError
from bimodal.runtimes.process import Limit, ProcessRuntime

PATIENT = """
import os
import time


class Model:
    inputs = {"age": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        for age in rows["age"]:
            if age == 13:
                time.sleep(600)
            if age == 14:
                os._exit(7)
        return [age * 2 for age in rows["age"]]
"""


@pytest.fixture
def patient(tmp_path: Path) -> str:
    (tmp_path / "patient.py").write_text(PATIENT)
    return f"{tmp_path / 'patient.py'}:Model"


def ages(path: Path, values: list[int]) -> Path:
    path.write_text("id,age\n" + "".join(f"{number},{age}\n" for number, age in enumerate(values)))
    return path


def test_a_limit_that_was_given_is_the_same_for_all_calls() -> None:
    limit = Limit(2.5)
    limit.took(1, 100.0)
    assert limit.allowed(1) == limit.allowed(1_000_000) == 2.5


def test_a_slow_model_has_the_time_that_loading_measured() -> None:
    limit = Limit(None, {1: 0.003, 64: 0.128})
    assert limit.allowed(65_536) == pytest.approx(Limit.SLACK * 0.002 * 65_536)
    assert limit.allowed(1) == Limit.FIRST


def test_a_limit_is_learned_from_the_slowest_calls() -> None:
    limit = Limit()
    assert limit.allowed(1) == limit.allowed(65_536) == Limit.FIRST
    limit.took(65_536, 0.001)
    assert limit.allowed(65_536) == Limit.LEAST
    limit.took(10_000, 1.0)
    limit.took(10_000, 0.5)
    assert limit.allowed(10_000) == pytest.approx(Limit.SLACK)
    assert limit.allowed(20_000) == pytest.approx(2 * Limit.SLACK)
    limit.took(1, 2.0)  # what a call costs beside its rows
    assert limit.allowed(1) == pytest.approx(2 * Limit.SLACK, rel=0.01)
    assert limit.allowed(10_000) == pytest.approx(3 * Limit.SLACK)


def test_a_row_that_hangs_and_one_that_kills_are_found_alone(patient: str, tmp_path: Path) -> None:
    source, out = ages(tmp_path / "in.csv", [10, 11, 13, 12, 14, 15]), tmp_path / "out.csv"
    report = predict_file(patient, source, out, timeout=2, max_rejects=2)
    assert (report.read, report.predicted, report.rejected) == (6, 4, 2)
    assert out.read_text().splitlines() == ["id,prediction", "0,20.0", "1,22.0", "3,24.0", "5,30.0"]
    rejects = [json.loads(line) for line in Path(f"{out}.rejects.jsonl").read_text().splitlines()]
    assert [(each["row"], each["code"]) for each in rejects] == [(3, "model_hung"), (5, "model_crashed")]
    assert rejects[0]["reason"] == "the model gave no answer within 2 s"


def test_the_process_is_ended_and_another_one_answers(patient: str) -> None:
    with bimodal.load(patient) as model:
        runtime = model.runtime
        assert isinstance(runtime, ProcessRuntime)
        first = runtime.pid
        runtime.limit = Limit(0.3)
        with pytest.raises(ModelHung, match=r"within 0\.3 s"):
            model.predict([{"age": 13.0}])
        runtime.limit = None
        assert model.predict([{"age": 4.0}]) == [{"prediction": 8.0}]
        assert runtime.pid != first


@pytest.mark.parametrize("given", [0, -1, "0ms"])
def test_no_time_at_all_is_refused(given: int | str, patient: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        predict_file(patient, tmp_path / "in.csv", tmp_path / "out.csv", timeout=given)
