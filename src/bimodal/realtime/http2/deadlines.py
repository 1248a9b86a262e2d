"""Deadlines of calls, which nearly all end before theirs: a call costs a set of its moment, not a timer of its own."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from time import monotonic
from typing import Protocol

STEP = 0.02  # seconds: calls end so much late, at most


class Timed(Protocol):
    """What has a deadline, on the monotonic clock. moment: its set, to leave when it is done."""

    deadline: float
    moment: set[Timed] | None

    def expire(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """All calls with a deadline of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._moments: dict[int, set[Timed]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, timed: Timed) -> None:
        """Have it expire at its deadline, unless it leaves before."""
        number = int(timed.deadline / STEP) + 1
        moment = self._moments.get(number)
        if moment is None:
            moment = self._moments[number] = set()
            heappush(self._order, number)
            if self._order[0] == number:
                self._wait()
        moment.add(timed)
        timed.moment = moment

    def _wait(self) -> None:
        """Until the next moment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._order:
            self._timer = self._loop.call_later(max(0.0, self._order[0] * STEP - monotonic()), self._pass)

    def _pass(self) -> None:
        now = monotonic() / STEP
        while self._order and self._order[0] <= now:
            for timed in list(self._moments.pop(heappop(self._order))):
                timed.expire()
        self._timer = None
        self._wait()

    def close(self) -> None:
        """Nothing expires any more."""
        self._order.clear()
        self._moments.clear()
        self._wait()
