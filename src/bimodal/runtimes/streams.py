"""One answer that comes in pieces from the process that runs the model: each stream has a private socket of its own.

    there   one request (`wire.py`: outputs, and the one row), then bytes: each lets the model give so many pieces more
    here    {"piece": true} with the outputs of one piece, …, then {"end": true} or {"error": …}

The model may be WINDOW pieces ahead of its reader; then it waits. A stream that its reader closes is closed there too:
the generator in the model's code is ended where it stands. Without an end the process died.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from bimodal.errors import BimodalError, ModelHung, retold
from bimodal.rows import Rows
from bimodal.runtimes import wire
from bimodal.runtimes.wire import Garbled, Line

WINDOW = 8  # pieces that a model may be ahead of its reader
GRACE = 10.0  # seconds in which a model that was told to stop gives a sign, before it is taken to be stuck
READ = 64 * 1024  # bytes taken from the socket at once

Died = Callable[[Exception | None], BimodalError]  # of what the connection came to


class Inbox:
    """Messages out of the bytes that arrive on a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self) -> tuple[dict[str, Any], Rows | None] | None:
        """The next whole message. Raises Garbled."""
        if len(self._data) < wire.START.size:
            return None
        size, head = wire.begun(self._line, self._data)
        if len(self._data) < size:
            return None
        rest = memoryview(bytes(self._data[wire.START.size : size]))
        del self._data[:size]
        return wire.read(self._line, rest, head)


class _Ended(Exception):
    """The model has given its last piece."""


class _Pieces:
    """What both kinds of stream do alike. died: the error of a stream without an end."""

    def __init__(self, channel: Line, died: Died) -> None:
        self._channel = channel
        self._died = died
        self._inbox = Inbox(channel)
        self._read = 0  # pieces since the last credit

    def _next(self) -> Rows | None:
        """The next piece, where it has arrived. Raises _Ended, or the model's error."""
        try:
            message = self._inbox.take()
        except Garbled as error:
            raise self._died(error) from error
        if message is None:
            return None
        header, rows = message
        if "error" in header:
            raise retold(header["error"])
        if rows is None:
            raise _Ended
        self._read += 1
        if self._read >= WINDOW // 2:
            with contextlib.suppress(OSError):  # a process that died is told of by the end of its bytes
                self._channel.send(bytes([self._read]))
            self._read = 0
        return rows


class Stream(_Pieces):
    """A stream that blocks. patience: seconds between two pieces after which the model is taken to hang."""

    def __init__(
        self, channel: Line, died: Died, rows: Rows, outputs: Sequence[str], patience: float | None = None
    ) -> None:
        super().__init__(channel, died)
        channel.settimeout(patience)
        self._patience = patience
        wire.send(channel, {"outputs": list(outputs)}, rows)

    def __iter__(self) -> Iterator[Rows]:
        """The pieces. Closing the iterator stops the model."""
        try:
            while True:
                piece = self._next()
                if piece is None:
                    self._inbox.feed(self._arrived())
                else:
                    yield piece
        except _Ended:
            return
        finally:
            self._channel.close()

    def _arrived(self) -> bytes:
        try:
            data = self._channel.recv(READ)
        except TimeoutError:
            raise ModelHung(f"the model gave nothing more within {self._patience:.3g} s") from None
        except OSError:
            data = b""
        if not data:
            raise self._died(None)
        return data


class LoopStream(_Pieces, AsyncIterator[Rows]):
    """The same on an event loop. ended: told once, when the model has let go of the stream: its place is free. stuck:
    told GRACE seconds after it was closed, where the model has not.
    """

    def __init__(
        self,
        channel: Line,
        died: Died,
        rows: Rows,
        outputs: Sequence[str],
        ended: Callable[[], None],
        stuck: Callable[[], None],
    ) -> None:
        super().__init__(channel, died)
        channel.setblocking(False)
        self._request: bytes | None = b"".join(wire.framed(channel, {"outputs": list(outputs)}, rows))
        self._ended = ended
        self._stuck = stuck
        self._over = False

    async def __anext__(self) -> Rows:
        if self._over:
            raise StopAsyncIteration
        try:
            while (piece := self._next()) is None:
                await self._arrive()
        except _Ended:
            self._finish()
            raise StopAsyncIteration from None
        except BaseException:
            self.close()
            raise
        return piece

    async def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._request is not None:
                request, self._request = self._request, None
                await loop.sock_sendall(self._channel, request)
            data = await loop.sock_recv(self._channel, READ)
        except OSError:
            data = b""
        if not data:
            error = self._died(None)
            self._finish()
            raise error
        self._inbox.feed(data)

    def close(self) -> None:
        """Stop the model. Its place is free when it has stopped, which is when it next gives a piece."""
        if self._over:
            return
        self._over = True
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        loop = asyncio.get_running_loop()
        grace = loop.call_later(GRACE, self._stuck)
        loop.add_reader(self._channel.fileno(), self._drain, loop, grace)
        weakref.finalize(self, self._channel.close)  # where the loop ends first

    async def aclose(self) -> None:
        self.close()

    def _drain(self, loop: asyncio.AbstractEventLoop, grace: asyncio.TimerHandle) -> None:
        """Drop what the model still says, up to its end."""
        try:
            if self._channel.recv(READ):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # its end as well
        loop.remove_reader(self._channel.fileno())
        grace.cancel()
        self._release()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._release()

    def _release(self) -> None:
        self._channel.close()
        self._ended()
