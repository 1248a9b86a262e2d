"""Requests that differ from an earlier one in nothing but their id and the values of their one tensor are not parsed
again.

A ModelInferRequest is kept as what stands ahead of its values, with what it says. It is kept only where the values are
the message's end: where writing the parsed message again gives the same bytes, nothing unknown was in it, and the field
of the values is the last.
"""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.unknown_fields import UnknownFieldSet

KEPT = 512  # heads
LONGEST = 512  # bytes of a head
_MODEL, _VERSION, _ID = b"\x0a\x12\x1a"  # tags
SPLITS = 4  # lengths of values that are tried for one length of a message


class Head(msgspec.Struct, frozen=True, eq=False):
    """What a request says beside its values: rows and width of its tensor; raw where the values are so."""

    model: str
    version: str
    datatype: str
    count: int
    width: int
    size: int  # bytes of the values
    raw: bool


class Heads:
    """The heads of earlier requests."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._sizes: dict[int, tuple[int, ...]] = {}

    def find(self, data: bytes) -> tuple[Head, str] | None:
        """What a message says, and its id, if one that began alike was kept."""
        head = self._found(data)
        if head is not None:
            return head, ""
        parts = without_id(data) if self._heads else None
        if parts is None:
            return None
        head = self._found(parts[0])
        try:
            return None if head is None else (head, parts[1].decode())
        except UnicodeDecodeError:
            return None

    def _found(self, data: bytes) -> Head | None:
        length = len(data)
        for size in self._sizes.get(length, ()):
            head = self._heads.get(data[: length - size])
            if head is not None and head.size == size:
                return head
        return None

    def keep(self, data: bytes, request: Any, head: Head) -> None:
        """Remember a request whose one tensor was taken as it stands. The request loses its id."""
        if request.id:
            parts = without_id(data)
            if parts is None:
                return
            data = parts[0]
            request.ClearField("id")
        begin = len(data) - head.size
        if begin > LONGEST or len(self._heads) >= KEPT or request.outputs:
            return
        if request.SerializeToString() != data or not _plain(request, head):
            return
        sizes = self._sizes.get(len(data), ())
        if head.size not in sizes:
            if len(sizes) >= SPLITS:
                return
            self._sizes[len(data)] = (*sizes, head.size)
        self._heads[data[:begin]] = head


def without_id(data: bytes) -> tuple[bytes, bytes] | None:
    """A message without its id, and the id, where it stands behind the names of model and version, each of less than
    128 bytes; None where it does not.
    """
    at, end = 0, len(data)
    for tag in (_MODEL, _VERSION, _ID):
        if at + 1 >= end or data[at + 1] > 127:
            return None
        if data[at] != tag:
            if tag == _VERSION:
                continue
            return None
        stop = at + 2 + data[at + 1]
        if tag == _ID:
            return (data[:at] + data[stop:], data[at + 2 : stop]) if stop <= end else None
        at = stop
    return None


def _plain(request: Any, head: Head) -> bool:
    """Whether nothing can stand behind the values: no field that is unknown, in no message that they are in."""
    tensor = request.inputs[0]
    around = (request,) if head.raw else (request, tensor, tensor.contents)
    return not any(len(UnknownFieldSet(each)) for each in around)
