"""Starter: the thread that starts the processes of models.

Linux ends such a process with the thread that started it (PR_SET_PDEATHSIG), not with the process of that thread. So
all are started by one that lives as long as this process does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Starter:
    """One of a process; one that was forked from it makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def call(self, start: Callable[[], T]) -> T:
        """What `start` gives or raises, called in the thread."""
        result: Future[T] = Future()
        with self._lock:
            if self._process != os.getpid():
                self._process, self._work = os.getpid(), SimpleQueue()
                threading.Thread(target=self._run, args=(self._work,), name="bimodal-starter", daemon=True).start()
            self._work.put((start, result))
        return result.result()

    @staticmethod
    def _run(work: SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
        while True:
            start, result = work.get()
            try:
                result.set_result(start())
            except BaseException as error:  # it is the caller's
                result.set_exception(error)
            del start, result  # a process that is in them must end when nobody wants it any more


call = Starter().call  # of this process
