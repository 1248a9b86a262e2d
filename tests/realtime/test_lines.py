"""What `bimodal serve` writes to standard error: lines that say when, which process, what; it asks itself nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

MODEL = """
import os
import signal

import numpy as np


class Twice:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        if 13 in rows["x"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"prediction": 2 * np.asarray(rows["x"])}
"""
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) (server|worker \d)\[\d+\] bimodal(\.\w+)*: .+"
)


class Running:
    """bimodal serve, as a process: a model written in Python, and a repository with one that cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.access = folder, folder / "log", folder / "access.jsonl"
        (folder / "twice.py").write_text(MODEL)
        for name in ("line", "half"):
            (folder / "models" / name / "1").mkdir(parents=True)
        rows = np.arange(8.0)[:, None]
        joblib.dump(LinearRegression().fit(rows, rows[:, 0]), folder / "models" / "line" / "1" / "model.pkl")
        (folder / "models" / "half" / "1" / "model.onnx").write_bytes(b"half of a file")
        command = [sys.executable, "-m", "bimodal", "serve", str(folder / "twice.py"), "--port", "0"]
        command += ["--repository", str(folder / "models"), "--repository-control", "explicit"]
        with self.log.open("wb") as log:
            options = ["--access-log", str(self.access)]
            self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        self.printed = list(takewhile(lambda line: line.split()[:1] not in ([], ["grpc"]), self._lines()))
        self.port = urlsplit(self.printed[0].split()[-1]).port

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        while True:
            yield self.process.stdout.readline().decode()

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port or 0, timeout=60)
        connection.request(method, path, body)
        answer = connection.getresponse()
        told = answer.status, answer.read()
        connection.close()
        return told

    def says(self, words: str) -> None:
        wait(lambda: words in self.log.read_text())


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    started = Running(tmp_path_factory.mktemp("lines"))
    yield started
    started.process.kill()
    started.process.communicate()


def test_the_banner_has_an_example_that_works_and_asked_no_route_for_it(running: Running) -> None:
    (line,) = [each for each in running.printed if "curl" in each]
    assert running.ask("POST", "/predict", line.split("-d ")[1].strip().strip("'").encode())[0] == 200
    wait(lambda: running.access.stat().st_size > 0)
    paths = [json.loads(each)["route"] for each in running.access.read_text().splitlines()]
    assert paths == ["/predict"]
    assert b"bimodal_connections_total 2" in running.ask("GET", "/metrics")[1].replace(b".0", b"")


def test_a_load_that_was_refused_is_told(running: Running) -> None:
    assert running.ask("POST", "/v2/repository/models/half/load", b"{}")[0] >= 400
    running.says("a caller's load was refused: half: half, version 1, cannot be served, and nothing has changed: ")


def test_a_file_that_is_gone_is_told_and_what_was_loaded_stays(running: Running) -> None:
    (running.folder / "twice.py").rename(running.folder / "away.py")
    running.process.send_signal(signal.SIGHUP)
    running.says("twice.py is gone; what was loaded stays")
    assert running.ask("POST", "/predict", b'{"rows": [{"x": 2}]}') == (200, b'{"prediction":[4.0]}')
    assert b"is gone" in running.ask("POST", "/v2/repository/index", b"{}")[1]


def test_a_model_process_that_was_killed_is_told_with_its_signal(running: Running) -> None:
    assert running.ask("POST", "/predict", b'{"rows": [{"x": 13}]}')[0] == 500
    wait(lambda: running.ask("POST", "/predict", b'{"rows": [{"x": 2}]}')[0] == 200)
    running.says("twice: its process was killed by SIGKILL; ")
    assert "took its place" in running.log.read_text()


def test_every_line_says_when_and_who_and_the_last_ones_that_it_ends(running: Running) -> None:
    running.process.terminate()
    assert running.process.wait(60) == 0
    told = running.log.read_text().splitlines()
    assert [each for each in told if not LINE.fullmatch(each)] == []
    said = [each.rpartition(": ")[2] for each in told]
    assert "draining" in said  # what a signal set off before may end meanwhile, and say so
    assert said[-1] == "ended"
