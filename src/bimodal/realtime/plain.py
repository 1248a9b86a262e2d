"""What a listener, its connections and their requests are made of: the fields that decide the way of a request.

Most requests come whole, with a head that was seen before, on a connection where nothing else is under way, and most
answers hold nothing rare: `wire.c` has the same three types with that way in C. They fall back to `receive`, `respond`
and `fail`, which is all there is without a C compiler at installation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bimodal.realtime.door import Door
    from bimodal.realtime.exchange import Intake, Response
    from bimodal.realtime.guard import Guard
    from bimodal.realtime.head import Head
    from bimodal.realtime.http import Connection
    from bimodal.realtime.http2.link import Link
    from bimodal.realtime.listener import Listener
    from bimodal.realtime.observer import Observer
    from bimodal.realtime.rendering import Rendering
    from bimodal.realtime.transfer import Body, Exchange

__all__ = ["DONE", "GONE", "OPEN", "STARTED", "Hub", "Reply", "Wire", "attach"]

OPEN, STARTED, DONE, GONE = range(4)  # states of a Reply


class Hub:
    """What the connections of a listener share.

    call: the app. routes: its handlers by method and path, None where it is to be called itself. heads: those seen, by
    their bytes. ending: how the head of each answer ends in this second. most: bytes of a body.
    """

    call: Callable[..., Any]
    routes: Mapping[tuple[str, str], Any] | None
    guard: Guard | None
    observer: Observer | None
    heads: dict[bytes, Head]
    connections: set[Connection | Door | Link]
    rendering: Rendering
    ending: bytes
    most: int
    draining: bool


class Wire:
    """One connection; `http.Connection` says what its fields are. _write: of its transport."""

    listener: Listener
    queue: list[Exchange]
    body: Body | None
    peer: bytes
    _write: Callable[[bytes], None]
    _held: bytes
    _last: bytes
    _head: Head | None
    _cork: list[bytes] | None
    _since: float
    _taking: int
    _phase: int
    _more: bool
    _blocked: bool
    _stalled: bool

    def data_received(self, data: bytes) -> None:
        """What has arrived."""
        self.receive(data)

    def receive(self, data: bytes) -> None:
        """The same, whatever it is."""
        raise NotImplementedError


class Reply:
    """One request, and its answer on its way to the wire.

    closes: no request is answered after this one. asking: whether the app is asked to take the body in pieces; one that
    answers instead leaves the body unread. called: when the app was given the whole request, where that is not when its
    head came. cancel: of the app, which has not answered yet. kept: waits for the answers to earlier requests. taken,
    sent: bytes of a body that came, and of an answer that went, in pieces. name: a request id of ours. begun: an answer
    that has begun, for the observer.
    """

    __slots__ = (
        "asking", "begun", "called", "cancel", "chunked", "closes", "connection", "expired", "head", "intake", "kept",
        "name", "received", "sent", "state", "taken",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        head: Head | None,
        closes: bool,
        received: float,
        name: bytes | None = None,
        state: int = OPEN,
    ) -> None:
        self.connection = connection
        self.head = head
        self.closes = closes
        self.received = received
        self.name = name
        self.state = state
        self.cancel: Callable[[], None] | None = None
        self.called = 0.0
        self.chunked = self.expired = self.asking = False
        self.intake: Intake | None = None
        self.kept: list[bytes] | None = None
        self.taken, self.sent = -1, 0
        self.begun: Response | None = None

    def __call__(self, response: Response) -> None:
        self.respond(response)

    def respond(self, response: Response) -> None:
        """Send the answer, whatever it is."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """The app has raised this."""
        raise NotImplementedError


def attach(*classes: Any) -> None:
    """What C is told of the classes made of these."""


if not TYPE_CHECKING:
    with suppress(ImportError):  # there was no compiler at installation
        from bimodal.realtime.wire import Hub, Reply, Wire, attach
