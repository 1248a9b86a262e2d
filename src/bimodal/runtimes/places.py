"""Places: how many answers in pieces a model gives side by side, whoever asks for them."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """So many places. All calls come from one event loop's thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take one, where one is free."""
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    async def wait(self) -> None:
        """Take one as soon as one is free; who came first goes first."""
        if self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it was given just now
            raise

    def leave(self) -> None:
        """Give one back: to the one that waits longest, if any does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
