"""Up: server, scheduler and worker of one bimodal.toml, together or each alone.

This process stays light: requests are answered by the server's worker processes, runs are tried in children. It
imports neither NumPy nor Arrow.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from bimodal import hangup
from bimodal.config import Config
from bimodal.errors import UsageError
from bimodal.jobs import adhoc, deployment
from bimodal.jobs.deployment import Deployment
from bimodal.jobs.notify import Notices
from bimodal.jobs.opening import open_store
from bimodal.jobs.schedule import Schedule
from bimodal.jobs.scheduler import Scheduler
from bimodal.jobs.store import JobStore
from bimodal.jobs.work import UNREACHABLE, Worker, owner_of
from bimodal.private import PrivateFolder
from bimodal.realtime import serving
from bimodal.realtime.server import Server
from bimodal.realtime.serving import Prepared

log = logging.getLogger("bimodal.jobs")

Part = Literal["server", "scheduler", "worker"]
PARTS: tuple[Part, ...] = ("server", "scheduler", "worker")
EXTENSIONS = ["bimodal.jobs.routes:extend"]  # what the server's workers are extended by
PAUSE = 5.0  # seconds before the state store is tried again
REMEMBERED = 90 * 86_400.0  # seconds that a run which is over is known
PRUNED = 3600.0  # seconds between two looks for older ones
GRACE = 45.0  # seconds for the threads to end


@dataclass(frozen=True)
class Choice:
    """What is asked of `up`. only: one of the parts, None for all that the file has. at_once: runs side by side. given:
    settings of the server, by name.
    """

    only: Part | None = None
    insecure: bool = False
    at_once: int = 1
    given: Mapping[str, Any] | None = None

    def has(self, part: Part) -> bool:
        return self.only in (None, part)


class Up:
    """Runs from `start` until `close`; `wait` blocks until a signal."""

    def __init__(self, config: Config, choice: Choice | None = None, clock: Callable[[], float] = time.time) -> None:
        self.config, self.choice, self.clock = config, choice or Choice(), clock
        self.server: Server | None = None
        self._store: JobStore | None = None
        self._worker: Worker | None = None
        self._notices = Notices(config.home, config.jobs)
        self._threads: list[threading.Thread] = []
        self._ending = threading.Event()
        self._failed: BaseException | None = None
        self._check()

    def _check(self) -> None:
        file, only = self.config.path or self.config.folder, self.choice.only
        if not _serves(self.config) and only in (None, "server") and not self.config.jobs:
            raise UsageError(f"{file} has no model and no job; write a table [models.NAME] with its path")
        if only == "server" and not _serves(self.config):
            raise UsageError(f"{file} has no model to serve; write a table [models.NAME] with its path")
        if only == "scheduler" and not self.config.jobs:
            raise UsageError(f"{file} has no job; write a table [jobs.NAME]")
        if self.choice.at_once < 1:
            raise UsageError(f"--at-once {self.choice.at_once}: one at least")

    def start(self) -> None:
        """Returns when requests are answered and the threads run. Raises what keeps a part from starting."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        if self.choice.only != "server":
            self._store = open_store(self.config.state, self.config.folder)
        if self.choice.has("server") and _serves(self.config):
            self.server = self._served()
        if self._store is None:
            return
        if self.choice.has("scheduler") and self.config.jobs:
            scheduler = Scheduler(self.config.jobs, self._store, late=self._notices.late)
            self._begin("bimodal-scheduler", lambda: self._schedule(scheduler))
        if self.choice.has("worker"):
            owner, most = owner_of("up"), self.choice.at_once
            self._worker = Worker(self.config, self._store, owner, self.clock, most=most, notices=self._notices)
            self._begin("bimodal-worker", self._work)

    def wait(self) -> None:
        """Until SIGTERM or SIGINT (Ctrl-C), which drains everything; a second one ends it at once. Raises what made a
        part fail.
        """
        with _signals(self._ending, self._refresh) as count:
            while not self._ending.wait(0.5):
                if self.server is not None and self.server.ended:
                    break
            log.info("draining")
            closing = threading.Thread(target=self.close, daemon=True)
            closing.start()
            while closing.is_alive():
                closing.join(0.1)
                if count() > 1:
                    os._exit(130)  # the children end with this process
        log.info("ended")
        if self._failed is not None:
            raise self._failed

    def _refresh(self) -> None:
        """SIGHUP: what has changed of the server's models and its certificate is served."""
        if self.server is not None:
            threading.Thread(target=self.server.refresh, daemon=True).start()  # a handler of signals must not wait

    def close(self) -> None:
        """Drain: requests in flight are answered, children stop resumably, their runs are given back."""
        self._ending.set()
        if self._worker is not None:
            self._worker.stop()
        if self.server is not None:
            self.server.close()
        for thread in self._threads:
            thread.join(GRACE)
        self._threads.clear()
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._notices.join(PAUSE)
        if self._store is not None:
            self._store.close()

    def told(self) -> Iterator[str]:
        """What runs here, in lines."""
        if self.server is not None:
            yield f"serving {', '.join(self.server.models)} at {self.server.url}"
            if self.server.listens is not None:
                yield f"listens on {self.server.listens}"
            yield f"gRPC at {self.server.grpc}{' (TLS)' if self.server.secure else ''}"
            if self.server.mutual:
                yield "callers show a certificate (mTLS)"
            if self.server.keys is not None:
                yield f"callers need a key of {self.server.keys}"
        if self.config.jobs:
            doing = [part for part in PARTS[1:] if self.choice.has(part)]
            if doing:
                yield f"{' and '.join(doing)}: {len(self.config.jobs)} job{'s' * (len(self.config.jobs) > 1)}"
            for name, table in self.config.jobs.items():
                schedule = Schedule.of(table)
                due = None if schedule is None else schedule.after(self.clock())
                yield f"  {name:<20} {_at(due)}"
        yield f"state: {_stated(self.config)}"

    # -- parts -----------------------------------------------------------------------------------------------------

    def _served(self) -> Server:
        """The server with all models of the file, their prediction stores, and the routes of the jobs."""
        given = self.choice.given or {}
        prepared, folder = serving.of_config(self.config, given), PrivateFolder()
        told = prepared.told
        server = Server(
            _spec(prepared, folder),
            host=told["host"],
            port=told["port"],
            grpc_port=told["grpc_port"],
            workers=told["workers"],
            limits=serving.limits_of(told),
            insecure=self.choice.insecure,
            holds=(folder, prepared.locations),
        )
        deployed = Deployment(
            self.config,
            given,
            prepared,
            lambda anew: server.replace(_spec(anew, folder), holds=(folder, anew.locations)),
        )
        self._begin("bimodal-models", lambda: self._deploy(deployed))
        return server

    def _deploy(self, deployed: Deployment) -> None:
        while not self._ending.wait(deployment.EVERY):
            deployed.look()

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        """A part that fails ends all: half of it running would look like the whole."""
        try:
            work()
        except BaseException as error:
            log.exception("%s failed", threading.current_thread().name)
            self._failed = error
            self._ending.set()
            raise

    def _schedule(self, scheduler: Scheduler) -> None:
        assert self._store is not None
        pruned = -PRUNED
        while not self._ending.is_set():
            try:
                pause = scheduler.tick(self.clock())
                if time.monotonic() - pruned > PRUNED:
                    pruned = time.monotonic()
                    self._store.prune(self.clock() - REMEMBERED)
                    adhoc.tidy(self.config, self.clock())
            except UNREACHABLE as error:
                log.warning("the schedule waits: %s", error)
                pause = PAUSE
            self._ending.wait(pause)

    def _work(self) -> None:
        assert self._worker is not None
        assert self._store is not None
        try:
            self._notices.recover(self._store)
        except UNREACHABLE as error:
            log.warning("what is still to be told waits for the next start: %s", error)
        while not self._ending.is_set():
            self._worker.wait(self._worker.step(self.clock()))
        self._worker.drain()


def _spec(prepared: Prepared, folder: PrivateFolder) -> dict[str, Any]:
    """The server's: counters have room for a worker and its successor, side by side."""
    told = prepared.told
    spec = prepared.spec(metrics=str(Path(folder.path, "metrics")))
    more = {"extensions": EXTENSIONS, "upload_limit": told["upload_limit"], "workers": 2 * told["workers"]}
    return {**spec, **more}


def _serves(config: Config) -> bool:
    """Whether there is something to serve: models of their own, or a repository."""
    return bool(config.models) or "repository" in config.server


def _at(due: float | None) -> str:
    if due is None:
        return "runs when it is asked for"
    return f"next {datetime.fromtimestamp(due, UTC):%Y-%m-%d %H:%M} UTC"


def _stated(config: Config) -> str:
    """Where the state is, without a password."""
    return config.state.removeprefix("sqlite:///") if config.state.startswith("sqlite:") else config.state


@contextmanager
def _signals(ending: threading.Event, refresh: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """SIGTERM and SIGINT are counted instead of died of; the first one sets the event. SIGHUP has `refresh` called."""
    count = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        ending.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    if sys.platform != "win32":
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: refresh())
        if hangup.came(before[signal.SIGHUP]):
            refresh()
    try:
        yield lambda: count
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
