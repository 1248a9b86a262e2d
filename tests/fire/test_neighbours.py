"""One bad row among good ones harms its own request alone, at every door, however they come together.

Rounds of 16 requests in one turn of the loop, one of them bad in one of several ways: the long form has a thousand
rounds at each door (python tasks.py test tests/fire/test_neighbours.py -m soak -s).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tritonclient.grpc import service_pb2

from bimodal.model import Model, load
from bimodal.realtime.calls import Status
from tests.realtime.callers import Caller, Refused, request
from tests.realtime.callers import told as told_grpc
from tests.realtime.desk import Ask, Desk

CALLERS = 16
ROUNDS = 20
POISON = 13.0  # the model raises on it
MODEL = """
class Doubles:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        if (rows["x"] == 13.0).any():
            raise ValueError("no answer to this row")
        return {"prediction": rows["x"] * 2}
"""
BAD: dict[str, Any] = {"null": None, "text": "one", "list": [1.0, 2.0], "poison": POISON, "inf": float("inf")}
Door = Callable[[Any], Ask]


def as_json(value: Any) -> Ask:
    return Ask("/predict", {"rows": [{"x": value}]})


def as_columns(value: Any) -> Ask:
    return Ask("/predict", {"columns": {"x": [value]}})


def as_instances(value: Any) -> Ask:
    return Ask("/v1/models/Doubles:predict", {"instances": [{"x": value}]})


def as_invocation(value: Any) -> Ask:
    return Ask("/invocations", {"inputs": [{"x": value}]})


def as_tensor(value: Any) -> Ask:
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}
    return Ask("/v2/models/Doubles/infer", {"inputs": [tensor]})


def as_bytes(value: Any) -> Ask:
    data = np.array([value if isinstance(value, float) else float("nan")]).tobytes()
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    return Ask("/v2/models/Doubles/infer", head + data, kind="application/octet-stream", headers=headers)


def as_arrow(value: Any) -> Ask:
    sink = pa.BufferOutputStream()
    table = pa.table({"x": pa.array([None if isinstance(value, list) else value])})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Ask("/predict", sink.getvalue().to_pybytes(), kind="application/vnd.apache.arrow.stream")


def as_csv(value: Any) -> Ask:
    return Ask("/predict", f"x\n{'' if value is None else value}\n".encode(), kind="text/csv")


DOORS: tuple[Door, ...] = (
    as_json,
    as_columns,
    as_instances,
    as_invocation,
    as_tensor,
    as_bytes,
    as_arrow,
    as_csv,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("neighbours")
    Path(folder, "doubles.py").write_text(MODEL)
    with load(f"{folder}/doubles.py:Doubles") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def desk(model: Model) -> Iterator[Desk]:
    made = Desk(model)
    yield made
    made.close()


def play(desk: Desk, door: Door, rounds: int) -> None:
    chance = random.Random(7)
    for _ in range(rounds):
        values: list[Any] = [number + 100.25 for number in range(CALLERS)]
        guilty, how = chance.randrange(CALLERS), chance.choice(list(BAD))
        values[guilty] = BAD[how]
        answers = desk.together([door(value) for value in values])
        for number, (value, answer) in enumerate(zip(values, answers, strict=True)):
            if number == guilty:
                assert answer.status == (500 if how == "poison" else 400), f"{how}: {answer}"
            else:
                assert answer.status == 200, f"a neighbour of {how}: {answer}"
                assert str(2 * value).encode() in answer.body or np.array([2 * value]).tobytes() in answer.body


def play_grpc(desk: Desk, rounds: int) -> None:
    chance, caller = random.Random(7), Caller(desk)
    for _ in range(rounds):
        values = [number + 100.25 for number in range(CALLERS)]
        guilty, raw = chance.randrange(CALLERS), chance.random() < 0.5
        values[guilty] = chance.choice([POISON, float("nan"), float("inf")])
        asked = [request("Doubles", {"x": ("FP64", [value])}, raw=raw) for value in values]
        answers = caller.together("ModelInfer", asked)
        for number, (value, answer) in enumerate(zip(values, answers, strict=True)):
            if number == guilty:
                assert isinstance(answer, Refused)
                assert answer.status is (Status.INTERNAL if value == POISON else Status.INVALID_ARGUMENT)
            else:
                assert isinstance(answer, bytes), answer
                told = told_grpc(service_pb2.ModelInferResponse.FromString(answer))
                assert told["prediction"] == [2 * value]


@pytest.mark.parametrize("door", DOORS)
def test_one_bad_row_among_sixteen_callers_harms_its_own_request_alone(desk: Desk, door: Door) -> None:
    play(desk, door, ROUNDS)


def test_one_bad_row_among_sixteen_calls_harms_its_own_alone(desk: Desk) -> None:
    play_grpc(desk, ROUNDS)


@pytest.mark.soak
@pytest.mark.parametrize("door", DOORS)
def test_a_thousand_rounds(desk: Desk, door: Door) -> None:
    play(desk, door, 1000)


@pytest.mark.soak
def test_a_thousand_rounds_of_calls(desk: Desk) -> None:
    play_grpc(desk, 1000)
