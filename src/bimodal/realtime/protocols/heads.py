"""Requests that differ from an earlier one in nothing but the values of their one tensor are not parsed again.

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

    def find(self, data: bytes) -> Head | None:
        """What a message says, if one that began alike was kept."""
        length = len(data)
        for size in self._sizes.get(length, ()):
            head = self._heads.get(data[: length - size])
            if head is not None and head.size == size:
                return head
        return None

    def keep(self, data: bytes, request: Any, head: Head) -> None:
        """Remember a request whose one tensor was taken as it stands."""
        begin = len(data) - head.size
        if begin > LONGEST or len(self._heads) >= KEPT or request.id or request.outputs:
            return
        if request.SerializeToString() != data or not _plain(request, head):
            return
        sizes = self._sizes.get(len(data), ())
        if head.size not in sizes:
            if len(sizes) >= SPLITS:
                return
            self._sizes[len(data)] = (*sizes, head.size)
        self._heads[data[:begin]] = head


def _plain(request: Any, head: Head) -> bool:
    """Whether nothing can stand behind the values: no field that is unknown, in no message that they are in."""
    tensor = request.inputs[0]
    around = (request,) if head.raw else (request, tensor, tensor.contents)
    return not any(len(UnknownFieldSet(each)) for each in around)
