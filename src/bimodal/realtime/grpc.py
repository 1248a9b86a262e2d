"""gRPC over HTTP/2: calls, as `calls.py` has them (https://github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md).

The common call (one message in one frame, one answer that the windows have room for) takes a way of its own, with the
same bytes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING

from bimodal.errors import InputError, TooLarge
from bimodal.realtime.calls import Cancel, Messages, Metadata, Methods, Status, Streaming, Unary
from bimodal.realtime.http2 import fields
from bimodal.realtime.http2.compression import ACCEPTED, CODINGS, LEAST, MOST, deflate, inflate
from bimodal.realtime.http2.frames import END_HEADERS, FRAME_BYTES, HEADERS
from bimodal.realtime.http2.heads import Head
from bimodal.realtime.http2.stream import Stream
from bimodal.realtime.limits import Limits
from bimodal.realtime.refusal import INTERNAL, REQUEST_ID, new_id

if TYPE_CHECKING:
    from bimodal.realtime.http2.connection import Connection
    from bimodal.realtime.http2.deadlines import Timed
    from bimodal.realtime.http2.link import Link

log = logging.getLogger("bimodal.realtime")

CONTENT_TYPE = b"application/grpc"
WAITING = 65_536  # bytes of answers that wait, up to which a stream is ready for more
PREFIX = 5  # bytes ahead of each message: whether it is compressed, and its length

_OPEN, _STARTED, _DONE, _GONE = range(4)  # states of a Call

_HEAD = fields.status(200) + fields.field(b"content-type", CONTENT_TYPE)
_TAIL = fields.field(b"grpc-status", b"0")
_TAIL_FRAME = bytes((0, 0, len(_TAIL), 1, 5))  # the same, with END_STREAM
_back = Struct(f">5sI{len(_TAIL)}s").pack
_prefix = Struct(">BI").pack
_type = re.compile(rb"application/grpc(\+proto)?(;.*)?").fullmatch
_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_escaped = re.compile(rb"[^ -$&-~]")


class NoMethods:
    """A server without services."""

    unary: Mapping[str, Unary] = MappingProxyType({})
    streaming: Mapping[str, Streaming] = MappingProxyType({})


def is_call(head: Head) -> bool:
    """Whether a request is gRPC."""
    return head.headers.get(b"content-type", b"").startswith(CONTENT_TYPE) and head.method == b"POST"


class Refused(Exception):
    """A call that the wire itself refuses."""

    def __init__(self, status: Status, message: str, metadata: Metadata = ()) -> None:
        super().__init__(message)
        self.status = status
        self.metadata = metadata


class Plan:
    """What the head of a call asks for. Equal heads share one. coding: of its messages. answers: of ours. echo: the
    field of the caller's request id. bare: neither changes our answers.
    """

    __slots__ = (
        "answers",
        "bare",
        "coding",
        "echo",
        "media",
        "metadata",
        "path",
        "refused",
        "streaming",
        "timeout",
        "unary",
    )

    def __init__(self, head: Head) -> None:
        self.path = head.target.decode("ascii", "replace")
        self.metadata: Mapping[bytes, bytes] = head.headers
        self.unary: Unary | None = None
        self.streaming: Streaming | None = None
        self.timeout = inf
        self.coding = b"identity"
        self.answers: bytes | None = None
        self.echo = fields.field(REQUEST_ID, head.request_id) if head.request_id is not None else b""
        self.media = bool(_type(head.headers[b"content-type"]))
        self.refused: Refused | None = None
        self.bare = False

    @classmethod
    def of(cls, head: Head, methods: Methods, limits: Limits) -> Plan:
        plan = cls(head)
        try:
            plan._read(head, methods, limits)
        except Refused as refused:
            plan.refused = refused
        plan.bare = not plan.echo and plan.answers is None
        return plan

    def _read(self, head: Head, methods: Methods, limits: Limits) -> None:
        if head.count > limits.header_fields:
            raise Refused(Status.RESOURCE_EXHAUSTED, f"more than {limits.header_fields} fields of metadata")
        self.unary, self.streaming = methods.unary.get(self.path), methods.streaming.get(self.path)
        if self.unary is None and self.streaming is None:
            raise Refused(Status.UNIMPLEMENTED, "no such method; the reflection service lists them all")
        self.timeout = _seconds(head.headers.get(b"grpc-timeout"))
        self.coding = head.headers.get(b"grpc-encoding", b"identity")
        if self.coding in CODINGS:
            accepted = head.headers.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
            self.answers = self.coding if self.coding in accepted else None
        elif self.coding != b"identity":
            told = ((b"grpc-accept-encoding", ACCEPTED),)
            raise Refused(Status.UNIMPLEMENTED, "messages are compressed in a way that is not understood here", told)
        self.metadata = _metadata(head.headers)


def _seconds(timeout: bytes | None) -> float:
    if timeout is None:
        return inf
    found = _timeout(timeout)
    if found is None:
        raise Refused(Status.INTERNAL, "grpc-timeout is up to eight digits and one of H, M, S, m, u, n")
    return int(found[1]) * _UNITS[found[2]]


def _metadata(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """The headers, with the values of names that end in -bin as bytes (several: joined with a comma)."""
    if not any(name.endswith(b"-bin") for name in headers):
        return headers
    return {name: _binary(value) if name.endswith(b"-bin") else value for name, value in headers.items()}


def _binary(value: bytes) -> bytes:
    try:
        return b",".join([_unbase64(each.strip(b" =")) for each in value.split(b",")])
    except NoBase64:
        raise Refused(Status.INTERNAL, "metadata whose name ends in -bin is no base64") from None


def _unbase64(text: bytes) -> bytes:
    """With padding or without."""
    return b64decode(text + b"=" * (-len(text) % 4), validate=True)


def metadata_block(metadata: Metadata) -> bytes:
    """Raises ValueError for a value with a line end in it."""
    return fields.block(
        [(name, b64encode(value).rstrip(b"=") if name.endswith(b"-bin") else value) for name, value in metadata]
    )


class _Beginning:
    """What an answer begins with: the answers of one batch share their metadata, and so all of this.

    block: of the head. frame: what stands before it in its frame, up to the number of the stream. pack: makes bytes of
    frame, stream, block, then of the head of DATA (its length in two parts, zeros for kind and flags, the stream) and
    the prefix of the message (zero, its length).
    """

    __slots__ = ("block", "frame", "metadata", "pack")

    def __init__(self, metadata: Metadata) -> None:
        """Raises ValueError for metadata that cannot be sent."""
        self.metadata = metadata
        self.block = _HEAD + metadata_block(metadata)
        size = len(self.block)
        self.frame = bytes((size >> 16, size >> 8 & 0xFF, size & 0xFF, HEADERS, END_HEADERS))
        self.pack = _packing(size)


@lru_cache(256)
def _packing(size: int) -> Callable[..., bytes]:
    return Struct(f">5sI{size}sBHHIBI").pack


_BARE = _Beginning(())


class _Beginnings:
    """The one made last."""

    last = _BARE

    def of(self, metadata: Metadata) -> _Beginning:
        if not metadata:
            return _BARE
        last = self.last
        if metadata is not last.metadata:
            last = self.last = _Beginning(metadata)
        return last


_beginnings = _Beginnings()


class Call(Stream):
    """One call: see `calls.Call`."""

    __slots__ = (
        "_cancel",
        "_messages",
        "_state",
        "_waiters",
        "called",
        "deadline",
        "held",
        "link",
        "metadata",
        "moment",
        "path",
        "plan",
        "received",
    )

    def __init__(self, connection: Connection, number: int, head: Head, plan: Plan, link: Link) -> None:
        super().__init__(connection, number, head)
        self.link = link
        self.plan = plan
        self.path = plan.path
        self.metadata = plan.metadata
        self.received = connection.now
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
        plan, link = self.plan, self.link
        if plan.refused is not None or not plan.media:
            return self._refuse()
        if self.connection.unsent > link.links.limits.body_bytes:
            return self.fail(Status.RESOURCE_EXHAUSTED, "too many answers wait for their reader")
        if plan.timeout < inf:
            self.deadline = self.received + plan.timeout
            link.links.deadlines.add(self)
        if plan.streaming is not None:
            try:
                self._messages = plan.streaming(self)
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
        try:
            self._hold(data)
            self._take_messages(ended)
        except Refused as refused:
            self._stop()
            self.fail(refused.status, str(refused), refused.metadata)

    def lose(self) -> None:
        if self._state < _DONE:
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
            self.fail(Status.DEADLINE_EXCEEDED, "no answer within the deadline of the call")

    def check(self, now: float, limits: Limits) -> None:
        """Called by the sweep: the server's own deadline, and that of the message to arrive. Streams have none."""
        if self._messages is not None or self._state >= _DONE:
            return
        if self.called and now - self.called > limits.deadline:
            self._stop()
            self.fail(Status.DEADLINE_EXCEEDED, f"no answer within the deadline of {limits.deadline:g} s")
        elif self.receiving and now - self.received > limits.body_timeout:
            self.fail(Status.DEADLINE_EXCEEDED, f"the message took over {limits.body_timeout:g} s to arrive")

    @property
    def is_ready(self) -> bool:
        """Whether an answer would go out soon, or nobody waits for it."""
        return self._state >= _DONE or (self.unsent <= WAITING and not self.link.blocked)

    # What a method calls

    def respond(self, message: bytes, metadata: Metadata = ()) -> None:
        if self._state != _OPEN:
            return None
        connection = self.connection
        plan = self.plan
        size = len(message)
        whole = size + PREFIX
        try:
            begin = _beginnings.of(metadata)
        except ValueError:
            log.exception("the metadata of an answer cannot be sent")
            return self.fail(Status.INTERNAL, INTERNAL)
        if (
            plan.bare
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
            connection.put(front + message + _back(_TAIL_FRAME, number, _TAIL))
            connection.close_sending(self)
            if self.moment is not None:
                self.moment.discard(self)
            self._cancel = None
            return None
        return self._answer(message, begin)

    def fail(self, status: Status, message: str, metadata: Metadata = ()) -> None:
        if self._state >= _DONE:
            return
        try:
            block = _failed(status, message) + metadata_block(metadata)
        except ValueError:
            log.exception("the metadata of a call cannot be sent")
            block = _failed(Status.INTERNAL, INTERNAL)
        if self._state == _OPEN:
            block = _HEAD + self.plan.echo + block
        self._state = _DONE
        self._cancel = None
        self.send_block(block, ends=True)
        self._leave()

    def write(self, message: bytes) -> None:
        if self._state == _OPEN:
            self._start()
        if self._state == _STARTED:
            self._send(message)

    def end(self) -> None:
        if self._state == _OPEN:
            self._start()
        if self._state == _STARTED:
            self._state = _DONE
            self.send_block(_TAIL, ends=True)
            self._leave()

    async def ready(self) -> None:
        while not self.is_ready:
            waiter: asyncio.Future[None] = self.link.links.loop.create_future()
            self._waiters = [*(self._waiters or ()), waiter]
            await waiter

    # Messages that arrive

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
            self._feed(self._messages, message)
            if self._state >= _DONE:
                return None
        if ended:
            if held:
                raise Refused(Status.INTERNAL, "the call ends in the middle of a message")
            if self._messages is None:
                raise Refused(Status.INTERNAL, "the call ends without a message")
            self._finish(self._messages)
        return None

    def _take_only(self, held: bytearray, stop: int, ended: bool) -> None:
        """The one message of a unary method is whole."""
        if len(held) > stop:
            raise Refused(Status.INTERNAL, "more than one message for a method that takes one")
        if ended:
            message = self._plain(held[0], bytes(memoryview(held)[PREFIX:stop]))
            self._drop_held()
            self._call(message)

    def _plain(self, compressed: int, message: bytes) -> bytes:
        """The message, decompressed. Raises Refused."""
        if not compressed:
            return message
        if self.plan.coding not in CODINGS:
            raise Refused(Status.INTERNAL, "a compressed message, and no grpc-encoding that says how")
        try:
            return inflate(message, self.plan.coding, self.link.links.limits.body_bytes)
        except TooLarge as error:
            raise Refused(Status.RESOURCE_EXHAUSTED, error.message) from None
        except InputError as error:
            raise Refused(Status.INTERNAL, error.message) from None

    # Methods, whose exceptions end here

    def _call(self, message: bytes) -> None:
        unary = self.plan.unary
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
        messages = self._messages
        try:
            if messages is not None:
                messages.abort()
            if cancel is not None:
                cancel()
        except Exception:
            log.exception("stopping a call failed")

    def _break(self) -> None:
        """An exception of the method: all of it to the log, a fixed sentence to the caller."""
        name = self.head.request_id or new_id()
        log.exception("call %s failed", name.decode("ascii"))
        self._stop()
        self.fail(Status.INTERNAL, INTERNAL, () if self.head.request_id is not None else ((REQUEST_ID, name),))

    # Answers

    def _answer(self, message: bytes, begin: _Beginning) -> None:
        """Respond, whatever it takes."""
        self._start(begin)
        self._state = _DONE
        self._send(message)
        self.send_block(_TAIL, ends=True)
        self._leave()

    def _start(self, begin: _Beginning = _BARE) -> None:
        plan = self.plan
        block = begin.block + plan.echo
        if plan.answers is not None:
            block += fields.field(b"grpc-encoding", plan.answers)
        self._state = _STARTED
        self.send_block(block)

    def _send(self, message: bytes) -> None:
        coding = self.plan.answers
        if coding is not None and LEAST <= len(message) <= MOST:
            message = deflate(message, coding)
            self.send(_prefix(1, len(message)) + message)
        else:
            self.send(_prefix(0, len(message)) + message)

    def _refuse(self) -> None:
        """What the head asks for is not to be had."""
        refused = self.plan.refused
        if not self.plan.media:
            self._state = _DONE
            told = "a call has the content type application/grpc or application/grpc+proto"
            block = fields.status(415) + fields.block(((b"grpc-status", b"13"), (b"grpc-message", told.encode())))
            self.send_block(block, ends=True)
        elif refused is not None:
            self.fail(refused.status, str(refused), refused.metadata)

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


def _failed(status: Status, message: str) -> bytes:
    """The trailers of a failure; the message is percent-encoded."""
    text = _escaped.sub(lambda found: b"%%%02X" % found[0][0], message.encode("utf-8"))
    return fields.field(b"grpc-status", b"%d" % status) + fields.field(b"grpc-message", text)
