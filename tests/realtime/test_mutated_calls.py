"""Damaged messages: whatever bytes a caller sends, the fault is never told to be the server's, and nothing dies.

The full form, 100,000 messages: `python tasks.py test tests/realtime/test_mutated_calls.py -m soak`.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from bimodal.realtime.calls import Status
from bimodal.realtime.protocols.heads import Heads
from tests.models import IRIS, customers
from tests.realtime.callers import Caller, Refused, request, told
from tests.realtime.desk import Desk
from tests.realtime.shelf import loaded, onnx

OURS = {Status.INTERNAL, Status.UNKNOWN, Status.UNAVAILABLE, Status.DATA_LOSS, Status.UNIMPLEMENTED}
TOGETHER = 50  # calls of one turn of the loop
NUMBERS = (0, 1, -1, 2**31, 2**63 - 1, -(2**63), 10_001)
TEXTS = ("", "FP64", "BYTES", "BF16", "fp64", "inline", "mixed", "prediction", "\0", "naïve", "x" * 300)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    desk = Desk(onnx(), loaded("mixed"))
    yield Caller(desk)
    desk.close()


def seeds() -> list[Any]:
    """Good requests of every kind."""
    frame = customers().head(3).fillna({"city": "", "plan": ""})
    people = {name: ("FP64", frame[name].tolist()) for name in ("income", "age", "visits")}
    people |= {name: ("BYTES", frame[name].tolist()) for name in ("plan", "city")}
    made = [
        asked
        for raw in (True, False)
        for asked in (
            request("inline", {"input": ("FP64", IRIS[:2])}, raw=raw, id="7"),
            request("inline", {"input": ("FP32", IRIS[:1])}, raw=raw, outputs=["probability"]),
            request("mixed", people, raw=raw),
        )
    ]
    full = request("inline", {"input": ("FP64", IRIS[:2])}, outputs=["probability"])
    full.parameters["timeout"].int64_param = 5_000_000
    full.parameters["priority"].uint64_param = 2
    full.parameters["threshold"].double_param = 0.5
    full.inputs[0].parameters["content_type"].string_param = "np"
    full.outputs[0].parameters["classification"].int64_param = 2
    return [*made, full]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of them changed, lost, doubled, or cut off."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(made) + 1)
        size = chance.choice((1, 1, 4, 16))
        match chance.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(made):
                made[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = chance.randbytes(size)
            case 4:
                made[at:at] = made[at : at + size]
            case _:
                del made[max(at, 1) :]
    return bytes(made)


def bent(asked: Any, chance: random.Random) -> bytes:
    """A message that protobuf can read, with fields that say something else."""
    made = service_pb2.ModelInferRequest.FromString(asked.SerializeToString())
    for _ in range(chance.choice((1, 2, 3))):
        tensor = chance.choice(made.inputs) if made.inputs else made.inputs.add()
        match chance.randrange(9):
            case 0:
                tensor.datatype = chance.choice((*TEXTS, "INT8", "UINT64", "BOOL", "FP16"))
            case 1:
                tensor.shape.append(chance.choice(NUMBERS))
            case 2 if tensor.shape:
                tensor.shape[chance.randrange(len(tensor.shape))] = chance.choice(NUMBERS)
            case 3:
                tensor.name = chance.choice(TEXTS)
            case 4:
                made.raw_input_contents.append(chance.randbytes(chance.randrange(20)))
            case 5:
                tensor.contents.fp64_contents.append(chance.choice((0.0, np.inf, np.nan, 1e308, -0.0)))
            case 6:
                made.inputs.add().CopyFrom(tensor)
            case 7:
                parameter = chance.choice((made, tensor)).parameters[
                    chance.choice(("timeout", "priority", "threshold", "sequence_id", "classification", "content_type"))
                ]
                setattr(parameter, *chance.choice((("int64_param", -1), ("string_param", "x"), ("double_param", np.nan),
                                                   ("bool_param", True), ("uint64_param", 2**64 - 1))))  # fmt: skip
            case _:
                made.outputs.add(name=chance.choice(TEXTS)).parameters["classification"].int64_param = chance.choice(
                    NUMBERS
                )
    data: bytes = made.SerializeToString()
    return data


def drive(caller: Caller, count: int, seed: int) -> Counter[str]:
    """Send as many; how often each status was told."""
    chance = random.Random(seed)
    whole = seeds()
    plain = [each.SerializeToString() for each in whole]
    found: Counter[str] = Counter()
    for _ in range(count // TOGETHER):
        sent = [
            damaged(chance.choice(plain), chance) if chance.random() < 0.6 else bent(chance.choice(whole), chance)
            for _ in range(TOGETHER)
        ]
        for data, answer in zip(sent, caller.together("ModelInfer", [*sent, plain[0]]), strict=False):
            status = answer.status if isinstance(answer, Refused) else Status.OK
            assert status not in OURS, (status, str(answer), data.hex())
            found[status.name] += 1
            if status is Status.OK:
                told(service_pb2.ModelInferResponse.FromString(answer))
    return found


def test_no_message_makes_the_server_at_fault(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    found = drive(caller, 3_000, 15)
    assert found["INVALID_ARGUMENT"] > 1_000
    assert found["OK"] > 50
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.soak
def test_no_message_of_a_hundred_thousand_makes_the_server_at_fault(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    found = drive(caller, 100_000, 1)
    print(dict(found))
    assert sum(found.values()) == 100_000
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_a_message_known_by_its_beginning_says_what_its_parsing_says(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick way of messages that begin as an earlier one did, against the parsing of each."""
    chance = random.Random(7)
    first = request("inline", {"input": ("FP64", IRIS[:2])}).SerializeToString()
    other = request("inline", {"input": ("FP64", IRIS[:2])}, raw=False).SerializeToString()
    named = [request("inline", {"input": ("FP64", IRIS[:2])}, id=each).SerializeToString() for each in ("7", "é" * 9)]
    caller.together("ModelInfer", [first, other, *named])
    sent = [damaged(chance.choice((first, other, *named)), chance) for _ in range(4_000)]
    turns = [sent[at : at + TOGETHER] for at in range(0, len(sent), TOGETHER)]
    known = [answer for turn in turns for answer in caller.together("ModelInfer", turn)]
    monkeypatch.setattr(Heads, "find", lambda self, data: None)
    parsed = [answer for turn in turns for answer in caller.together("ModelInfer", turn)]
    for data, one, another in zip(sent, known, parsed, strict=True):
        assert str(one) == str(another), data.hex()
