"""A model's process has a group of its own: what it signals there is not for the run, and Ctrl-C is not for it."""

from __future__ import annotations

import csv
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("started_anew")

MODEL = """
import os, pathlib, signal, subprocess, time

class Model:
    inputs = {"x": float}
    outputs = {"prediction": float}
    helper = None

    def predict(self, rows):
        if (rows["x"] == 100).any():
            os.killpg(0, signal.SIGKILL)
        if (rows["x"] == 101).any():
            helper = subprocess.Popen(["sleep", "300"])
            pathlib.Path("pids").write_text(f"{os.getpid()} {os.getppid()} {helper.pid}")
            time.sleep(300)
        return rows["x"] * 2
"""
TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "bimodal", *sys.argv[1:]])
"""


def put(folder: Path, *values: float) -> list[str]:
    """The command that predicts these rows."""
    (folder / "model.py").write_text(MODEL)
    (folder / "in.csv").write_text("x\n" + "".join(f"{each}\n" for each in values))
    return ["predict", "model.py:Model", "in.csv", "-o", "out.csv"]


def test_a_row_that_kills_the_group_is_set_aside(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bimodal", *put(tmp_path, *range(9), 100, 10), "--max-rejects", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False, start_new_session=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open() as file:
        assert [float(row["prediction"]) for row in csv.DictReader(file)] == [2.0 * x for x in (*range(9), 10)]
    assert "SIGKILL" in (tmp_path / "out.csv.rejects.jsonl").read_text()


def test_ctrl_c_at_a_terminal_ends_the_model_and_what_it_has_started(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *put(tmp_path, 101), "-q"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        until = time.monotonic() + 60
        while not (pids := _text(tmp_path / "pids").split()):
            assert time.monotonic() < until, "it did not begin"
            time.sleep(0.05)
        os.write(ours, b"\x03")
        assert process.wait(60) == 130
        until = time.monotonic() + 60
        while any(_runs(int(each)) for each in pids):
            assert time.monotonic() < until, "something was left behind"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
