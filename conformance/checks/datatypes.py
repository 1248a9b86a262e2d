"""Every datatype, by the model that echoes it: in JSON, as binary data, over gRPC in contents and raw."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import GRPC, MUST, OPTIONAL, REQUIRED, SHOULD, Absent, Check, add
from conformance.checks.errors import told_error
from conformance.target import Subject, Target, asking, check_equal, expect, outputs
from conformance.tensors import CONTENTS, NUMPY, Tensor, from_message, put_contents, raw, tensor

BINARY = "Triton, extension_binary_data.md"
REFUSED = ", or the model takes none and that is told as the caller's mistake"
NAN, INFINITY = float("nan"), float("inf")


def _edges(datatype: str) -> list[Any]:
    """Values at the limits of a datatype that JSON can hold."""
    if datatype == "BOOL":
        return [True, False, False, True]
    if datatype == "BYTES":
        return ["", "plain", 'quote " \\ \n\t', "ünïcode ☃ 😀"]
    if datatype.startswith("FP"):
        real = np.finfo(NUMPY[datatype])
        return [float(real.max), float(real.tiny), -0.1, 1 / 3]
    whole = np.iinfo(NUMPY[datatype])
    return [int(whole.max), int(whole.min), 1, int(whole.max) - 1]


def _odd(datatype: str) -> list[Any]:
    """Values that JSON cannot hold, or might not bring back."""
    if datatype == "BYTES":
        return [b"\x00\xff\xfe", b"", b"\x80" * 300, b"plain"]
    return [NAN, INFINITY, -INFINITY, -0.0]


def _asked(target: Target, datatype: str, values: list[Any]) -> tuple[Subject, Tensor, Tensor]:
    """The echoing model, its input, and the output to expect."""
    subject = target.needs(f"echo_{datatype.lower()}")
    given = tensor(subject.inputs[0]["name"], datatype, (2, 2), values)
    name = subject.outputs[0]["name"] if subject.outputs else "y"
    return subject, given, Tensor(name, datatype, (2, 2), given.values)


def _json(datatype: str) -> Any:
    def run(target: Target) -> None:
        subject, given, wanted = _asked(target, datatype, _edges(datatype))
        reply = target.infer(subject, asking([given]))
        check_equal(outputs(reply), [wanted], "echo", reply, exact=True)

    return run


def _binary(datatype: str, values: list[Any], *, refusable: bool) -> Any:
    def run(target: Target) -> None:
        subject, given, wanted = _asked(target, datatype, values)
        reply = target.binary(subject, [given], told={"parameters": {"binary_data_output": True}})
        if refusable and reply.status in (400, 422):
            told_error(reply)
            return
        check_equal(outputs(reply), [wanted], "echo", reply, exact=True)
        expect(raw(outputs(reply)[0])[-2:] == raw(wanted)[-2:], "other bits", reply)  # the sign of zero

    return run


def request(subject: Subject, inputs: list[Tensor], *, as_raw: bool, **rest: Any) -> Any:
    """A ModelInferRequest, its tensors raw or in the repeated fields."""
    made = messages.ModelInferRequest(model_name=subject.name, **rest)
    for each in inputs:
        port = made.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        if as_raw:
            made.raw_input_contents.append(raw(each))
        else:
            put_contents(port.contents, each)
    return made


def _rpc(datatype: str, values: list[Any], *, as_raw: bool, refusable: bool) -> Any:
    def run(target: Target) -> None:
        subject, given, wanted = _asked(target, datatype, values)
        called = target.call("ModelInfer", request(subject, [given], as_raw=as_raw))
        if refusable and called.code is grpc.StatusCode.INVALID_ARGUMENT:
            return
        check_equal(from_message(called.good()), [wanted], "echo", called, exact=True)

    return run


def _brain(target: Target) -> None:
    subject = target.model("echo_bf16")
    if subject is None:
        raise Absent("the model echo_bf16 is not there")
    given = tensor(subject.inputs[0]["name"], "BF16", (2, 2), [1, -2.5, NAN, 3e38])
    reply = target.binary(subject, [given], told={"parameters": {"binary_data_output": True}})
    expect(outputs(reply)[0].same(Tensor(outputs(reply)[0].name, "BF16", (2, 2), given.values)), "other values", reply)


def _register() -> None:
    table = f"{REQUIRED}, Tensor Data Types"
    for datatype in (*NUMPY, "BYTES"):
        level = OPTIONAL if datatype == "FP16" else MUST  # no representation in JSON of its own
        told = f"{datatype} in JSON keeps its values, at its limits too"
        add(Check(f"datatypes/json-{datatype}", level, table, told, _json(datatype)))
        _forms(datatype, datatype, "keeps its values, at its limits too", _edges(datatype))
    for datatype in ("FP16", "FP32", "FP64"):
        _forms(
            f"nan-{datatype}", datatype, f"keeps NaN, infinity and the sign of zero{REFUSED}", _odd(datatype), SHOULD
        )
    _forms("any-BYTES", "BYTES", f"keeps bytes that are no text{REFUSED}", _odd("BYTES"), SHOULD)
    told = "BF16 as binary data keeps its bits"
    add(Check("datatypes/binary-BF16", MUST, BINARY, told, _brain, "binary_tensor_data"))


def _forms(name: str, datatype: str, told: str, values: list[Any], level: str = MUST) -> None:
    """The checks of a datatype that do not go through JSON."""
    sentence = f"{datatype} as binary data {told}"
    run = _binary(datatype, values, refusable=level is SHOULD)
    add(Check(f"datatypes/binary-{name}", level, BINARY, sentence, run, "binary_tensor_data"))
    if datatype in CONTENTS:
        sentence = f"{datatype} in {CONTENTS[datatype]} {told}"
        run = _rpc(datatype, values, as_raw=False, refusable=level is SHOULD)
        add(Check(f"datatypes/contents-{name}", level, f"{GRPC}, Tensor Data", sentence, run, grpc=True))
    run = _rpc(datatype, values, as_raw=True, refusable=level is SHOULD)
    add(Check(f"datatypes/raw-{name}", level, f"{GRPC}, Tensor Data", f"{datatype} raw {told}", run, grpc=True))


_register()
