"""Open Inference requests and answers without a wire: REST (JSON and binary) and gRPC (contents and raw) both turn
their words into these values and back.

A model of arrays takes one tensor [n, …]; a model of named columns takes a tensor [n] or [n, 1] a column, or one
tensor [n, columns] by position. A tensor `NAME:validity` (BOOL) beside a tensor `NAME` tells which rows have a value.
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from bimodal.errors import InputError, Problem
from bimodal.field import INTEGERS, Field, column_of, listed, nearest
from bimodal.realtime.answer import Answer
from bimodal.realtime.protocols import classification, columns, tensors
from bimodal.realtime.protocols.rows import too_many
from bimodal.realtime.service import Served
from bimodal.rows import Array, Column, Rows
from bimodal.signature import EMPTY, Signature, require

DATATYPES = {  # how a field travels
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bool": "BOOL",
    "string": "BYTES",
    "timestamp": "BYTES",
    "any": "BYTES",
    **{name: name.upper() for name in INTEGERS},
}
EXACTLY = {"BOOL": "bool", **{name.upper(): name for name in INTEGERS}}  # whose values are held to them
VALIDITY = ":validity"
CONTENTS = ("pd", "np", "str", "base64", "datetime")  # the content types of MLServer that are taken

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]


@dataclass(slots=True)
class Tensor:
    """One tensor.

    values: an array in the tensor's shape or flat (BYTES: objects, str or bytes, None where null), or Python values as
    JSON has them, flat or nested.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: Array | Sequence[Any]
    parameters: Parameters | None = None


@dataclass(slots=True)
class Wanted:
    """One output that is asked for."""

    name: str
    parameters: Parameters | None = None


@dataclass(slots=True)
class Asked:
    """A request. wanted None: the outputs that the server gives by default."""

    tensors: Sequence[Tensor]
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)
    wanted: Sequence[Wanted] | None = None


def judged(served: Served, asked: Asked) -> Rows:
    """The Rows of a request. Raises InputError naming tensor and row."""
    content_type(asked.parameters)
    found, validity = _sorted(asked.tensors, served.limits.rows)
    signature = served.signature
    if signature.named or (signature.vector is None and len(signature.inputs) > 1):
        return _by_name(signature, found, validity)
    return _alone(signature, found, validity)


def outputs_of(
    served: Served, answer: Answer, start: int, stop: int, asked: Asked, *, spoken: Container[str] = ()
) -> list[Tensor]:
    """The tensors of the answer to one request, which has the rows from `start` to `stop` of the batch.

    spoken: the outputs whose wire can tell a null (JSON); of the others, one with nulls is followed by its
    `NAME:validity`.
    """
    labels = {each.name: classification.count(each.name, each.parameters) for each in asked.wanted or ()}
    told = []
    for name in answer.outputs:
        array = answer.outputs.array(name)[start:stop]
        if labels.get(name):
            values = classification.classified(array, labels[name] or 0, classification.labels(served.signature, name))
            told.append(Tensor(name, "BYTES", list(values.shape), values))
            continue
        datatype = DATATYPES[served.signature.output(name).type]
        values = texts(array) if datatype == "BYTES" else array
        if name in spoken or values.dtype != object:
            told.append(Tensor(name, datatype, list(values.shape), values))
            continue
        there = np.array([each is not None for each in values.reshape(-1)], np.bool_).reshape(values.shape)
        if datatype != "BYTES":  # whole numbers that may be null
            values = np.where(there, values, 0).astype(tensors.DATATYPES[datatype])
        told.append(Tensor(name, datatype, list(values.shape), values))
        if not there.all():
            told.append(Tensor(f"{name}{VALIDITY}", "BOOL", list(values.shape), there))
    return told


def texts(array: Array) -> Array:
    """Values of an output that travels as text: str, None where null; times in ISO 8601."""
    made = np.empty(array.size, object)
    if array.dtype.kind == "M":
        times = array.reshape(-1).astype("datetime64[us]").tolist()
        made[:] = [None if each is None else each.isoformat() for each in times]
    else:
        values = array.reshape(-1).tolist()
        made[:] = [each if each is None or type(each) is str else str(columns.own(each)) for each in values]
    return made.reshape(array.shape)


def content_type(parameters: Parameters | None) -> str | None:
    """MLServer's hint on what a tensor holds; the signature knows it already. Raises InputError."""
    told = (parameters or {}).get("content_type")
    if told is not None and told not in CONTENTS:
        raise InputError(f"the parameter content_type is none of {listed(CONTENTS)}")
    return None if told is None else str(told)


# -- tensors ---------------------------------------------------------------------------------------------------------


def _sorted(given: Sequence[Tensor], most: int) -> tuple[dict[str, Tensor], dict[str, Array]]:
    """The tensors by name, their values as arrays in shape, and the rows that have no value, by the name of theirs."""
    if not given:
        raise InputError("the request has no input tensors")
    found: dict[str, Tensor] = {}
    for tensor in given:
        if tensor.name in found:
            raise tensors.wrong(tensor.name, "two input tensors have this name")
        found[tensor.name] = _shaped(tensor, most)
    first = next(iter(found.values()))
    count = first.shape[0]
    for tensor in found.values():
        if tensor.shape[0] != count:
            sizes = f"not {tensor.shape[0]} rows where {first.name!r} has {count}"
            raise tensors.wrong(tensor.name, f"tensors of one length are needed, {sizes}")
    if not count:
        raise InputError.of([EMPTY])
    validity = {}
    for name in [each for each in found if each.endswith(VALIDITY)]:
        tensor = found.pop(name)
        if name.removesuffix(VALIDITY) not in found:
            raise tensors.wrong(name, _stray(name.removesuffix(VALIDITY), list(found)))
        values = np.asarray(tensor.values)
        if tensor.datatype != "BOOL" or values.size != len(values):
            raise tensors.wrong(name, "a validity is BOOL and has one value a row")
        validity[name.removesuffix(VALIDITY)] = ~values.reshape(-1).astype(bool)
    return found, validity


def _stray(name: str, names: Sequence[str]) -> str:
    """A validity belongs to no tensor: left out, what it marks would be taken for values."""
    near = nearest(name, names)
    hint = f"; did you mean {near + VALIDITY!r}?" if near else ""
    return f"it tells of a tensor {name!r}, and there is none{hint}"


def _shaped(tensor: Tensor, most: int) -> Tensor:
    """The tensor with its values as an array in its shape, once datatype, shape and values agree."""
    name, shape = tensor.name, tuple(tensor.shape)
    needed = tensors.check(tensor.datatype, shape, name)
    if not shape:
        raise tensors.wrong(name, "the shape needs the number of rows first")
    if shape[0] > most:
        raise too_many(most)
    values = tensor.values
    if not isinstance(values, np.ndarray):
        values = columns.plain(_flat(values, shape, tensor))
    if values.size != needed:
        raise tensors.wrong(name, f"the shape {list(shape)} needs {needed} values, {values.size} were given")
    require(_unlike(tensor, values, needed))
    try:
        values = values.reshape(shape)
    except (ValueError, OverflowError):
        raise tensors.wrong(name, "the shape has sizes that are too large") from None
    if content_type(tensor.parameters) == "base64" and tensor.datatype == "BYTES":
        values = _unwrapped(values, name)
    return Tensor(name, tensor.datatype, shape, values, tensor.parameters)


def _flat(data: Sequence[Any], shape: Sequence[int], tensor: Tensor) -> Sequence[Any]:
    """The values, one after another: flat as they are, or out of nested lists, each as long as the shape says."""
    depth = _depth(data)
    if tensor.datatype == "BYTES":
        depth = min(depth, len(shape))  # an element may be JSON, and a list
    if depth < 2:
        return data
    name, sizes = tensor.name, list(shape)
    if depth != len(shape):
        axes = "1 axis" if len(shape) == 1 else f"{len(shape)} axes"
        raise tensors.wrong(name, f"its data is nested {depth} deep, the shape {sizes} has {axes}")
    lists = [data]
    for axis, size in enumerate(shape):
        values = list(chain.from_iterable(lists))
        if axis + 1 < depth and not all(type(each) is list for each in values):
            raise tensors.wrong(name, "its data is nested unevenly")
        place = next((place for place, each in enumerate(lists) if len(each) != size), None)
        if place is not None:
            at = ", ".join(str(each + 1) for each in np.unravel_index(place, shape[:axis]))
            which = f"list {at} of its data" if axis else "its data"
            given = len(lists[place])
            raise tensors.wrong(name, f"the shape {sizes} needs {size} values in {which}, {given} were given")
        lists = values
    return lists


def _depth(value: Any) -> int:
    """How deep lists are nested along their first elements."""
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def _unlike(tensor: Tensor, values: Array, size: int) -> list[Problem]:
    """The first value of each row that its own datatype cannot hold (what the model needs is the field's business)."""
    if tensor.datatype not in EXACTLY or not size:
        return []
    own = Field(tensor.name, EXACTLY[tensor.datatype], nullable=values.dtype == object)
    if values.dtype == own.type or columns.column(own, values.reshape(-1))[0] is not None:
        return []
    inner = size // tensor.shape[0]
    problems: dict[int, Problem] = {}
    for place, value in enumerate(values.reshape(-1).tolist()):
        problem = None if value is None else own.judge(value)[1]
        if problem is not None:
            column = tensor.name if inner == 1 else f"{tensor.name}[{place % inner * tensor.shape[1] // inner + 1}]"
            row = place // inner + 1
            problems.setdefault(row, Problem(problem.code, problem.message, row, column))
    return list(problems.values())


def _unwrapped(values: Array, name: str) -> Array:
    """Elements that are base64 as the bytes they stand for."""
    made = np.empty(values.size, object)
    try:
        made[:] = [None if each is None else b64decode(each, validate=True) for each in values.reshape(-1)]
    except (binascii.Error, ValueError, TypeError):
        raise tensors.wrong(name, "content_type is base64, and an element is none") from None
    return made.reshape(values.shape)


# -- tensors as rows -------------------------------------------------------------------------------------------------


def _alone(signature: Signature, found: Mapping[str, Tensor], validity: Mapping[str, Array]) -> Rows:
    """The rows of the only tensor. Its name is not looked at: the model was trained on an array without names."""
    if len(found) != 1:
        raise InputError(f"the model takes 1 input tensor, {len(found)} were given")
    tensor, wanted = next(iter(found.values())), signature.inputs[0]
    values = np.asarray(tensor.values)
    if values.ndim == 2 and not wanted.shape and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != len(wanted.shape) + 1:
        raise tensors.wrong(
            wanted.name,
            f"it has the shape {list(tensor.shape)}; the model takes {[-1, *wanted.shape]} (-1: any)",
        )
    column, problems = columns.column(wanted, values, validity.get(tensor.name), _unit(tensor))
    require(problems)
    return Rows({} if column is None else {wanted.name: column})


def _by_name(signature: Signature, found: Mapping[str, Tensor], validity: Mapping[str, Array]) -> Rows:
    """A tensor a column; or one tensor [rows, columns], by position."""
    names = [each.name for each in signature.inputs]
    only = next(iter(found.values()))
    if len(found) == 1 and only.name not in names and signature.flat and list(only.shape[1:]) == [len(names)]:
        whole = np.asarray(only.values)
        unlike = validity.get(only.name)
        parts = [(each, whole[:, at], unlike, _unit(only)) for at, each in enumerate(signature.inputs)]
    else:
        spare = signature.spare(list(found))
        require([each.missing(spare) for each in signature.inputs if each.name not in found and not each.optional])
        parts = [
            (each, _squeezed(each, found[each.name]), validity.get(each.name), _unit(found[each.name]))
            for each in signature.inputs
            if each.name in found
        ]
    verdicts = [(each.name, columns.column(each, values, missing, unit)) for each, values, missing, unit in parts]
    require(columns.merged([problems for _, (_, problems) in verdicts]))
    given = {name: column for name, (column, _) in verdicts if column is not None}
    return Rows({**given, **_left_out(signature, given)})


def _left_out(signature: Signature, given: Mapping[str, Column]) -> dict[str, Column]:
    """The columns that may be left out, and are: of nulls."""
    count = len(next(iter(given.values()), ()))
    return {
        each.name: column_of(each, [math.nan if each.dtype.kind == "f" else None] * count)
        for each in signature.inputs
        if each.optional and each.name not in given
    }


def _squeezed(wanted: Field, tensor: Tensor) -> Array:
    """[n, 1] is [n] for a column of scalars. Raises InputError on a shape that the column has not."""
    values = np.asarray(tensor.values)
    if not wanted.shape and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != len(wanted.shape) + 1:
        raise tensors.wrong(
            wanted.name,
            f"it has the shape {list(tensor.shape)}; the model takes {[-1, *wanted.shape]} (-1: any)",
        )
    return values


def _unit(tensor: Tensor) -> str | None:
    """What an INT64 counts that is a timestamp: the tensor's parameter `unit`."""
    told = (tensor.parameters or {}).get("unit")
    if told is None:
        return None
    if told not in columns.UNITS:
        raise tensors.wrong(tensor.name, f"the parameter unit is none of {listed(list(columns.UNITS))}")
    return str(told)
