"""Suspects: requests whose rows the model does not seem to end with. Each is tried once more, in a process of its own
and until its deadline, while the others are answered: a call that is slow has its answer, one that hangs harms nobody.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from bimodal.errors import BimodalError, DeadlineExceeded, ModelCrashed, ModelHung
from bimodal.realtime.work import Batch, Key, Work, check_balance
from bimodal.rows import Rows

if TYPE_CHECKING:
    from bimodal.realtime.batcher import Batcher

log = logging.getLogger("bimodal.realtime")


class Suspects:
    """Of one batcher; one process at a time."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._turn = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        return len(self._tasks)

    def take(self, key: Key, work: Work, rows: Rows) -> None:
        """Try it once more."""
        task = asyncio.get_running_loop().create_task(self._try(key, work, rows))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Finish what was taken."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _try(self, key: Key, work: Work, rows: Rows) -> None:
        began = 0.0
        try:
            async with asyncio.timeout(max(0.0, work.deadline - monotonic())), self._turn:
                if work.settled:
                    return
                began = monotonic()
                answer = await self._batcher.model.run_async(rows, key[0], threshold=key[1], aside=True)
            check_balance(answer, rows)
        except TimeoutError:
            self._batcher.fail(work, DeadlineExceeded("no prediction within the deadline"))
            if began:
                self._convict(key, rows, monotonic() - began)
        except Exception as error:
            self._batcher.fail(work, error)
            if isinstance(error, ModelCrashed):
                self._batcher.quarantine.remember(key, rows, error)
            elif not isinstance(error, BimodalError):
                log.exception("a request could not be tried in a process of its own")
        else:
            seconds = monotonic() - began
            self._batcher.habit.took(seconds)
            self._batcher.done(Batch([work], rows, answer, began, seconds, inline=False), waited=True)

    def _convict(self, key: Key, rows: Rows, seconds: float) -> None:
        told = f"the model gave no answer to these rows, tried alone, within {seconds:.3g} s; look into it"
        error = ModelHung(told)
        error.tried = seconds
        self._batcher.quarantine.remember(key, rows, error)
        log.error("%s: a request, tried alone, hung until its deadline; its rows are refused for a while", self._name)

    @property
    def _name(self) -> str:
        return self._batcher.model.name
