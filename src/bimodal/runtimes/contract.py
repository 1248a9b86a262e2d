"""Runtime: what executes a model."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

from bimodal.rows import Rows


class Runtime(ABC):
    """Predicts Rows. Every method is thread-safe.

    name: as `inspect` shows it (native, onnx, …). proven: it may be called in the process that holds the callers'
    connections. releases_gil: several threads may run it side by side. streams: how many answers it gives in pieces
    side by side; 0 where it gives whole answers only.
    """

    name: str
    proven: bool = False
    releases_gil: bool = False
    streams: int = 0

    @abstractmethod
    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        """The named outputs, one row for each row given, in their order. Never called without rows.

        Raises ModelFailed where the model refuses the rows, ModelCrashed where its process died.
        """

    async def run_async(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.run, rows, outputs)

    async def run_aside(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        """The same in a process of its own, where there is one, so that `run_async` goes on meanwhile."""
        return await self.run_async(rows, outputs)

    @property
    def spared(self) -> bool:
        """Whether another process takes over at once from one that is ended."""
        return False

    def stream(self, rows: Rows, outputs: Sequence[str]) -> Generator[Rows]:
        """The answer to one row in pieces, each with those of the named outputs that it holds. Closing the generator
        stops the model. Raises as `run` does.
        """
        yield self.run(rows, outputs)

    def interrupt(self, *, again: bool = True) -> bool:
        """End the call of `run_async` that runs now, which raises ModelCrashed; False where that cannot be done. again:
        others will come.
        """
        return False

    def close(self) -> None:
        """Give back what it holds. A closed runtime is not used again."""
        return
