"""ModelInfer's messages as the values of `inference.py` and back: tensors in typed contents, or raw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from bimodal.errors import InputError, MalformedInput
from bimodal.messages.pool import message
from bimodal.realtime.protocols import tensors
from bimodal.realtime.protocols.inference import Asked, Parameter, Tensor, Wanted
from bimodal.rows import Array

CONTENTS = {  # the field of InferTensorContents that has a datatype's values
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
HELD = {  # the arrays of those fields
    "bool_contents": np.bool_,
    "int_contents": np.int64,
    "int64_contents": np.int64,
    "uint_contents": np.uint64,
    "uint64_contents": np.uint64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
    "bytes_contents": object,
}
SHARED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")

Request = message("inference.ModelInferRequest")
Response = message("inference.ModelInferResponse")
Parameters = Mapping[str, Parameter]


def parsed(kind: Any, data: bytes) -> Any:
    """A message of this class. Raises MalformedInput."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise MalformedInput(f"the message is no {kind.DESCRIPTOR.full_name}") from None


def asked_of(request: Any) -> Asked:
    """A ModelInferRequest. Raises InputError."""
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InputError(
            f"raw_input_contents needs an entry for each input: {len(request.inputs)}, not {len(raws)}; "
            "raw is for all inputs or for none"
        )
    given = [_raw(each, raws[place]) if raws else _typed(each) for place, each in enumerate(request.inputs)]
    wanted = [Wanted(each.name, parameters_of(each.parameters)) for each in request.outputs]
    return Asked(given, request.id or None, parameters_of(request.parameters), wanted or None)


def parameters_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """A map of InferParameter (or ModelRepositoryParameter) as plain values. Raises InputError."""
    found: dict[str, Any] = {}
    for name in given:
        each = given[name]
        kind = each.WhichOneof("parameter_choice")
        if kind is None:
            raise InputError("a parameter has no value")
        found[name] = getattr(each, kind)
    return found


def response_of(
    name: str, version: str, given: Iterable[Tensor], asked: Asked, parameters: Parameters | None = None, *, raw: bool
) -> Any:
    """A ModelInferResponse. raw: the tensors' bytes, as those of the request came; FP16 goes no other way."""
    found = list(given)
    told = Response(model_name=name, model_version=version, id=asked.id or "")
    fill(told.parameters, parameters or {})
    raw = raw or any(each.datatype not in CONTENTS for each in found)
    for each in found:
        tensor = told.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        fill(tensor.parameters, each.parameters or {})
        values = np.asarray(each.values)
        if raw:
            told.raw_output_contents.append(tensors.encode(values, each.datatype))
        else:
            getattr(tensor.contents, CONTENTS[each.datatype]).extend(plain(values, each.datatype))
    return told


def fill(field: Any, parameters: Parameters) -> None:
    """Plain values as a map of InferParameter."""
    for name, value in parameters.items():
        if isinstance(value, bool):
            field[name].bool_param = value
        elif isinstance(value, int):
            setattr(field[name], "int64_param" if -(2**63) <= value < 2**63 else "uint64_param", value)
        elif isinstance(value, float):
            field[name].double_param = value
        else:
            field[name].string_param = value


def plain(values: Array, datatype: str) -> Sequence[Any]:
    """The values of a tensor as a field of contents takes them."""
    listed: list[Any] = values.reshape(-1).tolist()
    if datatype == "BYTES":
        return [each if isinstance(each, bytes) else b"" if each is None else str(each).encode() for each in listed]
    return listed


def _raw(tensor: Any, data: bytes) -> Tensor:
    if tensor.HasField("contents") and tensor.contents.ByteSize():
        raise tensors.wrong(
            tensor.name, "it has contents, and the request raw_input_contents: raw is for all inputs or for none"
        )
    shape = list(tensor.shape)
    parameters = _local(tensor)
    return Tensor(
        tensor.name, tensor.datatype, shape, tensors.decode(tensor.datatype, shape, data, tensor.name), parameters
    )


def _typed(tensor: Any) -> Tensor:
    parameters = _local(tensor)
    shape = list(tensor.shape)
    tensors.check(tensor.datatype, shape, tensor.name)
    name = CONTENTS.get(tensor.datatype)
    if name is None:
        raise tensors.wrong(tensor.name, f"{tensor.datatype} has no contents of its own: send it raw")
    strange = [each.name for each, _ in tensor.contents.ListFields() if each.name != name]
    if strange:
        raise tensors.wrong(tensor.name, f"the values of {tensor.datatype} are given in {name}, not in {strange[0]}")
    listed = list(getattr(tensor.contents, name))
    values: Array = np.empty(len(listed), HELD[name])
    values[:] = listed
    return Tensor(tensor.name, tensor.datatype, shape, values, parameters)


def _local(tensor: Any) -> dict[str, Any] | None:
    """The parameters of an input. Raises InputError where they say that its values are elsewhere."""
    parameters = parameters_of(tensor.parameters)
    if any(name in parameters for name in SHARED):
        raise tensors.wrong(tensor.name, "shared memory is not offered: send the values in the request")
    return parameters or None
