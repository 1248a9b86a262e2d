"""The classification extension."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import MUST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.checks.rpc import ask
from conformance.target import Reply, Target, asking, check_equal, expect, outputs
from conformance.tensors import Tensor, from_message, tensor

SOURCE = "Triton, extension_classification.md"
NAME = "classification"


def _inputs() -> list[Tensor]:
    """Sums [1, 4] and [6, 2]."""
    return [tensor("a", "FP32", (2, 2), [1, 2, 3, 1]), tensor("b", "FP32", (2, 2), [0, 2, 3, 1])]


def _asked(target: Target, count: Any, **more: Any) -> Reply:
    wanted = [{"name": "sum", "parameters": {"classification": count, **more}}]
    return target.infer(target.needs("pair"), asking(_inputs(), outputs=wanted))


def _judge(seen: Tensor, places: list[int], shape: tuple[int, ...], answer: Any) -> None:
    expect(seen.datatype == "BYTES", f"the datatype is {seen.datatype}", answer)
    expect(seen.shape == shape, f"the shape is {list(seen.shape)}, not {list(shape)}", answer)
    sums = [1.0, 4.0, 6.0, 2.0]
    for number, (each, place) in enumerate(zip(seen.values, places, strict=True)):
        value, index, *_ = each.decode().split(":")
        row = number // shape[1]
        expect(int(index) == place, f"the index is {index}, not {place}", answer)
        expect(float(value) == sums[2 * row + place], f"the value is {value}", answer)


@check("classification/top", MUST, SOURCE, "the highest n values of each row, as value:index[:label]", extension=NAME)
def top(target: Target) -> None:
    reply = _asked(target, 2)
    _judge(outputs(reply)[0], [1, 0, 0, 1], (2, 2), reply)


@check("classification/one", MUST, SOURCE, "n is the second size of the output", extension=NAME)
def one(target: Target) -> None:
    reply = _asked(target, 1)
    _judge(outputs(reply)[0], [1, 0], (2, 1), reply)


@check("classification/others", MUST, SOURCE, "an output without the parameter stays as it is", extension=NAME)
def others(target: Target) -> None:
    wanted = [{"name": "sum", "parameters": {"classification": 1}}, {"name": "difference"}]
    reply = target.infer(target.needs("pair"), asking(_inputs(), outputs=wanted))
    told = {each.name: each for each in outputs(reply)}
    check_equal([told["difference"]], [tensor("difference", "FP32", (2, 2), [1, 0, 0, 0])], "beside", reply)


@check("classification/binary", MUST, SOURCE, "the same as binary data", extension=NAME)
def as_binary(target: Target) -> None:
    if target.announced("binary_tensor_data"):
        reply = _asked(target, 2, binary_data=True)
        _judge(outputs(reply)[0], [1, 0, 0, 1], (2, 2), reply)


@check(
    "classification/many", SHOULD, SOURCE, "n beyond the number of classes: all of them, or an error", extension=NAME
)
def many(target: Target) -> None:
    reply = _asked(target, 99)
    if reply.status == 200:
        _judge(outputs(reply)[0], [1, 0, 0, 1], (2, 2), reply)
    else:
        told_error(reply)


@check("classification/wrong", SHOULD, SOURCE, "n that is no positive whole number: an error", extension=NAME)
def wrong(target: Target) -> None:
    for count in (-1, "two"):
        told_error(_asked(target, count))


@check("classification/grpc", MUST, SOURCE, "the same over gRPC, by int64_param", extension=NAME, grpc=True)
def over_grpc(target: Target) -> None:
    wanted = messages.ModelInferRequest.InferRequestedOutputTensor(name="sum")
    wanted.parameters["classification"].int64_param = 2
    called = ask(target, target.needs("pair"), _inputs(), outputs=[wanted])
    _judge(from_message(called.good())[0], [1, 0, 0, 1], (2, 2), called)
