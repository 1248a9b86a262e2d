"""Connections of an AsyncClient: kept open on its event loop, no more than a bound."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import cast

from bimodal.client.address import Address
from bimodal.client.patience import Cut, Patience
from bimodal.client.question import Answer, Question
from bimodal.client.reading import Reading, Written


class Connection(asyncio.Protocol):
    """One connection. Whoever has it, has it alone."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.used = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        made = transport.get_extra_info("socket")
        if made is not None and made.family != getattr(socket, "AF_UNIX", None):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.close()  # bytes that nobody asked for
            return
        try:
            self.reading.feed(data)
        except Cut as error:
            self._settle(error)
            return
        if self.reading.done:
            self._settle(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._settle(Cut(str(error or "the connection ended"), begun=self.reading.begun, stale=self.used))

    def _settle(self, error: Cut | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Answer:
        """Send a request, read its answer. Raises Cut. A caller that leaves must close the connection."""
        if self._transport is None:
            raise Cut("the connection ended", sent=False)
        self.reading.begin()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._waiter
        self.used = True
        return self.reading.answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Connections:
    """At most `most` connections to one server; who finds none free waits for one."""

    def __init__(self, address: Address, key: str | None, context: ssl.SSLContext | None, most: int) -> None:
        self._address = address
        self._context = context
        self._written = Written(address, key)
        self._most = most
        self._count = 0
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def ask(self, question: Question, patience: Patience) -> Answer:
        """One try. Raises Cut, DeadlineExceeded."""
        try:
            async with asyncio.timeout(patience.left):
                return await self._ask(question, patience)
        except TimeoutError:
            raise patience.late() from None

    async def _ask(self, question: Question, patience: Patience) -> Answer:
        connection = await self._take()
        keep = False
        try:
            answer = await connection.ask(self._written.request(question, patience.left))
            keep = connection.reading.keep and connection.open
            return answer
        finally:
            self._give(connection, keep=keep)

    async def _take(self) -> Connection:
        loop = asyncio.get_running_loop()
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.open:
                    return connection
                self._count -= 1
            if self._count < self._most:
                break
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # it was called, and does not come
                raise
        self._count += 1
        try:
            host, port = self._address.host, self._address.port
            name = host if self._context is not None else None
            _, made = await loop.create_connection(Connection, host, port, ssl=self._context, server_hostname=name)
        except OSError as error:
            self._leave()
            raise Cut(str(error), sent=False) from error
        except BaseException:
            self._leave()
            raise
        return made

    def _give(self, connection: Connection, *, keep: bool) -> None:
        if keep:
            self._idle.append(connection)
            self._wake()
        else:
            connection.close()
            self._leave()

    def _leave(self) -> None:
        self._count -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Close the idle ones."""
        for connection in self._idle:
            connection.close()
        self._count -= len(self._idle)
        self._idle = []
