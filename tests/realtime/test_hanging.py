"""Models that hang: their process is replaced, and those who come later are answered."""

from __future__ import annotations

import asyncio
import time
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bimodal.errors import DeadlineExceeded, ModelHung
from bimodal.location import Location
from bimodal.model import Model, load
from bimodal.realtime import batcher, habit
from bimodal.realtime.exchange import Response
from bimodal.rows import Rows
from bimodal.runtimes import streams
from bimodal.runtimes.process import ProcessRuntime
from tests.realtime.desk import Ask, Desk
from tests.realtime.test_streaming import Window, begun, places, steps, wanted
from tests.talkative import TALK

PLAIN = """
import time

class Plain:
    inputs = {"x": float}
    def predict(self, rows):
        while rows["x"].max() > 9:
            time.sleep(1)
        return rows["x"]
"""


def pid(model: Model) -> int:
    assert isinstance(model.runtime, ProcessRuntime)
    return model.runtime.pid


async def replaced(model: Model, old: int) -> None:
    until = time.monotonic() + 60
    while pid(model) == old:
        assert time.monotonic() < until, "the process was not replaced"
        await asyncio.sleep(0.02)


def test_a_call_that_hangs_ends_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batcher, "HUNG", 0.2)
    (tmp_path / "plain.py").write_text(PLAIN)
    with load(f"{tmp_path}/plain.py:Plain") as model:
        old, desk = pid(model), Desk(model)
        try:
            for value, status in ((10.0, 504), (2.0, 200)):
                headers = {"x-request-timeout-ms": "300"} if status == 504 else {}
                (answer,) = desk.together([Ask(body={"input": {"x": value}}, headers=headers)])
                assert answer.status == status, answer.body
            assert pid(model) != old
        finally:
            desk.close()
    (told,) = [each.getMessage() for each in caplog.records if "replaced" in each.getMessage()]
    assert told == "Plain: no answer 0.2 s after the deadline; its process is replaced"


def test_a_process_whose_answers_are_all_stuck_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams, "GRACE", 0.2)
    (tmp_path / "talk.py").write_text(TALK)

    async def hang(model: Model, desk: Desk) -> None:
        old = pid(model)
        alive = begun(desk, "alive", 10**9)
        await anext(alive)
        late = begun(desk, "stuck", within=1.0)
        await anext(late)
        with pytest.raises(DeadlineExceeded):
            await anext(late)
        window = Window()
        found = desk.wired.service.first
        assert found is not None
        found.batcher.submit(wanted(window, "stuck", 3, 1.0))
        await window.given(1)
        assert isinstance(window.answers["stuck"], DeadlineExceeded)
        await asyncio.sleep(0.4)
        assert pid(model) == old  # another answer is open there, and goes on
        assert int((await anext(alive)).array("step")[0]) == 1
        assert places(desk) == 2
        alive.close()
        await replaced(model, old)
        assert places(desk) == 0
        assert await steps(begun(desk, "a")) == [0, 1, 2]

    with load(f"{tmp_path}/talk.py:Talk") as model:
        desk: Any = Desk(model)
        try:
            desk.run(lambda: hang(model, desk))
        finally:
            desk.close()
    assert "Talk: all its answers in pieces are stuck; its process is replaced" in caplog.text


LOOPS = """
import time

class Loops:
    inputs = {"x": float}
    def predict(self, rows):
        while rows["x"].min() < -2:
            pass
        if rows["x"].min() < -1:
            time.sleep(2.5)
        return rows["x"]
"""


def test_a_row_that_hangs_costs_its_neighbours_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(habit, "TIMES", 2.0)  # so that one slow call on a busy machine is no habit
    (tmp_path / "loops.py").write_text(LOOPS)

    async def ask(desk: Desk, x: float, within: int = 30_000) -> tuple[int, float]:
        """The status, and when it came."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        request = Ask(body={"input": {"x": x}}, headers={"x-request-timeout-ms": str(within)}).request()
        desk.app(request, answer.set_result)
        return (await answer).status, time.monotonic()

    async def among_others(desk: Desk) -> None:
        for _ in range(habit.MANY):
            assert (await ask(desk, 1.0))[0] == 200
        slow = asyncio.create_task(ask(desk, -1.5))
        await asyncio.sleep(0.02)
        hangs = asyncio.create_task(ask(desk, -3.0, 8000))
        good = await asyncio.gather(*[ask(desk, 1.0) for _ in range(20)])
        assert {status for status, _ in good} == {200}
        assert (await slow)[0] == 200
        status, until = await hangs
        assert status == 504
        assert max(when for _, when in good) < until
        assert (await ask(desk, -3.0, 500))[0] == 500  # at once: it hung, alone
        found = desk.wired.service.first
        assert found is not None
        hung = ModelHung("it hung")
        hung.tried = 0.3
        rows = Rows({"x": np.array([-1.5])})
        found.batcher.quarantine.remember(found.key, rows, hung)
        assert (await ask(desk, -1.5, 500))[0] == 500
        assert (await ask(desk, -1.5))[0] == 200  # who has the time has the answer

    with Model.open(Location.find(f"{tmp_path}/loops.py:Loops", spare="auto")) as model:
        desk = Desk(model)
        try:
            old = pid(model)
            desk.run(lambda: among_others(desk))
            assert pid(model) != old
        finally:
            desk.close()
    assert "far longer than they take" in caplog.text


def test_calls_that_vary_or_are_few_are_not_taken_to_hang() -> None:
    known = habit.Habit()
    for _ in range(habit.MANY - 1):
        known.took(0.002)
    assert known.limit(0.002, 10.0) == inf
    known.took(0.002)
    assert known.limit(0.002, 10.0) == 1.0
    assert known.limit(0.002, 1.0) == 0.5
    assert known.limit(0.002, 0.1) == 0.25
    known.took(0.4)
    assert known.limit(0.002, 10.0) > 10  # the longest of late
    for _ in range(600):
        known.took(0.002)
    assert known.limit(0.002, 10.0) == 1.0
