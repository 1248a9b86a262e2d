"""Time that passes when nobody has anything to do: what depends on it is the same on any machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


class Clock(selectors.DefaultSelector):
    """Time that passes when nobody has anything to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.now += timeout
        return super().select(0)


@contextmanager
def timeless() -> Iterator[tuple[Clock, asyncio.Runner]]:
    """A loop on such a clock, which is the batcher's too."""
    clock = Clock()

    def made() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(clock)
        loop.time = clock  # type: ignore[method-assign] # the very point
        return loop

    with (
        patch("bimodal.realtime.batcher.monotonic", clock),
        patch("tests.realtime.fakes.monotonic", clock),
        asyncio.Runner(loop_factory=made) as runner,
    ):
        yield clock, runner
