"""A request whose long body is read beside others: between two pieces of it, or while a thread reads it, the event loop
answers them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.service import Served
from bimodal.realtime.work import Work

LONG = 1 << 18  # bytes of a body that a thread reads, where what reads it lets others go on
_running: set[asyncio.Task[None]] = set()


class Taking(Protocol):
    """The door that it came to."""

    @property
    def served(self) -> Served: ...

    @property
    def route(self) -> str: ...


class Underway(ABC):
    """On its way to the model."""

    def __init__(self, door: Taking, request: Request, respond: Respond) -> None:
        self.request = request
        self.respond = respond
        self._door = door
        self._work: Work | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    def cancel(self) -> None:
        """The caller left."""
        if self._work is not None:
            self._work.cancel()
        else:
            self._task.cancel()

    @abstractmethod
    async def taken(self) -> Work:
        """The request as a work. Raises InputError, UsageError."""

    async def _run(self) -> None:
        served = self._door.served
        try:
            self._work = await self.taken()
            served.batcher.submit(self._work)
        except Exception as error:
            served.refuse(self._door.route, self.request, self.respond, error)


class Beside(Underway):
    """One that a thread reads. take: makes the work of it, in the thread."""

    def __init__(
        self, door: Taking, take: Callable[[Request, Respond], Work], request: Request, respond: Respond
    ) -> None:
        super().__init__(door, request, respond)
        self._take = take

    async def taken(self) -> Work:
        return await asyncio.to_thread(self._take, self.request, self.respond)
