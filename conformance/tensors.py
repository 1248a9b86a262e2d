"""Tensors of the protocol as NumPy arrays, to and from JSON, raw bytes and the repeated fields of gRPC.

Written from the tables of the specification alone, so that a server is judged by a second reading of them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.catalogue import Null
from conformance.models.twins import TYPES

NUMPY = {name: kind for name, kind in TYPES.items() if name != "BYTES"}
DATATYPES = (*NUMPY, "BF16", "BYTES")
TOLERANCE = {"FP16": 1e-2, "BF16": 2e-2, "FP32": 1e-5, "FP64": 1e-9}  # relative
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True)
class Tensor:
    """A named tensor. values: flat; a list of bytes for BYTES, of float32 for BF16."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any
    parameters: dict[str, Any] = field(default_factory=dict)

    def same(self, other: Tensor) -> bool:
        """Whether shape, datatype and every bit of the values are equal (one NaN is as good as another)."""
        if (self.datatype, self.shape) != (other.datatype, other.shape):
            return False
        if self.datatype == "BYTES":
            return [bytes(each) for each in self.values] == [bytes(each) for each in other.values]
        mine, theirs = np.asarray(self.values), np.asarray(other.values)
        if mine.dtype.kind == "f":
            return bool(np.array_equal(mine, theirs, equal_nan=True))
        return bool(np.array_equal(mine, theirs))

    def near(self, other: Tensor) -> bool:
        """The same, but for the last digits of numbers: libraries sum in another order in another batch."""
        numbers = self.datatype in TOLERANCE and (self.datatype, self.shape) == (other.datatype, other.shape)
        if not numbers:
            return self.same(other)
        mine, theirs = (np.asarray(each.values, np.float64) for each in (self, other))
        return bool(np.allclose(mine, theirs, rtol=TOLERANCE[self.datatype], atol=1e-30, equal_nan=True))


def tensor(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """A tensor of plain values. Text becomes UTF-8."""
    if datatype == "BYTES":
        held: Any = [each.encode() if isinstance(each, str) else bytes(each) for each in values]
    elif datatype == "BF16":
        held = unbrain(brain(np.asarray(values, np.float32)))
    else:
        held = np.asarray(values, NUMPY[datatype])
    return Tensor(name, datatype, tuple(shape), held)


def brain(values: Any) -> bytes:
    """BF16: the upper half of each float32, rounded to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").tobytes()


def unbrain(data: bytes) -> Any:
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def raw(each: Tensor) -> bytes:
    """Little-endian, row by row, no padding; BYTES with a prefix of four bytes an element."""
    if each.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in each.values)
    if each.datatype == "BF16":
        return brain(each.values)
    array = np.asarray(each.values, NUMPY[each.datatype])
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes) -> Tensor:
    """The tensor of raw bytes. Raises ValueError where they do not fit the shape."""
    count = math.prod(shape)
    if datatype == "BYTES":
        values: Any = []
        at = 0
        while at < len(data):
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
            if at + size > len(data):
                raise ValueError(f"an element of {name} passes the end of its data")
            values.append(bytes(data[at : at + size]))
            at += size
    elif datatype == "BF16":
        values = unbrain(data)
    else:
        values = np.frombuffer(data, np.dtype(NUMPY[datatype]).newbyteorder("<")).astype(NUMPY[datatype])
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values, its shape {list(shape)} needs {count}")
    return Tensor(name, datatype, tuple(shape), values)


def plain(each: Tensor) -> list[Any]:
    """The values as JSON holds them."""
    if each.datatype == "BYTES":
        return [value.decode() for value in each.values]
    return [value.item() for value in np.asarray(each.values)]


def flat(data: Any) -> list[Any]:
    """Nested lists as one."""
    if not isinstance(data, list):
        return [data]
    return [value for each in data for value in (flat(each) if isinstance(each, list) else [each])]


def from_json(told: dict[str, Any]) -> Tensor:
    """The tensor of an output in JSON. Raises ValueError where data and shape disagree, Null."""
    values = flat(told["data"])
    if len(values) != math.prod(told["shape"]):
        raise ValueError(f"{told['name']} has {len(values)} values for the shape {told['shape']}")
    if None in values:
        raise Null(f"{told['name']} holds a null")
    if told["datatype"] not in DATATYPES:
        raise ValueError(f"{told['name']} has the unknown datatype {told['datatype']}")
    return tensor(told["name"], told["datatype"], told["shape"], values)


def put_contents(contents: Any, each: Tensor) -> None:
    """Fill the repeated field of the tensor's datatype."""
    values = each.values if each.datatype == "BYTES" else [value.item() for value in np.asarray(each.values)]
    getattr(contents, CONTENTS[each.datatype]).extend(values)


def from_message(message: Any) -> list[Tensor]:
    """The outputs of a ModelInferResponse, raw or not."""
    outputs = message.outputs
    if message.raw_output_contents:
        pairs = zip(outputs, message.raw_output_contents, strict=True)
        return [from_raw(each.name, each.datatype, tuple(each.shape), data) for each, data in pairs]
    read = []
    for each in outputs:
        values = list(getattr(each.contents, CONTENTS[each.datatype]))
        if len(values) != math.prod(each.shape):
            raise ValueError(f"{each.name} has {len(values)} values for the shape {list(each.shape)}")
        read.append(tensor(each.name, each.datatype, tuple(each.shape), values))
    return read
