"""How long a caller waits, as it says so at every door: what comes too late is told, what makes no sense is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bimodal.model import Model, load
from bimodal.realtime.calls import Status
from bimodal.realtime.exchange import Response
from bimodal.realtime.limits import Limits
from tests.realtime.callers import Caller, Refused, request
from tests.realtime.desk import Ask, Desk, told

SLOW = """
import time


class Slow:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        time.sleep(1.0 if (rows["x"] == 9).any() else 0.06)
        return {"prediction": rows["x"] * 2}
"""
TENSOR = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}
HEAD = json.dumps(
    {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}}]}
).encode()


def arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"x": [1.0]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


DOORS: dict[str, dict[str, Any]] = {
    "JSON": {"path": "/predict", "body": {"rows": [{"x": 1.0}]}},
    "JSON by name": {"path": "/models/Slow/predict", "body": {"columns": {"x": [1.0]}}},
    "CSV": {"path": "/predict", "body": b"x\n1.0\n", "kind": "text/csv"},
    "Arrow": {"path": "/predict", "body": arrow(), "kind": "application/vnd.apache.arrow.stream"},
    "Open Inference": {"path": "/v2/models/Slow/infer", "body": {"inputs": [TENSOR]}},
    "Open Inference, bytes": {
        "path": "/v2/models/Slow/infer",
        "body": HEAD + np.array([1.0]).tobytes(),
        "kind": "application/octet-stream",
        "headers": {"inference-header-content-length": str(len(HEAD))},
    },
    "invocations": {"path": "/invocations", "body": {"inputs": [{"x": 1.0}]}},
    "instances": {"path": "/v1/models/Slow:predict", "body": {"instances": [{"x": 1.0}]}},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("deadlines")
    Path(folder, "slow.py").write_text(SLOW)
    with load(f"{folder}/slow.py:Slow") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def desk(model: Model) -> Iterator[Desk]:
    made = Desk(model)
    yield made
    made.close()


def idle(desk: Desk) -> None:
    """What was given up has ended: while it runs, who could not be answered in time is refused with 429."""

    async def waited() -> None:
        batcher = desk.wired.service.find("Slow").batcher
        while batcher.in_flight:  # noqa: ASYNC110 - it takes milliseconds
            await asyncio.sleep(0.002)

    desk.run(waited)


def ask(desk: Desk, door: str, timeout: str) -> tuple[int, dict[str, Any]]:
    idle(desk)
    given = {"kind": "application/json", "headers": {}, **DOORS[door]}
    headers = {**given.pop("headers"), "x-request-timeout-ms": timeout}
    response = desk.together([Ask(**given, headers=headers)])[0]
    return response.status, {} if response.status == 200 else told(response)


@pytest.mark.parametrize("door", DOORS)
def test_what_comes_too_late_is_told_when_it_is_late(desk: Desk, door: str) -> None:
    assert ask(desk, door, "25000")[0] == 200
    began = monotonic()
    status, error = ask(desk, door, "20")
    assert status == 504, error
    assert monotonic() - began >= 0.02


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("timeout", ["soon", "-5", "0", "nan", "1e3", "1_000", "+5000", "1.2.3", ""])
def test_a_time_that_makes_no_sense_is_refused(desk: Desk, door: str, timeout: str) -> None:
    status, error = ask(desk, door, timeout)
    assert status == 400
    assert "X-Request-Timeout-Ms needs a number of milliseconds above 0" in json.dumps(error)


@pytest.mark.parametrize("door", DOORS)
def test_a_caller_never_waits_longer_than_the_server_lets_it(model: Model, door: str) -> None:
    desk = Desk(model, limits=Limits(deadline=0.02))
    assert ask(desk, door, "60000")[0] == 504
    desk.close()


@pytest.mark.parametrize(
    ("timeout", "status"),
    [(20_000, 504), (25_000_000, 200), (0, 200), (-1, 400), ("1", 400), (2**32, 200), (2**63 - 1, 200), (2**63, 400)],
)
def test_the_parameter_of_open_inference_is_in_microseconds(desk: Desk, timeout: Any, status: int) -> None:
    body = {"inputs": [TENSOR], "parameters": {"timeout": timeout}}
    idle(desk)
    response = desk.ask("/v2/models/Slow/infer", body)
    assert response.status == status, response.body


def test_a_line_of_a_stream_has_the_time_that_its_caller_says(desk: Desk) -> None:
    idle(desk)
    ask = Ask(body=b'{"x": 1.0}\n', kind="application/x-ndjson", headers={"x-request-timeout-ms": "20"})
    response = desk.together([ask])[0]
    assert (response.status, told(response)["code"]) == (200, "deadline_exceeded")
    assert (
        desk.ask(body=b'{"x": 1.0}\n', kind="application/x-ndjson", headers={"x-request-timeout-ms": "x"}).status == 400
    )


def test_while_a_call_runs_that_ends_too_late_the_refusal_comes_at_once(desk: Desk) -> None:
    idle(desk)
    first = Ask("/predict", {"rows": [{"x": 9.0}]})

    async def asked() -> list[Response]:
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in range(2)]
        desk.app(first.request(), answers[0].set_result)
        await asyncio.sleep(0.01)
        later = Ask("/predict", {"rows": [{"x": 1.0}]}, headers={"x-request-timeout-ms": "20"})
        desk.app(later.request(), answers[1].set_result)
        assert answers[1].done()
        return list(await asyncio.gather(*answers))

    good, refused = desk.run(asked)
    assert good.status == 200
    assert refused.status == 504  # 20 ms are too few for this model, whoever else is there
    assert b"would not end within the deadline" in refused.body


def test_the_nearer_of_two_deadlines_counts(desk: Desk) -> None:
    idle(desk)
    body = {"inputs": [TENSOR], "parameters": {"timeout": 20_000}}
    assert desk.ask("/v2/models/Slow/infer", body, headers={"x-request-timeout-ms": "25000"}).status == 504
    idle(desk)
    body["parameters"] = {"timeout": 25_000_000}
    assert desk.ask("/v2/models/Slow/infer", body, headers={"x-request-timeout-ms": "20"}).status == 504


def test_grpc_has_its_own_and_that_of_the_message(desk: Desk) -> None:
    caller, asked = Caller(desk), request("Slow", {"x": ("FP64", [1.0])})
    caller.infer(asked, timeout=25.0)
    with pytest.raises(Refused) as late:
        caller.infer(asked, timeout=0.02)
    assert late.value.status is Status.DEADLINE_EXCEEDED
    idle(desk)
    asked.parameters["timeout"].int64_param = 20_000
    with pytest.raises(Refused) as late:
        caller.infer(asked, timeout=25.0)
    assert late.value.status is Status.DEADLINE_EXCEEDED
