"""Pipeline: items are worked on in several threads, as far ahead as the bound says, and come out in their order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")
WAIT = 0.5  # seconds between two looks


class Bound:
    """How many may be under way at once; may be changed while waiting."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._changed:
            self._limit = max(1, limit)
            self._changed.notify_all()

    def take(self) -> bool:
        """Wait for room; False when the bound was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._taken < self._limit)
            self._taken += 1
            return not self._closed

    def give(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Pipeline(Generic[Item, Done]):
    """An iterator over `work(item)` for each item, in order.

    items are drawn in one thread, never more than `bound` ahead of what was taken out; `work` runs in `threads` others.
    An error of either is raised where its item would have come out. abandon: do not wait for what is under way at the
    end (items that may never come, such as those of a pipe that stays open). meanwhile: called twice a second in the
    thread that takes out, while it waits.
    """

    def __init__(
        self,
        items: Iterator[Item],
        work: Callable[[Item], Done],
        *,
        threads: int,
        bound: Bound,
        abandon: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._items, self._work, self._bound, self._abandon = items, work, bound, abandon
        self._meanwhile = meanwhile
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bimodal-predict")
        self._ahead: SimpleQueue[Future[Done] | BaseException | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._draw, name="bimodal-read", daemon=True)

    def __enter__(self) -> Iterator[Done]:
        self._reader.start()
        return self._in_order()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bound.close()
        waits = not self._abandon and not isinstance(error, KeyboardInterrupt)  # who interrupts does not want to wait
        self._pool.shutdown(wait=waits, cancel_futures=True)
        if waits:
            self._reader.join()

    def _in_order(self) -> Iterator[Done]:
        while True:
            future = self._next()
            if future is None:
                return
            if isinstance(future, BaseException):
                raise future
            try:
                yield self._result(future)
            finally:
                self._bound.give()

    def _result(self, future: Future[Done]) -> Done:
        while not wait([future], WAIT).done:
            self._pause()
        return future.result()

    def _next(self) -> Future[Done] | BaseException | None:
        """In short waits, so that Ctrl-C comes through at once."""
        while True:
            with contextlib.suppress(Empty):
                return self._ahead.get(timeout=WAIT)
            self._pause()

    def _pause(self) -> None:
        if self._meanwhile is not None:
            self._meanwhile()

    def _draw(self) -> None:
        last: BaseException | None = None
        try:
            while self._bound.take():
                item = next(self._items, None)
                if item is None:
                    break
                self._ahead.put(self._pool.submit(self._work, item))
        except RuntimeError as error:
            last = None if self._bound._closed else error  # the pool was shut down meanwhile
        except BaseException as error:  # raised again by the one who takes out
            last = error
        self._ahead.put(last)
        self._leave()

    def _leave(self) -> None:
        """What the items hold open is closed in the thread that opened it."""
        if isinstance(self._items, Generator):
            self._items.close()
