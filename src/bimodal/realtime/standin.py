"""Stand-in: answers for workers none of which serves, so that nobody waits in a queue that nobody empties.

A thread of the supervisor accepts on their sockets and tells everybody, health checks too, 503 and when to come again,
over HTTP/1.1 and HTTP/2 (gRPC takes that for UNAVAILABLE), in clear or over TLS; each connection ends with its first
answer.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal.realtime.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD_BYTES,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    head_of,
)
from bimodal.realtime.refusal import REQUEST_ID, new_id

if TYPE_CHECKING:
    from bimodal.realtime.tally import Tally

PATIENCE = 1.0  # seconds that a caller has for the head of its request, and then to read its answer
CALLERS = 512  # that are told at once
SENTENCE = "no process of the server is there to answer; it is being started again"


class StandIn:
    """From the moment it is made until `end`. after: seconds in which to come again, asked each time. tally: learns of
    each caller. seal: makes a socket of TLS of a caller's (`tls.Files.seal`); None where connections are in clear.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        after: Callable[[], int],
        tally: Tally,
        seal: Callable[[socket.socket], socket.socket] | None = None,
    ) -> None:
        self._sockets = [each.dup() for each in sockets]
        self._after, self._tally, self._seal = after, tally, seal
        self._wake, self._woken = socket.socketpair()
        self._callers: dict[socket.socket, _Caller] = {}
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="bimodal-stand-in", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Accept no more: somebody serves, or nobody shall."""
        self._wake.close()
        self._thread.join()

    def _run(self) -> None:
        with self._selector, self._woken, contextlib.ExitStack() as opened:
            for each in self._sockets:
                opened.enter_context(each).setblocking(False)
                self._selector.register(each, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
            while self._turn():
                self._sweep()
                self._tally.flush()
            for caller in list(self._callers):
                self._part(caller)
            self._tally.close()

    def _turn(self) -> bool:
        """What has come; False at the end."""
        for key, _ in self._selector.select(PATIENCE / 4):
            if key.fileobj is self._woken:
                return False
            caller = self._callers.get(key.fileobj)  # type: ignore[call-overload]  # all of them are sockets
            if caller is None:
                self._accept(key.fileobj)  # type: ignore[arg-type]  # the same
            elif not caller.hear(self._after):
                self._part(key.fileobj)  # type: ignore[arg-type]  # the same
        return True

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # somebody else was quicker, or the caller has left
            caller, place = listening.accept()
            if len(self._callers) >= CALLERS:
                caller.close()
                return
            caller.setblocking(False)
            if self._seal is not None:
                caller = self._seal(caller)
            self._callers[caller] = _Caller(caller, place, self._tally)
            self._selector.register(caller, selectors.EVENT_READ)

    def _sweep(self) -> None:
        """End what takes too long."""
        now = monotonic()
        for socket_, caller in list(self._callers.items()):
            if now - caller.since > PATIENCE and not caller.late(self._after):
                self._part(socket_)

    def _part(self, caller: socket.socket) -> None:
        self._selector.unregister(caller)
        del self._callers[caller]
        caller.close()


class _Caller:
    """One connection."""

    def __init__(self, socket_: socket.socket, place: Any, tally: Tally) -> None:
        self.since = monotonic()
        self._socket, self._place, self._tally = socket_, place, tally
        self._data = b""
        self._told = self._greeted = False

    def hear(self, after: Callable[[], int]) -> bool:
        """Take what it says, and answer a head that is whole; False where it has left."""
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if data and not self._told:
            self._data += data
            if self._data.startswith(PREFACE):
                self._converse(after)
            elif (b"\r\n\r\n" in self._data and not PREFACE.startswith(self._data)) or len(self._data) > 65_536:
                self._answer(after())
        return bool(data)

    def late(self, after: Callable[[], int]) -> bool:
        """Answer one that has said too little for long; False where it had its answer, and the time to read it."""
        if self._told:
            return False
        if self._greeted:
            self._tell(frame(GOAWAY, 0, 0, bytes(8)))
        else:
            self._answer(after())
        return True

    def _answer(self, seconds: int) -> None:
        """The 503 of HTTP/1.1; who has asked nothing is not counted."""
        name = new_id()
        head, body = answer(name, seconds)
        if self._data.startswith(b"HEAD "):
            body = b""
        if self._data:
            self._tally.told(self._data, "1.1", self._place, len(body), name)
        self._tell(head + body)

    def _converse(self, after: Callable[[], int]) -> None:
        """HTTP/2: greet, and answer the first request."""
        if not self._greeted:
            self._greeted = True
            self._send(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
        stream = first_stream(self._data[len(PREFACE) :])
        if stream:
            name = new_id()
            self._tally.told(b"", "2", self._place, 0, name)
            told = frame(HEADERS, END_HEADERS | END_STREAM, stream, fields(name, after()))
            self._tell(told + frame(GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4)))

    def _tell(self, told: bytes) -> None:
        self._told, self.since = True, monotonic()
        self._send(told)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it has left; its end will be heard
            self._socket.send(data)


def answer(name: bytes, seconds: int) -> tuple[bytes, bytes]:
    """The head and the body of the 503 in HTTP/1.1."""
    body = msgspec.json.encode({"error": SENTENCE, "code": "unavailable", "request_id": name.decode("ascii")})
    head = (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"retry-after: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n" % (len(body), seconds, name)
    )
    return head, body


def fields(name: bytes, seconds: int) -> bytes:
    """The head of an answer as HPACK has it, without a table: `:status` is the name 8 of the static one."""
    told = {b"retry-after": b"%d" % seconds, REQUEST_ID: name}
    return b"\x08\x03503" + b"".join([b"\x00%c%b%c%b" % (len(k), k, len(v), v) for k, v in told.items()])


def first_stream(data: bytes) -> int:
    """The stream of the first request among frames, 0 where there is none yet."""
    at = 0
    while len(data) - at >= HEAD_BYTES:
        upper, lower, kind, _, stream = head_of(data, at)
        if kind == HEADERS:
            return int(stream) & 0x7FFFFFFF
        at += HEAD_BYTES + (upper << 8 | lower)
    return 0
