"""Tensors of the Open Inference Protocol as bytes: row by row, little-endian, no padding.

https://github.com/kserve/open-inference-protocol, "Tensor Data Types"; the text of BYTES is that of Triton's
extension_binary_data.md: each element is its length (4 bytes, unsigned) and its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Any

import numpy as np

from bimodal.errors import InputError
from bimodal.field import listed
from bimodal.rows import Array

DATATYPES: dict[str, np.dtype[Any]] = {  # what NumPy calls each on the wire
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),  # NumPy has none: the upper half of a float32
    "BYTES": np.dtype(object),
}
AXES = 32  # of a tensor; NumPy has no more than 64
_length = Struct("<I")


def decode(datatype: str, shape: Sequence[int], data: bytes | memoryview, name: str) -> Array:
    """The array of a tensor's bytes, in its shape.

    FP16 gives float16, BF16 float32, BOOL bool (uint8 where one is neither 0 nor 1, for the verdict on
    it), BYTES an object array of bytes; the others are what they are called.
    name: of the tensor, for the error. Raises InputError where datatype, shape and the number of bytes disagree.
    """
    count = check(datatype, shape, name)
    data = memoryview(data).cast("B")
    array = _texts(data, count, shape, name) if datatype == "BYTES" else _numbers(datatype, data, count, shape, name)
    try:
        return array.reshape(tuple(shape))
    except (ValueError, OverflowError):  # no elements, and sizes that no array can have
        raise wrong(name, "the shape has sizes that are too large") from None


def encode(array: Array, datatype: str) -> bytes:
    """The bytes of an array. BYTES: elements are str (in UTF-8), bytes, or None (empty)."""
    if datatype == "BYTES":
        parts: list[bytes] = []
        for value in array.reshape(-1).tolist():
            text = value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
            parts += (_length.pack(len(text)), text)
        return b"".join(parts)
    if datatype == "BF16":
        return _halved(array).tobytes()
    return array.astype(DATATYPES[datatype], copy=False).tobytes()


def wrong(name: str, sentence: str) -> InputError:
    """The error with a tensor; the sentence begins with the name, since it is all that some clients show."""
    return InputError(f"tensor {name!r}: {sentence}", column=name)


def check(datatype: str, shape: Sequence[int], name: str) -> int:
    """How many elements a tensor has. Raises InputError on a datatype or a shape that no tensor has."""
    if datatype not in DATATYPES:
        raise wrong(name, f"the datatype {datatype[:20]!r} is not known; known are {listed(sorted(DATATYPES), 20)}")
    if any(size < 0 for size in shape):
        raise wrong(name, "the shape needs sizes of 0 or more, and no negative one")
    if len(shape) > AXES:
        raise wrong(name, f"the shape has more than {AXES} axes")
    return math.prod(shape)


def _numbers(datatype: str, data: memoryview, count: int, shape: Sequence[int], name: str) -> Array:
    dtype = DATATYPES[datatype]
    needed = count * dtype.itemsize
    if len(data) != needed:
        raise wrong(name, f"{datatype} {list(shape)} needs {needed} bytes, {len(data)} were given")
    if datatype == "BOOL":
        octets = np.frombuffer(data, np.uint8)
        return octets.astype(np.bool_) if octets.max(initial=0) < 2 else octets
    array = np.frombuffer(data, dtype)
    if datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array if array.flags.aligned else array.copy()


def _texts(data: memoryview, count: int, shape: Sequence[int], name: str) -> Array:
    if len(data) < 4 * count:
        raise wrong(
            name,
            f"BYTES {list(shape)} needs at least {4 * count} bytes (4 for the length of each element), "
            f"{len(data)} were given",
        )
    whole, values, at = bytes(data), [], 0
    try:
        for _ in range(count):
            start = at + 4
            at = start + _length.unpack_from(whole, at)[0]
            values.append(whole[start:at])
    except StructError:
        at = len(whole) + 1
    if at != len(whole):
        raise wrong(
            name,
            f"the lengths of the {count} elements of BYTES {list(shape)} do not add up to the {len(whole)} bytes given",
        )
    array = np.empty(count, object)
    array[:] = values
    return array


def _halved(array: Array) -> Array:
    """float32 as the upper halves of its bits, rounded to the nearest, ties to even; NaN stays NaN."""
    with np.errstate(over="ignore"):
        whole = np.ascontiguousarray(array, np.float32)
    bits = whole.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(whole), (bits >> 16) | 0x40, rounded).astype("<u2")
