"""The history tells which runs there were; a run never fails for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bimodal
from bimodal import predict_file
from bimodal.batch import history
from bimodal.batch.history import History
from bimodal.batch.progress import Progress
from bimodal.errors import InputError, NotFound
from tests.batch.places import shop, write

NOTES = """
import sys
from pathlib import Path
from bimodal.batch.history import History
History(Path(sys.argv[1])).note({"run": "abc", "status": "running", "output": None})
print("noted", flush=True)
sys.stdin.read()
"""


def entry(run: str, **told: Any) -> dict[str, Any]:
    return {"run": run, "status": "complete", "started": f"2026-01-01T00:00:0{len(run)}", "output": None, **told}


@pytest.fixture
def runs(tmp_path: Path) -> History:
    return History(tmp_path / "runs")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """The history that runs of this test write."""
    monkeypatch.setenv("BIMODAL_STATE", str(tmp_path / "state"))
    return History()


def test_a_run_has_one_entry_and_the_latest_comes_first(runs: History) -> None:
    assert runs.list() == []
    for run in ("a", "ccc", "bb"):
        runs.note(entry(run, status="running"))
    runs.note(entry("ccc", read=7))
    assert [(each.run, each.status) for each in runs.list()] == [
        ("ccc", "complete"),
        ("bb", "running"),
        ("a", "running"),
    ]
    assert runs.list()[0].told["read"] == 7


def test_a_run_is_found_by_its_id_its_beginning_or_its_output(runs: History, tmp_path: Path) -> None:
    runs.note(entry("abcd", output=str(tmp_path / "out.csv")))
    runs.note(entry("abef9", output="s3://shop/out/"))
    assert runs.find("abcd").run == runs.find("abc").run == runs.find(f"{tmp_path}/./out.csv").run == "abcd"
    assert runs.find("s3://shop/out/").run == "abef9"
    runs.note(entry("again", status="already complete", output="s3://shop/out/"))
    assert runs.find("s3://shop/out/").run == "abef9"  # the one that wrote it
    runs.note(entry("table", output="main.scores in sqlite:///shop.db", given=["sqlite:///shop.db#scores"]))
    assert runs.find("sqlite:///shop.db#scores").run == "table"
    with pytest.raises(NotFound, match="2 runs begin with 'ab'"):
        runs.find("ab")
    with pytest.raises(NotFound, match="bimodal runs list"):
        runs.find("out.csv")


def test_an_output_is_a_name_in_the_folder_of_its_command(
    runs: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        runs.note(entry(place, output="out.csv"))
    assert runs.find("out.csv").run == "two"
    assert runs.find("../one/out.csv").run == "one"


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    words = [sys.executable, "-c", NOTES, str(tmp_path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"noted\n"
    assert [each.status for each in History(tmp_path).list()] == ["running"]
    process.kill()
    process.communicate()
    assert [each.status for each in History(tmp_path).list()] == ["interrupted"]


def test_the_number_of_a_process_that_is_gone_may_be_another_ones(runs: History) -> None:
    runs.note(entry("a", status="running"))
    told = json.loads((runs.folder / "a.json").read_text())
    assert (told["process"], runs.find("a").status) == (os.getpid(), "running")
    (runs.folder / "a.json").write_text(json.dumps({**told, "born": told["born"] - 1}))
    assert runs.find("a").status == "interrupted"
    (runs.folder / "a.json").write_text(json.dumps({**told, "born": 0, "host": "another machine"}))
    assert runs.find("a").status == "running"


def test_the_oldest_runs_are_forgotten(runs: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    for age, run in enumerate(["a", "bb", "ccc", "dddd"]):
        runs.note(entry(run))
        os.utime(runs.folder / f"{run}.json", (age, age))
    runs.note(entry("bb"))  # again: nobody has to go for it
    assert [each.run for each in runs.list()] == ["dddd", "ccc", "bb"]


def test_how_far_a_run_is_is_written_now_and_then(runs: History) -> None:
    runs.note(entry("a", read=1))
    runs.note(entry("a", read=2), now=False)
    assert runs.find("a").told["read"] == 1
    runs.note(entry("a", read=3))
    assert runs.find("a").told["read"] == 3


def test_files_that_are_none_of_ours_are_passed_over(runs: History) -> None:
    runs.note(entry("a"))
    for name, text in (("torn.json", '{"run": "x'), ("list.json", "[1]"), ("other.json", "{}")):
        (runs.folder / name).write_text(text)
    assert [each.run for each in runs.list()] == ["a"]


class Heard(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def test_a_folder_that_cannot_be_written_costs_a_note_and_never_the_run(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file, no folder")
    monkeypatch.setenv("BIMODAL_STATE", str(tmp_path / "state"))
    heard = Heard()
    report = predict_file(model, write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv", progress=heard)
    assert report.status == "complete"
    (told,) = [each for each in heard.notes if "bimodal runs" in each]
    assert told.startswith("this run will not stand in `bimodal runs`")
    assert (tmp_path / "state").read_text() == "a file, no folder"


def test_a_half_written_note_is_taken_away(runs: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    runs.note(entry("a"))
    assert runs.problem is not None
    assert "No space left" in runs.problem
    assert list(runs.folder.iterdir()) == []


def test_a_run_stands_in_the_history_with_its_report(model: bimodal.Model, state: History, tmp_path: Path) -> None:
    report = predict_file(model, write(shop(5), tmp_path / "in.csv"), tmp_path / "out.csv")
    found = state.find(str(tmp_path / "out.csv"))
    assert (found.run, found.status, found.told["predicted"]) == (report.run, "complete", 5)
    predict_file(model, tmp_path / "in.csv", tmp_path / "dry.csv", dry_run=True)
    assert len(state.list()) == 1


def test_a_run_that_fails_at_its_first_rows_has_failed(state: History, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "class Model:\n    inputs = {'age': float}\n    outputs = {'prediction': float}\n\n"
        "    def predict(self, rows):\n        raise RuntimeError('no')\n"
    )
    source = write(shop(20)[["id", "age"]].fillna(1.0), tmp_path / "in.csv")
    with pytest.raises(bimodal.errors.BimodalError):
        predict_file(f"{tmp_path}/broken.py:Model", source, tmp_path / "out.csv")
    (found,) = state.list()
    assert (found.status, found.told["predicted"]) == ("failed", 0)
    assert found.told["error"]


def test_a_run_that_is_refused_before_it_begins_leaves_no_entry(
    model: bimodal.Model, state: History, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        predict_file(model, write(shop(5)[["id"]], tmp_path / "in.csv"), tmp_path / "out.csv")
    assert state.list() == []


class Impatient(Progress):
    """Presses Ctrl-C at the first row."""

    def update(self, read: int, rejected: int, done: int) -> None:
        raise KeyboardInterrupt


def test_a_run_that_was_interrupted_is_so_while_its_process_goes_on(
    model: bimodal.Model, state: History, tmp_path: Path
) -> None:
    source = write(shop(5), tmp_path / "in.csv")
    with pytest.raises(KeyboardInterrupt):
        predict_file(model, source, tmp_path / "out.csv", progress=Impatient())
    assert [each.status for each in state.list()] == ["interrupted"]
    report = predict_file(model, source, tmp_path / "out.csv")
    assert [(each.run, each.status) for each in state.list()] == [(report.run, "complete")]
