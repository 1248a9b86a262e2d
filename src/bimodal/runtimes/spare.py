"""Spare: what takes the place of a process that died, already loaded.

Where a loaded process can be forked (`forking.py`), it stays as the mother of those that answer: a fork is there in
milliseconds, and shares the memory of its mother. Elsewhere a second process is loaded beside the first, if there is
memory for it; when it is needed, it takes over at once, and another one is loaded.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future

from bimodal.errors import BimodalError
from bimodal.runtimes import memory, watch
from bimodal.runtimes.children import Child, Mother
from bimodal.runtimes.isolation import ALWAYS, NEVER, Isolation
from bimodal.runtimes.loading import Loading, Report

log = logging.getLogger("bimodal.model")
AFFORDABLE = 0.25  # of the memory that is free, that a second process may take
LATER = 2.0  # seconds after the first that a second one is loaded: the server's start comes first
FORKED = "forked, shares its memory"
PAUSES = (0.25, 30.0)  # seconds until a process that could not be started is tried again: doubled from first to last


def dear(report: Report) -> str:
    """Why there is no memory for a second process; empty where there is."""
    free, needs = memory.free(), report.holds
    if report.device:
        return "a second one would take memory of the same device"
    if free is None or needs is None:
        return "this system does not tell how much memory there is"
    return (
        ""
        if needs <= AFFORDABLE * free
        else f"a second one would take {memory.told(needs)} of {memory.told(free)} free"
    )


def outlook(report: Report) -> str:
    """What a server would keep ready, in words."""
    if not report.hindrance:
        return FORKED
    why = dear(report)
    return f"none: {report.hindrance}, and {why}" if why else _second(report)


def _second(report: Report) -> str:
    return f"a second process, {memory.told(report.holds or 0)}, since {report.hindrance}"


class Succession:
    """The processes of one model, one after the other. Thread-safe, but for `first`, which comes first.

    told: what is kept ready, in words, or why nothing is.
    """

    def __init__(self, loading: Loading, isolation: Isolation) -> None:
        self._loading = loading
        self._wish = isolation.spare
        self._mother: Mother | None = None
        self._standby: Future[Child] | None = None
        self._later = 0.0
        self._lock = threading.RLock()
        self._closed = False
        self._keeps = False  # whether a second process is kept
        self.pause = 0.0  # seconds until the next try; 0 where the last one went well
        self.told = "none: not asked for"
        self.warning = ""
        self.how = ""  # the last one came

    def first(self) -> tuple[Child, Report]:
        """The first process, and what it found. Raises what keeps the model from loading."""
        child, report = self._loading.start()
        if self._wish == NEVER:
            return self._begun(child), report
        if not report.hindrance:
            self.told = FORKED
            return self._forked(child), report
        self._keep(report)
        return self._begun(child), report

    def _keep(self, report: Report) -> None:
        """Decide whether a second process is kept."""
        why = dear(report)
        if self._wish == ALWAYS or not why:
            self._keeps, self._later = True, time.monotonic() + LATER
            self.told = _second(report)
            watch.tend(self)
            return
        self.told = f"none: {report.hindrance}, and {why}"
        self.warning = (
            f"after a crash the model is loaded anew, since {report.hindrance} and {why}; spare = always keeps a "
            "loaded process ready all the same"
        )

    @property
    def ready(self) -> bool:
        """Whether the next process is there at once."""
        standby = self._standby
        if self._mother is not None:
            return self._mother.alive()
        return standby is not None and standby.done() and standby.exception() is None and standby.result().alive()

    def next(self) -> Child:
        """Another process, loaded. Blocks. Raises what keeps the model from loading; `pause` is then how long to wait
        before the next try.
        """
        with self._lock:
            try:
                child = self._next()
            except (BimodalError, OSError, EOFError):
                self.pause = min(2 * self.pause, PAUSES[1]) or PAUSES[0]
                raise
            self.pause = 0.0
            return child

    def _next(self) -> Child:
        if self._mother is not None and self._mother.alive():
            try:
                self.how = "a fork"
                return self._watched(self._mother.fork())
            except (OSError, EOFError):
                log.warning("a process that forks others had to be replaced")
        self._mother = None
        standby, self._standby = self._standby, None
        if standby is not None:
            try:
                child = standby.result()
            except (BimodalError, OSError):
                log.warning("a spare process could not be loaded")
            else:
                self._begin()
                if child.alive():
                    self.how = "the second process"
                    return child
        self.how = "a new start"
        child, report = self._loading.start()
        if self._wish == NEVER or report.hindrance:
            return self._begun(child)
        return self._forked(child)

    def _forked(self, child: Child) -> Child:
        self._mother = Mother(child)
        try:
            return self._watched(self._mother.fork())
        except (OSError, EOFError):  # a process that does not stand it
            self._mother, self._wish = None, NEVER
            self.told = "none: its process could not be forked"
            return self._begun(self._loading.start()[0])

    def _watched(self, child: Child) -> Child:
        watch.over(child, self._loading.allowed)
        return child

    @staticmethod
    def _begun(child: Child) -> Child:
        if child.streaming:
            child.begin_streams()
        return child

    def tend(self) -> None:
        """Load a second process, where one is to be kept and none is there."""
        if not self._keeps or self._closed or time.monotonic() < self._later or not self._lock.acquire(blocking=False):
            return
        try:
            standby = self._standby
            if standby is None or (standby.done() and not self.ready):
                self._later = time.monotonic() + PAUSES[1]
                self._begin()
        finally:
            self._lock.release()

    def _begin(self) -> None:
        """Load a second process beside the first."""
        found: Future[Child] = Future()
        self._standby = found
        threading.Thread(target=self._load, args=(found,), name="bimodal-spare", daemon=True).start()

    def _load(self, found: Future[Child]) -> None:
        try:
            child = self._begun(self._loading.start()[0])
        except BaseException as error:
            found.set_exception(error)
            return
        found.set_result(child)
        if self._closed:
            child.end()

    def close(self) -> None:
        """End what is kept ready."""
        self._closed = True
        standby, mother = self._standby, self._mother
        if mother is not None:
            mother.child.end()
        if standby is not None and standby.done() and standby.exception() is None:
            standby.result().end()
