"""What a connection to a TLS port is before its handshake is over.

Its first byte tells whether TLS is spoken; who speaks HTTP is told so. TLS begins, and takes its room (some 50 KiB),
once its first record is whole. What is no connection yet counts among them and is bounded in time as they are, so that
handshakes that come to no end are no more than they.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, cast

from bimodal.realtime.refusal import id_of, malformed

if TYPE_CHECKING:
    from bimodal.realtime.listener import Listener

log = logging.getLogger("bimodal.tls")

HANDSHAKE = 0x16  # the type of the record that TLS begins with (RFC 8446, section 5.1)
HEADER = 5  # bytes of a record's head, of which the last two are the length of the rest: 64 KiB at most
DRAIN_QUIET = 0.5  # seconds after which a drain waits no longer for a handshake that has not begun
LINGER = 5.0  # seconds for a caller to end what is ended on our side


class Door(asyncio.Protocol):
    """A connection that is to speak TLS. make: the protocol that follows the handshake."""

    _transport: asyncio.Transport

    def __init__(
        self, listener: Listener, loop: asyncio.AbstractEventLoop, make: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listener = listener
        self._loop = loop
        self._make = make
        self._held = bytearray()  # the first record until it is whole; then what is decrypted before that is told
        self._task: asyncio.Task[None] | None = None
        self._refused = False
        self._since = monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's only behaves like one
        connections = self._listener.connections
        connections.add(self)
        if len(connections) > self._listener.limits.connections:
            self._listener.turned_away()
            self._transport.abort()  # nothing can be said before the handshake, and that is what would cost most

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        held = self._held
        held += data
        if self._task is not None:
            return
        if held[0] != HANDSHAKE:
            self._refuse()
        elif len(held) >= HEADER + int.from_bytes(held[3:HEADER], "big") and len(held) >= HEADER:
            self._held = bytearray()
            self._transport.pause_reading()
            self._task = self._loop.create_task(self._open(bytes(held)))

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.connections.discard(self)

    def check(self, now: float) -> None:
        """Called by the sweep: end what takes too long."""
        limit = LINGER if self._refused else self._listener.limits.header_timeout
        if self._listener.draining and self._task is None:
            limit = DRAIN_QUIET  # nothing was asked on it
        if now - self._since > limit:
            self.abort()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    def _refuse(self) -> None:
        """The caller speaks HTTP, or something else that is no TLS: answered, counted and logged as malformed."""
        self._refused = True
        self._since = monotonic()
        listener, refusal = self._listener, malformed("this port speaks TLS: use an address with https://")
        peer, answer = listener.opened(self._transport), refusal.response(None)
        if listener.metrics is not None:
            listener.metrics.refused(refusal.status, refusal.code)
        if listener.observer is not None:
            sent = len(answer.body)
            listener.observer.saw(None, peer, self._since, answer.status, 0, sent, id_of(answer), answer.note)
        self._transport.write(listener.rendering.whole(None, answer, True))
        self._transport.write_eof()

    async def _open(self, hello: bytes) -> None:
        """The handshake, then the connection itself. hello: what was read of it."""
        context = self._listener.tls
        assert context is not None, "a door is only where TLS is"
        self._loop.call_soon(self._feed, hello)  # runs once `start_tls` has set its protocol, before that begins
        try:
            secured = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._listener.limits.header_timeout,
                ssl_shutdown_timeout=LINGER,
            )
        except OSError as error:  # ssl.SSLError too
            log.debug("a handshake came to no good end: %s", getattr(error, "reason", None) or type(error).__name__)
            return
        finally:
            self._listener.connections.discard(self)
        if secured is None or secured.is_closing():
            return
        connection = self._make()
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._held:
            cast(asyncio.Protocol, secured.get_protocol()).data_received(bytes(self._held))

    def _feed(self, hello: bytes) -> None:
        """Give TLS what had been read before it was there."""
        protocol = cast(asyncio.BufferedProtocol, self._transport.get_protocol())
        buffer = memoryview(protocol.get_buffer(len(hello)))
        for start in range(0, len(hello), len(buffer)):
            piece = hello[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            protocol.buffer_updated(len(piece))
