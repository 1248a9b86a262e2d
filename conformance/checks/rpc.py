"""The core over gRPC: health, metadata, inference."""

from __future__ import annotations

import time
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import GRPC, MUST, OPTIONAL, SHOULD, check
from conformance.checks.datatypes import request
from conformance.checks.infer import pair_answer
from conformance.target import Called, Subject, Target, check_equal, expect
from conformance.tensors import CONTENTS, Tensor, from_message, tensor


@check("grpc/live", MUST, f"{GRPC}, Server Live", "ServerLive tells live: true", grpc=True)
def live(target: Target) -> None:
    called = target.call("ServerLive", messages.ServerLiveRequest())
    expect(called.good().live, "live is false", called)


@check("grpc/ready", MUST, f"{GRPC}, Server Ready", "ServerReady tells ready: true", grpc=True)
def ready(target: Target) -> None:
    called = target.call("ServerReady", messages.ServerReadyRequest())
    expect(called.good().ready, "ready is false", called)


@check("grpc/model-ready", MUST, f"{GRPC}, Model Ready", "ModelReady tells ready: true, by version too", grpc=True)
def model_ready(target: Target) -> None:
    for version in ("", *target.subject.versions):
        called = target.call("ModelReady", messages.ModelReadyRequest(name=target.subject.name, version=version))
        expect(called.good().ready, "ready is false", called)


@check("grpc/unknown-ready", MUST, f"{GRPC}, Model Ready", "a model that is not there is not ready", grpc=True)
def unknown_ready(target: Target) -> None:
    called = target.call("ModelReady", messages.ModelReadyRequest(name="no-such-model"))
    expect(called.code is not grpc.StatusCode.OK or not called.message.ready, "ready is true", called)


@check(
    "grpc/server-metadata", MUST, f"{GRPC}, Server Metadata", "name, version and extensions, as over REST", grpc=True
)
def server_metadata(target: Target) -> None:
    called = target.call("ServerMetadata", messages.ServerMetadataRequest())
    told, wanted = called.good(), target.metadata
    expect((told.name, told.version) == (wanted["name"], wanted["version"]), "another name or version", called)


@check("grpc/extensions", SHOULD, f"{GRPC}, Server Metadata", "the same extensions as over REST", grpc=True)
def extensions(target: Target) -> None:
    called = target.call("ServerMetadata", messages.ServerMetadataRequest())
    expect(set(called.good().extensions) == target.extensions, "other extensions", called)


@check("grpc/model-metadata", MUST, f"{GRPC}, Model Metadata", "the same tensors and versions as over REST", grpc=True)
def model_metadata(target: Target) -> None:
    subject = target.subject
    called = target.call("ModelMetadata", messages.ModelMetadataRequest(name=subject.name))
    told = called.good()
    expect(told.name == subject.name, "another name", called)
    for side in ("inputs", "outputs"):
        seen = [(each.name, each.datatype, list(each.shape)) for each in getattr(told, side)]
        wanted = [(each["name"], each["datatype"], each["shape"]) for each in getattr(subject, side)]
        expect(seen == wanted, f"{side} are {seen}, over REST {wanted}", called)
    expect(tuple(told.versions) == subject.versions, "other versions", called)


def ask(target: Target, subject: Subject, inputs: Any, *, as_raw: bool = True, **rest: Any) -> Called:
    """An inference."""
    return target.call("ModelInfer", request(subject, inputs, as_raw=as_raw, **rest))


@check("grpc/infer-raw", MUST, f"{GRPC}, Inference", "raw tensors: the answer of REST", grpc=True)
def infer_raw(target: Target) -> None:
    inputs = target.subject.sample(2)
    called = ask(target, target.subject, inputs)
    check_equal(from_message(called.good()), target.answers(target.subject, inputs), "raw", called)


@check("grpc/infer-contents", MUST, f"{GRPC}, Inference", "tensors in contents: the answer of REST", grpc=True)
def infer_contents(target: Target) -> None:
    inputs = target.subject.sample(2)
    called = ask(target, target.subject, inputs, as_raw=False)
    check_equal(from_message(called.good()), target.answers(target.subject, inputs), "contents", called)


@check("grpc/known", MUST, f"{GRPC}, Inference", "the answer is the model's (pair: sums and differences)", grpc=True)
def known(target: Target) -> None:
    inputs = [tensor("a", "FP32", (2, 2), [1, 2.5, -3, 0.1]), tensor("b", "FP32", (2, 2), [4, -0.5, 1e30, 0.2])]
    called = ask(target, target.needs("pair"), inputs)
    check_equal(from_message(called.good()), pair_answer(inputs), "pair", called, exact=True)


@check("grpc/input-order", MUST, f"{GRPC}, Inference", "raw contents come in the order of `inputs`", grpc=True)
def input_order(target: Target) -> None:
    inputs = sorted(target.needs("pair").sample(2), key=lambda each: each.name)
    called = ask(target, target.needs("pair"), inputs[::-1])
    check_equal(from_message(called.good()), pair_answer(inputs), "reversed", called)


@check("grpc/one-form", MUST, f"{GRPC}, ModelInferResponse", "all outputs are raw, or none is", grpc=True)
def one_form(target: Target) -> None:
    called = ask(target, target.subject, target.subject.sample())
    told = called.good()
    filled = [name for each in told.outputs for name in CONTENTS.values() if getattr(each.contents, name)]
    if told.raw_output_contents:
        expect(len(told.raw_output_contents) == len(told.outputs), "as many raw contents as outputs", called)
        expect(not filled, "contents beside raw ones", called)


@check("grpc/model-name", MUST, f"{GRPC}, ModelInferResponse", "model_name and the version that answered", grpc=True)
def model_name(target: Target) -> None:
    called = ask(target, target.subject, target.subject.sample())
    told = called.good()
    expect(told.model_name == target.subject.name, "another name", called)
    known = not told.model_version or not target.subject.versions or told.model_version in target.subject.versions
    expect(known, "a version that is not listed", called)


@check("grpc/version", MUST, f"{GRPC}, ModelInferRequest", "a version that is listed can be asked for", grpc=True)
def version(target: Target) -> None:
    for version in target.subject.versions:
        called = ask(target, target.subject, target.subject.sample(), model_version=version)
        expect(called.good().model_version == version, "another version answered", called)


@check("grpc/id", MUST, f"{GRPC}, ModelInferRequest", "an id comes back as it is", grpc=True)
def id_back(target: Target) -> None:
    for told in ("42", "ünïcode ☃"):
        called = ask(target, target.subject, target.subject.sample(), id=told)
        expect(called.good().id == told, "another id", called)


@check(
    "grpc/one-output", MUST, f"{GRPC}, ModelInferRequest", "`outputs` names which are returned: those alone", grpc=True
)
def one_output(target: Target) -> None:
    subject = target.needs("pair")
    for name in ("sum", "difference"):
        asked = [messages.ModelInferRequest.InferRequestedOutputTensor(name=name)]
        called = ask(target, subject, subject.sample(), outputs=asked)
        expect([each.name for each in called.good().outputs] == [name], f"asked was {name}", called)


@check(
    "grpc/parameters",
    MUST,
    f"{GRPC}, Parameters",
    "parameters unknown to the server are taken: bool, int64, string",
    grpc=True,
)
def core_parameters(target: Target) -> None:
    _parameters(target, {"bool_param": True, "int64_param": 3, "string_param": "x"})


@check(
    "grpc/more-parameters", SHOULD, "Triton, grpc_service.proto", "those of double and uint64 are taken too", grpc=True
)
def more_parameters(target: Target) -> None:
    _parameters(target, {"double_param": 0.5, "uint64_param": 4})


def _parameters(target: Target, kinds: dict[str, Any]) -> None:
    told = {f"x_{kind}": messages.InferParameter(**{kind: value}) for kind, value in kinds.items()}
    ask(target, target.subject, target.subject.sample(), parameters=told).good()


@check("grpc/large", SHOULD, f"{GRPC}, Inference", "a request of 3 MB is answered", grpc=True)
def large(target: Target) -> None:
    subject = target.needs("echo_int64")
    rows = 10_000
    given = tensor(subject.inputs[0]["name"], "INT64", (rows, 2), list(range(2 * rows)))
    called = ask(target, subject, [given])
    expect(from_message(called.good())[0].values.tolist() == list(range(2 * rows)), "other values", called)


@check("grpc/gzip", SHOULD, "gRPC, compression.md", "a message compressed with gzip is understood", grpc=True)
def gzip(target: Target) -> None:
    message = request(target.subject, target.subject.sample(2), as_raw=True)
    unary = target.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", response_deserializer=messages.ModelInferResponse.FromString
    )
    try:
        answer = unary(message.SerializeToString(), timeout=target.timeout, compression=grpc.Compression.Gzip)
    except grpc.RpcError as error:
        expect(False, f"the status is {error.code().name}: {error.details()}")
    check_equal(from_message(answer), target.answers(target.subject, target.subject.sample(2)), "gzip")


def sleeping(subject: Subject, milliseconds: float) -> list[Tensor]:
    """The input of `slow`, whatever its datatype and shape."""
    (port,) = subject.inputs
    return [tensor(port["name"], port["datatype"], (1,) * len(port["shape"]), [milliseconds])]


@check("grpc/deadline", SHOULD, "gRPC, deadlines", "a call ends by its deadline, and the server goes on", grpc=True)
def deadline(target: Target) -> None:
    subject = target.needs("slow")
    given = sleeping(subject, 1500)
    start = time.monotonic()
    called = target.call("ModelInfer", request(subject, given, as_raw=True), timeout=0.2)
    expect(called.code is grpc.StatusCode.DEADLINE_EXCEEDED, "another status", called)
    expect(time.monotonic() - start < 1.2, "it took longer than the deadline", called)
    ask(target, target.subject, target.subject.sample()).good()


@check("grpc/health-service", OPTIONAL, "gRPC, health checking", "grpc.health.v1.Health answers SERVING", grpc=True)
def health_service(target: Target) -> None:
    called = target.call("Check", b"", service="/grpc.health.v1.Health/")
    expect(called.good() == b"\x08\x01", "another status", called)
