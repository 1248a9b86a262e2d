"""One request and its response, as the app sees them: no socket, no event loop.

`http.py` makes a Request from the wire and puts a Response on it; `asgi.py` does the same for an ASGI server. The app
(`app.py`) answers by calling `respond` exactly once, at once or later on the same event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from bimodal.realtime.note import Note

JSON = b"application/json"
log = logging.getLogger("bimodal.realtime")


class Request(msgspec.Struct, eq=False):
    """A whole request. `headers` has lower-case names; a header sent twice is joined with a comma."""

    method: str
    path: str  # percent-decoded, without the query
    query: str  # raw, without the question mark
    headers: Mapping[bytes, bytes]
    body: bytes
    received: float  # time.monotonic() when the head was complete
    alone: bool = False  # the wire knows that no other request can come in this turn of the loop
    name: bytes | None = None  # its id: the caller's, or one that the wire made, where an observer tells of it


class Response(msgspec.Struct):
    """A whole response. Content-Length, Date-like and connection headers are the wire's business, not the app's."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    note: Note | None = None


Respond = Callable[[Response], None]


class Writer(Protocol):
    """A response whose body is sent in pieces (chunked on HTTP/1.1). Calls after the caller left do nothing."""

    def start(self, response: Response) -> None:
        """Send status, headers and, where not empty, the first piece of the body."""

    def write(self, piece: bytes) -> None: ...

    def end(self) -> None: ...

    async def ready(self) -> None:
        """Wait until the caller has taken what was written (write flow control)."""


class Intake(Protocol):
    """What the app gives for a request whose body it wants in pieces, as it arrives."""

    def feed(self, piece: bytes) -> None: ...

    def finish(self) -> None:
        """The body is complete."""

    def cut(self, code: str, sentence: str) -> None:
        """The wire takes no more of the body: answer what came before, tell the error, end the answer."""

    def abort(self) -> None:
        """The caller left, or the answer has not begun: stop the work."""


class App(Protocol):
    """What a wire drives. All calls come from the event loop's thread."""

    def __call__(self, request: Request, respond: Respond) -> Callable[[], None] | None:
        """Answer a whole request: call `respond` exactly once, at once or later.

        Returns None when it was answered at once, else a function that cancels it (called when the caller left).
        """

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        """Asked when the head is complete, before the body (`request.body` is empty): the taker of the pieces, or None
        to have the body collected and given to `__call__`. None holds for every request with the same head.
        """


class Stoppable(Protocol):
    """An Intake, or the messages of a call."""

    def abort(self) -> None: ...


def stop_work(cancel: Callable[[], None] | None, taker: Stoppable | None) -> None:
    """Have the app stop what it does for a caller; what that raises goes to the log."""
    try:
        if taker is not None:
            taker.abort()
        if cancel is not None:
            cancel()
    except Exception:
        log.exception("stopping a request failed")
