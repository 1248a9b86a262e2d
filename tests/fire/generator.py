"""The process that `load.py` starts: it sends what is due and writes down what becomes of it.

python -m tests.fire.generator    # a pickled list of Load on standard input, their outcomes on standard output
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import ssl
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

import uvloop

from tests.fire.calls import Calls
from tests.fire.load import HUNG, RESET, UNCONNECTED, Check, Load, Outcome, Record

OPENING = 64  # connections that are opened at once


class Call:
    """A request on its way."""

    __slots__ = ("body", "due", "sent")

    def __init__(self, due: float, body: int) -> None:
        self.due = due  # on the loop's clock
        self.body = body
        self.sent = 0.0


class Link(asyncio.Protocol):
    """One connection: at most one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.call: Call | None = None
        self.transport: asyncio.Transport
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.pool.opened(self)

    def send(self, call: Call) -> None:
        self.call = call
        call.sent = monotonic()
        self.transport.write(self.pool.request(call))

    def data_received(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        end = data.find(b"\r\n\r\n") + 4
        size = length(data[:end]) if end > 3 else 0
        if end == 3 or (size < 0 and not data.endswith(b"0\r\n\r\n")) or len(data) < end + size:
            self._held = data
            return
        self._held = b""
        call, self.call = self.call, None
        if call is not None:
            closes = b"connection: close" in data[:end].lower()
            self.pool.answered(self, call, data, end, closes=closes)

    def connection_lost(self, error: Exception | None) -> None:
        self.pool.lost(self)

    def abort(self) -> None:
        self.call = None
        self.transport.abort()


def length(head: bytes) -> int:
    """Of the body; -1: in chunks."""
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at >= 0:
        return int(head[at + 17 : head.find(b"\r\n", at + 2)])
    return -1 if b"transfer-encoding: chunked" in lower else 0


class Pool:
    """The connections of one load, its requests and what became of them."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.requests = load.requests()
        self.outcome = Outcome(load.whole)
        self._stamps = load.stamps
        self._check = judge(load.expected)
        self._loop = asyncio.get_running_loop()
        self._parts = urlsplit(load.url)
        self._tls = context() if self._parts.scheme == "https" else None
        self._free: list[Link] = []
        self._links: set[Link] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Call] = deque()
        self._over = asyncio.Event()
        self._sending = True
        self._open = 0  # requests without an end

    def request(self, call: Call) -> bytes:
        """What is sent for it."""
        request = self.requests[call.body]
        return self.load.stamped(request, call.sent) if self._stamps else request

    async def run(self) -> Outcome:
        self.outcome.began = monotonic()
        watch = self._loop.create_task(self._watch())
        await (self._closed() if self.load.connections else self._due())
        self._sending = False
        if self._open:
            await self._over.wait()
        for task in (watch, *self._tasks):
            task.cancel()
        for link in list(self._links):
            link.abort()
        return self.outcome

    async def _due(self) -> None:
        """The open loop."""
        began, many = self.outcome.began, len(self.requests)
        for number, due in enumerate(self.load.dues()):
            wait = began + due - monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            self.ask(Call(began + due, number % many))

    async def _closed(self) -> None:
        """The closed loop: who is answered asks again."""
        for number in range(self.load.connections):
            self.ask(Call(monotonic(), number % len(self.requests)))
        await asyncio.sleep(self.load.seconds)

    def ask(self, call: Call) -> None:
        self._open += 1
        while self._free:
            link = self._free.pop()
            if not link.transport.is_closing():
                link.send(call)
                return
        self._waiting.append(call)
        self._open_more()

    def _open_more(self) -> None:
        """Connections for those who wait, not too many at once: a storm of them would hold up what is sent."""
        while self._opening < min(OPENING, len(self._waiting)) and len(self._links) + self._opening < self.load.most:
            self._opening += 1
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        host, port = self._parts.hostname or "", self._parts.port or 0
        try:
            await self._loop.create_connection(lambda: Link(self), host, port, ssl=self._tls)
            self.outcome.connections += 1
        except OSError:
            if self._waiting:
                self._end(self._waiting.popleft(), UNCONNECTED)
        finally:
            self._opening -= 1
        self._open_more()

    def opened(self, link: Link) -> None:
        self._links.add(link)
        self._give(link)

    def _give(self, link: Link) -> None:
        """A free connection: what waits goes first."""
        if self._waiting:
            link.send(self._waiting.popleft())
        else:
            self._free.append(link)

    def answered(self, link: Link, call: Call, data: bytes, end: int, *, closes: bool) -> None:
        status = int(data[9:12])
        if status == 200 and not self._check(call.body, data[end:]):
            self.outcome.wrong += 1
        if status in (429, 503) and b"\r\nretry-after:" not in data[:end].lower():
            self.outcome.bare += 1
        self._end(call, status)
        if closes:
            self._links.discard(link)
            link.transport.close()
        else:
            self._give(link)
        if self.load.connections and self._sending:
            self.ask(Call(monotonic(), (call.body + 1) % len(self.requests)))

    def lost(self, link: Link) -> None:
        self._links.discard(link)
        if link.call is not None:
            call, link.call = link.call, None
            self._end(call, RESET)
            if self.load.connections and self._sending:
                self.ask(Call(monotonic(), call.body))

    def _end(self, call: Call, status: int) -> None:
        now, began = monotonic(), self.outcome.began
        lag = max(0.0, (call.sent or now) - call.due)
        self.outcome.records.append(Record(call.due - began, lag, now - call.due, status, call.body))
        self._open -= 1
        if not self._open and not self._sending:
            self._over.set()

    async def _watch(self) -> None:
        """Give up on what hangs."""
        patience = self.load.patience
        while True:
            await asyncio.sleep(0.05)
            late = monotonic() - patience
            while self._waiting and self._waiting[0].due < late:
                self._end(self._waiting.popleft(), UNCONNECTED)
            for link in [each for each in self._links if each.call is not None and each.call.due < late]:
                call = link.call
                link.abort()
                if call is not None:
                    self._end(call, HUNG)


def judge(expected: bytes | Sequence[bytes] | Check | None) -> Check:
    """Whether an answer is the expected one."""
    if expected is None:
        return lambda number, body: True
    if callable(expected):
        return expected
    if isinstance(expected, bytes):
        return lambda number, body: expected in body
    return lambda number, body: expected[number] in body


def context() -> ssl.SSLContext:
    """TLS that believes any certificate: who proves certificates does so elsewhere."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


async def drive(loads: Iterable[Load]) -> list[Outcome]:
    """All at once."""
    return await asyncio.gather(*[pool(each).run() for each in loads])


def pool(load: Load) -> Pool | Calls:
    """What asks for it."""
    return Calls(load) if load.url.startswith("grpc:") else Pool(load)


@contextmanager
def undisturbed(core: int | None) -> Iterator[None]:
    """On one core, without the collector of garbage, whose pauses would be taken for the server's."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    gc.disable()
    yield
    gc.enable()


def main() -> None:
    loads: list[Load] = pickle.load(sys.stdin.buffer)
    print("began", flush=True)
    with undisturbed(loads[0].core):
        outcomes = uvloop.run(drive(loads))
    os.set_blocking(sys.stdout.fileno(), True)  # a reader may be late, and a pipe holds 64 KiB
    # Under PYTHONUNBUFFERED `sys.stdout.buffer` is raw, and one write of it may take no more than what the pipe holds.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        pickle.dump(outcomes, out)


if __name__ == "__main__":
    main()
