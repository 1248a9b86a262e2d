"""A slow model: its run tells how far it is within a chunk, and a kill loses a call of it, not the chunk."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from bimodal import predict_file
from bimodal.batch.bounds import calm_call
from bimodal.batch.progress import Progress
from bimodal.batch.spool import Spool
from bimodal.batch.underway import Underway
from bimodal.rows import Rows
from tests.batch.places import COMMAND

ROWS = 60
SLOW = """
import os, time

class Model:
    inputs = {"a": float}

    def predict(self, rows):
        time.sleep(0.04 * len(rows["a"]))
        while 59.5 in rows["a"] and os.path.exists("unwatched"):
            time.sleep(0.02)
        with open("calls", "a") as calls:
            calls.write("".join(f"{a}\\n" for a in rows["a"]))
        return rows["a"] * 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "in.csv").write_text("a\n" + "".join(f"{number}.5\n" for number in range(ROWS)))
    return tmp_path


class Heard(Progress):
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

        self.notes: list[str] = []
        self.begun = 0

    def begin(self, total_rows: int | None, total_bytes: int | None, done: int = 0) -> None:
        self.begun = done

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def update(self, read: int, rejected: int, done: int) -> None:
        self.steps.append((read, done))


def test_rows_count_within_a_chunk_and_a_killed_run_predicts_no_kept_call_again(folder: Path) -> None:
    command = [*COMMAND, "predict", "slow.py:Model", "in.csv", "-o", "out.csv", "-q"]
    spool = folder / ".out.csv.bimodal" / "calls" / "0"
    (folder / "unwatched").touch()  # it does not come to its end while nobody looks
    with subprocess.Popen(command) as run:
        until = time.monotonic() + 60
        while not (spool.exists() and spool.stat().st_size) and time.monotonic() < until:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    (folder / "calls").unlink()
    (folder / "unwatched").unlink()
    heard = Heard()
    report = predict_file("slow.py:Model", "in.csv", "out.csv", progress=heard)
    assert report.predicted == ROWS
    again = (folder / "calls").read_text().split()
    kept = {f"{number}.5" for number in range(ROWS)} - set(again)
    assert report.resumed == heard.begun == len(kept) > 0
    assert report.rate == pytest.approx((ROWS - len(kept)) / report.seconds)
    assert f": {len(kept)} rows are done already" in "".join(heard.notes)
    assert "0.5" not in again, "the first call was kept"
    assert f"{ROWS - 1}.5" in again
    heard = Heard()
    predict_file("slow.py:Model", "in.csv", "whole.csv", progress=heard)
    assert any(0 < read < ROWS and done for read, done in heard.steps)
    assert heard.steps == sorted(heard.steps)
    assert (folder / "out.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    assert predict_file("slow.py:Model", "in.csv", "out.csv", progress="quiet").status == "already complete"


@pytest.mark.parametrize(
    ("call", "row", "size"),
    [(0.005, 1e-6, 0), (0.0, 1e-4, 0), (0.0, 1e-3, 512), (0.01, 0.1, 8), (0.0, 3.0, 1), (0.5, 1e-3, 256)],
)
def test_a_call_of_a_slow_model_takes_about_a_second(call: float, row: float, size: int) -> None:
    """call, row: seconds that each costs."""
    assert calm_call(lambda count: call + row * count) == size


def test_an_answer_is_kept_for_its_own_rows_alone_and_a_torn_one_is_none(tmp_path: Path) -> None:
    parts = [Rows({"a": np.arange(start, start + 3.0)}) for start in (0, 3, 6)]
    spool = Spool(tmp_path / "calls")
    for part in parts:
        spool.keep(4, part, ("prediction",), Rows({"prediction": part.array("a") * 2}))
    file = tmp_path / "calls" / "4"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    later = Spool(tmp_path / "calls")
    found = [later.take(4, part, ("prediction",)) for part in parts]
    assert [None if each is None else each.array("prediction").tolist() for each in found] == [
        [0, 2, 4],
        [6, 8, 10],
        None,
    ]
    assert later.take(3, parts[0], ("prediction",)) is None
    assert later.take(4, parts[0], ("probability",)) is None
    later.keep(4, parts[2], ("prediction",), Rows({"prediction": parts[2].array("a") * 2}))
    assert file.read_bytes() == whole
    file.write_bytes(whole.replace(np.float64(8).tobytes(), np.float64(9).tobytes()))
    damaged = Spool(tmp_path / "calls")
    assert (damaged.survey(3), damaged.damaged) == (6, 1)
    assert damaged.survey(4) == 6
    assert damaged.take(4, parts[1], ("prediction",)) is None
    damaged.forget(4)
    assert (damaged.kept, damaged.damaged) == (0, 3), "two more belong to no rows that came"
    later.forget(5)
    assert not file.exists()


def test_what_is_under_way_never_counts_back() -> None:
    underway, told = Underway(), []
    for number in range(3):
        underway.begin(number, 10, 100 * (number + 1))
    for number, _ in itertools.product(range(3), range(2)):
        underway.count(number, 5)
        told.append(underway.told(0))
    assert told == [(5, 50), (10, 100), (15, 150), (20, 200), (25, 250), (30, 300)]
