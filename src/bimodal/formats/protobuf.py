"""What an ONNX file says and a session does not, read from its bytes: protocol buffers without their library."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Numbers of fields in onnx.proto.
GRAPH, OPSETS = 7, 8  # ModelProto
NODE, INITIALIZER = 1, 5  # GraphProto
INPUT, OPERATOR, ATTRIBUTE = 1, 4, 5  # NodeProto
NAME, INTS, STRINGS = 1, 8, 9  # AttributeProto
INT32S, TEXTS, INT64S, TENSOR_NAME, RAW = 5, 6, 7, 8, 9  # TensorProto
LOCATION = b"location"  # the key of StringStringEntryProto that names a file
# Where tensors are: for each message the fields that lead on, and to what.
LEADS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
LABELS = (b"classlabels_int64s", b"classlabels_ints", b"classlabels_strings")


@dataclass(frozen=True)
class Facts:
    """labels: of the model's classifier, in its order; None where it has none. opset: of the standard operators."""

    labels: tuple[Any, ...] | None = None
    opset: int | None = None


def facts(file: Path) -> Facts:
    """What can be read; nothing of a file that is no ONNX model."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            whole = memoryview(data)
            try:
                return Facts(_class_labels(whole), _opset(whole))
            finally:
                whole.release()
    except (OSError, ValueError, IndexError, BufferError):
        return Facts()


def outside(file: Path) -> tuple[str, ...]:
    """The names of the files that hold tensors of this model, as it gives them, each once and in order.

    Raises ValueError where the file cannot be followed to its end: then nothing is known of it.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(LOCATION) < 0:
                return ()  # most models, and without a walk through millions of nodes
            whole = memoryview(data)
            views: list[tuple[str, memoryview]] = [("model", whole)]
            try:
                return tuple(sorted(set(_locations(views))))
            finally:
                for _, view in views:
                    view.release()
                whole.release()
    except (OSError, IndexError, BufferError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as an ONNX model") from error


def _locations(views: list[tuple[str, memoryview]]) -> Iterator[str]:
    """Every location in the messages of `views`, which grows by the messages that lead on: nesting is no recursion."""
    while views:
        kind, message = views.pop()
        with message:
            for number, value in _walk(message):
                if not isinstance(value, memoryview):
                    continue
                lead = LEADS.get(kind, {}).get(number)
                if lead is not None:
                    views.append((lead, value))
                    continue
                if kind == "entry" and number == 2 and _is_location(message):
                    yield bytes(value).decode()
                value.release()


def _is_location(entry: memoryview) -> bool:
    """Whether the entry's key says so; of several, any."""
    return any(bytes(key) == LOCATION for key in _fields(entry, 1))


def _opset(model: memoryview) -> int | None:
    for each in _fields(model, OPSETS):
        with each:
            told = {number: bytes(value) if isinstance(value, memoryview) else value for number, value in _walk(each)}
        version = told.get(2)
        if told.get(1, b"") in (b"", b"ai.onnx") and isinstance(version, int):
            return version
    return None


def _class_labels(model: memoryview) -> tuple[Any, ...] | None:
    """The labels of the last classifier: its attribute, or the table in which the best score is looked up."""
    found = None
    tables: list[bytes] = []
    for graph in _fields(model, GRAPH):
        for node in _fields(graph, NODE):
            for attribute in _fields(node, ATTRIBUTE):
                found = _labels(attribute) or found
            if any(bytes(each) == b"ArrayFeatureExtractor" for each in _fields(node, OPERATOR)):
                tables += [bytes(each) for each in _fields(node, INPUT)][:1]
        for tensor in _fields(graph, INITIALIZER):
            name = next((bytes(each) for each in _fields(tensor, TENSOR_NAME)), b"")
            found = _values(tensor) if name in tables and found is None else found
    return found


def _labels(attribute: memoryview) -> tuple[Any, ...] | None:
    name = next((bytes(each) for each in _fields(attribute, NAME)), b"")
    if name not in LABELS:
        return None
    if name.endswith(b"strings"):
        return tuple(bytes(each).decode() for each in _fields(attribute, STRINGS)) or None
    return tuple(_signed(value) for value in _numbers(attribute, INTS)) or None


def _values(tensor: memoryview) -> tuple[Any, ...] | None:
    """A small tensor of integers or texts."""
    texts = tuple(bytes(each).decode() for each in _fields(tensor, TEXTS))
    numbers = tuple(_signed(value) for number in (INT32S, INT64S) for value in _numbers(tensor, number))
    return texts or numbers or None


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
        if key >= 2**32 or key < 8:
            raise ValueError("no such field")  # other readers would cut it down to one that there is
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
