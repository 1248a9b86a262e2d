"""Columns that came as bytes (tensors of gRPC and of the binary extension) as one Rows, without a loop over values.

The gathers are those of `gather.py` with bytes in place of Python values: they never judge, and give None where
`Signature.check` has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bimodal.field import FLOATS, INTEGERS, Field, column_of, plainly_good
from bimodal.realtime.gather import Gather
from bimodal.rows import Array, Rows
from bimodal.signature import Signature

WIRE: dict[str, np.dtype[Any]] = {  # the numbers that need no look before they are gathered
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "FP16": np.dtype("<f2"),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}


def takes(field: Field, datatype: str) -> bool:
    """Whether bytes of this datatype can be gathered for the field."""
    if field.type in FLOATS:
        return datatype in WIRE
    if field.type in INTEGERS:
        return not field.nullable and not field.closed and WIRE.get(datatype) == np.dtype(field.type)
    return field.type == "string" and not (field.shape or field.nested) and datatype == "BYTES"


def vectors(field: Field, datatype: str) -> Gather:
    """Rows of a model of vectors: of each request [its bytes, the width of a row]."""
    wire, name = WIRE[datatype], field.name

    def gather(parts: Sequence[list[Any]]) -> Rows | None:
        data = parts[0][0] if len(parts) == 1 else b"".join([part[0] for part in parts])
        array = _held(field, np.frombuffer(data, wire).reshape(-1, parts[0][1]))
        return Rows({name: array}) if plainly_good(field, array) else None

    return gather


def columns(signature: Signature, datatypes: Sequence[str]) -> Gather:
    """Named columns of scalars: of each request a list of columns in the order of the inputs, each its bytes (numbers)
    or its texts, of as many rows as all others of the request.
    """
    kinds = [(each, WIRE.get(datatype)) for each, datatype in zip(signature.inputs, datatypes, strict=True)]

    def gather(parts: Sequence[list[Any]]) -> Rows | None:
        made: dict[str, Any] = {}
        for place, (each, wire) in enumerate(kinds):
            if wire is None:
                texts = parts[0][place] if len(parts) == 1 else [text for part in parts for text in part[place]]
                column = column_of(each, texts)
            else:
                data = parts[0][place] if len(parts) == 1 else b"".join([part[place] for part in parts])
                column = _held(each, np.frombuffer(data, wire))
            if not plainly_good(each, column):
                return None
            made[each.name] = column
        return Rows(made)

    return gather


def texts(data: bytes, count: int) -> list[str] | None:
    """The elements of a raw BYTES tensor, each behind its length in four bytes; None where they are not `count` texts
    in UTF-8.
    """
    found: list[str] = []
    at, end = 0, len(data)
    try:
        while at < end:
            start = at + 4
            at = start + int.from_bytes(data[at:start], "little")
            found.append(data[start:at].decode())
    except UnicodeDecodeError:
        return None
    return found if at == end and len(found) == count else None


def _held(field: Field, array: Array) -> Array:
    """The numbers in the field's own type; what does not fit becomes infinite, and is judged."""
    if array.dtype == field.dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN too is NaN
        return array.astype(field.dtype)
