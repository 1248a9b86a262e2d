"""HTTP/2 on an asyncio event loop: connections on their sockets, with the limits and times of `http.py`.

What the connections have to say in one turn of the loop leaves in one write each.
"""

from __future__ import annotations

import asyncio
import logging
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from time import monotonic
from typing import TYPE_CHECKING, cast

from bimodal.realtime.grpc import Call
from bimodal.realtime.http2.connection import Connection
from bimodal.realtime.http2.deadlines import Deadlines
from bimodal.realtime.http2.frames import Code, ConnectionFault
from bimodal.realtime.http2.heads import Head
from bimodal.realtime.http2.requests import Exchange
from bimodal.realtime.http2.stream import Stream
from bimodal.realtime.opening_grpc import Opening, is_call
from bimodal.realtime.refusal import crowded

if TYPE_CHECKING:
    from bimodal.realtime.listener import Listener

log = logging.getLogger("bimodal.realtime")

LINGER = 5.0  # seconds that a closing connection is still read, so that the peer finds our last words and no reset
UNREAD = 1.0  # seconds that a peer may still send after its answer; some take a reset for a failure
_AT_ONCE = pack("ii", 1, 0)  # l_onoff, l_linger
DRAIN_QUIET = 0.5  # seconds after which a drain waits no longer for the peer to take notice


def cut(transport: asyncio.BaseTransport) -> None:
    """Close a connection whose peer does not read, with a reset: else the system would keep what is unsent."""
    held = transport.get_extra_info("socket")
    if held is not None:
        held.setsockopt(SOL_SOCKET, SO_LINGER, _AT_ONCE)
    cast(asyncio.Transport, transport).abort()


class Links:
    """What the HTTP/2 connections of a listener share."""

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self.listener = listener
        self.limits = listener.limits
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self._stirred: list[Link] = []

    def stir(self, link: Link) -> None:
        """The link has something to send at the end of the turn."""
        if not self._stirred:
            self.loop.call_soon(self._flush)
        self._stirred.append(link)

    def make(self, link: Link, connection: Connection, number: int, head: Head) -> Stream:
        """The stream of a request: a call where it is gRPC, else one for the app."""
        opening = head.opening
        if opening is None:
            opening = head.opening = Opening.of(head, self.listener.methods, self.limits) if is_call(head) else False
        if opening:
            return Call(connection, number, head, opening, link)
        return Exchange(connection, number, head, link)

    def _flush(self) -> None:
        stirred, self._stirred = self._stirred, []
        for link in stirred:
            link.flush()


class Link(asyncio.Protocol):
    """One HTTP/2 connection on its transport."""

    transport: asyncio.Transport

    def __init__(self, links: Links) -> None:
        self.links = links
        self.listener = links.listener
        self.blocked = False  # the peer does not read what we send
        self.connection = Connection(
            lambda connection, number, head: links.make(self, connection, number, head),
            links.limits,
            lambda _: links.stir(self),
        )
        self._opened = self._since = monotonic()  # since: when something last arrived, or the connection began to close
        self._asked = 0.0  # when the peer was pinged
        self._pongs = 0
        self._closing = False
        self._unsent = 0  # bytes that the peer had not read when last looked at
        self._drained = 0.0  # when the drain began
        self.peer = b""  # as the observer tells of it

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's only behaves like one
        self.listener.connections.add(self)
        if self.listener.observer is not None:
            self.peer = self.listener.observer.peer(transport)
        self.connection.start()
        if len(self.listener.connections) > self.links.limits.connections:
            self.listener.turned_away()
            self.connection.end(ConnectionFault(Code.ENHANCE_YOUR_CALM, crowded(self.links.limits.connections)))

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        connection = self.connection
        connection.receive(data)
        self._since = connection.now

    def eof_received(self) -> None:
        """A caller that closes its sending side has left."""

    def pause_writing(self) -> None:
        self.blocked = True
        self._unsent = self.transport.get_write_buffer_size()
        self._since = monotonic()
        self._set_reading()

    def resume_writing(self) -> None:
        self.blocked = False
        self._since = monotonic()
        for stream in list(self.connection.streams.values()):
            stream.progressed()
        self._set_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.listener.connections.discard(self)
        self._closing = True
        self.connection.lose()
        self.connection.out.clear()

    def flush(self) -> None:
        """Send what there is."""
        connection = self.connection
        out, connection.out = connection.out, []
        if self.transport.is_closing() or self._closing:
            return
        self.transport.write(b"".join(out))
        if connection.fault is not None:
            if connection.fault.code is not Code.NO_ERROR:
                log.info("an HTTP/2 connection ended: %s", connection.fault.sentence)
            self._finish()
        elif (connection.leaving or connection.left) and not connection.streams:
            self._finish()

    # What the listener calls

    def check(self, now: float) -> None:
        """Called by the sweep: end what takes too long."""
        if self._closing:
            return self._check_closing(now)
        for stream in list(self.connection.streams.values()):
            self._check_stream(stream, now)
        if self.listener.draining:
            self._check_drain(now)
        if self.blocked:
            self._check_reader(now)
        else:
            self._check_peer(now)
        return None

    def abort(self) -> None:
        """Close without another word."""
        self.transport.abort()

    def _check_stream(self, stream: Stream, now: float) -> None:
        limits = self.links.limits
        if stream.waiting and now - stream.moved > limits.idle_timeout:
            stream.reset(Code.CANCEL)  # its reader grants no room
            stream.lose()
        elif not stream.sending:
            if now - stream.moved > UNREAD:
                self.connection.dismiss(stream)
        else:
            cast(Call | Exchange, stream).check(now, limits)

    def _check_drain(self, now: float) -> None:
        connection = self.connection
        if not self._drained:
            self._drained = now
            connection.drain()
        elif now - self._drained > DRAIN_QUIET:
            connection.leave()
        if connection.leaving and not connection.streams and not connection.out:
            self._finish()

    def _check_peer(self, now: float) -> None:
        """The peer is quiet: without streams it is idle; with some it is asked whether it is there."""
        limits, connection = self.links.limits, self.connection
        quiet = now - self._since
        if not connection.greeted:
            if now - self._opened > limits.header_timeout:
                self.abort()
        elif connection.partial and now - connection.partial > (
            limits.body_timeout if connection.is_in_data else limits.header_timeout
        ):
            self.abort()
        elif self._asked:
            if connection.pongs > self._pongs or quiet < now - self._asked:
                self._asked = 0.0
            elif now - self._asked > limits.header_timeout:
                self.abort()
        elif quiet > limits.idle_timeout:
            if connection.streams:
                self._asked, self._pongs = now, connection.pongs
                connection.ping()
            else:
                connection.leave()

    def _check_reader(self, now: float) -> None:
        """The peer does not read: it may take long, but not do nothing for long."""
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._since, self._unsent = now, unsent
        elif now - self._since > self.links.limits.idle_timeout:
            cut(self.transport)

    def _check_closing(self, now: float) -> None:
        if self.transport.get_write_buffer_size():
            self._check_reader(now)
        elif now - self._since > (DRAIN_QUIET if self.listener.draining else LINGER):
            self.abort()

    def _finish(self) -> None:
        """The last word is written: close once the peer has done so, or LINGER seconds later. If unread bytes were
        left, the system would send a reset, and the peer might lose it."""
        if self._closing or self.transport.is_closing():
            return
        self._closing = True
        self._since = monotonic()
        self._unsent = self.transport.get_write_buffer_size()
        self._set_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()  # TLS cannot close one side

    def _set_reading(self) -> None:
        reads = self._closing or not self.blocked
        if self.transport.is_closing() or reads == self.transport.is_reading():
            return
        if reads:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
