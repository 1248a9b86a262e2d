"""Models that hang: their process is replaced, and those who come later are answered."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from bimodal.errors import DeadlineExceeded
from bimodal.model import Model, load
from bimodal.realtime import batcher
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
STUCK = TALK.replace("time.sleep(1.2)", "time.sleep(3600)")


def pid(model: Model) -> int:
    assert isinstance(model.runtime, ProcessRuntime)
    return model.runtime.pid


async def replaced(model: Model, old: int) -> None:
    until = time.monotonic() + 5
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
    (tmp_path / "talk.py").write_text(STUCK)

    async def hang(model: Model, desk: Desk) -> None:
        old = pid(model)
        alive = begun(desk, "alive", 10**9)
        await anext(alive)
        late = begun(desk, "stuck", within=0.3)
        await anext(late)
        with pytest.raises(DeadlineExceeded):
            await anext(late)
        window = Window()
        found = desk.wired.service.first
        assert found is not None
        found.batcher.submit(wanted(window, "stuck", 3, 0.3))
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
