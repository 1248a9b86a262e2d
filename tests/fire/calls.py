"""The generator's unary gRPC calls: `Load` with an address `grpc://HOST:PORT`, its bodies messages of ModelInfer.

Statuses are written down as those of HTTP that mean the same, so that all doors are judged alike.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from urllib.parse import urlsplit

import grpc

from tests.fire.load import HUNG, RESET, Load, Outcome, Record

METHOD = "/inference.GRPCInferenceService/ModelInfer"
STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Calls:
    """All calls of one load, over one channel."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.outcome = Outcome(load.whole, connections=1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Outcome:
        async with grpc.aio.insecure_channel(urlsplit(self.load.url).netloc) as channel:
            await channel.channel_ready()
            self._ask = channel.unary_unary(METHOD)
            self.outcome.began = monotonic()
            await (self._closed() if self.load.connections else self._open())
            if self._tasks:
                await asyncio.wait(self._tasks)
        return self.outcome

    async def _open(self) -> None:
        began, many = self.outcome.began, len(self.load.bodies)
        for number, due in enumerate(self.load.dues()):
            wait = began + due - monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._call(began + due, number % many))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _closed(self) -> None:
        end = self.outcome.began + self.load.seconds

        async def caller(body: int) -> None:
            while monotonic() < end:
                await self._call(monotonic(), body % len(self.load.bodies))

        await asyncio.gather(*[caller(number) for number in range(self.load.connections)])

    async def _call(self, due: float, body: int) -> None:
        sent = monotonic()
        deadline = None if self.load.deadline_ms is None else self.load.deadline_ms / 1e3
        message = self.load.stamped(self.load.bodies[body], sent)
        try:
            async with asyncio.timeout(self.load.patience):
                await self._ask(message, timeout=deadline)
            status = 200
        except grpc.aio.AioRpcError as error:
            status = STATUS.get(error.code(), RESET)
            trailers = {name for name, _ in error.trailing_metadata() or ()}
            if status in (429, 503) and "retry-after" not in trailers:
                self.outcome.bare += 1
        except TimeoutError:
            status = HUNG
        began = self.outcome.began
        self.outcome.records.append(Record(due - began, sent - due, monotonic() - due, status, body))
