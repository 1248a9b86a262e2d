"""`bimodal runs` shows people and programs which runs there were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bimodal
from bimodal import predict_file
from bimodal.cli import main
from bimodal.errors import TooManyRejects
from tests.batch.places import mixed_pipeline, shop, write


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of three runs: complete, with rejects and a target, failed."""
    folder = tmp_path_factory.mktemp("runs")
    rows = shop(20)
    rows["left"] = ["leaves", "stays"] * 10
    rows.loc[3, "plan"] = "gold"
    source = write(rows, folder / "in.csv")
    with pytest.MonkeyPatch.context() as patch, bimodal.load(mixed_pipeline(), name="churn") as model:
        patch.setenv("BIMODAL_STATE", str(folder / "state"))
        predict_file(model, write(shop(5), folder / "few.csv"), folder / "few.parquet")
        predict_file(model, source, folder / "out.csv", max_rejects=1, target="left")
        with pytest.raises(TooManyRejects):
            predict_file(model, source, folder / "held.csv")
    return folder


@pytest.fixture(autouse=True)
def _known(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_STATE", str(state / "state"))
    monkeypatch.setenv("COLUMNS", "300")


def test_the_list_has_a_line_a_run(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert main(["runs", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "status", "started", "(UTC)", "rows", "output"]
    assert {(line.split()[1], line.split()[-1]) for line in lines} == {
        ("complete", str(state / "few.parquet")),
        ("complete", str(state / "out.csv")),
        ("failed", str(state / "held.csv")),
    }


def test_the_list_for_machines_has_the_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((each["status"], each["read"], each["rejected"]) for each in told) == [
        ("complete", 5, 0),
        ("complete", 20, 1),
        ("failed", 20, 1),
    ]
    assert main(["runs", "list", "-n", "1", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_one_run_is_shown_by_its_output(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert main(["runs", "show", str(state / "out.csv")]) == 0
    shown = capsys.readouterr().out.splitlines()
    told = {line[:10].strip(): line[11:] for line in shown if line[:10].strip()}
    assert told["status"] == "complete"
    assert told["rows"] == "20 read, 19 predicted, 1 rejected"
    assert told["rejects"] == f"{state / 'out.csv'}.rejects.jsonl"
    assert told["input"] == str(state / "in.csv")
    assert told["model"].startswith("churn ")
    assert "accuracy" in told["quality"]


def test_one_run_is_shown_by_its_id_with_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = [each for each in told if each["status"] == "failed"]
    assert main(["runs", "show", failed["run"]]) == 0
    assert "1 row of 20 rejected, nothing was published" in capsys.readouterr().out
    assert main(["runs", "show", failed["run"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == failed


def test_what_is_not_there_is_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["runs", "show", "nothing"]) == 1
    assert capsys.readouterr().err == "error: there is no run 'nothing'; `bimodal runs list` has them all\n"
    monkeypatch.setenv("BIMODAL_STATE", str(tmp_path))
    assert main(["runs", "list"]) == 0
    assert capsys.readouterr().out == "no batch run yet; `bimodal predict` makes one\n"
