"""Requests to a model that answers in pieces: each is asked on its own, as many side by side as the model answers.

At the deadline, or when the caller leaves, the model is stopped.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from bimodal.errors import DeadlineExceeded
from bimodal.realtime.work import Batch, Key, Work, check_balance
from bimodal.rows import Rows

if TYPE_CHECKING:
    from bimodal.realtime.batcher import Batcher


class Joining:
    """The requests of one such model that wait for a place or are being answered."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._tasks: dict[Work, asyncio.Task[None]] = {}

    @property
    def count(self) -> int:
        return len(self._tasks)

    def join(self, key: Key, work: Work) -> None:
        """Ask the model."""
        kept, rows = self._batcher.checked([work])
        if rows is None:
            return
        work.queue = self._batcher
        task = asyncio.get_running_loop().create_task(self._run(key, kept, rows, self._batcher.check))
        self._tasks[work] = task
        task.add_done_callback(lambda _: self._parted(work))
        self._count_rows()

    def leave(self, work: Work) -> bool:
        """The caller left; False where it is none of these."""
        task = self._tasks.get(work)
        if task is None:
            return False
        task.cancel()
        return True

    async def stop(self) -> None:
        """Wait for all."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _run(self, key: Key, works: list[Work], rows: Rows, check: float) -> None:
        batcher, (work,) = self._batcher, works
        began = monotonic()
        try:
            async with asyncio.timeout(work.deadline - began):
                answer = await batcher.model.run_async(rows, key[0], threshold=key[1])
            check_balance(answer, rows)
        except TimeoutError:
            batcher.fail(work, DeadlineExceeded("no prediction within the deadline"))
        except Exception as error:
            batcher.fail(work, error)
        else:
            batcher.done(Batch(works, rows, answer, began, monotonic() - began, inline=False, check=check))

    def _parted(self, work: Work) -> None:
        del self._tasks[work]
        work.queue = None
        self._count_rows()

    def _count_rows(self) -> None:
        """Rows that wait for a place of the model."""
        waiting = sum([work.count for work in self._tasks]) - self._batcher.model.runtime.streams
        self._batcher.waiting_rows = max(0, waiting)
