"""The supervisor of the worker processes: started, watched, restarted, drained.

The parent opens the listening sockets and keeps them. So a worker that dies leaves its queue of new connections to its
successor: they wait a little, none is reset. Where it does not come back soon, the others take them (`adoption.py`).
Workers are watched from a thread of their own, which is also the thread that starts them, since Linux ties their life
to it. Where none serves for long, their callers are told so (`standin.py`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from bimodal.errors import BimodalError, Unavailable, UsageError
from bimodal.formats.library import library
from bimodal.realtime.attended import Worker
from bimodal.realtime.control import Ask, Done, Known, Show, Shown, States, Word
from bimodal.realtime.job import Job, Report
from bimodal.realtime.limits import Limits
from bimodal.realtime.reload import Reload
from bimodal.realtime.standin import StandIn

log = logging.getLogger("bimodal.realtime")

_HEARING = 5.0  # seconds in which all workers should know what a caller is told
_EXTRA = 1.0  # seconds beyond the grace before a draining worker is killed


@dataclass(eq=False)
class Change:
    """Workers that are to be followed by others, one after the other. left: their places. successor: the one that
    starts beside the worker in `place`, on the same socket.
    """

    spec: dict[str, Any]
    left: list[int]
    place: int = 0
    successor: Worker | None = None
    error: BimodalError | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Workers:
    """One worker process for each set of listening sockets, one for each port (a socket may be given several times).

    The sockets are taken over: they close when the workers are told to stop, so that new callers are refused at once
    while the drain goes on.
    """

    def __init__(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        spec: Mapping[str, Any],
        limits: Limits,
        *,
        grace: float = 30.0,
    ) -> None:
        job = Job(dict(spec), limits, worker=0, parent=os.getpid(), grace=grace, path=_search_path())
        self._workers = [Worker(number, listening, job) for number, listening in enumerate(sockets)]
        self._grace = grace
        self._started = threading.Event()
        self._ended = threading.Event()
        self._error: BimodalError | None = None
        self._stops = 0  # how often stop was called
        self._told = 0  # how often the workers were told
        self._kill_at = math.inf
        self._change: Change | None = None
        self._retired: list[Worker] = []  # they drain; nobody follows them
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._supervise, name="bimodal-workers", daemon=True)
        self._shows = False  # whether an example is asked for
        self._shown: str | None = None
        self._seen = threading.Event()
        self._missing: set[int] = set()  # numbers of workers whose connections the others take
        self._stand_in: StandIn | None = None  # while no worker serves
        self._spec, self._tls = spec, spec.get("tls")
        self._reloads: deque[Reload] = deque()
        self._stock: Mapping[str, Any] | None = None  # what of a repository is served
        self._states: States | None = None
        self._answers: deque[tuple[Worker, Done, int, float]] = deque()
        self.asked: Callable[[Worker, Ask], None] | None = None  # told what workers ask, in the thread

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def start(self) -> None:
        """Start all; returns when all are ready. Raises the error that keeps a worker from it."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def replace(self, spec: Mapping[str, Any]) -> None:
        """Have others take over that are made of `spec`, one after the other: each starts beside the worker whose
        socket it shares, and that one drains when its successor is ready. So no caller is refused. Returns when all
        were followed. Raises the error that keeps a successor from starting: then the others stay. One caller at a
        time.
        """
        change = Change(dict(spec), list(range(len(self._workers))))
        self._change = change
        self._poke()
        while not change.over.wait(0.5) and not self._ended.is_set():
            pass
        if change.error is not None:
            raise change.error

    def reload(self, change: Reload) -> None:
        """Have all workers make a change of their models. Returns when they have; raises what keeps them from it."""
        self._reloads.append(change)
        self._poke()
        while not change.result(0.5):
            if self._ended.is_set():
                raise Unavailable("the server is shutting down")

    def stocked(self, stock: Mapping[str, Any]) -> None:
        """What workers that start from now on begin with, beside their spec."""
        self._stock = stock

    def tell(self, states: States) -> None:
        """Let all workers know, and those that start later."""
        self._states = states
        self._poke()

    def example(self, timeout: float) -> str | None:
        """The body of a request that works, as a worker tells it; None where it tells none in time."""
        self._shown, self._shows = None, True
        self._seen.clear()
        self._poke()
        self._seen.wait(timeout)
        return self._shown

    def hang_up(self) -> None:
        """Have those that serve look at their files again, by SIGHUP."""
        for worker in self._workers:
            process = worker.process
            if worker.is_ready and process is not None:
                process.send_signal(signal.SIGHUP)

    def answer(self, worker: Worker, done: Done) -> None:
        """Tell a worker of what it asked, when all that serve know the states that were told before: who asks any of
        them afterwards learns of nothing older. One that does not listen is not waited for.
        """
        number = 0 if self._states is None else self._states.number
        self._answers.append((worker, done, number, time.monotonic() + _HEARING))
        self._poke()

    def _poke(self) -> None:
        with contextlib.suppress(OSError):  # the supervisor may have ended meanwhile
            self._wake.send(b".")

    def stop(self, grace: float | None = None) -> None:
        """Drain all, for at most `grace` seconds; returns when they have ended. Called again, it ends them at once."""
        self._kill_at = time.monotonic() + (self._grace if grace is None else grace) + _EXTRA
        self._stops += 1
        self._poke()
        self._ended.wait()
        self._wake.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all workers have ended, which they do only when stopped; False if they have not by then."""
        return self._ended.wait(timeout)

    # In the thread

    def _supervise(self) -> None:
        try:
            for worker in self._workers:
                worker.start(self._stock)
            while any(worker.is_alive for worker in self._all()):
                self._turn()
        finally:
            self._relieve()
            for worker in self._all():
                worker.kill()
                worker.close()
            self._ended.set()
            self._started.set()
            self._woken.close()

    def _all(self) -> list[Worker]:
        successor = None if self._change is None else self._change.successor
        return [*self._workers, *self._retired, *([] if successor is None else [successor])]

    def _turn(self) -> None:
        """Wait until something happens, and deal with it."""
        self._listen()
        now = time.monotonic()
        if self._stops > self._told:
            self._told = self._stops
            self._relieve()
            for worker in self._all():
                worker.terminate()
                worker.close()
        for worker in self._all():
            if now >= min(self._kill_at, worker.kill_at) or self._error is not None:
                worker.kill()
        for worker in self._workers:
            if worker.restart_at <= now:
                worker.start(self._stock)
        if all(worker.is_ready for worker in self._workers):
            self._started.set()
        if self._stops:
            self._abandon()
        self._tell_all()
        if self._stops:
            return
        if self._started.is_set():
            self._look_after(now)
        if self._reloads:
            self._reload(self._reloads[0])
        elif self._change is not None:
            self._go_on(self._change)

    def _abandon(self) -> None:
        """No change of models is waited for: who asked for one is told before the workers have drained."""
        while self._reloads:
            self._reloads.popleft().fail(Unavailable("the server is shutting down"), self._workers)

    def _look_after(self, now: float) -> None:
        """Have the connections of workers that do not come back taken by the others."""
        missing = {worker.number: worker for worker in self._workers if worker.is_missing(now)}
        for worker in self._workers:
            if worker.is_ready:
                worker.look_after(missing)
        for number in sorted(missing.keys() ^ self._missing):
            if number in self._missing:
                log.warning("worker %d takes its connections again", number)
            elif len(self._workers) > 1:
                log.warning("worker %d does not come back; the others take its connections", number)
        self._missing = set(missing)
        if len(missing) < len(self._workers) or any(worker.is_ready for worker in self._workers):
            self._relieve()
        elif self._stand_in is None:
            self._stand_in = self._standing_in()

    def _standing_in(self) -> StandIn:
        log.error("no worker serves; callers are told 503 until one does")
        sockets = dict.fromkeys([each for worker in self._workers for each in worker.listening])
        seal = None if self._tls is None else sealing(self._tls)
        tally = library("bimodal.realtime.tally").Tally(self._spec)  # it needs much that this process does without
        return StandIn(list(sockets), self._next_try, tally, seal)

    def _next_try(self) -> int:
        """Whole seconds in which some worker is started again."""
        due = min([worker.restart_at for worker in self._workers]) - time.monotonic()
        return max(1, math.ceil(due)) if due < math.inf else 1

    def _relieve(self) -> None:
        """Somebody serves, or the server ends."""
        if self._stand_in is not None:
            self._stand_in.end()
            self._stand_in = None

    def _reload(self, reload: Reload) -> None:
        """A change of models goes before one of workers, unless that has begun."""
        if self._change is not None and self._change.successor is not None:
            self._go_on(self._change)
            return
        reload.go_on(self._workers)
        self._stock = reload.stock or self._stock
        if reload.over:
            self._reloads.popleft()

    def _tell_all(self) -> None:
        """What is to be told: the states to all that serve, answers to those who asked."""
        for worker in self._all():
            if worker.is_ready and self._states is not None and worker.told is not self._states:
                worker.told = self._states
                worker.tell(self._states)
        if self._shows and (there := [worker for worker in self._workers if worker.is_ready]):
            self._shows = False
            there[0].tell(Show())
        while self._answers and self._may_answer(*self._answers[0][2:]):
            worker, done, _, _ = self._answers.popleft()
            worker.tell(done)

    def _may_answer(self, number: int, until: float) -> bool:
        waits = any(worker.is_ready and worker.knows < number for worker in self._workers)
        return not waits or time.monotonic() > until

    def _go_on(self, change: Change) -> None:
        """Start the next successor, or let the one that is ready take over."""
        if change.successor is not None and change.successor.is_ready:
            old, self._workers[change.place] = self._workers[change.place], change.successor
            change.successor = None
            old.kill_at = time.monotonic() + self._grace + _EXTRA
            old.terminate()
            if old.process is not None:
                self._retired.append(old)
        if change.successor is None and change.left:
            change.place = change.left.pop(0)
            change.successor = self._workers[change.place].successor(change.spec, len(self._workers))
            change.successor.start(self._stock)
        elif change.successor is None:
            self._settle(change)

    def _settle(self, change: Change, error: BimodalError | None = None) -> None:
        change.error = error
        self._change = None
        change.over.set()

    def _listen(self) -> None:
        """Take the reports and deaths of the workers, for half a second at most."""
        due = min(self._kill_at, *(worker.restart_at for worker in self._workers)) - time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for worker in self._all():
                if worker.control is not None:
                    selector.register(worker.control, selectors.EVENT_READ, worker)
            ready = [key.data for key, _ in selector.select(max(0.0, min(0.5, due)))]
        for worker in ready:
            if worker is None:
                self._woken.recv(64)
            elif (words := worker.words()) is None:
                self._bury(worker)
            else:
                for told in words:
                    self._hear(worker, told)

    def _hear(self, worker: Worker, told: Word) -> None:
        """Something that a worker said."""
        if isinstance(told, Ask):
            if self.asked is not None:
                self.asked(worker, told)
        elif isinstance(told, Known):
            worker.knows = told.number
        elif isinstance(told, Shown):
            self._shown = told.body
            self._seen.set()
        elif not isinstance(told, Report):
            if self._reloads:
                self._reloads[0].take(worker, told, self._workers)
        elif told.ready:
            worker.serves()
        elif self._change is not None and worker is self._change.successor:
            self._change.error = error_of(told.code, told.message)
        elif self._started.is_set():
            worker.why = told.message
        else:
            self._error = self._error or error_of(told.code, told.message)

    def _bury(self, worker: Worker) -> None:
        """A worker has ended: by our wish, too early, or to be restarted."""
        how = worker.bury()
        if worker in self._retired:
            self._retired.remove(worker)
            return
        if self._change is not None and worker is self._change.successor:
            error = self._change.error or BimodalError(f"its worker process ended before it was ready: {how}")
            self._change.successor = None
            self._settle(self._change, error)
            return
        if self._stops or self._error is not None:
            return
        if not self._started.is_set():
            self._error = BimodalError(f"a worker process ended before it was ready: {how}")
        else:
            why, worker.why = worker.why, ""
            pause = worker.restart_soon()
            if why:
                log.error("worker %d cannot start again: %s; the next try is in %.3g s", worker.number, why, pause)
            else:
                soon = f"in {pause:.3g} s" if pause else "at once"
                log.warning("worker %d ended (%s); it is restarted %s", worker.number, how, soon)


def error_of(code: str, message: str) -> BimodalError:
    """The error that a worker reported, as the class that it was there."""
    kinds: list[type[BimodalError]] = [BimodalError]
    for kind in kinds:  # it grows as it goes
        if kind.code == code:
            return kind(message)
        kinds.extend(kind.__subclasses__())
    error = BimodalError(message)
    error.code = code
    return error


def sealing(tls: Mapping[str, Any]) -> Callable[[socket.socket], socket.socket]:
    """What makes sockets of TLS of those of callers; closes them where the certificate cannot be used any more."""
    files = library("bimodal.realtime.tls").Files(**tls)  # loaded already where TLS is spoken, and only there
    try:
        return cast(Callable[[socket.socket], socket.socket], files.seal())
    except UsageError as error:
        log.warning("callers over TLS are not told: %s", error)
        return _closed


def _closed(caller: socket.socket) -> socket.socket:
    caller.close()
    raise ConnectionAbortedError


def _search_path() -> list[str]:
    """Where this process finds modules, so that workers find the same."""
    return [entry or os.getcwd() for entry in sys.path]
