"""Requests with a mistake over REST: an error status, and a JSON object with the member `error`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from conformance.catalogue import MUST, REQUIRED, REST, SHOULD, Check, add, check
from conformance.target import Reply, Subject, Target, asking, expect

SOURCE = f"{REST}, Inference Response JSON Error Object"
Mutation = Callable[[dict[str, Any]], Any]


def told_error(reply: Reply) -> str:
    """The sentence of an error."""
    expect(reply.status >= 400, f"the status is {reply.status}, no error", reply)
    told = reply.json()
    expect(isinstance(told, dict) and isinstance(told.get("error"), str), "no object with a string `error`", reply)
    expect(told["error"], "the error says nothing", reply)
    return str(told["error"])


def first(**changed: Any) -> Mutation:
    """Change members of the first input; None takes a member away."""

    def change(request: dict[str, Any]) -> Any:
        for name, value in changed.items():
            if value is None:
                del request["inputs"][0][name]
            else:
                request["inputs"][0][name] = value
        return request

    return change


def whole(**changed: Any) -> Mutation:
    """Change members of the request."""
    return lambda request: {**request, **changed}


def without_inputs(request: dict[str, Any]) -> Any:
    del request["inputs"]
    return request


def fewer(request: dict[str, Any]) -> Any:
    request["inputs"][0]["data"].pop()
    return request


def more(request: dict[str, Any]) -> Any:
    data = request["inputs"][0]["data"]
    data.append(data[-1])
    return request


def uneven(request: dict[str, Any]) -> Any:
    data = request["inputs"][0]["data"]
    request["inputs"][0]["data"] = [data, [*data, data[0]]]
    return request


def deep(request: dict[str, Any]) -> Any:
    text = json.dumps(request)
    at = text.index('"data": [') + len('"data": ')
    return (text[:at] + "[" * 100_000 + "]" * 100_000 + text[at + 1 :]).encode()


MISTAKES: dict[str, tuple[str, str, Mutation]] = {
    "not-json": (MUST, "a body that is no JSON", lambda _: b"{inputs"),
    "empty-body": (MUST, "an empty body", lambda _: b""),
    "no-object": (MUST, "a JSON list in place of the request", lambda request: [request]),
    "no-inputs": (MUST, "a request without inputs", without_inputs),
    "empty-inputs": (MUST, "an empty list of inputs", whole(inputs=[])),
    "inputs-no-list": (MUST, "inputs that are no list", whole(inputs="x")),
    "no-name": (MUST, "an input without name", first(name=None)),
    "no-shape": (MUST, "an input without shape", first(shape=None)),
    "no-datatype": (MUST, "an input without datatype", first(datatype=None)),
    "no-data": (MUST, "an input without data", first(data=None)),
    "unknown-datatype": (MUST, "a datatype that is none", first(datatype="FP128")),
    "few-values": (MUST, "fewer values than the shape needs", fewer),
    "many-values": (MUST, "more values than the shape needs", more),
    "no-values": (MUST, "no values for a shape that needs some", first(data=[])),
    "uneven": (MUST, "unevenly nested data", uneven),
    "negative-shape": (MUST, "a negative size in a shape", first(shape=[-1, 2])),
    "fraction-shape": (MUST, "a size that is no whole number", first(shape=[1.5, 2])),
    "huge-shape": (MUST, "a shape of 2 * 10^8 values with a few of them", first(shape=[100_000_000, 2])),
    "overflow-shape": (MUST, "a shape whose product passes 2^64", first(shape=[2**33, 2**33])),
    "scalar-data": (MUST, "data that are no list", first(data="x")),
    "outputs-no-list": (MUST, "outputs that are no list", whole(outputs={"name": "x"})),
    "deep": (MUST, "data nested a hundred thousand times", deep),
    "id-number": (SHOULD, "an id that is no string", whole(id=7)),
    "parameters-list": (SHOULD, "parameters that are no object", whole(parameters=[1])),
    "parameter-object": (SHOULD, "a parameter that is an object", whole(parameters={"x": {"y": 1}})),
    "unknown-output": (SHOULD, "an output that the model has not", whole(outputs=[{"name": "no_such_output"}])),
}


def _register(name: str, level: str, sentence: str, mutate: Mutation) -> None:
    def run(target: Target) -> None:
        request = copy.deepcopy(asking(target.subject.sample()))
        told_error(target.infer(target.subject, mutate(request)))

    add(Check(f"errors/{name}", level, SOURCE, f"{sentence}: an error status and error", run))


for _name, (_level, _sentence, _mutate) in MISTAKES.items():
    _register(_name, _level, _sentence, _mutate)


def _pair(target: Target) -> tuple[Subject, dict[str, Any]]:
    subject = target.needs("pair")
    return subject, asking(subject.sample())


@check("errors/missing-input", MUST, SOURCE, "an input of the model is missing: an error status and error")
def missing_input(target: Target) -> None:
    subject, request = _pair(target)
    del request["inputs"][1]
    told_error(target.infer(subject, request))


@check("errors/unknown-input", MUST, SOURCE, "an input that the model has not: an error status and error")
def unknown_input(target: Target) -> None:
    subject, request = _pair(target)
    request["inputs"][1]["name"] = "no_such_input"
    told_error(target.infer(subject, request))


@check("errors/double-input", SHOULD, SOURCE, "the same input twice: an error status and error")
def double_input(target: Target) -> None:
    subject, request = _pair(target)
    request["inputs"].append(request["inputs"][0])
    told_error(target.infer(subject, request))


@check("errors/width", MUST, SOURCE, "three values a row where the model takes two: an error status and error")
def width(target: Target) -> None:
    subject, request = _pair(target)
    request["inputs"][0].update(shape=[1, 3], data=[1, 2, 3])
    told_error(target.infer(subject, request))


@check("errors/rank", SHOULD, SOURCE, "a shape of another rank than the model's: an error status and error")
def rank(target: Target) -> None:
    subject, request = _pair(target)
    for each in request["inputs"]:
        each["shape"] = [1, 1, 2]
    told_error(target.infer(subject, request))


@check("errors/rows", MUST, SOURCE, "inputs with unlike numbers of rows: an error status and error")
def rows(target: Target) -> None:
    subject, request = _pair(target)
    request["inputs"][0].update(shape=[3, 2], data=[1, 2, 3, 4, 5, 6])
    request["inputs"][1].update(shape=[2, 2], data=[1, 2, 3, 4])
    told_error(target.infer(subject, request))


def _single(target: Target, model: str, values: list[Any]) -> Reply:
    subject = target.needs(model)
    request = asking(subject.sample())
    request["inputs"][0]["data"] = values
    return target.infer(subject, request)


def _coerced(reply: Reply) -> bool:
    """Whether the server turned the values into the datatype, as it may."""
    return reply.status == 200 and all(type(value) is int for value in reply.object()["outputs"][0]["data"])


@check("errors/text-number", MUST, f"{REQUIRED}, Tensor Data", "text in a tensor of numbers: an error, or a number")
def text(target: Target) -> None:
    told_error(_single(target, "echo_fp32", ["many", "few"]))


@check("errors/null", SHOULD, f"{REQUIRED}, Tensor Data", "null is no value of an INT32 tensor: an error")
def null(target: Target) -> None:
    told_error(_single(target, "echo_int32", [1, None]))


@check("errors/range", SHOULD, f"{REQUIRED}, Tensor Data", "300 is no INT8: an error, never another number in silence")
def out_of_range(target: Target) -> None:
    told_error(_single(target, "echo_int8", [300, 1]))


@check("errors/fraction", SHOULD, f"{REQUIRED}, Tensor Data", "1.5 in INT32: an error, or a whole number")
def fraction(target: Target) -> None:
    reply = _single(target, "echo_int32", [1.5, 1])
    if not _coerced(reply):
        told_error(reply)


@check("errors/nan-literal", SHOULD, "RFC 8259, section 6", "NaN is no JSON: a body with it is an error")
def nan_literal(target: Target) -> None:
    subject = target.needs("echo_fp32")
    request = asking(subject.sample())
    request["inputs"][0]["data"] = [float("nan"), 1.0]
    body = json.dumps(request).encode()
    told_error(target.infer(subject, body))


@check("errors/unknown-model", MUST, SOURCE, "an inference by an unknown model: an error status and error")
def unknown_model(target: Target) -> None:
    told_error(target.post("/v2/models/no-such-model/infer", asking(target.subject.sample())))


@check("errors/unknown-version", MUST, SOURCE, "an inference by an unknown version: an error status and error")
def unknown_version(target: Target) -> None:
    path = f"{target.subject.path}/versions/987654321/infer"
    told_error(target.post(path, asking(target.subject.sample())))


@check("errors/not-found", SHOULD, f"{REST}, API", "an unknown model is 404, as HTTP has it")
def not_found(target: Target) -> None:
    reply = target.get("/v2/models/no-such-model")
    expect(reply.status == 404, f"the status is {reply.status}", reply)


@check("errors/caller", SHOULD, f"{REST}, errors are typically 400", "a caller's mistake is 4xx, not 5xx")
def callers_fault(target: Target) -> None:
    for name in ("not-json", "no-inputs", "unknown-datatype", "few-values", "negative-shape", "deep"):
        request = copy.deepcopy(asking(target.subject.sample()))
        reply = target.infer(target.subject, MISTAKES[name][2](request))
        expect(400 <= reply.status < 500, f"{MISTAKES[name][1]}: the status is {reply.status}", reply)


@check("errors/traceback", SHOULD, "good practice", "an error does not leak a traceback")
def no_traceback(target: Target) -> None:
    for name in ("no-inputs", "unknown-datatype", "few-values"):
        request = copy.deepcopy(asking(target.subject.sample()))
        reply = target.infer(target.subject, MISTAKES[name][2](request))
        expect(b"Traceback" not in reply.body and b'File \\"' not in reply.body, "a traceback", reply)


@check("errors/alive", MUST, f"{REST}, Server Live", "after all of these the server lives, and answers as before")
def alive(target: Target) -> None:
    expect(target.get("/v2/health/live").status == 200, "the server is no longer live")
    reply = target.infer(target.subject, asking(target.subject.sample()))
    expect(reply.status == 200, "the model no longer answers", reply)
