"""The binary tensor data extension of REST."""

from __future__ import annotations

import json
import struct
from typing import Any

from conformance.catalogue import MUST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.checks.infer import pair_answer
from conformance.target import LENGTH, Reply, Subject, Target, asking, check_equal, expect, outputs
from conformance.tensors import plain, raw, tensor

SOURCE = "Triton, extension_binary_data.md"
NAME = "binary_tensor_data"
OUT = {"parameters": {"binary_data_output": True}}


@check("binary/in", MUST, SOURCE, "inputs as binary data, the answer in JSON: as from JSON", extension=NAME)
def binary_in(target: Target) -> None:
    inputs = target.subject.sample(2)
    reply = target.binary(target.subject, inputs)
    expect(LENGTH not in reply.headers or int(reply.headers[LENGTH]) == len(reply.body), "binary data nobody asked for")
    check_equal(outputs(reply), target.answers(target.subject, inputs), "binary in", reply)


@check("binary/out", MUST, SOURCE, "binary_data_output: every output as binary data, equal to JSON's", extension=NAME)
def binary_out(target: Target) -> None:
    inputs = target.subject.sample(2)
    reply = target.infer(target.subject, asking(inputs, **OUT))
    head = _head(reply)
    expect(all("data" not in each for each in head["outputs"]), "an output has data in JSON", reply)
    check_equal(outputs(reply), target.answers(target.subject, inputs), "binary out", reply)


def _head(reply: Reply) -> dict[str, Any]:
    expect(reply.status == 200, f"the status is {reply.status}, not 200", reply)
    expect(LENGTH in reply.headers, f"the header {LENGTH} is missing", reply)
    size = int(reply.headers[LENGTH])
    expect(size <= len(reply.body), f"{LENGTH} passes the end of the body", reply)
    return dict(json.loads(reply.body[:size]))


@check("binary/both", MUST, SOURCE, "binary data in and out at once", extension=NAME)
def both(target: Target) -> None:
    inputs = target.subject.sample(2, seed=4)
    reply = target.binary(target.subject, inputs, told=OUT)
    check_equal(outputs(reply), target.answers(target.subject, inputs), "both ways", reply)


@check(
    "binary/headers", MUST, SOURCE, "the header tells the length of the JSON, Content-Length the whole", extension=NAME
)
def headers(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample(2), **OUT))
    sizes = [each["parameters"]["binary_data_size"] for each in _head(reply)["outputs"]]
    expect(int(reply.headers[LENGTH]) + sum(sizes) == len(reply.body), "the sizes do not add up", reply)
    told = reply.headers.get("content-length")
    expect(told is None or int(told) == len(reply.body), "Content-Length is not the body's", reply)


@check("binary/content-type", SHOULD, SOURCE, "an answer with binary data is application/octet-stream", extension=NAME)
def content_type(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample(2), **OUT))
    kind = reply.headers.get("content-type")
    expect(kind == "application/octet-stream", f"it is {kind}", reply)


@check("binary/one-output", MUST, SOURCE, "binary_data on an output: that one alone is binary", extension=NAME)
def one_output(target: Target) -> None:
    subject, inputs = _pair(target)
    asked = [{"name": "sum"}, {"name": "difference", "parameters": {"binary_data": True}}]
    reply = target.infer(subject, asking(inputs, outputs=asked))
    told = {each["name"]: "data" in each for each in _head(reply)["outputs"]}
    expect(told == {"sum": True, "difference": False}, f"in JSON are {told}", reply)
    check_equal(outputs(reply), pair_answer(inputs), "one of two", reply)


@check("binary/override", MUST, SOURCE, "binary_data on an output overrides binary_data_output", extension=NAME)
def override(target: Target) -> None:
    subject, inputs = _pair(target)
    asked = [{"name": "sum", "parameters": {"binary_data": False}}, {"name": "difference"}]
    reply = target.infer(subject, asking(inputs, outputs=asked, **OUT))
    told = {each["name"]: "data" in each for each in _head(reply)["outputs"]}
    expect(told == {"sum": True, "difference": False}, f"in JSON are {told}", reply)
    check_equal(outputs(reply), pair_answer(inputs), "overridden", reply)


@check("binary/mixed", MUST, SOURCE, "one input in JSON, the other as binary data", extension=NAME)
def mixed(target: Target) -> None:
    subject, inputs = _pair(target)
    head = asking(inputs)
    data = raw(inputs[1])
    del head["inputs"][1]["data"]
    head["inputs"][1]["parameters"] = {"binary_data_size": len(data)}
    reply = target.framed(subject, head, data)
    check_equal(outputs(reply), pair_answer(inputs), "mixed", reply)


@check("binary/order", MUST, SOURCE, "the bytes come in the order in which the JSON names the inputs", extension=NAME)
def order(target: Target) -> None:
    subject, inputs = _pair(target)
    reply = target.binary(subject, inputs[::-1])
    check_equal(outputs(reply), pair_answer(inputs), "reversed", reply)


@check("binary/id", MUST, SOURCE, "an id comes back in the JSON of a binary answer too", extension=NAME)
def id_back(target: Target) -> None:
    reply = target.binary(target.subject, target.subject.sample(), told={"id": "ünï", **OUT})
    expect(_head(reply).get("id") == "ünï", "another id", reply)


@check("binary/json-only", MUST, SOURCE, "the header may stand where no tensor is binary", extension=NAME)
def json_only(target: Target) -> None:
    inputs = target.subject.sample()
    reply = target.framed(target.subject, asking(inputs), b"")
    check_equal(outputs(reply), target.answers(target.subject, inputs), "JSON alone", reply)


@check("binary/large", SHOULD, SOURCE, "a tensor of 160 kB both ways", extension=NAME)
def large(target: Target) -> None:
    subject = target.needs("echo_fp64")
    given = tensor(subject.inputs[0]["name"], "FP64", (10_000, 2), [each * 1.1 for each in range(20_000)])
    reply = target.binary(subject, [given], told=OUT)
    expect(outputs(reply)[0].values.tolist() == given.values.tolist(), "other values", reply)


def _pair(target: Target) -> tuple[Subject, list[Any]]:
    subject = target.needs("pair")
    return subject, sorted(subject.sample(2, seed=2), key=lambda each: each.name)


def _one(target: Target, size: Any, tail: bytes, length: str | None = None, **more: Any) -> Reply:
    """A request to echo two INT32, with a size and bytes that may not be right."""
    subject = target.needs("echo_int32")
    name = subject.inputs[0]["name"]
    about = {"name": name, "shape": [1, 2], "datatype": "INT32", "parameters": {"binary_data_size": size}, **more}
    return target.framed(subject, {"inputs": [about]}, tail, length)


EIGHT = struct.pack("<ii", 7, 8)


@check("binary/few-bytes", MUST, SOURCE, "fewer bytes than the shape needs: an error", extension=NAME)
def few_bytes(target: Target) -> None:
    told_error(_one(target, 4, EIGHT[:4]))


@check("binary/many-bytes", MUST, SOURCE, "more bytes than the shape needs: an error", extension=NAME)
def many_bytes(target: Target) -> None:
    told_error(_one(target, 12, EIGHT + EIGHT[:4]))


@check("binary/odd-bytes", MUST, SOURCE, "a size that is no multiple of the element's: an error", extension=NAME)
def odd_bytes(target: Target) -> None:
    told_error(_one(target, 7, EIGHT[:7]))


@check("binary/past-end", MUST, SOURCE, "a size that passes the end of the body: an error", extension=NAME)
def past_end(target: Target) -> None:
    told_error(_one(target, 8, EIGHT[:4]))


@check("binary/left-over", SHOULD, SOURCE, "bytes that belong to no tensor: an error", extension=NAME)
def left_over(target: Target) -> None:
    told_error(_one(target, 8, EIGHT + b"xyz"))


@check("binary/negative", MUST, SOURCE, "a negative size: an error", extension=NAME)
def negative(target: Target) -> None:
    told_error(_one(target, -8, EIGHT))


@check("binary/no-size", MUST, SOURCE, "a size that is no number: an error", extension=NAME)
def no_size(target: Target) -> None:
    told_error(_one(target, "eight", EIGHT))


@check("binary/long-header", MUST, SOURCE, "a JSON length beyond the body: an error", extension=NAME)
def long_header(target: Target) -> None:
    told_error(_one(target, 8, EIGHT, "100000"))


@check("binary/short-header", MUST, SOURCE, "a JSON length within the JSON: an error", extension=NAME)
def short_header(target: Target) -> None:
    told_error(_one(target, 8, EIGHT, "20"))


@check("binary/no-number-header", MUST, SOURCE, "a JSON length that is no number: an error", extension=NAME)
def no_number_header(target: Target) -> None:
    for length in ("many", "-5", "1.5"):
        told_error(_one(target, 8, EIGHT, length))


@check("binary/twice", SHOULD, SOURCE, "data in JSON and as binary data: an error", extension=NAME)
def twice(target: Target) -> None:
    told_error(_one(target, 8, EIGHT, data=[7, 8]))


def _texts(target: Target, data: bytes) -> Reply:
    subject = target.needs("echo_bytes")
    about = {"name": subject.inputs[0]["name"], "shape": [1, 2], "datatype": "BYTES"}
    return target.framed(subject, {"inputs": [{**about, "parameters": {"binary_data_size": len(data)}}]}, data)


@check("binary/bytes-prefix", MUST, SOURCE, "a BYTES prefix that passes the end: an error", extension=NAME)
def bytes_prefix(target: Target) -> None:
    told_error(_texts(target, struct.pack("<I", 1) + b"a" + struct.pack("<I", 99) + b"b"))


@check("binary/bytes-cut", MUST, SOURCE, "a BYTES prefix cut short: an error", extension=NAME)
def bytes_cut(target: Target) -> None:
    told_error(_texts(target, struct.pack("<I", 1) + b"a" + b"\x01\x00"))


@check("binary/bytes-few", MUST, SOURCE, "fewer BYTES elements than the shape needs: an error", extension=NAME)
def bytes_few(target: Target) -> None:
    told_error(_texts(target, struct.pack("<I", 1) + b"a"))


@check("binary/bytes-many", MUST, SOURCE, "more BYTES elements than the shape needs: an error", extension=NAME)
def bytes_many(target: Target) -> None:
    told_error(_texts(target, (struct.pack("<I", 1) + b"a") * 3))


@check("binary/bytes-json", SHOULD, SOURCE, "bytes that are no UTF-8, asked in JSON: JSON or an error", extension=NAME)
def bytes_json(target: Target) -> None:
    reply = _texts(target, (struct.pack("<I", 1) + b"\xff") * 2)
    told = reply.json()
    expect(reply.status == 200 or isinstance(told.get("error"), str), "neither an answer nor an error", reply)


@check("binary/bool", SHOULD, SOURCE, "a BOOL byte is 0 or 1: another is an error, or true", extension=NAME)
def odd_bool(target: Target) -> None:
    subject = target.needs("echo_bool")
    about = {"name": subject.inputs[0]["name"], "shape": [1, 2], "datatype": "BOOL"}
    head = {"inputs": [{**about, "parameters": {"binary_data_size": 2}}]}
    reply = target.framed(subject, head, b"\x02\x00")
    if reply.status == 200:
        expect(plain(outputs(reply)[0]) == [True, False], "another value", reply)
    else:
        told_error(reply)
