"""Crew: the Models that predict chunks side by side, each native one in a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from bimodal.errors import BimodalError
from bimodal.model import Model
from bimodal.runtimes.process import ProcessRuntime

MOST = 16


class Crew:
    """Lends out models. A proven model predicts in this process, on several threads; of another, clones are started."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._free: SimpleQueue[Model] = SimpleQueue()
        self._free.put(model)
        self._clones: list[Model] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.size = 1
        self.problem: str | None = None  # why there are fewer than asked for

    def grow(self, size: int) -> None:
        """Have this many at work; clones join when they are ready, nobody waits for them."""
        missing = size - self.size
        if missing <= 0:
            return
        if self._model.runtime.proven:
            for _ in range(missing):
                self._free.put(self._model)
            self.size = size
            return
        threading.Thread(target=self._hire, args=(missing,), name="bimodal-clones", daemon=True).start()

    def _hire(self, count: int) -> None:
        for _ in range(count):
            if self._closed.is_set():
                return
            try:
                (clone,) = self._model.clones(1)
            except (BimodalError, OSError) as error:
                self.problem = f"a further process could not be started: {error}"
                return
            if isinstance(clone.runtime, ProcessRuntime) and isinstance(self._model.runtime, ProcessRuntime):
                clone.runtime.limit = self._model.runtime.limit
            with self._lock:
                if self._closed.is_set():
                    clone.close()
                    return
                self._clones.append(clone)
                self.size += 1
            self._free.put(clone)

    @contextmanager
    def lent(self) -> Iterator[Model]:
        """A model that nobody else uses meanwhile."""
        model = self._free.get()
        try:
            yield model
        finally:
            self._free.put(model)

    def close(self) -> None:
        """End the clones; the first model belongs to the caller."""
        with self._lock:
            self._closed.set()
            for clone in self._clones:
                clone.close()
            self._clones.clear()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
