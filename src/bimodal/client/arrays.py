"""Arrays as bytes: one tensor of the Open Inference Protocol, binary both ways.

https://github.com/triton-inference-server/server, extension_binary_data.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from struct import unpack_from
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from bimodal.client.question import Answer

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH = "inference-header-content-length"
KINDS = {  # NumPy's name of a type in little-endian
    "BOOL": "?",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
}
NAMES = {"f": "FP", "i": "INT", "u": "UINT"}


class Told(TypedDict):
    outputs: list[dict[str, Any]]


def fits(data: Any, least: int) -> bool:
    """Whether it is a NumPy array [rows, columns] of so many numbers at least."""
    if type(data).__module__ != "numpy" or not hasattr(data, "ndim"):
        return False
    return data.ndim == 2 and data.size >= least and data.dtype.kind in "fiu" and data.dtype.itemsize in (2, 4, 8)


def datatype(array: NDArray[Any]) -> str:
    """What the protocol calls the type of its values."""
    return f"{NAMES[array.dtype.kind]}{8 * array.dtype.itemsize}"


def packed(array: NDArray[Any]) -> bytes:
    """Row by row, little-endian."""
    little = array.dtype.newbyteorder("<") if sys.byteorder == "big" or array.dtype.byteorder == ">" else array.dtype
    return array.astype(little, copy=False).tobytes()


def request(array: NDArray[Any], outputs: Sequence[str], threshold: float | None) -> tuple[bytes, bytes]:
    """The JSON head of a body, and the bytes behind it."""
    data = packed(array)
    tensor = {"name": "input", "shape": array.shape, "datatype": datatype(array)}
    asked: dict[str, Any] = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}],
        "outputs": [{"name": name} for name in outputs],
        "parameters": {"binary_data_output": True, **({} if threshold is None else {"threshold": threshold})},
    }
    return msgspec.json.encode(asked), data


def answer(told: Answer) -> dict[str, NDArray[Any]]:
    """The tensors of an answer, by name. Raises msgspec.DecodeError where it has none."""
    import numpy as np  # there, since the caller gave an array

    said = told.headers.get(LENGTH.encode(), b"")
    length = int(said) if said.isdigit() else len(told.body)
    found = {}
    at = length
    for tensor in msgspec.json.decode(told.body[:length], type=Told)["outputs"]:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            found[tensor["name"]] = np.array(tensor["data"]).reshape(tensor["shape"])
            continue
        found[tensor["name"]] = unpacked(tensor["datatype"], tensor["shape"], told.body[at : at + size])
        at += size
    return found


def unpacked(kind: str, shape: Sequence[int], data: bytes) -> NDArray[Any]:
    """The array of a tensor's bytes; texts as NumPy's own."""
    import numpy as np  # there, since the caller gave an array

    if kind != "BYTES":
        return np.frombuffer(data, KINDS[kind]).reshape(shape)
    return np.array(texts(data)).reshape(shape)


def texts(data: bytes) -> list[str]:
    """The elements of BYTES: each its length in four bytes, and its bytes."""
    found, at = [], 0
    while at < len(data):
        (size,) = unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return found
