"""Errands: calls that block, made beside the event loop, those of one turn together.

What is asked while a call is under way goes with the next one. All methods are called from the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

from bimodal.errors import BimodalError, DeadlineExceeded, Overloaded

MOST = 10_000  # keys of one call
WAITING = 50_000  # keys that wait; more are refused

H = TypeVar("H")
V = TypeVar("V")


@dataclass(eq=False)
class _Wait:
    keys: Sequence[Any]
    answer: asyncio.Future[Any]
    deadline: float


class Errands(Generic[H, V]):
    """call: of keys gives something that holds for all of them, and a value each."""

    def __init__(self, call: Callable[[list[Any]], tuple[H, Sequence[V]]], name: str) -> None:
        self._call = call
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[_Wait] = []
        self._keys = 0
        self._running: asyncio.Task[None] | None = None

    async def ask(self, keys: Sequence[Any], deadline: float) -> tuple[H, Sequence[V]]:
        """The values of the keys. Raises DeadlineExceeded, Overloaded, and what the call raises."""
        if self._keys + len(keys) > WAITING:
            raise Overloaded("too many lookups wait for the store")
        loop = asyncio.get_running_loop()
        wait = _Wait(keys, loop.create_future(), deadline)
        self._waiting.append(wait)
        self._keys += len(keys)
        if self._running is None:
            self._running = loop.create_task(self._work_off())
        try:
            head, values = await asyncio.wait_for(wait.answer, max(0.0, deadline - monotonic()))
        except TimeoutError:
            raise DeadlineExceeded("no answer of the store within the deadline") from None
        return head, values

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._running is not None:
            self._running.cancel()

    async def _work_off(self) -> None:
        try:
            await asyncio.sleep(0)  # the rest of this turn comes along
            while self._waiting:
                await self._go(self._next())
        finally:
            self._running = None

    def _next(self) -> list[_Wait]:
        """Those that go together: at most MOST keys, or one request with more."""
        count, keys = 0, 0
        while count < len(self._waiting) and (not count or keys + len(self._waiting[count].keys) <= MOST):
            keys += len(self._waiting[count].keys)
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._keys -= keys
        now = monotonic()
        return [wait for wait in taken if not wait.answer.done() and wait.deadline > now]

    async def _go(self, waits: list[_Wait]) -> None:
        keys = [key for wait in waits for key in wait.keys]
        if not keys:
            for wait in waits:
                wait.answer.cancel()
            return
        try:
            head, values = await asyncio.get_running_loop().run_in_executor(self._pool, self._call, keys)
            if len(values) != len(keys):
                raise BimodalError(f"the store gave {len(values)} answers for {len(keys)} keys")
        except Exception as error:  # it is theirs who wait for it
            for wait in waits:
                if not wait.answer.done():
                    wait.answer.set_exception(error)
            return
        at = 0
        for wait in waits:
            if not wait.answer.done():
                wait.answer.set_result((head, values[at : at + len(wait.keys)]))
            at += len(wait.keys)
