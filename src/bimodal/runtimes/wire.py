"""Messages between a process and the child that runs its model: a fixed layout, never a pickle.

    u32 header length · u64 body length · header (MessagePack) · body (the columns' buffers, one after another)

The header is a plain dict; under "columns" it tells each column's name, kind and shape. A text column goes as the
codes of its Dictionary (body) and the values (header); other object columns go in the header.

On a connection a message stands between two copies of a token of eight bytes: a question brings a new one, and what
answers it carries the same. So bytes that other code of the child's process writes there, also in the middle of an
answer, and answers to another question are told from the answer, and never decoded.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bimodal.rows import Column, Dictionary, Rows

PREFIX = struct.Struct("<IQ")
TOKEN = 8  # bytes
START = struct.Struct(f"<{TOKEN}sIQ")  # of a message on a connection
ALIGNED = 16  # bytes: the body begins at a multiple of it, as libraries like their numbers
FIRST = 16 * 1024  # bytes read at first: most answers of a live request fit
JOINED = 64 * 1024  # bytes up to which a message is sent in one piece: whoever reads it is woken once
MOST = 1 << 40  # bytes of a message, where nothing is known of what the child may hold
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


class Garbled(EOFError):
    """What came is not the message that was waited for. Nothing that follows can be understood."""


class Line(socket.socket):
    """The asking end of a private connection. most: bytes of the longest answer, which is no longer than what the child
    may hold.
    """

    answers = False  # whether it is the other end

    def __init__(self, fileno: int, most: int = MOST) -> None:
        super().__init__(fileno=fileno)
        self.most = most
        self.token = b""
        self._number = int.from_bytes(os.urandom(TOKEN)) >> 1  # of no other line's, and no end is near
        self._closing = threading.Lock()

    def stamp(self) -> bytes:
        """The token of the next message."""
        self._number += 1
        self.token = self._number.to_bytes(TOKEN)
        return self.token

    def shut(self) -> None:
        """End it for whoever waits on it, in any thread, when what has arrived by now is read."""
        with self._closing:  # its number may be another's as soon as it is closed
            if self.fileno() >= 0:
                try:
                    self.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # the other end has closed it

    def close(self) -> None:
        with self._closing:
            super().close()


def framed(line: Line, message: Mapping[str, Any], rows: Rows | None = None) -> list[bytes | memoryview]:
    """The next message on a line, as buffers to be sent one after another."""
    first, *rest = encode(message, rows)
    token = line.stamp()
    return [token + first, *rest, token]


def send(line: Line, message: Mapping[str, Any], rows: Rows | None = None) -> None:
    """Send a message on a blocking socket."""
    buffers = framed(line, message, rows)
    if sum(map(len, buffers)) <= JOINED:
        line.sendall(b"".join(buffers))
        return
    for buffer in buffers:
        line.sendall(buffer)


def receive(line: Line) -> tuple[dict[str, Any], Rows | None]:
    """The next message from a blocking socket; EOFError where the other side is gone, Garbled where it is none."""
    size, head = begun(line, _exactly(line, START.size))
    return read(line, _exactly(line, size - START.size, head), head)


def begun(line: Line, data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Of the message that begins here: its whole length, and its header's. Raises Garbled."""
    token, head, body = START.unpack_from(data)
    if line.answers:
        line.token = token
    size = START.size + head + body + TOKEN
    if token != line.token or size > line.most:
        raise Garbled
    return size, head


def read(line: Line, rest: memoryview, head: int) -> tuple[dict[str, Any], Rows | None]:
    """Header and Rows of a whole message, from where its header begins. Raises Garbled."""
    if rest[-TOKEN:] != line.token:
        raise Garbled
    header = decode_header(rest[:head])
    return header, decode_rows(header, rest[head:-TOKEN])


def _exactly(line: Line, size: int, head: int = 0) -> memoryview:
    data = _room(size, head)
    at = 0
    while at < size:
        read = line.recv_into(data[at:])
        if not read:
            raise EOFError
        at += read
    return data


def _room(size: int, head: int) -> memoryview:
    """Memory that is taken as it is written to, not before: the size is the word of another process. After `head` bytes
    it is aligned.
    """
    if size <= FIRST:
        return memoryview(bytearray(size))
    before = -head % ALIGNED
    try:
        return np.empty(before + size, np.uint8).data[before:]
    except (MemoryError, ValueError) as error:
        raise Garbled from error


class Arriving:
    """A message that arrives on a socket, piece by piece.

    alone: no other message can be waiting behind it, so that one call may take all that is there.
    """

    def __init__(self, line: Line, *, alone: bool = True) -> None:
        self._line = line
        self._data = memoryview(bytearray(FIRST if alone else START.size))
        self._at = 0
        self._size: int | None = None  # of the whole message, once its start is there
        self._head = 0

    def read(self) -> bool:
        """Take what is there; True when the message is whole. EOFError where the other side is gone, Garbled where what
        comes is no answer.
        """
        while self._size is None or self._at < self._size:
            try:
                read = self._line.recv_into(self._data[self._at : self._size])
            except BlockingIOError:
                return False
            if not read:
                raise EOFError
            self._at += read
            if self._size is None and self._at >= START.size:
                self._begin()
        if self._at > self._size:
            raise Garbled
        return True

    def _begin(self) -> None:
        self._size, self._head = begun(self._line, self._data)
        if self._size > len(self._data):
            whole = _room(self._size, START.size + self._head)
            whole[: self._at] = self._data[: self._at]
            self._data = whole

    def message(self) -> tuple[dict[str, Any], Rows | None]:
        """Header and Rows of a whole message. Raises Garbled."""
        return read(self._line, self._data[START.size : self._size], self._head)
