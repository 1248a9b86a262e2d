"""What an ONNX file says and a session does not, read from its bytes: protocol buffers without their library."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Numbers in onnx.proto: ModelProto.graph, GraphProto.node, NodeProto.attribute; AttributeProto.name, .ints, .strings
GRAPH, NODE, ATTRIBUTE, NAME, INTS, STRINGS = 7, 1, 5, 1, 8, 9
LABELS = (b"classlabels_int64s", b"classlabels_ints", b"classlabels_strings")


def class_labels(file: Path) -> tuple[Any, ...] | None:
    """The labels of the last classifier in the model (`ai.onnx.ml`), in its order; None where there is none."""
    found: tuple[Any, ...] | None = None
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            whole = memoryview(data)
            try:
                for attribute in _attributes(whole):
                    found = _labels(attribute) or found
            finally:
                whole.release()
    except (OSError, ValueError, IndexError):
        return None
    return found


def _attributes(data: memoryview) -> Iterator[bytes]:
    for graph in _fields(data, GRAPH):
        for node in _fields(graph, NODE):
            for attribute in _fields(node, ATTRIBUTE):
                yield bytes(attribute)


def _labels(attribute: bytes) -> tuple[Any, ...] | None:
    data = memoryview(attribute)
    name = next((bytes(each) for each in _fields(data, NAME)), b"")
    if name not in LABELS:
        return None
    if name.endswith(b"strings"):
        return tuple(bytes(each).decode() for each in _fields(data, STRINGS)) or None
    return tuple(_signed(value) for value in _numbers(data, INTS)) or None


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _numbers(data: memoryview, wanted: int) -> Iterator[int]:
    """Repeated integers, packed or one by one."""
    for number, value in _walk(data):
        if number == wanted and isinstance(value, int):
            yield value
        elif number == wanted and isinstance(value, memoryview):
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                yield one


def _fields(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _walk(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _walk(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Every field of a message: its number and its value."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("the message ends early")
            yield number, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("no such wire type")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
