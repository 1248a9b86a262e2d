"""Inference over REST in JSON."""

from __future__ import annotations

import http.client
import json
import math
from typing import Any

import numpy as np

from conformance.catalogue import MUST, OPTIONAL, REQUIRED, REST, SHOULD, Absent, Fault, check
from conformance.target import Target, asking, check_equal, expect, outputs, strict
from conformance.tensors import Tensor, tensor

RESPONSE = f"{REST}, Inference Response"
REQUEST = f"{REST}, Inference Request"
DATA = f"{REQUIRED}, Tensor Data"


@check("infer/answer", MUST, RESPONSE, "200 with model_name and outputs: name, shape, datatype and data of each")
def answer(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample()))
    told = reply.object()
    expect(told.get("model_name") == target.subject.name, "model_name is not the model's", reply)
    for each in told.get("outputs") or ():
        expect({"name", "shape", "datatype", "data"} <= each.keys(), "an output lacks a member", reply)
    outputs(reply)


@check("infer/known", MUST, RESPONSE, "the answer is the model's (pair: sums and differences)")
def known(target: Target) -> None:
    subject = target.needs("pair")
    inputs = [tensor("a", "FP32", (2, 2), [1, 2.5, -3, 0.1]), tensor("b", "FP32", (2, 2), [4, -0.5, 1e30, 0.2])]
    reply = target.infer(subject, asking(inputs))
    check_equal(outputs(reply), pair_answer(inputs), "pair", reply, exact=True)


def pair_answer(inputs: list[Tensor]) -> list[Tensor]:
    """What pair answers for a and b, in this order."""
    a, b = (np.asarray(each.values, np.float32) for each in inputs)
    shape = inputs[0].shape
    return [Tensor("sum", "FP32", shape, a + b), Tensor("difference", "FP32", shape, a - b)]


@check("infer/metadata", MUST, f"{REST}, Model Metadata", "outputs are as the metadata tells: names, datatypes, shapes")
def as_told(target: Target) -> None:
    subject = target.subject
    if not subject.outputs:
        raise Absent("the metadata tells no outputs")
    reply = target.infer(subject, asking(subject.sample(2)))
    seen = {each.name: each for each in outputs(reply)}
    for each in subject.outputs:
        expect(each["name"] in seen, f"the output {each['name']} is missing", reply)
        held = seen[each["name"]]
        expect(held.datatype == each["datatype"], f"{each['name']} is {held.datatype}", reply)
        fits = len(held.shape) == len(each["shape"]) and all(
            told in (-1, size) for told, size in zip(each["shape"], held.shape, strict=True)
        )
        expect(fits, f"{each['name']} has the shape {list(held.shape)}, told is {each['shape']}", reply)


@check("infer/id", MUST, REQUEST, "an id that is given comes back as it is")
def id_back(target: Target) -> None:
    for told in ("42", "a b/c", "ünïcode ☃", 'quote " and \\', "x" * 200):
        reply = target.infer(target.subject, asking(target.subject.sample(), id=told))
        expect(reply.object().get("id") == told, f"the id {told!r} came back otherwise", reply)


@check("infer/no-id", OPTIONAL, RESPONSE, "no id is told where none was given")
def no_id(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample()))
    expect(not reply.object().get("id"), "an id that nobody gave", reply)


@check("infer/version", MUST, RESPONSE, "model_version, where told, is the version that answered")
def version(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample()))
    told = reply.object().get("model_version")
    if told is None or not target.subject.versions:
        return
    expect(told in target.subject.versions, f"{told!r} is none of the versions", reply)


@check("infer/version-url", MUST, REQUEST, "a version that is listed can be asked by its URL, and says so")
def version_url(target: Target) -> None:
    for version in target.subject.versions:
        path = f"{target.subject.path}/versions/{version}/infer"
        reply = target.post(path, asking(target.subject.sample()))
        expect(reply.object().get("model_version") == version, "another version answered", reply)


@check("infer/all-outputs", MUST, REQUEST, "without `outputs` all outputs of the model are returned")
def all_outputs(target: Target) -> None:
    subject = target.needs("pair")
    names = {each.name for each in target.answers(subject, subject.sample())}
    expect(names == {"sum", "difference"}, f"the outputs are {sorted(names)}")


@check("infer/one-output", MUST, REQUEST, "`outputs` names which are returned: those alone")
def one_output(target: Target) -> None:
    subject = target.needs("pair")
    for name in ("sum", "difference"):
        reply = target.infer(subject, asking(subject.sample(), outputs=[{"name": name}]))
        told = [each.name for each in outputs(reply)]
        expect(told == [name], f"asked was {name}, told are {told}", reply)


@check("infer/output-order", SHOULD, REQUEST, "outputs come in the order in which they are asked for")
def output_order(target: Target) -> None:
    subject = target.needs("pair")
    for names in (["difference", "sum"], ["sum", "difference"]):
        reply = target.infer(subject, asking(subject.sample(), outputs=[{"name": each} for each in names]))
        told = [each.name for each in outputs(reply)]
        expect(told == names, f"asked were {names}, told are {told}", reply)


@check("infer/input-order", MUST, REQUEST, "inputs are known by their names, in whatever order they are sent")
def input_order(target: Target) -> None:
    subject = target.needs("pair")
    inputs = subject.sample(2, seed=1)
    reply = target.infer(subject, asking(inputs[::-1]))
    by_name = sorted(inputs, key=lambda each: each.name)
    check_equal(outputs(reply), pair_answer(by_name), "reversed", reply)


def _nested(each: dict[str, Any]) -> Any:
    data = each["data"]
    for size in reversed(each["shape"][1:]):
        data = [data[at : at + size] for at in range(0, len(data), size)]
    return data


@check("infer/nested", MUST, DATA, "nested data mean the same as flat data")
def nested(target: Target) -> None:
    inputs = target.subject.sample(3)
    request = asking(inputs)
    for each in request["inputs"]:
        each["data"] = _nested(each)
    reply = target.infer(target.subject, request)
    check_equal(outputs(reply), target.answers(target.subject, inputs), "nested", reply)


@check("infer/batch", MUST, f"{REST}, Request Input", "shape and data of a batch represent the whole of it, row by row")
def batch(target: Target) -> None:
    subject = target.subject
    if not subject.batched():
        raise Absent("the model's first dimension is not variable")
    whole = {each.name: each for each in target.answers(subject, subject.sample(3, seed=3))}
    inputs = subject.sample(3, seed=3)
    for row in range(3):
        alone = [_row(each, row, 3) for each in inputs]
        for each in target.answers(subject, alone):
            wanted = _row(whole[each.name], row, 3)
            expect(each.near(wanted), f"row {row} of {each.name} is another one when asked alone")


def _row(each: Tensor, row: int, rows: int) -> Tensor:
    width = len(each.values) // rows
    return Tensor(each.name, each.datatype, (1, *each.shape[1:]), each.values[row * width : (row + 1) * width])


@check("infer/thousand", SHOULD, f"{REST}, Request Input", "a thousand rows in a request are answered in their order")
def thousand(target: Target) -> None:
    subject = target.needs("echo_int64")
    wanted = tensor(subject.inputs[0]["name"], "INT64", (1000, 2), list(range(2000)))
    reply = target.infer(subject, asking([wanted]))
    expect(outputs(reply)[0].values.tolist() == list(range(2000)), "other values", reply)


@check("infer/parameters", MUST, f"{REQUIRED}, Parameters", "parameters are strings, numbers or bools, and are taken")
def parameters(target: Target) -> None:
    odd = {"x_text": "a", "x_number": 1.5, "x_whole": 7, "x_bool": True}
    inputs = target.subject.sample()
    request = asking(inputs, parameters=odd)
    request["inputs"][0]["parameters"] = odd
    reply = target.infer(target.subject, request)
    check_equal(outputs(reply), target.answers(target.subject, inputs), "with parameters", reply)


@check("infer/empty-parameters", MUST, f"{REQUIRED}, Parameters", "`parameters` may hold nothing")
def empty_parameters(target: Target) -> None:
    request = asking(target.subject.sample(), parameters={})
    request["inputs"][0]["parameters"] = {}
    outputs(target.infer(target.subject, request))


@check("infer/json-type", SHOULD, f"{REST}, Inference Request Examples", "an answer in JSON is application/json")
def json_type(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample()))
    kind = reply.headers.get("content-type", "")
    expect(kind.startswith("application/json"), f"the content type is {kind!r}", reply)


@check("infer/charset", SHOULD, "RFC 9110, section 8.3", "a content type may carry a charset")
def charset(target: Target) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    outputs(target.infer(target.subject, asking(target.subject.sample()), headers))


@check("infer/chunked", MUST, "RFC 9112, section 7.1", "a body may come in chunks of unknown length")
def chunked(target: Target) -> None:
    body = json.dumps(asking(target.subject.sample())).encode()
    connection = http.client.HTTPConnection(target.host, target.port, timeout=target.timeout)
    try:
        path = f"{target.subject.path}/infer"
        pieces = [body[:10], body[10:]]
        connection.request("POST", path, iter(pieces), {"Content-Type": "application/json"}, encode_chunked=False)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise Fault(f"the status is {response.status}", "a chunked body", data[:200].decode(errors="replace"))


@check("infer/nan-out", MUST, "RFC 8259, section 6", "an answer in JSON is JSON, also where a value is NaN or infinite")
def nan_out(target: Target) -> None:
    subject = target.needs("pair")
    inputs = [tensor("a", "FP32", (1, 2), [3e38, 3e38]), tensor("b", "FP32", (1, 2), [3e38, -3e38])]
    reply = target.infer(subject, asking(inputs))
    told = strict(reply.body, reply)
    if reply.status != 200:
        expect(isinstance(told.get("error"), str), "neither an answer nor an error", reply)


@check("infer/no-rows", OPTIONAL, f"{REST}, Request Input", "no rows: an answer of none, or an error that says so")
def no_rows(target: Target) -> None:
    subject = target.needs("pair")
    inputs = [tensor(name, "FP32", (0, 2), []) for name in ("a", "b")]
    reply = target.infer(subject, asking(inputs))
    if reply.status == 200:
        expect(all(math.prod(each.shape) == 0 for each in outputs(reply)), "values from nothing", reply)
    else:
        expect(isinstance(reply.json().get("error"), str), "no object with a string `error`", reply)


@check(
    "infer/more-members", OPTIONAL, f"{REST}, Inference Request", "members that the protocol has not are passed over"
)
def more_members(target: Target) -> None:
    outputs(target.infer(target.subject, asking(target.subject.sample(), model_name=target.subject.name)))


@check("infer/repeatable", SHOULD, "good practice", "the same request gets the same answer")
def repeatable(target: Target) -> None:
    inputs = target.subject.sample(2, seed=5)
    before = target.answers(target.subject, inputs)
    check_equal(target.answers(target.subject, inputs), before, "again")
