"""Connections of an AsyncClient: kept open on its event loop, no more than a bound."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar, cast

from bimodal.client.address import Address
from bimodal.client.failure import failure
from bimodal.client.patience import Cut, Patience, Unwelcome, ended, not_reached
from bimodal.client.question import Answer, Question
from bimodal.client.reading import Reading, Written

HIGH = 1 << 18  # bytes of a stream that wait for their reader
T = TypeVar("T")


class Connection(asyncio.Protocol):
    """One connection. Whoever has it, has it alone."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.used = self._streams = self._paused = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._end: Cut | None = None  # how it ended
        self._secure = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._secure = transport.get_extra_info("ssl_object") is not None
        made = transport.get_extra_info("socket")
        if made is not None and made.family != getattr(socket, "AF_UNIX", None):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None and not self._streams:
            self.close()  # bytes that nobody asked for
            return
        try:
            self.reading.feed(data)
        except Cut as error:
            self._settle(error)
            return
        if self._streams and sum(map(len, self.reading.pieces)) > HIGH and self._transport is not None:
            self._paused = True  # a reader that is slow holds the model up
            self._transport.pause_reading()
        if self.reading.done:
            self._streams, self.used = False, True
        if self.reading.done or self._streams:
            self._settle(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end = ended(error, begun=self.reading.begun, stale=self.used, secure=self._secure)
        self._settle(self._end)

    @property
    def _unasked(self) -> Cut:
        """It had ended before anything was asked."""
        if isinstance(self._end, Unwelcome):
            return self._end
        return Cut("the connection ended", sent=False, why=None if self._end is None else self._end.why)

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
            raise self._unasked
        self.reading.begin()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._waiter
        self.used = True
        return self.reading.answer

    async def begin(self, request: bytes) -> None:
        """Send a request, wait for the head of its answer, whose pieces then stand in `reading`. Raises Cut."""
        if self._transport is None:
            raise self._unasked
        self.reading.begin()
        self._streams = True
        self._transport.write(request)
        while not (self.reading.headed or self.reading.done):
            await self.more()

    async def more(self) -> None:
        """Wait until more of the answer is there. Raises Cut."""
        if self._transport is None:
            raise Cut("the connection ended", begun=self.reading.begun, stale=self.used)
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def taken(self) -> bytes:
        """The pieces that are there, which are read on from now."""
        given = b"".join(self.reading.pieces)
        self.reading.pieces.clear()
        if self._paused and self._transport is not None:
            self._transport.resume_reading()
        self._paused = False
        return given

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
        connection = await self._take(patience)
        keep = False
        try:
            answer = await connection.ask(self._written.request(question, patience.left))
            keep = connection.reading.keep and connection.open
            return answer
        finally:
            self._give(connection, keep=keep)

    async def stream(self, question: Question, patience: Patience) -> AsyncGenerator[bytes, None]:
        """One try of an answer in pieces: first nothing, once its head is good. Closing it closes the connection.
        The server is told the whole timeout, which each further piece has anew. Raises Cut, DeadlineExceeded, and the
        error that is answered.
        """
        connection = await self._within(patience, lambda: self._take(patience))
        keep = False
        try:
            await self._within(patience, lambda: connection.begin(self._written.request(question, patience.timeout)))
            reading = connection.reading
            if not reading.streams:
                while not reading.done:
                    await self._within(patience, connection.more)
                raise failure(reading.answer, patience.place)
            yield b""
            while reading.pieces or not reading.done:
                if not reading.pieces:
                    await self._within(patience, connection.more)
                yield connection.taken()
            keep = reading.keep and connection.open
        finally:
            self._give(connection, keep=keep)

    async def _within(self, patience: Patience, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            async with asyncio.timeout(patience.left):
                return await work()
        except TimeoutError:
            raise patience.late() from None

    async def _take(self, patience: Patience) -> Connection:
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
        except ssl.SSLCertVerificationError as error:
            self._leave()
            raise patience.distrusted(error) from error
        except OSError as error:
            self._leave()
            raise not_reached(error, self._address.host) from error
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
