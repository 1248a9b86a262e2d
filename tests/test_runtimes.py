"""The runtime of a model: chosen, forced, proven in the background, switched once, kept for the next start."""

from __future__ import annotations

import io
import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

import bimodal
from bimodal.cli import build
from bimodal.cli.inspect import print_runtimes
from bimodal.compile.report import Candidate, Report
from bimodal.errors import NotCompiled, ParityFailed, UsageError
from bimodal.runtimes.process import ProcessRuntime
from tests.models import IRIS, SPECIES, customers, on_customers, prepare


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    model = on_customers(prepare())()
    path = tmp_path_factory.mktemp("mixed") / "mixed.pkl"
    joblib.dump(model, path)
    return path, model


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    model = RandomForestClassifier(20, random_state=0).fit(IRIS, SPECIES)
    path = tmp_path_factory.mktemp("forest") / "forest.pkl"
    joblib.dump(model, path)
    return path, model


@pytest.fixture(autouse=True)
def _choosing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user's shell is: nothing is forced."""
    monkeypatch.delenv("BIMODAL_RUNTIME")


def test_a_bare_model_answers_at_once_and_becomes_exact_when_it_is_proven(forest: tuple[Path, Any]) -> None:
    path, library = forest
    with bimodal.load(path) as model:
        assert model.runtime_name in ("native (verifying)", "exact")  # exact: another test was first
        before = model.predict(IRIS)
        model.warm_up()
        assert model.runtime_name == "exact"
        assert not isinstance(model.runtime, ProcessRuntime)
        np.testing.assert_array_equal(model.predict(IRIS), before)
        np.testing.assert_array_equal(before, library.predict(IRIS))
        both = model.predict(IRIS, outputs=["probability"])
        np.testing.assert_array_equal(both, library.predict_proba(IRIS))


def test_the_next_start_needs_neither_proof_nor_library(
    mixed: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, library = mixed
    with bimodal.load(path, background=False) as first:
        first.warm_up()
    started, real = [], subprocess.Popen

    def start(command: Any, *more: Any, **named: Any) -> Any:
        started.append(str(command))
        return real(command, *more, **named)

    monkeypatch.setattr(subprocess, "Popen", start)
    with bimodal.load(path) as model:
        assert model.runtime_name == "exact"
        frame = customers()
        assert model.predict(frame)["prediction"].tolist() == library.predict(frame).tolist()
    assert not any("bimodal." in each for each in started), "no process of ours was started"


def test_a_record_is_one_answer_whatever_way_it_comes(mixed: tuple[Path, Any]) -> None:
    path, library = mixed
    frame = customers()
    with bimodal.load(path, runtime="exact") as model:
        names = [each.name for each in model.signature.inputs]
        records = frame[names].astype(object).where(frame[names].notna(), None).to_dict("records")
        expected = library.predict(frame).tolist()
        assert [each["prediction"] for each in model.predict(records)] == expected
        assert [model.predict([record])[0]["prediction"] for record in records[:20]] == expected[:20]
        spare = [{**record, "spare": 1} for record in records]
        assert [each["prediction"] for each in model.predict(spare)] == expected
        with pytest.raises(bimodal.errors.InputError, match="row 2, column 'age'"):
            model.predict([records[0], {**records[1], "age": "old"}])


@pytest.mark.parametrize("runtime", ["native", "exact"])
def test_a_runtime_can_be_forced(runtime: str, mixed: tuple[Path, Any]) -> None:
    path, library = mixed
    with bimodal.load(path, runtime=runtime) as model:
        assert model.runtime_name == runtime
        assert model.in_bulk(wait=True).runtime_name == runtime
        frame = customers()
        assert model.predict(frame)["prediction"].tolist() == library.predict(frame).tolist()


def test_a_forced_runtime_that_fails_parity_shows_the_first_row(forest: tuple[Path, Any]) -> None:
    with pytest.raises(ParityFailed, match=r'row \{"input":.*native \{"prediction".*compiled \{"prediction"'):
        bimodal.load(forest[0], runtime="onnx")


def test_a_forced_runtime_that_there_is_not_says_why(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def double(rows):\n    return {'twice': rows['x'] * 2}\n\ndouble.inputs = {'x': float}\n")
    with pytest.raises(NotCompiled, match="cannot run as exact"):
        bimodal.load(f"{file}:double", runtime="exact")
    with pytest.raises(UsageError, match="there is no runtime 'quick'; it is one of auto, exact, onnx, native"):
        bimodal.load(f"{file}:double", runtime="quick")


def test_a_server_switches_while_it_answers(tmp_path: Path) -> None:
    model = make_pipeline(prepare(), LogisticRegression(C=0.5, max_iter=2000)).fit(customers(), customers()["plan"])
    path = tmp_path / "plans.pkl"
    joblib.dump(model, path)
    frame = customers().head(5)
    with bimodal.serve(path, port=0) as server, bimodal.Client(server.url) as client:
        seen: list[str] = []
        end = time.monotonic() + 120
        while time.monotonic() < end and (not seen or seen[-1] != "exact"):
            with urllib.request.urlopen(f"{server.url}/models/plans") as answer:
                seen.append(json.load(answer)["runtime"])
            assert client.predict(frame)["prediction"].tolist() == model.predict(frame).tolist()
            time.sleep(0.02)  # the proof needs the processor too
        assert seen[0] == "native (verifying)"
        assert seen[-1] == "exact"
        assert sorted(set(seen), key=seen.index) == ["native (verifying)", "exact"]  # one switch
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            assert 'runtime="exact"' in answer.read().decode()


def test_batch_takes_what_is_proven_and_writes_its_name_down(mixed: tuple[Path, Any], tmp_path: Path) -> None:
    path, library = mixed
    frame = customers()
    frame.to_parquet(tmp_path / "in.parquet")
    native = bimodal.predict_file(path, tmp_path / "in.parquet", tmp_path / "native.parquet", runtime="native")
    exact = bimodal.predict_file(path, tmp_path / "in.parquet", tmp_path / "exact.parquet", runtime="exact")
    assert (native.runtime, exact.runtime) == ("native", "exact")
    ours, theirs = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("exact", "native"))
    assert ours.equals(theirs)
    assert ours["prediction"].to_pylist() == library.predict(pd.read_parquet(tmp_path / "in.parquet")).tolist()
    assert (native.plan["runtime"], exact.plan["runtime"]) == ("native", "exact")


def test_a_large_run_waits_for_the_proof_a_small_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = RandomForestClassifier(5, random_state=1).fit(IRIS, SPECIES)
    joblib.dump(model, tmp_path / "trees.pkl")
    pd.DataFrame(np.tile(IRIS, (4, 1))).rename(columns=str).to_parquet(tmp_path / "in.parquet")
    small = bimodal.predict_file(tmp_path / "trees.pkl", tmp_path / "in.parquet", tmp_path / "small.parquet")
    monkeypatch.setattr("bimodal.batch.bounds.LARGE", 100)
    large = bimodal.predict_file(tmp_path / "trees.pkl", tmp_path / "in.parquet", tmp_path / "large.parquet")
    assert (small.runtime, large.runtime) == ("native", "exact")
    assert pq.read_table(tmp_path / "small.parquet").equals(pq.read_table(tmp_path / "large.parquet"))


def test_inspect_shows_what_was_compared_and_what_each_runtime_takes(forest: tuple[Path, Any]) -> None:
    shown = CliRunner().invoke(build("inspect"), ["inspect", str(forest[0])], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for word in ("rows compared", "labels differ", "changed leaf", "ulp", "real time, batch"):
        assert word in shown.output
    told = json.loads(CliRunner().invoke(build("inspect"), ["inspect", str(forest[0]), "--json"]).output)
    assert told["runtime"] == "exact"
    native, exact = told["runtimes"][:2]
    assert exact["rows"] > 1000
    assert exact["bits"] == exact["labels"] == exact["leaves"] == 0
    assert native["seconds_1"] > exact["seconds_1"] > 0


def test_a_narrow_terminal_shows_why_a_runtime_is_refused_right_below_it() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_runtimes(console, Report("sklearn", {}, candidates=(Candidate("exact", False, "it has no trees"),)))
    assert console.export_text().splitlines()[-3:] == [
        "  native  real time, batch",
        "  exact  refused",
        "    it has no trees",
    ]
