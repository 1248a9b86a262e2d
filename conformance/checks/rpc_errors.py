"""Mistakes over gRPC: a status that is not OK."""

from __future__ import annotations

import struct
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import GRPC, MUST, SHOULD, check
from conformance.checks.datatypes import request
from conformance.target import Called, Target, expect

RAW = f"{GRPC}, ModelInferRequest.raw_input_contents"
ERROR = f"{GRPC}, errors are told by the status"


def refused(called: Called) -> None:
    """A status other than OK, that the server itself gave, with a sentence."""
    expect(called.code is not grpc.StatusCode.OK, "the status is OK", called)
    expect(called.code is not grpc.StatusCode.UNAVAILABLE, "the connection is lost", called)
    expect(called.details, "the error says nothing", called)


def _wrong(target: Target, change: Any, *, as_raw: bool = True, model: str | None = None) -> Called:
    subject = target.subject if model is None else target.needs(model)
    message = request(subject, subject.sample(), as_raw=as_raw)
    change(message)
    called = target.call("ModelInfer", message)
    refused(called)
    return called


@check("grpc-errors/mixed", SHOULD, RAW, "raw_input_contents beside contents: an error", grpc=True)
def mixed(target: Target) -> None:
    _wrong(target, lambda message: message.inputs[0].contents.fp32_contents.extend([1, 2]))


@check("grpc-errors/raw-few", MUST, RAW, "fewer raw contents than inputs: an error", grpc=True)
def raw_few(target: Target) -> None:
    _wrong(target, lambda message: message.raw_input_contents.pop(), model="pair")


@check("grpc-errors/raw-many", SHOULD, RAW, "more raw contents than inputs: an error", grpc=True)
def raw_many(target: Target) -> None:
    _wrong(target, lambda message: message.raw_input_contents.append(b"\0" * 8))


def _put(message: Any, data: bytes) -> None:
    message.raw_input_contents[0] = data


@check("grpc-errors/raw-short", MUST, RAW, "fewer bytes than the shape needs: an error", grpc=True)
def raw_short(target: Target) -> None:
    _wrong(target, lambda message: _put(message, b"\0" * 4), model="pair")


@check("grpc-errors/raw-long", MUST, RAW, "more bytes than the shape needs: an error", grpc=True)
def raw_long(target: Target) -> None:
    _wrong(target, lambda message: _put(message, b"\0" * 12), model="pair")


@check("grpc-errors/bytes-prefix", MUST, RAW, "a BYTES prefix that passes the end: an error", grpc=True)
def bytes_prefix(target: Target) -> None:
    cut = struct.pack("<I", 1) + b"a" + struct.pack("<I", 99)
    _wrong(target, lambda message: _put(message, cut), model="echo_bytes")


@check(
    "grpc-errors/contents-few", MUST, f"{GRPC}, InferTensorContents", "fewer values than the shape: an error", grpc=True
)
def contents_few(target: Target) -> None:
    _wrong(target, lambda message: message.inputs[0].contents.fp32_contents.pop(), as_raw=False, model="pair")


@check(
    "grpc-errors/contents-many", MUST, f"{GRPC}, InferTensorContents", "more values than the shape: an error", grpc=True
)
def contents_many(target: Target) -> None:
    _wrong(target, lambda message: message.inputs[0].contents.fp32_contents.append(1), as_raw=False, model="pair")


@check(
    "grpc-errors/contents-field",
    SHOULD,
    f"{GRPC}, InferTensorContents",
    "the field of another type: an error",
    grpc=True,
)
def contents_field(target: Target) -> None:
    def change(message: Any) -> None:
        message.inputs[0].contents.Clear()
        message.inputs[0].contents.int64_contents.extend([1, 2])

    _wrong(target, change, as_raw=False, model="pair")


@check(
    "grpc-errors/no-contents", MUST, f"{GRPC}, ModelInferRequest", "an input without any contents: an error", grpc=True
)
def no_contents(target: Target) -> None:
    _wrong(target, lambda message: message.inputs[0].ClearField("contents"), as_raw=False, model="pair")


@check(
    "grpc-errors/range", SHOULD, f"{GRPC}, InferTensorContents", "300 in int_contents is no INT8: an error", grpc=True
)
def out_of_range(target: Target) -> None:
    def change(message: Any) -> None:
        message.inputs[0].contents.int_contents[0] = 300

    _wrong(target, change, as_raw=False, model="echo_int8")


@check("grpc-errors/datatype", MUST, ERROR, "a datatype that is none: an error", grpc=True)
def datatype(target: Target) -> None:
    _wrong(target, lambda message: setattr(message.inputs[0], "datatype", "FP128"))


@check("grpc-errors/shape", MUST, ERROR, "a negative size in a shape: an error", grpc=True)
def shape(target: Target) -> None:
    _wrong(target, lambda message: message.inputs[0].shape.__setitem__(0, -1))


@check("grpc-errors/overflow", MUST, ERROR, "a shape whose product passes 2^64: an error", grpc=True)
def overflow(target: Target) -> None:
    def change(message: Any) -> None:
        del message.inputs[0].shape[:]
        message.inputs[0].shape.extend([2**33, 2**33])

    _wrong(target, change)


@check("grpc-errors/no-inputs", MUST, ERROR, "a request without inputs: an error", grpc=True)
def no_inputs(target: Target) -> None:
    def change(message: Any) -> None:
        del message.inputs[:]
        del message.raw_input_contents[:]

    _wrong(target, change)


@check("grpc-errors/missing-input", MUST, ERROR, "an input of the model is missing: an error", grpc=True)
def missing_input(target: Target) -> None:
    def change(message: Any) -> None:
        del message.inputs[1], message.raw_input_contents[1]

    _wrong(target, change, model="pair")


@check("grpc-errors/unknown-input", MUST, ERROR, "an input that the model has not: an error", grpc=True)
def unknown_input(target: Target) -> None:
    _wrong(target, lambda message: setattr(message.inputs[1], "name", "no_such_input"), model="pair")


@check("grpc-errors/unknown-output", SHOULD, ERROR, "an output that the model has not: an error", grpc=True)
def unknown_output(target: Target) -> None:
    _wrong(target, lambda message: message.outputs.add(name="no_such_output"))


@check("grpc-errors/unknown-model", MUST, ERROR, "an unknown model: an error", grpc=True)
def unknown_model(target: Target) -> None:
    _wrong(target, lambda message: setattr(message, "model_name", "no-such-model"))
    refused(target.call("ModelMetadata", messages.ModelMetadataRequest(name="no-such-model")))


@check("grpc-errors/unknown-version", MUST, ERROR, "an unknown version: an error", grpc=True)
def unknown_version(target: Target) -> None:
    _wrong(target, lambda message: setattr(message, "model_version", "987654321"))


@check("grpc-errors/not-found", SHOULD, "gRPC, status codes", "an unknown model is NOT_FOUND", grpc=True)
def not_found(target: Target) -> None:
    called = _wrong(target, lambda message: setattr(message, "model_name", "no-such-model"))
    expect(called.code is grpc.StatusCode.NOT_FOUND, "another status", called)


@check("grpc-errors/caller", SHOULD, "gRPC, status codes", "a caller's mistake is INVALID_ARGUMENT", grpc=True)
def callers_fault(target: Target) -> None:
    for change in (
        lambda message: _put(message, b"\0" * 3),
        lambda message: setattr(message.inputs[0], "datatype", "FP128"),
        lambda message: message.inputs[0].shape.__setitem__(0, -1),
    ):
        called = _wrong(target, change)
        expect(called.code is grpc.StatusCode.INVALID_ARGUMENT, "another status", called)


@check(
    "grpc-errors/no-message",
    MUST,
    "gRPC, protocol",
    "bytes that are no message: an error of that call alone",
    grpc=True,
)
def no_message(target: Target) -> None:
    refused(target.call("ModelInfer", b"\xff\xff\xff\xff\x0f"))
    expect(target.call("ServerLive", messages.ServerLiveRequest()).good().live, "no longer live")


@check("grpc-errors/unknown-method", MUST, "gRPC, status codes", "an unknown method is UNIMPLEMENTED", grpc=True)
def unknown_method(target: Target) -> None:
    called = target.call("NoSuchMethod", b"")
    expect(called.code is grpc.StatusCode.UNIMPLEMENTED, "another status", called)


@check("grpc-errors/alive", MUST, f"{GRPC}, Server Live", "after all of these the server lives and answers", grpc=True)
def alive(target: Target) -> None:
    expect(target.call("ServerLive", messages.ServerLiveRequest()).good().live, "no longer live")
    target.call("ModelInfer", request(target.subject, target.subject.sample(), as_raw=True)).good()
