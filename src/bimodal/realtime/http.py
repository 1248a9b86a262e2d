"""HTTP/1.1 on an asyncio event loop: a connection, its limits and deadlines, driving an App.

`Connection` reads requests and keeps their answers in order; one request's body and answer are in `transfer.py`, what
connections share in `listener.py`. Callers repeat the same bytes from request to request, so the head taken last, and a
small table of those already seen, save most of the parsing.

A connection that begins with the preface of HTTP/2, or agreed on it with TLS (ALPN), is handed over to `http2/`.

A caller that closes its sending side while it waits has left: its request is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING, cast

from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.head import Head, check_start, long_head
from bimodal.realtime.http2.frames import PREFACE
from bimodal.realtime.http2.link import Link, cut
from bimodal.realtime.plain import DONE, Wire
from bimodal.realtime.refusal import Refusal, crowded, late, long_body, overloaded
from bimodal.realtime.rendering import CONTINUE
from bimodal.realtime.transfer import Body, Exchange

if TYPE_CHECKING:
    from bimodal.realtime.listener import Listener

log = logging.getLogger("bimodal.realtime")

LINGER = 5.0  # seconds that a closing connection is still read, so that the caller finds its answer and no reset
UNREAD = 1.0  # seconds that a caller may still send where only both sides can be closed
DISCARDED = 256 * 2**20  # bytes beyond the last request that are read and thrown away
CORK = 65_536  # bytes of answers that leave together
DRAIN_QUIET = 0.5  # seconds without a request after which a connection counts as idle in a drain

_IDLE, _HEAD, _BODY, _CLOSING = range(4)  # phases of a Connection
_FIRST, _NEXT, _PART, _NOTHING = range(4)  # what it takes next: its first bytes, a head, a part of a body, nothing


class Connection(Wire, asyncio.Protocol):
    """One connection: reads requests, gives them to the app, sends the answers in the order of the requests."""

    _transport: asyncio.Transport

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self.listener = listener
        self.queue: list[Exchange] = []  # requests in flight, oldest first
        self._loop = loop
        self._limits = listener.limits
        self._taking = _FIRST
        self._held = b""  # arrived, not taken yet
        self._last = b""  # the head of the request taken last, as it came
        self._head: Head | None = None  # the same
        self._more = False  # more had arrived with the request taken last
        self._phase = _IDLE
        self._since = monotonic()  # when the phase began, or last went on
        self._cork: list[bytes] | None = None  # gathers the answers to requests that arrived together
        self._corked = 0  # bytes of them
        self._blocked = False  # the caller does not read its answers
        self._unsent = 0  # bytes that it had not read when last looked at
        self._stalled = False  # requests have arrived that wait for earlier ones
        self._paused = False  # the app wants no more of the body for now
        self._waiters: list[asyncio.Future[None]] = []
        self.body: Body | None = None  # the one that is arriving
        self.peer = b""  # as the observer tells of it
        self._cut = False  # the rest of a body is left unread
        self._discarded = 0  # bytes that came after the last request

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's only behaves like one
        self._write = self._transport.write
        self.peer = self.listener.opened(transport)
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None and encrypted.selected_alpn_protocol() == "h2":
            self._hand_over()
            return
        self.listener.connections.add(self)
        if len(self.listener.connections) > self._limits.connections:
            self._refuse(overloaded(crowded(self._limits.connections)))

    def receive(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        try:
            data = self._take(data)
            if data:
                self._take_more(data)
        except Refusal as refusal:
            self._refuse(refusal)

    def pause_writing(self) -> None:
        self._blocked = True
        self._unsent = self._transport.get_write_buffer_size()
        self._since = monotonic()
        self._set_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        self._since = monotonic()
        self._wake()
        self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.listener.connections.discard(self)
        self.end_requests()
        self._drop_requests()

    # Reading: each taker takes its part of the data and returns the rest

    def _take(self, data: bytes) -> bytes:
        return _TAKERS[self._taking](self, data)

    def _take_more(self, data: bytes) -> None:
        """The rest of what arrived at once: further requests, whose answers leave in one piece."""
        self._cork, self._corked = [], 0
        try:
            while data:
                data = self._take(data)
                if self._corked > CORK:
                    self._uncork()  # so that a caller who does not read blocks itself
                    self._cork, self._corked = [], 0
        finally:
            self._uncork()

    def _take_first(self, data: bytes) -> bytes:
        """What a connection begins with: perhaps the preface of HTTP/2."""
        if data.startswith(PREFACE):
            self._hand_over().data_received(data)
            return b""
        if PREFACE.startswith(data):
            self._phase = _HEAD
            self._held = data
            return b""
        self._taking = _NEXT
        return self._take_head(data)

    def _hand_over(self) -> Link:
        """It speaks HTTP/2: somebody else reads on."""
        link = self.listener.link(self._loop)
        self.listener.connections.discard(self)
        self._taking = _NOTHING
        self._transport.set_protocol(link)
        link.connection_made(self._transport)
        return link

    def _take_head(self, data: bytes) -> bytes:
        if self._blocked or len(self.queue) >= self._limits.pipeline:
            return self._stall(data)
        head = self._head
        if head is not None and data.startswith(self._last):  # callers say the same from request to request
            end = len(self._last)
        else:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                return self._hold_head(data)
            raw = data[:end]
            head = self.listener.heads.get(raw) or self.listener.parse(raw)
            self._last, self._head = raw, head
        received = monotonic()
        self._phase = _IDLE
        given, observer = head.request_id, self.listener.observer
        own = observer.name() if given is None and observer is not None else None
        exchange = Exchange(self, head, not head.keep_alive, received, own)
        self.queue.append(exchange)
        length, guard = head.length, self.listener.guard
        if guard is not None:
            verdict = head.verdict
            if verdict is None or verdict.generation != guard.generation or received >= verdict.until:
                verdict = head.verdict = guard.request(head.method, head.path, head.headers)
            if verdict.error is not None:
                response = guard.refusal(verdict.error, head.path, head.headers)
                return self._turn_away(exchange, response, data, end + length if length >= 0 else sys.maxsize)
        intake = None
        if not head.whole:
            request = Request(head.method, head.path, head.query, head.headers, b"", received, False, given or own)
            intake = exchange.ask(self.listener.app, request)
        stop = end + length
        if intake is not None or not 0 <= length <= self.listener.most or stop > len(data):
            if length > self.listener.most and intake is None:
                return self._refuse_body(exchange, long_body(self.listener.most))
            request = Request(head.method, head.path, head.query, head.headers, b"", received, False, given or own)
            return self._begin_body(Body(exchange, request, head, self.listener), data[end:])
        self._more = stop < len(data)
        if not head.keep_alive:
            self._taking = _NOTHING
        alone = len(self.listener.connections) == 1 and self._is_alone()
        body = data[end:stop]
        exchange.call(
            self.listener.app,
            Request(head.method, head.path, head.query, head.headers, body, received, alone, given or own),
        )
        return data[stop:]

    def _turn_away(self, exchange: Exchange, response: Response, data: bytes, stop: int) -> bytes:
        """Answer in place of the app. A body that is not here yet is not waited for: the connection ends."""
        if stop > len(data):
            exchange.closes = True
        self._more = stop < len(data)
        if exchange.closes:
            self.end_requests()
            data = b""
        exchange(response)
        return data[stop:]

    def _hold_head(self, data: bytes) -> bytes:
        """The head is not complete yet."""
        if len(data) > self._limits.header_bytes:
            raise long_head(self._limits.header_bytes)
        check_start(data)
        if self._phase != _HEAD:
            self._phase, self._since = _HEAD, monotonic()
        self._held = data
        return b""

    def _stall(self, data: bytes) -> bytes:
        """Too much is in flight: keep the data, read no more until `_go_on`."""
        self._held = data
        self._stalled = True
        self._set_reading()
        return b""

    def _begin_body(self, body: Body, data: bytes) -> bytes:
        exchange = body.exchange
        if exchange.state >= DONE:
            return self._leave_unread(exchange) if body.head.length else data
        self.body = body
        self._phase, self._since = _BODY, body.request.received
        self._taking = _PART
        if data or not body.head.length:
            return self._take_body(data)
        self._continue()
        return b""

    def _leave_unread(self, exchange: Exchange) -> bytes:
        """The app has answered without waiting for the body: nothing can follow on this connection."""
        exchange.closes = self._cut = True
        self.end_requests()
        if exchange not in self.queue:
            self._finish()
        return b""

    def _take_body(self, data: bytes) -> bytes:
        body = self.body
        assert body is not None
        if body.exchange.intake is not None:
            refusal = body.exchange.barred(monotonic())
            if refusal is not None:
                raise refusal
        rest = body.feed(data)
        if self.body is not body:  # the app has answered, or failed, before the end of the body
            return b""
        if body.exchange.intake is not None:
            self._since = body.moved(self._since, monotonic(), len(data))
        if rest is None:
            return b""
        self._leave_body()
        self._phase = _IDLE
        self._more = bool(rest)
        self._taking = _NEXT if body.head.keep_alive else _NOTHING
        body.request.alone = self._is_alone()
        body.finish(self.listener.app)
        return rest

    def _is_alone(self) -> bool:
        """Whether the request taken last is all that can come in this turn."""
        return not self._more and len(self.queue) == 1 and len(self.listener.connections) == 1

    def _discard(self, data: bytes) -> bytes:
        """It is read so that the caller finds its answer, but not without end."""
        self._discarded += len(data)
        if self._discarded > DISCARDED:
            self._transport.pause_reading()
        return b""

    def _continue(self) -> None:
        """Tell a caller that waits for it to send the body; not before the answers to its earlier requests."""
        body = self.body
        if body is not None and body.awaits_continue and self.queue and self.queue[0] is body.exchange:
            body.awaits_continue = False
            self._send(CONTINUE)

    # Answers

    def put(self, exchange: Exchange, data: bytes) -> None:
        """Send a piece of an answer, or keep it until its turn has come."""
        if self.queue[0] is exchange:
            if self._cork is None:
                self._write(data)
            else:
                self._send(data)
        elif exchange.kept is None:
            exchange.kept = [data]
        else:
            exchange.kept.append(data)

    def complete(self, exchange: Exchange, data: bytes) -> None:
        """Send the last piece of an answer, or keep it until its turn has come."""
        self.put(exchange, data)
        exchange.state = DONE
        if exchange.closes:
            self.end_requests()
        self.advance()

    def advance(self) -> None:
        """An answer is complete: send those that waited for it."""
        queue = self.queue
        while queue and queue[0].state == DONE:
            if queue.pop(0).closes:
                return self._finish()
            if queue and queue[0].kept:
                self._send(b"".join(queue[0].kept))
                queue[0].kept = None
        if not queue:
            self._since = monotonic()
        elif self._waiters:
            self._wake()
        if self._stalled:
            self._loop.call_soon(self._go_on)
        if self.body is not None:
            self._continue()
        return None

    def may_close_after(self, exchange: Exchange) -> bool:
        """In a drain: whether this answer can be the last one, since nothing has arrived after it."""
        return self._phase == _IDLE and not self._held and not self._more and self.queue[-1] is exchange

    def is_receiving(self, exchange: Exchange) -> bool:
        """Whether the body of this request is still arriving."""
        return self.body is not None and self.body.exchange is exchange

    def went_on(self, exchange: Exchange) -> None:
        """A piece of its answer was told: where its body still arrives, that is a conversation."""
        if self.is_receiving(exchange):
            self._since = monotonic()

    def end_requests(self) -> None:
        """Read no further requests, nor the rest of a body."""
        self._cut |= self.body is not None
        self._leave_body()
        self._phase = _IDLE
        self._taking = _NOTHING
        self._held = b""

    def is_ready(self, exchange: Exchange) -> bool:
        """Whether a piece of this answer would go out now."""
        return not self._blocked and bool(self.queue) and self.queue[0] is exchange

    def wait(self) -> asyncio.Future[None]:
        """Done when `is_ready` may have changed."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def pause(self, exchange: Exchange, paused: bool) -> None:
        """Stop and resume reading, for an app that is given a body faster than it can work."""
        if self.is_receiving(exchange):
            self._paused = paused
            self._set_reading()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    def _send(self, data: bytes) -> None:
        if self._cork is None:
            self._write(data)
        else:
            self._cork.append(data)
            self._corked += len(data)

    def _uncork(self) -> None:
        cork, self._cork = self._cork, None
        if cork:
            self._write(b"".join(cork))

    def _finish(self) -> None:
        """The last answer is written. Close once the caller has done so, or LINGER seconds later: if unread bytes were
        left, the system would send a reset, and the caller might lose its answer."""
        self._uncork()
        self.end_requests()
        self._drop_requests()
        if not self._transport.is_closing():
            self._phase, self._since = _CLOSING, monotonic()
            self._stalled = False
            self._unsent = self._transport.get_write_buffer_size()
            self._set_reading()
            self._end_sending()

    def _end_sending(self) -> None:
        """TLS cannot close one side: a caller amid a body that nobody reads is given a moment to find its answer."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif self._cut:
            self._loop.call_later(UNREAD, self._transport.close)
        else:
            self._transport.close()

    def _drop_requests(self) -> None:
        self._leave_body()
        while self.queue:
            self.queue.pop(0).abandon()
        self._wake()

    def _leave_body(self) -> None:
        if self.body is not None:
            self.listener.bodies -= len(self.body.held)
            self.body = None
            if self._paused:
                self._paused = False
                self._set_reading()

    # Refusals and time

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error in the place of the request that is arriving, then close."""
        body = self.body
        if body is not None:
            exchange = body.exchange
        else:
            exchange = Exchange(self, None, True, self._since if self._phase == _HEAD else monotonic())
            self.queue.append(exchange)
        self._refuse_body(exchange, refusal)

    def _refuse_body(self, exchange: Exchange, refusal: Refusal) -> bytes:
        self.end_requests()
        exchange.refuse(refusal)
        return b""

    def check(self, now: float) -> None:
        """Called by the sweep: end what takes too long."""
        for exchange in list(self.queue):
            exchange.check(now, self._limits.deadline)
        quiet = now - self._since
        if self._phase == _CLOSING:
            self._check_closing(now, quiet)
        elif self._blocked:
            self._check_reader(now, quiet)
        elif self._transport.is_reading():
            self._check_caller(quiet)

    def _check_caller(self, quiet: float) -> None:
        limits = self._limits
        if self._phase == _HEAD:
            if quiet > limits.header_timeout:
                self._refuse(late(f"the head of the request took over {limits.header_timeout:g} s"))
        elif self._phase == _BODY:
            if quiet > limits.body_timeout:
                self._refuse(late(f"the body of the request took over {limits.body_timeout:g} s"))
        elif not self.queue and quiet > (DRAIN_QUIET if self.listener.draining else limits.idle_timeout):
            self._finish()

    def _check_reader(self, now: float, quiet: float) -> None:
        """The caller does not read: it may take long, but not do nothing for long."""
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._since, self._unsent = now, unsent
        elif quiet > self._limits.idle_timeout:
            cut(self._transport)

    def _check_closing(self, now: float, quiet: float) -> None:
        if self._transport.get_write_buffer_size():
            self._check_reader(now, quiet)
        elif quiet > (DRAIN_QUIET if self.listener.draining else LINGER):
            self.abort()

    # Flow

    def _go_on(self) -> None:
        """Take what was held back, and read on."""
        if self._stalled and not self._blocked and len(self.queue) < self._limits.pipeline:
            self._stalled = False
            held, self._held = self._held, b""
            if held:
                self.receive(held)
        self._set_reading()

    def _set_reading(self) -> None:
        reads = self._phase == _CLOSING or not (self._blocked or self._stalled or self._paused)
        if self._transport.is_closing() or reads == self._transport.is_reading():
            return
        if reads:
            self._since = monotonic()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


_TAKERS = (Connection._take_first, Connection._take_head, Connection._take_body, Connection._discard)
