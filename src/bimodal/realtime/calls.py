"""One gRPC call and its methods, as the services see them: no socket, no frames.

`grpc.py` makes a Call from the wire; the services (`protocols/`) give a method for each path. All calls come from the
event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Protocol

from bimodal.realtime.note import Note

Cancel = Callable[[], None]
Metadata = tuple[tuple[bytes, bytes], ...]


class Status(IntEnum):
    """https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Call(Protocol):
    """A call. What is sent after the caller left does nothing."""

    path: str  # /package.Service/Method
    metadata: Mapping[bytes, bytes]  # lower-case names; one that is sent twice is joined with a comma
    received: float  # time.monotonic() when the head was complete
    deadline: float  # on the same clock; infinity where the caller named none
    name: bytes | None  # its id: the caller's, or one that the wire made, where an observer tells of it

    def respond(self, message: bytes, metadata: Metadata = (), note: Note | None = None) -> None:
        """The one answer of a unary method, and the end of the call. metadata: sent ahead. note: for the observer."""

    def fail(self, status: Status, message: str, metadata: Metadata = (), note: Note | None = None) -> None:
        """The end of the call, in place of an answer or after some of them. metadata: trailers."""

    def write(self, message: bytes) -> None:
        """One of the answers of a stream."""

    def end(self) -> None:
        """All answers of a stream are written."""

    async def ready(self) -> None:
        """Wait until the caller has taken what was written (flow control), or has left."""

    def pause(self) -> None:
        """Let the caller of a stream send no more than it was allowed already: its window is not opened again."""

    def resume(self) -> None:
        """The end of `pause`."""


class Messages(Protocol):
    """What a streaming method gives for a call: the taker of the caller's messages."""

    def feed(self, message: bytes) -> None: ...

    def finish(self) -> None:
        """The caller sends no more."""

    def abort(self) -> None:
        """The caller left or the deadline passed: stop the work."""


Unary = Callable[[Call, bytes], Cancel | None]
Streaming = Callable[[Call], Messages]


class Methods(Protocol):
    """The methods of all services, by path."""

    unary: Mapping[str, Unary]
    streaming: Mapping[str, Streaming]
