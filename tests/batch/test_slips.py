"""Slips of a command that did harm, or led astray: told before anything is done, without a password."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bimodal import compare, load, predict_file
from bimodal.batch.databases import duckdb as adapter
from bimodal.batch.databases.opening import open_sink
from bimodal.errors import InputError, SourceError, TooManyRejects, UsageError
from tests.batch.places import COMMAND, shop, write

PASSWORD = "hunter2-is-secret"
ADDRESSES = (f"postgresql://u:{PASSWORD}@h/db#x", f"s3://a:{PASSWORD}@b/churn.pkl", f"postgresql:/u:{PASSWORD}@h/db")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    write(shop(20), tmp_path / "c.csv")
    return "c.csv"


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_where_only_a_file_can_stand_is_refused_unspoken(address: str, saved: Path, data: str) -> None:
    calls: list[Any] = [
        lambda: load(address),
        lambda: predict_file(address, data, "out.csv"),
        lambda: predict_file(saved, data, "out.csv", sample=address),
        lambda: predict_file(saved, data, "out.csv", code=address),
        lambda: compare(saved, address, data),
        lambda: compare(saved, saved, data, output=address),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="not an address") as caught:
            call()
        assert PASSWORD not in str(caught.value)


def test_into_names_no_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--into names a table") as caught:
        open_sink(f"sqlite:///{tmp_path}/x.db", ADDRESSES[0])
    assert PASSWORD not in str(caught.value)


def test_a_file_that_is_named_twice_is_refused(saved: Path, data: str) -> None:
    Path("link.csv").symlink_to(data)
    for named in ([data, data], ["c.csv", "c*.csv"], ["link.csv", "./c.csv"]):
        with pytest.raises(SourceError, match=r"c\.csv is named twice"):
            predict_file(saved, named, "out.csv")
        with pytest.raises(SourceError, match="is named twice"):
            compare(saved, saved, named)


def test_what_is_no_input_is_told_as_what_it_is(saved: Path, data: str) -> None:
    for name, hint in (("m.pkl", "is the model named first"), ("s.db", "sqlite:///s.db#TABLE")):
        Path(name).touch()
        with pytest.raises(SourceError, match=hint):
            predict_file(saved, name, "out.csv")
    with pytest.raises(UsageError, match="--memory 0"):
        predict_file(saved, data, "out.csv", memory=0)


def test_the_one_class_that_predicts_is_found_in_its_file(data: str) -> None:
    one = "class Helper:\n    pass\n\nclass One:\n    def predict(self, rows):\n        return rows[:, 0]\n"
    Path("one.py").write_text(one)
    Path("n.csv").write_text("a,b\n1,2\n")
    assert predict_file("one.py", "n.csv", "out.csv", progress="quiet").predicted == 1


def test_an_interrupted_command_ends_its_events_with_an_error(data: str) -> None:
    Path("slow.py").write_text(
        "import time\n\nclass Slow:\n    def predict(self, rows):\n        time.sleep(60)\n        return rows[:, 0]\n"
    )
    Path("n.csv").write_text("a,b\n1,2\n")
    command = [*COMMAND, "predict", "slow.py", "n.csv", "-o", "out.csv", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline()
        time.sleep(1)
        run.send_signal(signal.SIGTERM)
        told, _ = run.communicate(timeout=60)
    last = json.loads(told.splitlines()[-1])
    assert run.returncode == 130
    assert (last["event"], last["code"]) == ("error", "interrupted")


def test_a_full_disk_of_duckdb_says_how_to_go_on() -> None:
    error = duckdb.IOException("IO Error: Could not write file: No space left on device")
    assert "the same command goes on from there once there is room" in adapter._reason(error)


def test_what_a_python_model_says_is_a_note(data: str) -> None:
    """So --quiet prints none, and --json has it among the events."""
    Path("one.py").write_text("class One:\n    def predict(self, rows):\n        return rows[:, 0]\n")
    Path("n.csv").write_text("a,b\n1,2\n")
    quiet, events = (
        subprocess.run(
            [*COMMAND, "predict", "one.py", "n.csv", "-o", f"{flag}.csv", flag], capture_output=True, text=True
        )
        for flag in ("--quiet", "--json")
    )
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert events.stderr == ""
    notes = [json.loads(line).get("text", "") for line in events.stdout.splitlines()]
    assert any("it declares no inputs" in note and "--features a,b" in note for note in notes)


def test_spaces_around_the_names_have_one_remedy(saved: Path, data: str) -> None:
    Path("spaces.csv").write_text("age , spent,plan\n1,2,pro\n")
    with pytest.raises(InputError, match=r"'age', 'spent' are missing; in its header are spaces"):
        predict_file(saved, "spaces.csv", "out.csv")


def test_a_line_of_a_rejects_file_that_is_no_json_is_named(saved: Path, data: str) -> None:
    Path("bad.rejects.jsonl").write_text(
        '{"row":1,"source":"c.csv","column":"age","code":"x","reason":"r","raw":{"age":1,"spent":2,"plan":"pro"}}\n{"row":2,\n'
    )
    with pytest.raises(TooManyRejects, match="line 2 is no JSON"):
        predict_file(saved, "bad.rejects.jsonl", "out.csv")


def test_all_that_is_refused_is_counted_and_the_command_keeps_its_timeout(saved: Path, data: str) -> None:
    Path("odd.csv").write_text("age,spent,plan\n" + "x,2,pro\n" * 6 + "1,2,pro\n")
    with pytest.raises(TooManyRejects, match="and 3 more") as caught:
        predict_file(saved, "odd.csv", "out.csv", timeout=90)
    assert "--timeout 90 " in str(caught.value)
