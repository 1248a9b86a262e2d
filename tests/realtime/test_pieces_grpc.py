"""ModelStreamInfer with a model that answers in pieces: a response a piece, and what stops the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from bimodal.model import Model, load
from tests.realtime.callers import SERVICE, Caller, FakeCall, request, told
from tests.realtime.desk import Desk
from tests.talkative import TALK

STREAM = f"{SERVICE}/ModelStreamInfer"


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    made = tmp_path_factory.mktemp("talkative")
    (made / "talk.py").write_text(TALK)
    with load(f"{made}/talk.py:Talk") as model:
        yield model


@pytest.fixture
def caller(talk: Model) -> Iterator[Caller]:
    desk = Desk(talk)
    yield Caller(desk)
    desk.close()


def asked(caller: Caller, prompt: str, count: int, **options: Any) -> Any:
    (name,) = caller.desk.wired.service.served
    tensors = {"prompt": ("BYTES", [prompt]), "count": ("INT64", [count])}
    return request(name, tensors, **options)


@pytest.mark.parametrize("raw", [True, False])
def test_each_piece_is_a_response(caller: Caller, raw: bool) -> None:
    first, second = asked(caller, "a", 3, raw=raw, id="1"), asked(caller, "b", 2, raw=raw, id="2")
    first.parameters["triton_enable_empty_final_response"].bool_param = True
    responses = [each.infer_response for each in caller.stream("ModelStreamInfer", [first, second])]
    steps = [(each.id, told(each).get("step")) for each in responses]
    assert steps == [("1", [0]), ("1", [1]), ("1", [2]), ("1", None), ("2", [0]), ("2", [1])]
    assert [len(each.parameters) for each in responses] == [0, 0, 0, 1, 0, 0]
    assert responses[3].parameters["triton_final_response"].bool_param


def test_a_request_of_two_rows_is_told_and_the_stream_goes_on(caller: Caller) -> None:
    (name,) = caller.desk.wired.service.served
    two = request(name, {"prompt": ("BYTES", ["a", "b"]), "count": ("INT64", [1, 1])})
    bad, *good = caller.stream("ModelStreamInfer", [two, asked(caller, "a", 2)])
    assert "one row in pieces" in bad.error_message
    assert len(good) == 2


def test_a_caller_who_leaves_stops_the_model_and_one_who_does_not_read_lets_it_wait(caller: Caller) -> None:
    served = caller.desk.wired.service.first
    assert served is not None

    async def run() -> None:
        call = FakeCall(STREAM)
        messages = caller.methods.streaming[STREAM](call)
        call.room.clear()
        for _ in range(2):
            messages.feed(asked(caller, "a", 10**9).SerializeToString())
        while not call.written:  # noqa: ASYNC110 - it takes milliseconds
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert len(call.written) == 1  # what is next waits for the reader
        assert served.streams.open == 1
        messages.abort()
        for _ in range(6_000):
            await asyncio.sleep(0.01)
            if not served.streams.open:
                break
        assert served.streams.open == 0
        assert served._held == 0

    caller.desk.run(run)


def test_metadata_says_that_a_request_may_have_several_answers(caller: Caller) -> None:
    (name,) = caller.desk.wired.service.served
    config = caller.ask("ModelConfig", service_pb2.ModelConfigRequest(name=name)).config
    assert config.model_transaction_policy.decoupled


def test_one_response_holds_the_whole_answer(caller: Caller) -> None:
    answer = told(caller.infer(asked(caller, "a", 3)))
    assert answer["text"] == ["a 0;a 1;a 2;"]
