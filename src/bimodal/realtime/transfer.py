"""One request of HTTP/1.1 on its way in, its body, and on its way out, its answer."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING

from bimodal.realtime.chunks import Chunks
from bimodal.realtime.exchange import App, Intake, Request, Response, stop_work
from bimodal.realtime.guard import Verdict
from bimodal.realtime.head import CHUNKED, Head
from bimodal.realtime.observer import LEFT
from bimodal.realtime.plain import DONE, GONE, OPEN, STARTED, Reply, attach
from bimodal.realtime.refusal import Refusal, expired, id_of, internal, long_body, new_id, overloaded
from bimodal.realtime.rendering import BODILESS, LAST_CHUNK, chunk

if TYPE_CHECKING:
    from bimodal.realtime.listener import Listener

log = logging.getLogger("bimodal.realtime")


class Exchange(Reply):
    """One request's answer on its way to the wire: what the app knows as `respond`, and as Writer."""

    __slots__ = ()

    # What the app calls

    def respond(self, response: Response) -> None:
        if self.state != OPEN:
            if self.state != GONE and not self.expired:  # an app may not know yet that it came too late
                log.error("a request was answered twice; the second answer is dropped")
            return
        connection, head, name = self.connection, self.head, self.name
        listener = connection.listener
        if connection.body is not None or listener.draining:
            self.closes |= connection.is_receiving(self) or self._is_last()
        if self.asking:
            self.closes = True
        if name is not None and response.status >= 400:
            name = self._named(response)
        try:
            data = listener.rendering.whole(head, response, self.closes, name)
        except ValueError:
            log.exception("a response cannot be sent")
            response, name = internal().response(None), None
            data = listener.rendering.whole(head, response, self.closes)
        observer = listener.observer
        if observer is not None:
            body = 0 if head is not None and head.method == "HEAD" else len(response.body)
            if name is not None and head is not None and self.taken < 0 and head.length >= 0:  # the way of most
                observer.saw(
                    head, connection.peer, self.received, response.status, head.length, body, name, response.note
                )
            else:
                self._observed(response.status, response, body, name)
        self.cancel = None
        connection.complete(self, data)

    def start(self, response: Response) -> None:
        if self.state != OPEN:
            return
        has_content = response.status not in BODILESS and not self._is_head()
        old = self.head is None or self.head.old
        self.chunked = has_content and not old
        self.closes |= (has_content and old) or self._is_last() or (self.asking and response.status >= 400)
        listener = self.connection.listener
        if listener.observer is not None:
            self.begun = response
        name = self._named(response)
        data = listener.rendering.beginning(self.head, response, chunked=self.chunked, closes=self.closes, name=name)
        self.state = STARTED
        self.connection.put(self, data)
        self.write(response.body)

    def write(self, piece: bytes) -> None:
        if self.state == STARTED and piece and not self._is_head():
            self.sent += len(piece)
            self.connection.put(self, chunk(piece) if self.chunked else piece)
            self.connection.went_on(self)

    def end(self) -> None:
        if self.state != STARTED:
            return
        self.closes |= self.connection.is_receiving(self)
        if self.begun is not None:
            self._observed(self.begun.status, self.begun, self.sent, self.name)
        self.cancel = None
        self.connection.complete(self, LAST_CHUNK if self.chunked else b"")

    async def ready(self) -> None:
        while self.state < DONE and not self.connection.is_ready(self):
            await self.connection.wait()

    def pause(self) -> None:
        """Read no more of the body for now."""
        self.connection.pause(self, True)

    def resume(self) -> None:
        """Read on."""
        self.connection.pause(self, False)

    # What the connection calls

    def ask(self, app: App, request: Request) -> Intake | None:
        """Whether the app takes the body in pieces."""
        head = self.head
        assert head is not None, "a request that could be read has a head"
        self.asking = bool(head.length)
        try:
            self.intake = app.stream(request, self)
        except Exception as error:
            self.fail(error)
        self.asking = False
        head.whole = self.intake is None and self.state == OPEN
        return self.intake

    def call(self, app: App, request: Request) -> None:
        """Give the app the whole request."""
        if self.state != OPEN:
            return
        try:
            cancel = app.__call__(request, self)  # a slot would cost a third more
        except Exception as error:
            self.fail(error)
        else:
            if self.state == OPEN:
                self.cancel = cancel or _nothing

    def feed(self, piece: bytes) -> None:
        """Give the app a piece of the body."""
        if self.intake is not None and self.state < DONE:
            try:
                self.intake.feed(piece)
            except Exception as error:
                self.fail(error)

    def finish(self) -> None:
        """Tell the app that it has the whole body."""
        if self.intake is not None and self.state < DONE:
            try:
                self.intake.finish()
            except Exception as error:
                self.fail(error)

    def refuse(self, refusal: Refusal) -> None:
        """Answer for the app, and close. An answer that has begun is the taker's to end."""
        self.closes = True
        if self.state == STARTED and self.intake is not None:
            return self._cut(self.intake, refusal)
        self._stop()
        if self.state == OPEN:
            return self._refused(refusal)
        return self.connection.abort()

    def check(self, now: float, deadline: float) -> None:
        """Answer for an app that takes longer than the deadline, and for a key that has ended."""
        refusal = self.barred(now)
        if refusal is not None:
            return self._bar(refusal)
        if self.state == OPEN and self.cancel is not None and now - (self.called or self.received) > deadline:
            self._stop()
            if self.state == OPEN:
                self._refused(expired(deadline))
            self.expired = True
        return None

    def barred(self, now: float) -> Refusal | None:
        """Why a request or an answer that is still under way may not go on: the guard refuses its caller since. What
        was asked whole before is answered.
        """
        guard, head = self.connection.listener.guard, self.head
        if guard is None or head is None or self.state >= DONE or self.expired:
            return None
        if self.state != STARTED and self.intake is None and not self.connection.is_receiving(self):
            return None
        refusal = guard.barred(head, head.method, head.path, now)
        self.expired = refusal is not None  # said once: what came before may still be answered
        return refusal

    def _bar(self, refusal: Refusal) -> None:
        """End what is under way; an answer whose question is whole has no place for an error, and is cut off."""
        whole = not self.connection.is_receiving(self)
        self.connection.end_requests()
        if whole and self.state == STARTED:
            self._stop()
            return self.connection.abort()
        return self.refuse(refusal)

    def abandon(self) -> None:
        """The caller left."""
        if self.state < DONE:
            if self.connection.listener.observer is not None:
                self._observed(LEFT, self.begun, self.sent, self.name)
            self.state = GONE
            self._stop()

    def _refused(self, refusal: Refusal, name: bytes | None = None) -> None:
        """Answer what the wire itself says, and count it."""
        metrics = self.connection.listener.metrics
        if metrics is not None:
            metrics.refused(refusal.status, refusal.code)
        self(refusal.response(name or self._given_id() or self.name))

    def _named(self, response: Response) -> bytes | None:
        """The id of ours for an answer that has none yet."""
        return None if self.name is None or id_of(response) is not None else self.name

    def _observed(self, status: int, response: Response | None, sent: int, name: bytes | None) -> None:
        """Tell the observer, where there is one."""
        connection, head = self.connection, self.head
        observer = connection.listener.observer
        if observer is not None:
            taken = self.taken if self.taken >= 0 else 0 if head is None else max(0, head.length)
            name = self._given_id() or (None if response is None else id_of(response)) or name
            note = None if response is None else response.note
            observer.saw(head, connection.peer, self.received, status, taken, sent, name, note)

    def _cut(self, intake: Intake, refusal: Refusal) -> None:
        try:
            intake.cut(refusal.code, refusal.sentence)
        except Exception as error:
            self.fail(error)

    def _is_last(self) -> bool:
        """Whether a drain ends the connection after this answer."""
        connection = self.connection
        return connection.listener.draining and connection.may_close_after(self)

    def fail(self, error: Exception) -> None:
        """An exception of the app: all of it to the log, a fixed sentence to the caller."""
        name = self._given_id() or self.name or new_id()
        log.error("request %s failed", name.decode("ascii"), exc_info=error)
        self.closes = True
        self._stop()
        if self.state == OPEN:
            self._refused(internal(), name)
        elif self.state == STARTED:
            self.connection.abort()

    def _stop(self) -> None:
        """Have the app stop its work."""
        cancel, self.cancel = self.cancel, None
        intake, self.intake = self.intake, None
        stop_work(cancel, intake)

    def _given_id(self) -> bytes | None:
        return self.head.request_id if self.head is not None else None

    def _is_head(self) -> bool:
        return self.head is not None and self.head.method == "HEAD"


def _nothing() -> None:
    """Cancel what cannot be."""


attach(Exchange, Head, Request, Response, Verdict, _nothing)


class Body:
    """A request's body while it arrives: counted, and collected or handed on piece by piece."""

    def __init__(self, exchange: Exchange, request: Request, head: Head, listener: Listener) -> None:
        self.exchange = exchange
        self.request = request
        self.head = head
        self.awaits_continue = head.awaits_continue
        self.held = bytearray()
        self._is_streamed = exchange.intake is not None
        exchange.taken = 0
        self._listener = listener
        self._size = 0
        self._left = head.length
        overhead = sys.maxsize if self._is_streamed else listener.limits.chunk_bytes
        self._chunks = Chunks(overhead) if head.length == CHUNKED else None

    def feed(self, data: bytes) -> bytes | None:
        """Take what is the body's; returns the rest once it is complete, else None. Raises Refusal."""
        if self._chunks is not None:
            return self._chunks.feed(data, self._take)
        piece = data[: self._left]
        self._left -= len(piece)
        if piece:
            self._take(piece)
        return None if self._left else data[len(piece) :]

    def moved(self, since: float, now: float, size: int) -> float:
        """When a body taken in pieces last went on, where so many bytes have come: a drip is not taken for a body."""
        return min(now, since + size / self._listener.limits.body_rate)

    def finish(self, app: App) -> None:
        """The body is complete: give it to the app, or tell it so."""
        if self._is_streamed:
            self.exchange.finish()
        else:
            self.request.body = bytes(self.held)
            self.exchange.called = monotonic()
            self.exchange.call(app, self.request)

    def _take(self, piece: bytes) -> None:
        self.exchange.taken += len(piece)
        if self._is_streamed:  # its taker bounds what it holds, and pauses the connection
            self.exchange.feed(piece)
            return
        limits = self._listener.limits
        self._size += len(piece)
        if self._size > limits.body_bytes:
            raise long_body(limits.body_bytes)
        self.held += piece
        self._listener.bodies += len(piece)
        if self._listener.bodies > limits.bodies_bytes:
            raise overloaded("too many bodies are being received at once")
