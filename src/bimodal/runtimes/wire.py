"""Messages between a process and the child that runs its model: a fixed layout, never a pickle.

    u32 header length · u64 body length · header (MessagePack) · body (the columns' buffers, one after another)

The header is a plain dict; under "columns" it tells each column's name, kind and shape. A text column goes as the
codes of its Dictionary (body) and the values (header); other object columns go in the header.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bimodal.rows import Column, Dictionary, Rows

PREFIX = struct.Struct("<IQ")
FIRST = 16 * 1024  # bytes read at first: most answers of a live request fit
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def encode(message: Mapping[str, Any], rows: Rows | None = None) -> list[bytes | memoryview]:
    """The message as buffers to be sent one after another."""
    header = dict(message)
    buffers: list[memoryview] = []
    if rows is not None:
        header["count"] = rows.count
        header["columns"] = [_column(name, column, buffers) for name, column in rows.items()]
    head = _encode(header)
    return [PREFIX.pack(len(head), sum(buffer.nbytes for buffer in buffers)) + head, *buffers]


def _column(name: str, column: Column, buffers: list[memoryview]) -> dict[str, Any]:
    if isinstance(column, Dictionary):
        buffers.append(_bytes(column.codes))
        return {"name": name, "kind": "text", "shape": [len(column)], "values": column.values.tolist()}
    if column.dtype == object or column.dtype.kind in "US":
        return {"name": name, "kind": "values", "shape": list(column.shape), "values": column.tolist()}
    buffers.append(_bytes(column))
    return {"name": name, "kind": column.dtype.str, "shape": list(column.shape)}


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def decode_header(data: bytes | memoryview) -> dict[str, Any]:
    header: dict[str, Any] = _decode(data)
    return header


def decode_rows(header: Mapping[str, Any], body: memoryview) -> Rows | None:
    """The Rows that came with a header, on the body's own memory."""
    if "columns" not in header:
        return None
    columns: dict[str, Column] = {}
    at = 0
    for told in header["columns"]:
        shape = told["shape"]
        if told["kind"] == "values":
            columns[told["name"]] = _objects(told["values"], shape)
            continue
        dtype = np.dtype(np.int32 if told["kind"] == "text" else told["kind"])
        size = math.prod(shape) * dtype.itemsize
        array = np.frombuffer(body[at : at + size], dtype).reshape(shape)
        at += size
        columns[told["name"]] = Dictionary(array, _objects(told["values"], [-1])) if told["kind"] == "text" else array
    return Rows(columns, header["count"])


def _objects(values: list[Any], shape: list[int]) -> np.ndarray[Any, Any]:
    array = np.fromiter(values, object, len(values))  # a list in it stays one value
    return array if len(shape) == 1 else np.array(values, object).reshape(shape)


def send(channel: socket.socket, message: Mapping[str, Any], rows: Rows | None = None) -> None:
    """Send a message on a blocking socket."""
    for buffer in encode(message, rows):
        channel.sendall(buffer)


def receive(channel: socket.socket) -> tuple[dict[str, Any], Rows | None]:
    """The next message from a blocking socket; EOFError where the other side is gone."""
    head, body = PREFIX.unpack(_exactly(channel, PREFIX.size))
    header = decode_header(_exactly(channel, head))
    return header, decode_rows(header, _exactly(channel, body))


def _exactly(channel: socket.socket, size: int) -> memoryview:
    data = memoryview(bytearray(size))
    at = 0
    while at < size:
        read = channel.recv_into(data[at:])
        if not read:
            raise EOFError
        at += read
    return data


class Arriving:
    """A message that arrives on a non-blocking socket, piece by piece.

    alone: no other message can be waiting behind it, so that one call may take all that is there.
    """

    def __init__(self, channel: socket.socket, *, alone: bool = True) -> None:
        self._channel = channel
        self._data = memoryview(bytearray(FIRST if alone else PREFIX.size))
        self._at = 0
        self._size: int | None = None  # of the whole message, once its prefix is there
        self._head = 0

    def read(self) -> bool:
        """Take what is there; True when the message is whole. EOFError where the other side is gone."""
        while self._size is None or self._at < self._size:
            try:
                read = self._channel.recv_into(self._data[self._at : self._size])
            except BlockingIOError:
                return False
            if not read:
                raise EOFError
            self._at += read
            if self._size is None and self._at >= PREFIX.size:
                self._begin()
        return True

    def _begin(self) -> None:
        self._head, body = PREFIX.unpack_from(self._data)
        self._size = PREFIX.size + self._head + body
        if self._size > len(self._data):
            whole = memoryview(bytearray(self._size))
            whole[: self._at] = self._data[: self._at]
            self._data = whole

    def message(self) -> tuple[dict[str, Any], Rows | None]:
        """Header and Rows of a whole message."""
        start = PREFIX.size + self._head
        header = decode_header(self._data[PREFIX.size : start])
        return header, decode_rows(header, self._data[start : self._size])
