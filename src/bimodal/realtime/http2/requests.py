"""Requests over HTTP/2 that are no calls: the same App as behind HTTP/1.1, on a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING

from bimodal.realtime.exchange import Intake, Request, Response, stop_work
from bimodal.realtime.head import split_target
from bimodal.realtime.http2 import fields
from bimodal.realtime.http2.frames import Code
from bimodal.realtime.http2.heads import Head
from bimodal.realtime.http2.stream import Stream
from bimodal.realtime.limits import Limits
from bimodal.realtime.observer import LEFT
from bimodal.realtime.refusal import REQUEST_ID, Refusal, expired, id_of, internal, late, long_body, new_id, overloaded
from bimodal.realtime.rendering import BODILESS

if TYPE_CHECKING:
    from bimodal.realtime.http2.connection import Connection
    from bimodal.realtime.http2.link import Link

log = logging.getLogger("bimodal.realtime")

WAITING = 65_536  # bytes of an answer that wait, up to which it is ready for more

_OPEN, _STARTED, _DONE, _GONE = range(4)  # states of an Exchange


class Exchange(Stream):
    """One request and its answer: what the app knows as `respond`, and as Writer (see `exchange.py`)."""

    __slots__ = (
        "_cancel",
        "_state",
        "_waiters",
        "barred",
        "begun",
        "called",
        "held",
        "intake",
        "link",
        "moved_at",
        "name",
        "received",
        "request",
        "sent",
    )

    def __init__(self, connection: Connection, number: int, head: Head, link: Link) -> None:
        super().__init__(connection, number, head)
        self.link = link
        self.request: Request | None = None
        self.intake: Intake | None = None
        self.held = bytearray()
        self.barred = False  # the caller's key has ended, and it was told
        self.called = 0.0
        self.received = connection.now
        self.begun: Response | None = None  # an answer in pieces
        self.name: bytes | None = None  # its request id, where that is ours
        self.sent = 0  # bytes of it
        self.moved_at = connection.now  # when the body began; where it is taken in pieces, when it last went on
        self._state = _OPEN
        self._cancel: Callable[[], None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # What the connection calls

    def begin(self) -> None:
        limits, head = self.link.links.limits, self.head
        try:
            if head.count > limits.header_fields:
                raise Refusal(431, "headers_too_large", f"more than {limits.header_fields} header fields")
            path, query = split_target(head.method, head.target)
            if self._is_refused(path):
                return None
            if self.connection.unsent > limits.body_bytes:
                raise overloaded("too many answers wait for their reader")
            methods, target = self.link.listener.methods, head.target.decode("ascii", "replace")
            if target in methods.unary or target in methods.streaming:
                raise Refusal(
                    415, "unsupported_media_type", "this is a gRPC method: its content type is application/grpc"
                )
        except Refusal as refusal:
            return self._refuse(refusal)
        headers: Mapping[bytes, bytes] = head.headers
        observer, name = self.link.listener.observer, head.request_id
        if name is None and observer is not None:
            self.name = name = observer.name()
        method, now = head.method.decode("ascii"), self.connection.now
        self.request = Request(method, path, query, headers, b"", now, False, name)
        self._guarded(self._ask)
        if self._state == _OPEN and self.intake is None and head.length > limits.body_bytes:
            self._refuse(long_body(limits.body_bytes))
        elif self._state < _DONE and self.receiving and headers.get(b"expect", b"").lower() == b"100-continue":
            self.send_block(fields.status(100))
        return None

    def take(self, data: bytes, ended: bool) -> None:
        if self._state >= _DONE or self.request is None:
            return
        intake = self.intake
        if intake is None:
            self._collect(data, ended)
            return
        if self.barred or self._is_barred(self.connection.now):
            return
        self.moved_at = min(self.connection.now, self.moved_at + len(data) / self.link.links.limits.body_rate)
        if data:
            self._guarded(lambda: intake.feed(data))
        if ended and self._state < _DONE:
            self._guarded(intake.finish)

    def lose(self) -> None:
        if self._state < _DONE:
            self._observed(LEFT, self.begun, self.sent)
            self._state = _GONE
            self._stop()
        self._leave()

    def progressed(self) -> None:
        if self.is_ready:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def check(self, now: float, limits: Limits) -> None:
        """Called by the sweep: end what takes too long."""
        if self._state >= _DONE or (not self.barred and self._is_barred(now)):
            return
        if self.receiving and not self.paused and now - self.moved_at > limits.body_timeout:
            self._cut(late(f"the body of the request took over {limits.body_timeout:g} s"))
        elif self._state == _OPEN and self.called and now - self.called > limits.deadline:
            self._cut(expired(limits.deadline))

    @property
    def is_ready(self) -> bool:
        """Whether a piece of the answer would go out soon, or nobody waits for it."""
        return self._state >= _DONE or (self.unsent <= WAITING and not self.link.blocked)

    def resume(self) -> None:
        super().resume()
        self.moved_at = monotonic()

    # What the app calls

    def __call__(self, response: Response) -> None:
        """Respond."""
        if self._state != _OPEN:
            return
        content = response.body if response.status not in BODILESS else b""
        bare = self.head.method == b"HEAD" or not content
        if not self._start(response, len(content), ends=bare):
            return
        self._state = _DONE
        if not bare:
            self.send(content, ends=True)
        self._observed(response.status, response, 0 if bare else len(content))
        self._leave()

    def start(self, response: Response) -> None:
        if self._state == _OPEN and self._start(response, None, ends=False):
            self._state = _STARTED
            self.begun = response
            self.write(response.body)

    def write(self, piece: bytes) -> None:
        if self._state == _STARTED and piece and self.head.method != b"HEAD":
            self.sent += len(piece)
            self.send(piece)
            self.moved_at = monotonic()  # where the body still arrives, that is a conversation

    def end(self) -> None:
        if self._state == _STARTED:
            self._state = _DONE
            self.send(b"", ends=True)
            if self.begun is not None:
                self._observed(self.begun.status, self.begun, self.sent)
            self._leave()

    async def ready(self) -> None:
        while not self.is_ready:
            waiter: asyncio.Future[None] = self.link.links.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    # Within

    def _is_refused(self, path: str) -> bool:
        """Whether the guard refuses it; then it is answered."""
        guard, head = self.link.listener.guard, self.head
        if guard is None:
            return False
        verdict = head.verdict
        if verdict is None or verdict.generation != guard.generation or self.connection.now >= verdict.until:
            verdict = head.verdict = guard.request(head.method.decode("ascii"), path, head.headers)
        if verdict.error is not None:
            self(guard.refusal(verdict.error, path, head.headers))
        return verdict.error is not None

    def _is_barred(self, now: float) -> bool:
        """Whether what is under way may not go on, since the guard refuses its caller now; then it is ended."""
        guard, request = self.link.listener.guard, self.request
        under_way = self._state == _STARTED or self.intake is not None or self.receiving
        if guard is None or request is None or not under_way:
            return False
        refusal = guard.barred(self.head, request.method, request.path, now)
        if refusal is None:
            return False
        self.barred = True
        if self._state == _STARTED and not self.receiving:  # no place for an error
            self._stop()
            self._observed(LEFT, self.begun, self.sent)
            self._state = _GONE
            self.reset(Code.CANCEL)
            self._leave()
        else:
            self._cut(refusal)
        return True

    def _ask(self) -> None:
        request = self.request
        assert request is not None, "the head was read"
        self.intake = self.link.listener.app.stream(request, self)

    def _collect(self, data: bytes, ended: bool) -> None:
        limits, listener = self.link.links.limits, self.link.listener
        self.held += data
        listener.bodies += len(data)
        if len(self.held) > limits.body_bytes:
            self._refuse(long_body(limits.body_bytes))
        elif listener.bodies > limits.bodies_bytes:
            self._refuse(overloaded("too many bodies are being received at once"))
        elif ended:
            self._guarded(self._call)

    def _call(self) -> None:
        request = self.request
        assert request is not None, "the head was read"
        request.body = bytes(self.held)
        self._drop_held()
        cancel = self.link.listener.app(request, self)
        if self._state == _OPEN:
            self._cancel, self.called = cancel, self.connection.now

    def _guarded(self, work: Callable[[], None]) -> None:
        """Exceptions of the app: all of it to the log, a fixed sentence to the caller."""
        try:
            work()
        except Exception:
            name = self.head.request_id or self.name or new_id()
            log.exception("request %s failed", name.decode("ascii"))
            self._stop()
            if self._state == _OPEN:
                self._refuse(internal(), name)
            elif self._state == _STARTED:
                self._state = _GONE
                self.reset(Code.INTERNAL_ERROR)
                self._leave()

    def _refuse(self, refusal: Refusal, name: bytes | None = None) -> None:
        self._stop()
        metrics = self.link.listener.metrics
        if metrics is not None and self._state == _OPEN:
            metrics.refused(refusal.status, refusal.code)
        self(refusal.response(name or self.head.request_id or self.name))

    def _observed(self, status: int, response: Response | None, sent: int) -> None:
        """Tell the observer, where there is one."""
        observer, head = self.link.listener.observer, self.head
        if observer is not None:
            name = head.request_id or (None if response is None else id_of(response)) or self.name
            note = None if response is None else response.note
            observer.saw(head, self.link.peer, self.received, status, self.size, sent, name, note)

    def _cut(self, refusal: Refusal) -> None:
        """End what takes too long; an answer that has begun is its taker's to end."""
        if self._state == _STARTED and self.intake is not None:
            intake = self.intake
            self._guarded(lambda: intake.cut(refusal.code, refusal.sentence))
        elif self._state == _OPEN:
            self._refuse(refusal)

    def _start(self, response: Response, length: int | None, *, ends: bool) -> bool:
        """Send the head; False where it cannot be sent."""
        told = list(response.headers)
        if response.status not in BODILESS:
            told.insert(0, (b"content-type", response.content_type))
            if length is not None:
                told.append((b"content-length", b"%d" % length))
        if self.head.request_id is not None and all(name != REQUEST_ID for name, _ in told):
            told.append((REQUEST_ID, self.head.request_id))
        elif self.name is not None and id_of(response) is None:
            told.append((REQUEST_ID, self.name))
        told.append((b"date", self.link.listener.rendering.date))
        try:
            block = fields.status(response.status) + fields.block(told)
        except ValueError:
            log.exception("a response cannot be sent")
            self(internal().response(None))
            return False
        self.send_block(block, ends=ends)
        return True

    def _stop(self) -> None:
        """Have the app stop its work."""
        cancel, self._cancel = self._cancel, None
        intake, self.intake = self.intake, None
        stop_work(cancel, intake)

    def _leave(self) -> None:
        self._drop_held()
        self.progressed()

    def _drop_held(self) -> None:
        self.link.listener.bodies -= len(self.held)
        self.held = bytearray()
