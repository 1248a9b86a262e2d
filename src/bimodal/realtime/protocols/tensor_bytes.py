"""Answers of ModelInfer as bytes, without a message object: what all answers of a batch have in common is made once.

The encoding is protobuf's: https://protobuf.dev/programming-guides/encoding/. The numbers of the fields are those of
`messages/proto/inference.proto`; the tests read the bytes with the public classes.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import Any

import numpy as np

from bimodal.messages.pool import message
from bimodal.realtime.answer import Answer
from bimodal.realtime.protocols import tensors
from bimodal.realtime.protocols.inference import DATATYPES, texts
from bimodal.realtime.protocols.tensor_messages import CONTENTS, plain
from bimodal.realtime.service import Served
from bimodal.rows import Array

PACKED = {"FP64": 7, "FP32": 6}  # the contents whose bytes are the raw ones
KEPT = 1024  # beginnings of answers that are remembered
# Of answers: the tensors; what is before them too; what is ahead of each one's bytes; each tensor without its values.
Frame = tuple[bytes, bytes, list[bytes], list[bytes]]
_length = Struct("<I").pack
_Contents = message("inference.InferTensorContents")


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1, seven bits a byte."""
    if number < 128:
        return bytes((number,))
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number: int, data: bytes) -> bytes:
    """A field of text, bytes, or a message."""
    return b"%b%b%b" % (varint(number << 3 | 2), varint(len(data)), data)


class Column:
    """One output of a batch. data: the bytes of all rows, `size` a row; of texts `elements`, `inner` a row."""

    def __init__(self, name: str, datatype: str, array: Array) -> None:
        self.name = name
        self.datatype = datatype
        self.inner: tuple[int, ...] = array.shape[1:]
        self.each = math.prod(self.inner)
        self.array = array
        self.data: bytes | None = None
        self.elements: list[bytes] = []
        self.size = 0
        if datatype == "BYTES":
            self.elements = [b"%b%b" % (_length(len(each)), each) for each in plain(texts(array), "BYTES")]
        else:
            self.data = tensors.encode(array, datatype)
            self.size = tensors.DATATYPES[datatype].itemsize * self.each

    def raw(self, start: int, stop: int) -> bytes:
        """The bytes of some rows."""
        if self.data is None:
            return b"".join(self.elements[start * self.each : stop * self.each])
        return self.data[start * self.size : stop * self.size]

    def contents(self, start: int, stop: int) -> bytes:
        """An InferTensorContents of some rows."""
        if self.datatype in PACKED:
            return field(PACKED[self.datatype], self.raw(start, stop))
        values = plain(texts(self.array[start:stop]) if self.data is None else self.array[start:stop], self.datatype)
        told: bytes = _Contents(**{CONTENTS[self.datatype]: values}).SerializeToString()
        return told


class Columns:
    """The outputs of a batch as they go into messages. simple: nothing needs more than a tensor a column."""

    def __init__(self, served: Served, answer: Answer) -> None:
        self.columns: list[Column] = []
        self.simple = True
        self.frame: Frame | None = None  # of answers of `framed` rows
        self.framed = 0
        for name in answer.outputs:
            array = answer.outputs.array(name)
            datatype = DATATYPES[served.signature.output(name).type]
            if _has_null(array):
                self.simple = False
                return
            self.columns.append(Column(name, datatype, array))
        self.kind = tuple((each.name, each.inner) for each in self.columns)
        self.typed = all(each.datatype in CONTENTS for each in self.columns)


class Answers:
    """Writes the answers of one model."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._start = field(1, served.model.name.encode()) + field(2, served.model.version.encode())
        self._kept: dict[Any, Frame] = {}

    def columns(self, answer: Answer) -> Columns:
        """The outputs of a batch, made once."""
        found: Columns | None = answer.made.get(self)
        if found is None:
            found = answer.made[self] = Columns(self._served, answer)
        return found

    def response(self, columns: Columns, start: int, stop: int, name: str, *, raw: bool) -> bytes:
        """The ModelInferResponse of some rows. name: the request's id."""
        frame = columns.frame
        if frame is None or columns.framed != stop - start:
            frame = self._frame(columns, stop - start)
        if not raw and columns.typed:
            pairs = zip(columns.columns, frame[3], strict=True)
            told = [field(5, tensor + field(5, each.contents(start, stop))) for each, tensor in pairs]
            return b"".join([self._start, field(3, name.encode()) if name else b"", *told])
        parts = [self._start, field(3, name.encode()), frame[0]] if name else [frame[1]]
        for each, head in zip(columns.columns, frame[2], strict=True):
            data = each.raw(start, stop)
            parts += (head or _head(data), data)
        return b"".join(parts)

    def _frame(self, columns: Columns, count: int) -> Frame:
        """What answers of so many rows have in common; the batch keeps it for its next answer, which is often alike."""
        key = (columns.kind, count)
        frame = self._kept.get(key)
        if frame is None:
            each_tensor = [_tensor(each, count) for each in columns.columns]
            tensors = b"".join([field(5, each) for each in each_tensor])
            heads = [b"" if each.data is None else _head(each.raw(0, count)) for each in columns.columns]
            frame = (tensors, self._start + tensors, heads, each_tensor)
            if len(self._kept) < KEPT:
                self._kept[key] = frame
        columns.frame, columns.framed = frame, count
        return frame


def _head(data: bytes) -> bytes:
    """What is ahead of an entry of raw_output_contents."""
    return b"\x32" + varint(len(data))


def _has_null(array: Array) -> bool:
    """Whether there is a null that needs a tensor of its own to be told; a NaN tells itself."""
    if array.dtype.kind == "M":
        return bool(np.isnat(array).any())
    return array.dtype == object and any(each is None for each in array.reshape(-1).tolist())


def _tensor(column: Column, count: int) -> bytes:
    """An InferOutputTensor without its values."""
    shape = b"".join([varint(size) for size in (count, *column.inner)])
    return field(1, column.name.encode()) + field(2, column.datatype.encode()) + field(3, shape)
