"""Requests of one call of which one kills or holds up the process: the others are tried again in the next."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bimodal.location import Location
from bimodal.model import Model
from bimodal.realtime import batcher
from bimodal.realtime.exchange import Response
from bimodal.runtimes.process import ProcessRuntime
from tests.realtime.desk import Ask, Desk, told

MORTAL = """
import os, pathlib, time

class Mortal:
    inputs = {"x": float}
    outputs = {"prediction": float, "pid": int}

    def predict(self, rows):
        x = rows["x"]
        with open(pathlib.Path(__file__).parent / "calls", "a") as file:
            file.write(f"{x.astype(int).tolist()}\\n")
        if (x == 13).any() or ((x == 14).any() and not self.spared()):
            os._exit(3)
        if (x == 15).any():
            time.sleep(60)
        return {"prediction": x * 2, "pid": [os.getpid()] * len(x)}

    def spared(self):
        flag = pathlib.Path(__file__).parent / "spared"
        found = flag.exists()
        flag.touch()
        return found
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mortal")


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[Desk]:
    (folder / "mortal.py").write_text(MORTAL)
    with Model.open(Location.find(f"{folder}/mortal.py:Mortal", spare="auto")) as model:
        desk = Desk(model)
        yield desk
        desk.close()


def ask(desk: Desk, *values: float, within: dict[float, int] | None = None) -> list[Response]:
    """All in one turn of the loop. within: milliseconds of those that have less time."""
    limits = within or {}
    asks = [
        Ask(
            "/predict?outputs=prediction,pid",
            {"input": {"x": value}},
            headers={"x-request-timeout-ms": str(limits.get(value, 30_000))},
        )
        for value in values
    ]
    return desk.together(asks)


def calls(folder: Path) -> list[list[int]]:
    """The rows of each call since the last look."""
    path = folder / "calls"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_one_that_kills_is_found_and_the_others_are_answered(desk: Desk, folder: Path) -> None:
    ask(desk, 1, 1)  # what a call costs is known
    calls(folder)
    answers = ask(desk, 1, 2, 13, 3)
    assert [each.status for each in answers] == [200, 200, 500, 200]
    assert [told(each)["prediction"] for each in answers if each.status == 200] == [[2.0], [4.0], [6.0]]
    assert told(answers[2])["code"] == "model_crashed"
    seen = calls(folder)
    assert sum(13 in each for each in seen) == 2  # with others, and alone
    assert [13] in seen


def test_it_is_known_again_and_no_process_dies_of_it(desk: Desk, folder: Path) -> None:
    before = told(ask(desk, 1)[0])["pid"]
    calls(folder)
    answers = ask(desk, 4, 13, 5)
    assert [each.status for each in answers] == [200, 500, 200]
    assert told(answers[1])["error"] == "the process that ran the model ended with exit code 3"
    assert told(answers[0])["pid"] == before
    assert not any(13 in each for each in calls(folder))


def test_a_lone_one_is_tried_once_more(desk: Desk, folder: Path) -> None:
    calls(folder)
    (answer,) = ask(desk, 14)
    assert answer.status == 200, answer.body
    assert calls(folder) == [[14], [14]]


def test_who_shares_a_call_with_one_that_hangs_is_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "HUNG", 0.2)
    start = time.monotonic()
    answers = ask(desk, 6, 15, 7, within={15: 300})
    assert [each.status for each in answers] == [200, 504, 200]
    assert time.monotonic() - start < 25  # their deadline is 30 s
    runtime = desk.wired.service.first
    assert runtime is not None
    assert isinstance(runtime.model.runtime, ProcessRuntime)
    assert runtime.model.runtime.available
