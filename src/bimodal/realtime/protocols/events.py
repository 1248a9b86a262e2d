"""Server-Sent Events: an answer in pieces over HTTP, an event each (https://html.spec.whatwg.org/#server-sent-events).

What fails before the first piece has its own status; what fails later is told in an event, and ends the answer. A
caller who reads slowly holds the model up; one who leaves stops it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from bimodal.errors import BimodalError, InputError, ModelNotFound, NotFound, TooLarge, UsageError
from bimodal.realtime.accept import wants
from bimodal.realtime.exchange import Intake, Request, Respond, Response, Writer
from bimodal.realtime.failure import failure, told_later
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols.lines import Whole
from bimodal.realtime.streaming import Pieces
from bimodal.rows import Rows

log = logging.getLogger("bimodal.realtime")

EVENTS = b"text/event-stream"
LIVE = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))  # nothing between may keep pieces back

Cancel = Callable[[], None]
Answering = Callable[[Request, Writer], Coroutine[Any, Any, None]]
_encode = msgspec.json.Encoder().encode


def wants_events(request: Request) -> bool:
    """Whether the caller asks for events."""
    return wants(request.headers.get(b"accept", b""), EVENTS)


def event(value: Any, name: str | None = None) -> bytes:
    """One event with JSON, which has no line breaks."""
    return b"".join([b"event: %b\n" % name.encode() if name else b"", b"data: ", _encode(value), b"\n\n"])


class Telling(Protocol):
    """How one answer's pieces are told."""

    @property
    def over(self) -> bool:
        """Whether nothing more is wanted of the model."""
        ...

    def piece(self, piece: Rows) -> bytes: ...

    def end(self) -> bytes: ...

    def fault(self, error: Exception) -> bytes:
        """An error after the first piece."""


async def tell(writer: Writer, pieces: Pieces, telling: Telling) -> None:
    """Write the events of an answer to its end. Raises what fails before the first piece."""
    async with aclosing(pieces):
        first = await anext(pieces, None)
        begun = telling.piece(first) if first is not None else b""
        writer.start(Response(200, begun, EVENTS, LIVE))
        try:
            await writer.ready()
            while not telling.over and (piece := await anext(pieces, None)) is not None:
                writer.write(telling.piece(piece))
                await writer.ready()
            writer.write(telling.end())
        except Exception as error:  # the status has been sent
            if not isinstance(error, BimodalError):
                log.exception("a stream failed")
            writer.write(telling.fault(error))
        writer.end()


class Plain:
    """Events of a model's own outputs; the end has an event of its own, so that a cut is no end."""

    over = False

    def __init__(self, request: Request, *, one: bool) -> None:
        self._request = request
        self._one = one  # values, not lists of one
        self._count = 0

    def piece(self, piece: Rows) -> bytes:
        self._count += 1
        lists = {name: piece.array(name).tolist() for name in piece}
        return event({name: values[0] for name, values in lists.items()} if self._one else lists)

    def end(self) -> bytes:
        return event({"pieces": self._count}, "end")

    def fault(self, error: Exception) -> bytes:
        return event(told_later(error, self._request.headers), "error")


class Live:
    """A route whose answer may come in pieces: takes the whole body, then answers in a task.

    failed: the answer in place of one. count: told of a request that is refused before the model is asked.
    """

    def __init__(
        self,
        answering: Answering,
        limits: Limits,
        failed: Callable[[Exception, Request], Response],
        count: Callable[[Exception], object],
    ) -> None:
        self._answering = answering
        self._limits = limits
        self._failed = failed
        self._count = count

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        """For a body that came as a whole; the pieces are sent together."""
        task = self.begin(request, Whole(respond))

        def cancel() -> None:
            task.cancel()

        return cancel

    def stream(self, request: Request, writer: Writer) -> Intake:
        return _Body(self, request, writer, self._limits.body_bytes)

    def begin(self, request: Request, writer: Writer) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._answer(request, writer))

    async def _answer(self, request: Request, writer: Writer) -> None:
        try:
            await self._answering(request, writer)
        except Exception as error:
            self.refuse(error, request, writer)

    def refuse(self, error: Exception, request: Request, writer: Writer) -> None:
        if isinstance(error, InputError | UsageError | NotFound | ModelNotFound):
            self._count(error)
        writer.start(self._failed(error, request))
        writer.end()


class _Body:
    """The body of one request, until it is whole."""

    def __init__(self, live: Live, request: Request, writer: Writer, most: int) -> None:
        self._live = live
        self._request = request
        self._writer = writer
        self._most = most
        self._body = bytearray()
        self._refused = False
        self._task: asyncio.Task[None] | None = None

    def feed(self, piece: bytes) -> None:
        if self._refused:
            return
        self._body += piece
        if len(self._body) > self._most:
            self._refused = True
            self._body.clear()
            self._live.refuse(TooLarge(f"the body is over {self._most} bytes"), self._request, self._writer)

    def finish(self) -> None:
        if not self._refused:
            self._request.body = bytes(self._body)
            self._task = self._live.begin(self._request, self._writer)

    def cut(self, code: str, sentence: str) -> None:
        self.abort()
        self._writer.end()

    def abort(self) -> None:
        self._refused = True
        if self._task is not None:
            self._task.cancel()


def plainly(error: Exception, request: Request) -> Response:
    """An error as everywhere."""
    return failure(error, request.headers)
