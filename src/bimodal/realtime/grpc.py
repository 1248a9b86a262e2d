"""gRPC over HTTP/2: calls, as `calls.py` has them (https://github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md).

The common call (one message in one frame, one answer that the windows have room for) takes a way of its own, with the
same bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from math import inf
from struct import Struct
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING

from bimodal.errors import InputError, TooLarge
from bimodal.realtime.answer_grpc import (
    BARE,
    HEAD,
    TAIL,
    Beginning,
    beginnings,
    failed,
    metadata_block,
    tail_frame,
    tail_frame_with,
    tail_with,
)
from bimodal.realtime.calls import Cancel, Messages, Metadata, Status, Streaming, Unary
from bimodal.realtime.exchange import stop_work
from bimodal.realtime.http2 import fields
from bimodal.realtime.http2.compression import CODINGS, LEAST, MOST, deflate, inflate
from bimodal.realtime.http2.frames import FRAME_BYTES
from bimodal.realtime.http2.heads import Head
from bimodal.realtime.http2.stream import Stream
from bimodal.realtime.limits import Limits
from bimodal.realtime.note import Note
from bimodal.realtime.opening_grpc import Opening, Refused
from bimodal.realtime.refusal import INTERNAL, REQUEST_ID, new_id

if TYPE_CHECKING:
    from bimodal.realtime.guard import Guard
    from bimodal.realtime.http2.connection import Connection
    from bimodal.realtime.http2.deadlines import Timed
    from bimodal.realtime.http2.link import Link

log = logging.getLogger("bimodal.realtime")

WAITING = 65_536  # bytes of answers that wait, up to which a stream is ready for more
PREFIX = 5  # bytes ahead of each message: whether it is compressed, and its length

_OPEN, _STARTED, _DONE, _GONE = range(4)  # states of a Call

_COUNTED = {  # what the wire itself refuses, as HTTP would
    Status.UNIMPLEMENTED: (501, "not_implemented"),
    Status.RESOURCE_EXHAUSTED: (413, "too_large"),
    Status.DEADLINE_EXCEEDED: (504, "deadline_exceeded"),
    Status.INTERNAL: (400, "malformed"),
}

_prefix = Struct(">BI").pack


class NoMethods:
    """A server without services."""

    unary: Mapping[str, Unary] = MappingProxyType({})
    streaming: Mapping[str, Streaming] = MappingProxyType({})


class Call(Stream):
    """One call: see `calls.Call`."""

    __slots__ = (
        "_cancel",
        "_messages",
        "_state",
        "_waiters",
        "begun",
        "called",
        "deadline",
        "held",
        "link",
        "metadata",
        "moment",
        "name",
        "opening",
        "path",
        "received",
        "sent",
    )

    def __init__(self, connection: Connection, number: int, head: Head, opening: Opening, link: Link) -> None:
        super().__init__(connection, number, head)
        self.link = link
        self.opening = opening
        self.path = opening.path
        self.metadata = opening.metadata
        self.name = head.request_id
        if self.name is None and link.listener.observer is not None:
            self.name = link.listener.observer.name()
        self.received = self.begun = connection.now  # begun: with its head; received: the last message of a stream
        self.sent = 0  # bytes of messages of a stream
        self.deadline = inf
        self.moment: set[Timed] | None = None
        self.called = 0.0  # when the method was given the whole message
        self.held: bytearray | None = None  # of messages that are not whole
        self._state = _OPEN
        self._cancel: Cancel | None = None
        self._messages: Messages | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    # What the connection calls

    def begin(self) -> None:
        opening, link = self.opening, self.link
        if link.listener.guard is not None and self._is_barred(link.listener.guard, self.received):
            return None
        if opening.refused is not None or not opening.media:
            return self._refuse()
        if self.connection.unsent > link.links.limits.body_bytes:
            return self._refused(Status.RESOURCE_EXHAUSTED, "too many answers wait for their reader")
        if opening.timeout < inf:
            self.deadline = self.received + opening.timeout
            link.links.deadlines.add(self)
        if opening.streaming is not None:
            try:
                self._messages = opening.streaming(self)
            except Exception:
                self._break()
        return None

    def take(self, data: bytes, ended: bool) -> None:
        if self._state >= _DONE:
            return None
        if ended and self.held is None and self._messages is None:
            size = len(data) - PREFIX
            fits = 0 <= size <= self.link.links.limits.body_bytes
            if fits and not data[0] and int.from_bytes(data[1:PREFIX], "big") == size:
                return self._call(data[PREFIX:])
        if self._messages is not None:
            guard = self.link.listener.guard
            if guard is not None and self._is_barred(guard, self.connection.now):
                return None
            if not self.held:
                self.received = self.connection.now
        try:
            self._hold(data)
            self._take_messages(ended)
        except Refused as refused:
            self._stop()
            self._refused(refused.status, str(refused), refused.metadata)

    def lose(self) -> None:
        if self._state < _DONE:
            self._observed(Status.CANCELLED, self.sent)
            self._state = _GONE
            self._stop()
        self._leave()

    def progressed(self) -> None:
        if self._waiters and self.is_ready:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def expire(self) -> None:
        """The caller's deadline has passed."""
        if self._state < _DONE:
            self._stop()
            self._refused(Status.DEADLINE_EXCEEDED, "no answer within the deadline of the call")

    def resume(self) -> None:
        super().resume()
        self.received = monotonic()

    def check(self, now: float, limits: Limits) -> None:
        """Called by the sweep: the server's own deadline, and that of a message to arrive. Streams have no deadline,
        but last no longer than their caller's key."""
        if self._state < _DONE and self._messages is not None:
            guard = self.link.listener.guard
            if guard is not None and self._is_barred(guard, now):
                return
        if self._state >= _DONE or (self._messages is not None and (not self.held or self.paused)):
            return
        if self.called and now - self.called > limits.deadline:
            self._stop()
            self._refused(Status.DEADLINE_EXCEEDED, f"no answer within the deadline of {limits.deadline:g} s")
        elif self.receiving and now - self.received > limits.body_timeout:
            self._stop()
            self._refused(
                Status.DEADLINE_EXCEEDED,
                f"the message took over {limits.body_timeout:g} s to arrive",
                (),
                (408, "request_timeout"),
            )

    @property
    def is_ready(self) -> bool:
        """Whether an answer would go out soon, or nobody waits for it."""
        return self._state >= _DONE or (self.unsent <= WAITING and not self.link.blocked)

    # What a method calls

    def respond(self, message: bytes, metadata: Metadata = (), note: Note | None = None) -> None:
        if self._state != _OPEN:
            return None
        connection = self.connection
        opening = self.opening
        size = len(message)
        whole = size + PREFIX
        name = self._made()
        try:
            begin = beginnings.of(metadata)
        except ValueError:
            log.exception("the metadata of an answer cannot be sent")
            return self.fail(Status.INTERNAL, INTERNAL)
        if (
            opening.bare
            and whole <= self.window
            and whole <= connection.window
            and whole <= connection.frame_bytes
            and connection.plain
            and len(begin.block) <= FRAME_BYTES
        ):
            self._state = _DONE
            self.window -= whole
            connection.window -= whole
            number = self.id
            front = begin.pack(begin.frame, number, begin.block, whole >> 16, whole & 0xFFFF, 0, number, 0, size)
            connection.put(front + message + (tail_frame(number) if name is None else tail_frame_with(number, name)))
            connection.close_sending(self)
            if self.moment is not None:
                self.moment.discard(self)
            self._cancel = None
        else:
            self._answer(message, begin, name)
        self._observed(Status.OK, size, name, note)
        return None

    def fail(self, status: Status, message: str, metadata: Metadata = (), note: Note | None = None) -> None:
        if self._state >= _DONE:
            return
        if self.link.listener.observer is not None:
            self._observed(status, self.sent, dict(metadata).get(REQUEST_ID), note)
        try:
            block = failed(status, message) + metadata_block(metadata)
        except ValueError:
            log.exception("the metadata of a call cannot be sent")
            block = failed(Status.INTERNAL, INTERNAL)
        if self._state == _OPEN:
            block = HEAD + self.opening.echo + block
        self._state = _DONE
        self._cancel = None
        self.send_block(block, ends=True)
        self._leave()

    def write(self, message: bytes) -> None:
        if self._state == _OPEN:
            self._start()
        if self._state == _STARTED:
            self.sent += len(message)
            self._send(message)

    def end(self) -> None:
        if self._state == _OPEN:
            self._start()
        if self._state == _STARTED:
            name = self._made()
            self._state = _DONE
            self.send_block(TAIL if name is None else tail_with(name), ends=True)
            self._observed(Status.OK, self.sent, name)
            self._leave()

    async def ready(self) -> None:
        while not self.is_ready:
            waiter: asyncio.Future[None] = self.link.links.loop.create_future()
            self._waiters = [*(self._waiters or ()), waiter]
            await waiter

    # Messages that arrive

    def _is_barred(self, guard: Guard, now: float) -> bool:
        """Whether the guard refuses the caller, or does so since; then the call has ended."""
        head = self.head
        verdict = head.verdict
        if verdict is None or verdict.generation != guard.generation or now >= verdict.until:
            verdict = head.verdict = guard.call(self.opening.path, head.headers)
        if verdict.error is None:
            return False
        self._stop()
        guard.refuse_call(self, verdict.error)
        return True

    def _hold(self, data: bytes) -> None:
        if self.held is None:
            self.held = bytearray()
        self.held += data
        listener = self.link.listener
        listener.bodies += len(data)
        if listener.bodies > self.link.links.limits.bodies_bytes:
            raise Refused(Status.RESOURCE_EXHAUSTED, "too many messages are being received at once")

    def _take_messages(self, ended: bool) -> None:
        """Hand on the messages that are whole."""
        held = self.held
        assert held is not None, "something has arrived"
        while len(held) >= PREFIX:
            size = int.from_bytes(held[1:PREFIX], "big")
            most = self.link.links.limits.body_bytes
            if held[0] > 1:
                raise Refused(Status.INTERNAL, "what begins a message is neither 0 nor 1: it is no gRPC")
            if size > most:
                raise Refused(Status.RESOURCE_EXHAUSTED, f"the message is over {most} bytes")
            stop = PREFIX + size
            if len(held) < stop:
                break
            if self._messages is None:
                return self._take_only(held, stop, ended)
            message = self._plain(held[0], bytes(memoryview(held)[PREFIX:stop]))
            del held[:stop]
            self.link.listener.bodies -= stop
            self.received = self.connection.now  # of the next message, which may have begun
            self._feed(self._messages, message)
            if self._state >= _DONE:
                return None
        if ended:
            if held:
                raise Refused(Status.INTERNAL, "the call ends in the middle of a message")
            if self._messages is None:
                raise Refused(Status.UNIMPLEMENTED, "the call ends without a message, and the method takes one")
            self._finish(self._messages)
        return None

    def _take_only(self, held: bytearray, stop: int, ended: bool) -> None:
        """The one message of a unary method is whole."""
        if len(held) > stop:
            raise Refused(Status.UNIMPLEMENTED, "more than one message for a method that takes one")
        if ended:
            message = self._plain(held[0], bytes(memoryview(held)[PREFIX:stop]))
            self._drop_held()
            self._call(message)

    def _plain(self, compressed: int, message: bytes) -> bytes:
        """The message, decompressed. Raises Refused."""
        if not compressed:
            return message
        if self.opening.coding not in CODINGS:
            raise Refused(Status.INTERNAL, "a compressed message, and no grpc-encoding that says how")
        try:
            return inflate(message, self.opening.coding, self.link.links.limits.body_bytes)
        except TooLarge as error:
            raise Refused(Status.RESOURCE_EXHAUSTED, error.message) from None
        except InputError as error:
            raise Refused(Status.INTERNAL, error.message) from None

    # Methods, whose exceptions end here

    def _call(self, message: bytes) -> None:
        unary = self.opening.unary
        assert unary is not None, "a method is unary or takes messages"
        try:
            cancel = unary(self, message)
        except Exception:
            self._break()
        else:
            if self._state < _DONE:
                self._cancel, self.called = cancel, self.connection.now

    def _feed(self, messages: Messages, message: bytes) -> None:
        try:
            messages.feed(message)
        except Exception:
            self._break()

    def _finish(self, messages: Messages) -> None:
        try:
            messages.finish()
        except Exception:
            self._break()

    def _stop(self) -> None:
        """Have the method stop its work."""
        cancel, self._cancel = self._cancel, None
        stop_work(cancel, self._messages)

    def _break(self) -> None:
        """An exception of the method: all of it to the log, a fixed sentence to the caller."""
        name = self.name or new_id()
        log.exception("call %s failed", name.decode("ascii"))
        self._stop()
        told = () if self.head.request_id is not None else ((REQUEST_ID, name),)
        self._refused(Status.INTERNAL, INTERNAL, told, (500, "internal"))

    # Answers

    def _answer(self, message: bytes, begin: Beginning, name: bytes | None) -> None:
        """Respond, whatever it takes. name: a request id of ours."""
        self._start(begin)
        self._state = _DONE
        self._send(message)
        self.send_block(TAIL if name is None else tail_with(name), ends=True)
        self._leave()

    def _start(self, begin: Beginning = BARE) -> None:
        opening = self.opening
        block = begin.block + opening.echo
        if opening.answers is not None:
            block += fields.field(b"grpc-encoding", opening.answers)
        self._state = _STARTED
        self.send_block(block)

    def _send(self, message: bytes) -> None:
        coding = self.opening.answers
        if coding is not None and LEAST <= len(message) <= MOST:
            message = deflate(message, coding)
            self.send(_prefix(1, len(message)) + message)
        else:
            self.send(_prefix(0, len(message)) + message)

    def _refuse(self) -> None:
        """What the head asks for is not to be had."""
        refused = self.opening.refused
        if not self.opening.media:
            self._count(415, "unsupported_media_type")
            self._observed(Status.INTERNAL, 0, None, Note(code="unsupported_media_type"))
            self._state = _DONE
            told = "a call has the content type application/grpc or application/grpc+proto"
            block = fields.status(415) + fields.block(((b"grpc-status", b"13"), (b"grpc-message", told.encode())))
            self.send_block(block, ends=True)
        elif refused is not None:
            self._refused(refused.status, str(refused), refused.metadata)

    def _refused(
        self, status: Status, message: str, metadata: Metadata = (), known: tuple[int, str] | None = None
    ) -> None:
        """End the call with what the wire itself says, and count it. known: as what."""
        if self._state >= _DONE:
            return
        number, code = known or _COUNTED.get(status, (500, "internal"))
        if self.head.request_id is None and REQUEST_ID not in dict(metadata):
            metadata = (*metadata, (REQUEST_ID, self.name or new_id()))
        self._count(number, code)
        self.fail(status, message, metadata, Note(code=code))

    def _count(self, status: int, code: str) -> None:
        metrics = self.link.listener.metrics
        if metrics is not None:
            metrics.refused(status, code)

    def _made(self) -> bytes | None:
        """The id of ours, which the caller does not know yet."""
        return self.name if self.head.request_id is None else None

    def _observed(self, status: Status, sent: int, name: bytes | None = None, note: Note | None = None) -> None:
        """Tell the observer, where there is one."""
        observer = self.link.listener.observer
        if observer is not None:
            head = self.head
            observer.saw(head, self.link.peer, self.begun, status, self.size, sent, name or self.name, note)

    def _leave(self) -> None:
        """It is over: hold nothing."""
        self._drop_held()
        if self.moment is not None:
            self.moment.discard(self)
            self.moment = None
        if self._waiters:
            self.progressed()

    def _drop_held(self) -> None:
        if self.held is not None:
            self.link.listener.bodies -= len(self.held)
            self.held = None
