"""Listener: accepts connections on sockets, and has what they share: an app, limits, heads seen, the time.

Timeouts cost a request nothing: one sweep looks at all connections, so they come up to `Listener.pace` seconds late
(half a second).
"""

from __future__ import annotations

import asyncio
import logging
from socket import socket
from ssl import SSLContext
from time import monotonic

from bimodal.realtime.calls import Methods
from bimodal.realtime.door import Door
from bimodal.realtime.exchange import App
from bimodal.realtime.grpc import NoMethods
from bimodal.realtime.guard import Guard
from bimodal.realtime.head import Head, Rests, long_head, parse
from bimodal.realtime.heap import Heap
from bimodal.realtime.http import Connection
from bimodal.realtime.http2.link import Link, Links
from bimodal.realtime.limits import Limits
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.observer import Observer
from bimodal.realtime.plain import Hub
from bimodal.realtime.rendering import Rendering

log = logging.getLogger("bimodal.realtime")

_HEADS = 1024  # heads remembered
_HEAD_BYTES = 2048  # a longer head is not remembered


class Listener(Hub):
    """The HTTP server of one process: an app, its limits, its connections, and what they share."""

    def __init__(self, app: App, limits: Limits, methods: Methods | None = None, guard: Guard | None = None) -> None:
        """methods: of the gRPC services. guard: asked before them and the app; None lets everybody in."""
        self.app = app
        self.guard = guard
        self.methods: Methods = methods or NoMethods()
        self.limits = limits
        self.most = limits.body_bytes
        self.rendering = Rendering()
        self.ending = self.rendering.ending
        self.heads: dict[bytes, Head] = {}  # those already seen
        self._rests = Rests()
        self._heap = Heap()
        self.connections: set[Connection | Door | Link] = set()
        self.tls: SSLContext | None = None  # of the connections that come from now on; None: they are in clear text
        self.draining = False
        self.observer: Observer | None = None  # told of each request when it has ended
        self.metrics: Metrics | None = None
        self.bodies = 0  # bytes of unfinished bodies, of all connections
        shortest = min(limits.header_timeout, limits.body_timeout, limits.idle_timeout, limits.deadline)
        self.pace = min(0.5, shortest / 4)
        self.links: Links | None = None
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def app(self) -> App:
        """What answers."""
        return self._app

    @app.setter
    def app(self, app: App) -> None:
        self._app = app
        self.call = app.__call__
        self.routes = getattr(app, "table", None)

    async def start(self, *listening: socket, tls: SSLContext | None = None) -> None:
        """Accept connections on bound sockets, which stay the caller's: they are duplicated. tls: for all of them;
        `self.tls` can be replaced by another one later."""
        loop = asyncio.get_running_loop()
        self.tls = tls
        await self.accept(*listening)
        self._timer = loop.call_later(self.pace, self._sweep, loop)

    async def accept(self, *listening: socket) -> list[asyncio.Server]:
        """Accept on these too; closing what is returned ends it."""
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(self, loop)

        def door() -> Door:
            return Door(self, loop, connection)

        made = [
            await loop.create_server(
                connection if self.tls is None else door, sock=each.dup(), backlog=self.limits.backlog
            )
            for each in listening
        ]
        self._servers.extend(made)
        return made

    def opened(self, transport: asyncio.BaseTransport) -> bytes:
        """Count a connection; what the observer tells of its other end."""
        if self.metrics is not None:
            self.metrics.count("bimodal_connections_total")
        return b"" if self.observer is None else self.observer.peer(transport)

    def turned_away(self) -> None:
        """Count a connection over the limit that is told so in no answer of HTTP."""
        if self.metrics is not None:
            self.metrics.denied("overloaded")

    def link(self, loop: asyncio.AbstractEventLoop) -> Link:
        """A connection that is to speak HTTP/2."""
        if self.links is None:
            self.links = Links(self, loop)
        return Link(self.links)

    async def drain(self, grace: float) -> None:
        """Accept no more, answer what is in flight, close. What is not done after `grace` seconds is cut off."""
        end = monotonic() + grace
        self.draining = True
        await asyncio.sleep(0.02)  # those whom the system queued before the drain are still let in
        self._stop()
        while self.connections and monotonic() < end:
            self._check()
            await asyncio.sleep(0.02)
        if self.connections:
            log.warning("%d connections cut off after %g s of draining", len(self.connections), grace)
        await self.close()

    async def close(self) -> None:
        """Close everything now."""
        self._stop()
        for connection in list(self.connections):
            connection.abort()
        if self.links is not None:
            self.links.deadlines.close()
        await asyncio.sleep(0)  # transports tell their connections in the next turn

    def parse(self, raw: bytes) -> Head:
        """The head that these bytes say, which is not among those seen. Raises Refusal."""
        if len(raw) > self.limits.header_bytes:
            raise long_head(self.limits.header_bytes)
        known = self._rests.find(raw)
        if known is not None:
            return known
        head = parse(raw, self.limits.header_fields)
        if len(raw) <= _HEAD_BYTES:
            self._rests.keep(raw, head)
            if len(self.heads) >= _HEADS:
                self.heads.clear()
            self.heads[raw] = head
        return head

    def _stop(self) -> None:
        """Accept no more, sweep no more."""
        for server in self._servers:
            server.close()
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._check()
        self._timer = loop.call_later(self.pace, self._sweep, loop)

    def _check(self) -> None:
        self.rendering.set_date()
        self.ending = self.rendering.ending
        if self.guard is not None:
            self.guard.look()
        if self.metrics is not None:
            self.metrics.refresh()
        now = monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._heap.look(len(self.connections), now)
