"""Answers in pieces on the event loop: bounds, deadlines, and what stops the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bimodal.errors import DeadlineExceeded, InputError, ModelCrashed, ModelFailed, Overloaded, Unavailable
from bimodal.model import Model, load
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.service import Served
from bimodal.realtime.streaming import Pieces
from bimodal.rows import Rows
from bimodal.runtimes.process import ProcessRuntime
from bimodal.runtimes.streams import WINDOW
from tests.realtime.desk import Desk
from tests.realtime.shelf import loaded
from tests.realtime.wire import PATIENCE
from tests.talkative import TALK, note

ENDLESS = 10**9
KEY = (("text", "step"), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("talkative")
    (made / "talk.py").write_text(TALK)
    return made


@pytest.fixture(scope="module")
def talk(folder: Path) -> Iterator[Model]:
    with load(f"{folder}/talk.py:Talk") as model:
        yield model


@pytest.fixture
def desk(talk: Model) -> Iterator[Desk]:
    desk = Desk(talk)
    yield desk
    desk.close()


def served(desk: Desk) -> Served:
    found = desk.wired.service.first
    assert found is not None
    return found


def begun(desk: Desk, prompt: str, count: int = 3, within: float = PATIENCE) -> Pieces:
    rows = Rows({"prompt": np.array([prompt], object), "count": np.array([count])})
    return served(desk).stream(rows, KEY, time.monotonic() + within)


async def steps(pieces: Pieces) -> list[Any]:
    return [int(piece.array("step")[0]) async for piece in pieces]


def places(desk: Desk) -> int:
    return served(desk).streams.open


async def vacant(desk: Desk, within: float = PATIENCE) -> None:
    """Wait until no answer is open in the model's process."""
    until = time.monotonic() + within
    while places(desk):
        assert time.monotonic() < until, f"an answer is open after {within} s"
        await asyncio.sleep(0.01)


def test_several_at_once_each_get_their_own(desk: Desk) -> None:
    async def three() -> None:
        assert await asyncio.gather(*[steps(begun(desk, prompt, 30)) for prompt in "abc"]) == [list(range(30))] * 3
        await vacant(desk)

    desk.run(three)


def test_more_than_its_places_are_refused_until_one_is_free(desk: Desk) -> None:
    async def fill() -> None:
        open_ones = [begun(desk, f"full{place}", ENDLESS) for place in range(3)]
        for each in open_ones:
            await anext(each)
        with pytest.raises(Overloaded, match="3 answers at once"):
            begun(desk, "late")
        for each in open_ones:
            each.close()
        await vacant(desk)
        assert await steps(begun(desk, "late")) == [0, 1, 2]

    desk.run(fill)


def test_a_caller_who_leaves_stops_the_model(desk: Desk, folder: Path) -> None:
    async def leave() -> None:
        pieces = begun(desk, "leaves", ENDLESS)
        await anext(pieces)
        await pieces.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        await vacant(desk)

    desk.run(leave)
    assert note(folder, "leaves.closed") <= 2 * WINDOW


def test_a_task_that_is_cancelled_stops_the_model(desk: Desk, folder: Path) -> None:
    async def leave() -> None:
        task = asyncio.create_task(steps(begun(desk, "cancelled", ENDLESS)))
        await asyncio.to_thread(note, folder, "cancelled")
        task.cancel()
        await vacant(desk)

    desk.run(leave)
    note(folder, "cancelled.closed")


def test_one_that_was_never_asked_for_a_piece_gives_its_place_back(desk: Desk) -> None:
    async def leave() -> None:
        pieces = begun(desk, "never")
        assert places(desk) == 1
        pieces.close()
        pieces.close()
        assert places(desk) == 0

    desk.run(leave)


def test_the_deadline_holds_for_every_piece_and_not_for_the_reader(desk: Desk, folder: Path) -> None:
    async def slow() -> None:
        pieces = begun(desk, "stuck", 3, within=1.0)
        assert int((await anext(pieces)).array("step")[0]) == 0
        with pytest.raises(DeadlineExceeded):
            await anext(pieces)
        assert places(desk) == 1  # the model computes on; it is told when it gives a piece
        (folder / "free").touch()
        await vacant(desk)
        patient = begun(desk, "a", within=1.0)
        await anext(patient)
        await asyncio.sleep(1.2)  # the reader may take its time
        assert await steps(patient) == [1, 2]

    desk.run(slow)


def test_a_failure_comes_after_the_pieces_before_it(desk: Desk) -> None:
    async def fail() -> None:
        pieces = begun(desk, "fail")
        assert [int((await anext(pieces)).array("step")[0]) for _ in range(2)] == [0, 1]
        with pytest.raises(ModelFailed):
            await anext(pieces)
        await vacant(desk)

    desk.run(fail)


def test_a_crash_ends_all_and_the_next_one_is_answered(desk: Desk) -> None:
    async def crash() -> None:
        other = begun(desk, "other", ENDLESS)
        await anext(other)
        for each in (begun(desk, "die"), other):
            with pytest.raises(ModelCrashed):
                await steps(each)
        assert places(desk) == 0
        assert await steps(begun(desk, "a")) == [0, 1, 2]

    desk.run(crash)


def test_it_answers_one_row(desk: Desk, talk: Model) -> None:
    async def two() -> None:
        with pytest.raises(InputError, match="one row"):
            served(desk).stream(talk.signature.example_rows(2), KEY, time.monotonic() + PATIENCE)

    desk.run(two)


def test_it_is_counted(desk: Desk) -> None:
    async def some() -> None:
        await steps(begun(desk, "a"))
        with pytest.raises(ModelFailed):
            await steps(begun(desk, "fail"))

    desk.run(some)
    told = desk.get("/metrics").body.decode()
    assert 'bimodal_requests_total{model="Talk",route="stream",code="200"} 1' in told
    assert 'bimodal_requests_total{model="Talk",route="stream",code="500"} 1' in told


def test_a_drain_refuses_what_comes_and_stops_what_is_open(desk: Desk, folder: Path) -> None:
    async def drain() -> None:
        pieces = begun(desk, "drained", ENDLESS)
        await anext(pieces)
        streams = served(desk).streams
        await streams.stop()
        assert places(desk) == 0
        with pytest.raises(Unavailable):
            begun(desk, "late")

    desk.run(drain)
    note(folder, "drained.closed")


def test_a_model_that_does_not_stream_gives_one_piece_of_a_shared_call() -> None:
    desk = Desk(loaded("logistic"))

    async def ask() -> None:
        given = served(desk)
        rows = given.signature.example_rows(3)
        pieces = [given.stream(rows, given.key, time.monotonic() + PATIENCE) for _ in range(2)]
        answers = await asyncio.gather(*[anext(each) for each in pieces])
        assert [answer.count for answer in answers] == [3, 3]
        expected = given.model.run(rows).array("prediction").tolist()
        assert [answer.array("prediction").tolist() for answer in answers] == [expected] * 2
        for each in pieces:
            with pytest.raises(StopAsyncIteration):
                await anext(each)

    try:
        desk.run(ask)
    finally:
        desk.close()


def test_a_whole_answer_is_stopped_at_its_deadline_and_when_its_caller_leaves(desk: Desk, folder: Path) -> None:
    async def ask() -> None:
        batcher = served(desk).batcher
        window = Window()
        left = wanted(window, "whole_left", ENDLESS, PATIENCE)
        batcher.submit(wanted(window, "whole_late", ENDLESS, 1.0))
        batcher.submit(left)
        batcher.submit(wanted(window, "a", 3, PATIENCE))
        while "a" not in window.answers:  # noqa: ASYNC110 - it takes milliseconds
            await asyncio.sleep(0.01)
        assert window.answers["a"] == "a 0;a 1;a 2;"  # beside the two
        await asyncio.to_thread(note, folder, "whole_left")
        left.cancel()
        await window.given(2)
        assert isinstance(window.answers.pop("whole_late"), DeadlineExceeded)
        assert list(window.answers) == ["a"]
        while batcher.in_flight:  # noqa: ASYNC110 - it takes milliseconds
            await asyncio.sleep(0.01)
        assert await steps(begun(desk, "a")) == [0, 1, 2]

    desk.run(ask)
    for name in ("whole_left", "whole_late"):
        note(folder, f"{name}.closed")


def test_whole_answers_wait_for_a_place(desk: Desk) -> None:
    async def ask() -> None:
        window = Window()
        for place in range(7):
            served(desk).batcher.submit(wanted(window, f"b{place}", 2, PATIENCE))
        await window.given(7)
        assert window.answers == {f"b{place}": f"b{place} 0;b{place} 1;" for place in range(7)}

    desk.run(ask)


def test_a_whole_answer_has_a_longest(desk: Desk, talk: Model, folder: Path) -> None:
    async def ask() -> None:
        assert isinstance(talk.runtime, ProcessRuntime)
        talk.runtime.answer_bytes = 1_000_000
        window = Window()
        served(desk).batcher.submit(wanted(window, "wide", ENDLESS, PATIENCE))
        await window.given(1)
        error = window.answers["wide"]
        assert isinstance(error, ModelFailed)
        assert "limit of a whole answer, 1000000 bytes" in error.message

    desk.run(ask)
    assert note(folder, "wide.closed") <= 10 + 2 * WINDOW


class Window:
    """A door that keeps the texts, or the errors."""

    route = "predict"
    content_type = b""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    async def given(self, count: int) -> None:
        until = time.monotonic() + PATIENCE
        while len(self.answers) != count:
            assert time.monotonic() < until, list(self.answers)
            await asyncio.sleep(0.01)

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        self.answers[work.request] = answer.outputs.array("text")[start]
        return b""

    def recheck(self, work: Work) -> Rows:
        raise AssertionError(work)

    def fail(self, work: Work, error: BaseException) -> None:
        self.answers[work.request] = error


def wanted(window: Window, prompt: str, count: int, within: float) -> Work:
    """A whole answer."""
    rows = Rows({"prompt": np.array([prompt], object), "count": np.array([count])})
    now = time.monotonic()
    return Work(window, prompt, lambda response: None, gather.ready, [rows], 1, KEY, now + within, queued=now)
