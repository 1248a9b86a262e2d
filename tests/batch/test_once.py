"""A model that streams is asked once for each row: its answers may cost money."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import bimodal
from tests.batch.places import COMMAND

COUNT = 70  # more than two calls of four times eight
COUNTED = """
import os, time


class Counted:
    def chat(self, messages, max_tokens: int = 9):
        said = messages[-1]["content"]
        file = os.open("asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{said}\\n".encode())
        os.close(file)
        if said == "wait" and not os.path.exists("go"):
            time.sleep(60)
        if said.startswith("fail"):
            raise ValueError("it fails")
        yield said
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted.py").write_text(COUNTED)
    return tmp_path


def plain(said: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": said}]}


def request(said: str) -> dict[str, Any]:
    body = {"model": "Counted", **plain(said)}
    return {"custom_id": said, "method": "POST", "url": "/v1/chat/completions", "body": body}


def write(lines: list[dict[str, Any]]) -> None:
    Path("in.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))


def asked() -> list[str]:
    return sorted(Path("asked").read_text().split())


@pytest.mark.parametrize("shape", [plain, request])
@pytest.mark.usefixtures("folder")
def test_each_row_is_asked_once_also_where_some_fail(shape: Any) -> None:
    said = [f"{'fail' if place % 9 == 4 else 'word'}{place}" for place in range(COUNT)]
    write([shape(each) for each in said])
    report = bimodal.predict_file("counted.py:Counted", "in.jsonl", "out.jsonl", max_rejects=COUNT, progress="quiet")
    assert report.read == COUNT
    assert report.rejected == (sum(each.startswith("fail") for each in said) if shape is plain else 0)
    assert asked() == sorted(said)


@pytest.mark.usefixtures("folder")
def test_an_engine_that_fails_for_all_ends_the_run() -> None:
    write([plain(f"fail{place}") for place in range(COUNT)])
    with pytest.raises(bimodal.errors.ModelFailed):
        bimodal.predict_file("counted.py:Counted", "in.jsonl", "out.jsonl", max_rejects=COUNT, progress="quiet")
    assert len(asked()) == 32


@pytest.mark.parametrize("before", [0, 32])
@pytest.mark.usefixtures("folder")
def test_ctrl_c_says_what_is_kept_and_that_is_not_asked_again(before: int) -> None:
    said = [f"word{place}" for place in range(before)]
    write([plain(each) for each in [*said, "wait"]])
    words = [*COMMAND, "predict", "counted.py:Counted", "in.jsonl", "-o", "out.jsonl"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        until, kept = time.monotonic() + 60, Path(".out.jsonl.bimodal/calls/0")
        while not (Path("asked").exists() and "wait" in asked()) and time.monotonic() < until:
            time.sleep(0.02)
        while before and not (kept.exists() and kept.stat().st_size) and time.monotonic() < until:
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert ("32 rows are done and kept" if before else "nothing is kept of what was done") in told
    assert asked() == sorted([*said, "wait"])
    Path("go").touch()
    assert bimodal.predict_file("counted.py:Counted", "in.jsonl", "out.jsonl", progress="quiet").resumed == before
    assert asked() == sorted([*said, "wait", "wait"])
