"""Watch: a thread that looks at the processes of models: how much memory they hold, and whether a spare is there.

Measured in the process that asks them, since a process that eats memory cannot be trusted to say so. Between two looks
it may take what the system can give in that time; `confine.bound` refuses what is wanted at once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import Protocol

from bimodal.runtimes import memory
from bimodal.runtimes.children import Child
from bimodal.runtimes.isolation import greedy

log = logging.getLogger("bimodal.model")
EVERY = 0.25  # seconds


class Tended(Protocol):
    """What wants to be told now and then that time passes."""

    def tend(self) -> None: ...


class Watch:
    """One of a process; one that was forked from it makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._children: weakref.WeakKeyDictionary[Child, int] = weakref.WeakKeyDictionary()
        self._tended: weakref.WeakSet[Tended] = weakref.WeakSet()

    def over(self, child: Child, allowed: int | None) -> None:
        """Have the process ended when it holds more than `allowed` bytes."""
        if allowed is not None:
            with self._lock:
                self._children[child] = allowed
                self._begin()

    def tend(self, tended: Tended) -> None:
        """Call its `tend` now and then, in the thread."""
        with self._lock:
            self._tended.add(tended)
            self._begin()

    def _begin(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            threading.Thread(target=self._run, name="bimodal-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(EVERY)
            try:
                self._look()
            except Exception:
                log.exception("the processes of models could not be looked at")

    def _look(self) -> None:
        with self._lock:
            children, tended = list(self._children.items()), list(self._tended)
        for child, allowed in children:
            held = memory.held(child.process.pid) if child.end.alive else None
            if held is not None and held > allowed and child.alive():
                child.kill(greedy(allowed))
        for each in tended:
            each.tend()


_watch = Watch()  # of this process
over, tend = _watch.over, _watch.tend
