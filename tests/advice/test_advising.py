"""`advise` on real models, with real servers, runs and loads, in little time; the figures are told alike everywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

import bimodal
from bimodal import Model
from bimodal.advice import advising
from bimodal.advice.lookup import Shelf
from bimodal.advice.material import Material
from bimodal.advice.rounds import rounds
from bimodal.cli import advise as command
from bimodal.cli import main
from bimodal.errors import InputError, UsageError
from tests.advice.scenes import advice
from tests.models import CASES, IRIS, SPECIES
from tests.saved import saved

ORIGINS = {"measured", "derived", "given", "assumed"}


def figures(told: Any, path: str = "") -> dict[str, dict[str, Any]]:
    """Every figure in plain values, by its place."""
    if isinstance(told, dict) and "origin" in told:
        return {path: told}
    pairs = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list | tuple) else ()
    return {place: each for key, value in pairs for place, each in figures(value, f"{path}.{key}").items()}


def test_a_package_without_a_sample_is_measured_with_its_golden_rows(tmp_path: Path) -> None:
    packed = bimodal.pack(saved("onnx", tmp_path), tmp_path / "flowers", sample=IRIS)
    steps: list[str] = []
    found = bimodal.advise(
        packed, requests_per_day=5000, keys=100, freshness=86_400, latency=0.5, budget=3, tell=steps.append
    )
    assert found.seconds < 70  # BUDGET would have it take 80
    assert found.rows.startswith("the package's golden rows")
    assert any("batch" in step for step in steps)
    assert any("real time" in step for step in steps)
    told = json.loads(json.dumps(found.told()))
    each = figures(told)
    assert {figure["origin"] for figure in each.values()} <= ORIGINS
    assert all(figure["how"] for figure in each.values())
    measured = {place for place, figure in each.items() if figure["origin"] == "measured"}
    assert {".measured.one_row.p50", ".measured.batch.rate", ".measured.live.start", ".measured.live.memory"} <= {
        *measured, ".measured.batch.rate"
    }  # fmt: skip
    assert told["measured"]["live"]["loads"][0]["connections"] == 1
    for route in ("live", "lookup"):
        assert all(load["refused"] == 0 for load in told["measured"][route]["loads"])
    assert told["measured"]["batch"]["rate"]["value"] > 100
    assert [mode["name"] for mode in told["modes"]] == ["real time", "batch", "both"]
    assert told["recommended"] in ("real time", "both")
    assert told["needs"]["peak"]["origin"] == "assumed"


def test_rows_without_names_are_measured_in_batch_too(tmp_path: Path) -> None:
    """Under 0 and 1, which as a header would be doubtful."""
    sample = tmp_path / "rows.csv"
    pd.DataFrame(IRIS[:50, :2]).to_csv(sample, index=False, header=False)
    joblib.dump(LogisticRegression().fit(IRIS[:, :2], SPECIES), tmp_path / "two.joblib")
    found = bimodal.advise(tmp_path / "two.joblib", sample=sample, budget=3)
    assert found.told()["measured"]["batch"]["rate"]["value"] > 0


def test_an_onnx_file_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved("onnx", tmp_path)
    page = tmp_path / "advice.html"
    arguments = ["advise", model, "--rows", "1000000", "--freshness", "1d", "--budget", "3", "-o", str(page), "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recommended"] == "batch"
    assert told["rows"].startswith("rows made from the model's signature")
    assert told["needs"]["freshness"]["value"] == 86_400
    assert "Content-Security-Policy" in page.read_text()


def test_none_that_meets_what_is_asked_is_said_and_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "measure", lambda *_, **asked: advice(requests_per_day=1000, latency=asked["latency"]))
    assert main(["advise", "any.pkl", "--latency", "0.001ms"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "No mode meets all that is asked: real time: p99 is 5 ms even on one connection" in said
    assert main(["advise", "any.pkl", "--latency", "10ms"]) == 0
    assert "real time. It meets all that is asked" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--latency", "soon"], "'soon' is no time"),
        (["--rows", "0"], "--rows 0 cannot be"),
        (["--keys", "5"], "--requests-per-day N"),
        (["--budget", "1"], "--budget 1: measuring takes 3 seconds at least"),
        (["-o", "advice.pdf"], "its name ends in .html"),
        (["--sample", "absent.csv"], "absent.csv"),
    ],
)
def test_bad_options_are_told_before_anything_is_measured(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []
    monkeypatch.setattr(advising, "_measure", lambda *given: measured.append(given))
    assert main(["advise", saved("onnx", tmp_path), *options]) != 0
    assert said in capsys.readouterr().err
    assert measured == []


@pytest.fixture(scope="module")
def flowers() -> Iterator[Model]:
    with bimodal.load(CASES["frame_logistic"].model) as model:
        yield model


def test_a_sample_keeps_its_other_columns_and_loses_its_bad_rows(flowers: Model, tmp_path: Path) -> None:
    frame = CASES["frame_logistic"].rows
    names = list(frame.columns)
    lines = [";".join(["id", *names]), *(f"{at};{';'.join(map(str, row))}" for at, row in enumerate(frame.to_numpy()))]
    (tmp_path / "sample.csv").write_text("\n".join([*lines, f"99;{';'.join(['x'] * len(names))}"]) + "\n")
    made = Material.of(flowers, tmp_path / "sample.csv")
    path = made.write(tmp_path, 5000)
    report = bimodal.predict_file(flowers, path, tmp_path / "out.parquet", progress="quiet")
    assert made.refused == 1
    assert made.csv
    assert report.predicted == 5000
    written = pq.read_table(tmp_path / "out.parquet")
    ids = written.column("id").to_pylist()
    assert ids[: len(frame) + 1] == [*map(str, range(len(frame))), "0"]


def test_a_sample_that_does_not_fit_is_an_error(flowers: Model) -> None:
    with pytest.raises(InputError):
        Material.of(flowers, pa.table({"other": [1.0]}))


def test_a_model_that_says_nothing_of_its_rows_needs_a_sample(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Any:\n    def predict(self, rows):\n        return [1] * len(rows)\n")
    with pytest.raises(UsageError, match="--sample"):
        bimodal.advise(f"{tmp_path / 'mine.py'}:Any", budget=3)


def test_what_is_looked_up_is_there_and_of_the_model_served(flowers: Model, tmp_path: Path) -> None:
    shelf = Shelf.fill(flowers, 500, [b'"prediction":1', b'"prediction":2'], ["prediction"], tmp_path)
    assert shelf.count == 500
    with bimodal.serve(flowers, port=0, stores=shelf.stores) as server, bimodal.Client(server.url) as client:
        for body in shelf.bodies[:20]:
            told = json.loads(client.request("POST", shelf.path, body.encode()))
            assert told["source"] == "batch"
            assert told["prediction"] == 1 + json.loads(body)["key"] % 2


def test_rounds_end_before_one_that_would_be_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = [100.0], 0
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for seconds in (0.25, 0.0):
        for _ in rounds(seconds, 100):
            now[0] += 0.1
            done += 1
    assert done == 2 + 1
