"""Worker: takes runs that may start, has each tried in a process of its own, and sees to it that what it was given is
finished, given back, or taken away from it.

One visible state machine: a run that is claimed has an Attempt; its messages, its end, the lease, the clock and the
caller's wishes are all looked at in `step`. The worker alone talks to the store: a child that asks whether it may
publish is answered by a renewed lease, or never.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bimodal.config.tables import Config, JobTable
from bimodal.errors import NotFound, SinkError, SourceError, Unavailable
from bimodal.jobs import adhoc
from bimodal.jobs.attempt import Attempt, log_of
from bimodal.jobs.notify import Notices
from bimodal.jobs.store import JobRun, JobStore, LeaseLost
from bimodal.jobs.task import Task

log = logging.getLogger("bimodal.jobs")

TTL = 30.0  # seconds that a lease holds without being renewed
BEAT = 2.0  # seconds between two renewals, at most: so long until a cancellation is noticed
IDLE = 1.0  # seconds between two looks for a run
LONGEST = 3600.0  # seconds of a backoff, at most
LOST = 20  # owners that a run may lose before it counts as the one that kills them
UNREACHABLE = (Unavailable, SinkError, SourceError)  # of the store: tried again with the next step

Told = Callable[[str, Mapping[str, Any]], None]


@dataclass
class Held:
    """A run that this worker owns. renewed, looked: on the monotonic clock. said: what the child has ended with."""

    run: JobRun
    table: JobTable
    attempt: Attempt
    renewed: float
    progress: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] | None = None
    asks: bool = False  # whether it may publish
    settles: Mapping[str, Any] | None = None


def owner_of(word: str = "worker") -> str:
    """Who we are, for others to read."""
    return f"{word} {os.getpid()} on {socket.gethostname()}"


class Worker:
    """Runs of jobs, at most `most` at once. `step` is called by one thread, again and again, each time with what the
    clock shows; it does not wait. run: that one alone is worked on. told: hears what the children say.
    """

    def __init__(
        self,
        config: Config,
        store: JobStore,
        owner: str | None = None,
        clock: Callable[[], float] = time.time,
        *,
        most: int = 1,
        ttl: float = TTL,
        run: str | None = None,
        told: Told | None = None,
        notices: Notices | None = None,
    ) -> None:
        self.config, self.store, self.owner, self.clock = config, store, owner or owner_of(), clock
        self._most, self._ttl, self._only, self._told = most, ttl, run, told
        self._notices = notices or Notices(config.home, config.jobs)
        self._warn = log.warning if told is None else log.debug  # whoever is told needs no log
        self._held: list[Held] = []
        self._stopping = False
        self._looked = -IDLE
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)

    # -- for the caller --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return bool(self._held)

    @property
    def runs(self) -> list[JobRun]:
        return [each.run for each in self._held]

    @property
    def pids(self) -> list[int]:
        return [each.attempt.pid for each in self._held]

    def step(self, now: float) -> float:
        """Do what is to be done now; gives the seconds until it is worth calling again."""
        for held in list(self._held):
            self._advance(held, now)
        if not self._stopping and len(self._held) < self._most and time.monotonic() - self._looked >= IDLE:
            self._looked = time.monotonic()
            self._take(now)
        return min(self._beat, 0.5) if self._held else IDLE

    def wait(self, seconds: float) -> None:
        """Until a child says something, `stop` is called, or so long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for held in self._held:
                if not held.attempt.ended:
                    selector.register(held.attempt, selectors.EVENT_READ)
            ready = selector.select(max(0.0, seconds))
        if any(key.fileobj is self._woken for key, _ in ready):
            self._woken.recv(4096)

    def stop(self) -> None:
        """Take no more, have the children end resumably; further steps give their runs back. From any thread."""
        self._stopping = True
        self._wake.send(b".")

    def drain(self) -> None:
        """Stop, and see it through. In the thread of `step`."""
        self.stop()
        while self.busy:
            self.wait(self.step(self.clock()))

    def close(self) -> None:
        """End the children at once and give nothing back: as if this process were killed."""
        for held in self._held:
            held.attempt.kill("close")
            held.attempt.close()
        self._held.clear()
        self._wake.close()
        self._woken.close()

    @property
    def _beat(self) -> float:
        return min(self._ttl / 3, BEAT)

    # -- taking ----------------------------------------------------------------------------------------------------

    def _take(self, now: float) -> None:
        """Claim a run and start its attempt."""
        try:
            run = self.store.claim(self.owner, now, self._ttl, run=self._only, jobs=adhoc.jobs_of(self.config))
        except UNREACHABLE as error:
            self._warn("no run can be taken: %s", error)
            return
        if run is None:
            return
        try:
            self._start(run, now)
        except LeaseLost as error:
            self._warn("%s", error)
        except UNREACHABLE as error:
            self._warn("run %s cannot be started: %s", run.id, error)  # its lease ends, and somebody takes it

    def _start(self, run: JobRun, now: float) -> None:
        """Begin the attempt of a run that was claimed, or end the run where there is to be none."""
        if run.cancelled:
            self._end(run, "cancelled", now)
            return
        if _lost(run) >= LOST:
            self._end(run, "failed", now, error=f"{LOST} processes that ran it were lost in the middle of it")
            return
        try:
            task = self._task(run)
        except NotFound as error:  # its upload is gone
            self._end(run, "failed", now, error=str(error))
            return
        attempt = Attempt(task, log_of(self.config.home, run.id))
        self._held.append(Held(run, task.table, attempt, time.monotonic()))
        self._tell("start", {"run": run.id, "job": run.job, "attempt": run.attempt})

    def _task(self, run: JobRun) -> Task:
        table = adhoc.table_of(self.config, run)
        return Task(
            job=run.job,
            table=table,
            models_name=table.model,
            model=self.config.models[table.model],
            run=run.id,
            due=run.created if run.due is None else run.due,
            folder=str(self.config.folder),
            state=str(self.config.home),
            parent=os.getpid(),
            parameters=run.parameters,
            settled="digest" in run.parameters,  # a caller may have said where it begins
            memory=self.store.memory(run.job),
            files=self.store.files(run.job) if table.incremental == "files" else {},
            path=tuple(entry or os.getcwd() for entry in sys.path),
        )

    # -- what goes on ----------------------------------------------------------------------------------------------

    def _advance(self, held: Held, now: float) -> None:
        attempt = held.attempt
        ended = attempt.ended  # before its messages are read: none comes after
        for message in attempt.messages():
            self._hear(held, message)
        try:
            if ended:
                self._conclude(held, now)
                return
            if self._stopping:
                attempt.stop("stop")
            timeout = held.table.timeout
            if timeout is not None and attempt.seconds > timeout:
                attempt.stop("timeout")
            attempt.look()
            self._keep(held, now)
        except LeaseLost as error:
            self._warn("%s; what was done here is left to its new owner", error)
            self._tell("lost", {"run": held.run.id, "text": str(error)})
            attempt.kill("lease")
            self._let_go(held)
        except UNREACHABLE as error:
            self._warn("the state of run %s cannot be told: %s", held.run.id, error)

    def _hear(self, held: Held, message: dict[str, Any]) -> None:
        event = str(message.pop("event"))
        if event == "progress":
            held.progress = message
        elif event == "settle":
            held.settles = message["parameters"]
        elif event == "guard":
            held.asks = True
        elif event in ("done", "failed", "stopped"):
            held.said = {"event": event, **message}
        if event in ("progress", "stage", "note"):
            self._tell(event, {"run": held.run.id, **message})

    def _keep(self, held: Held, now: float) -> None:
        """Renew the lease, in time or because the child waits for it, and answer the child."""
        if held.settles is not None:
            held.run = self.store.settle(held.run, held.settles)
            held.settles = None
            held.attempt.reply({"settled": True})
        if not held.asks and time.monotonic() - held.renewed < self._beat:
            return
        held.run = self.store.renew(held.run, now, self._ttl, held.progress or None)
        held.renewed = time.monotonic()
        if held.run.cancelled:
            held.attempt.stop("cancelled")
        elif held.asks and held.attempt.why is None:
            held.asks = False
            held.attempt.reply({"go": True})

    # -- the end of an attempt -------------------------------------------------------------------------------------

    def _conclude(self, held: Held, now: float) -> None:
        """The process has ended: note what became of the run."""
        said = held.said or {"event": "died"}
        if said["event"] == "done":
            report = {**said["report"], **_counts(held.run)}
            self._end(held.run, "succeeded", now, report=report, memory=said["memory"], files=_files(said["files"]))
        elif held.attempt.why == "cancelled":
            self._end(held.run, "cancelled", now, error=held.run.error)
        elif held.attempt.why == "stop":
            counts = _counts(held.run)
            report = {**counts, "handed_back": counts["handed_back"] + 1}
            self.store.finish(held.run, "failed", now, retry_at=now, report=report, error=held.run.error)
            self._tell("given back", {"run": held.run.id})
        else:
            self._failed(held, said, now)
        self._let_go(held)

    def _failed(self, held: Held, said: Mapping[str, Any], now: float) -> None:
        """Try again later, from where it stopped, or leave it at that."""
        table, run, counts = held.table, held.run, _counts(held.run)
        error, final = self._reason(held, said)
        failures = counts["failures"] + 1
        report = {**counts, "failures": failures, "code": _code(said)}
        if final or failures > table.retries:
            self._end(run, "failed", now, report=report, error=error)
            return
        pause = min(table.backoff * 2 ** (failures - 1), LONGEST)
        self.store.finish(run, "failed", now, retry_at=now + pause, report=report, error=error)
        self._warn("job %s, run %s: %s; it is tried again in %g s", run.job, run.id, error, pause)
        self._tell("retry", {"run": run.id, "text": f"{error}; it is tried again in {pause:g} s"})

    def _reason(self, held: Held, said: Mapping[str, Any]) -> tuple[str, bool]:
        """Why the attempt failed, and whether another one would too."""
        if held.attempt.why == "timeout":
            return f"the attempt took longer than its timeout of {held.table.timeout:g} s", False
        if said["event"] == "failed":
            return str(said["error"]["message"]), bool(said["final"])
        how = held.attempt.how()
        return f"the process of the attempt ended ({how}); what it printed stands in {held.attempt.log}", False

    def _end(self, run: JobRun, status: Any, now: float, **values: Any) -> None:
        """The run is over. Who is to be told of it is noted before, so that nobody is forgotten by a crash."""
        code = str((values.get("report") or {}).get("code", ""))
        self._notices.prepare(run, status, code=code)
        over = self.store.finish(run, status, now, **values)
        shutil.rmtree(self.config.home / "runs" / run.id, ignore_errors=True)  # what was on its way to a store
        self._notices.release(over)
        self._tell("end", {"run": run.id, "job": run.job, "status": over.status})
        if over.status == "succeeded" and self._told is None:
            log.info("%s", _done(over, now))
        if over.status == "failed":
            self._warn("job %s, run %s failed: %s", run.job, run.id, over.error)

    def _let_go(self, held: Held) -> None:
        held.attempt.close()
        self._held.remove(held)

    # -- beside ----------------------------------------------------------------------------------------------------

    def _tell(self, event: str, values: Mapping[str, Any]) -> None:
        if self._told is not None:
            self._told(event, values)


def _counts(run: JobRun) -> dict[str, int]:
    """What is kept of earlier attempts. failures: those that failed; handed_back: those that were given back."""
    return {name: int(run.report.get(name, 0)) for name in ("failures", "handed_back")}


def _done(run: JobRun, now: float) -> str:
    """The line of a run that succeeded: job, run, rows, seconds."""
    report = run.report
    rows = int(report.get("predicted", 0))
    rejected = f", {report['rejected']:,} rejected" if report.get("rejected") else ""
    seconds = now - (run.created if run.started is None else run.started)
    return f"{run.job}: run {run.id} succeeded, {rows:,} row{'s' * (rows != 1)} predicted{rejected}, {seconds:.1f} s"


def _lost(run: JobRun) -> int:
    """How many attempts ended with their owner."""
    counts = _counts(run)
    return run.attempt - 1 - counts["failures"] - counts["handed_back"]


def _code(said: Mapping[str, Any]) -> str:
    return str(said["error"]["code"]) if said["event"] == "failed" else "error"


def _files(told: list[list[str]]) -> list[tuple[str, str, str]]:
    return [(path, fingerprint, digest) for path, fingerprint, digest in told]


def known(config: Config, job: str) -> JobTable:
    """The job's table. Raises NotFound naming those that there are."""
    if job not in config.jobs:
        there = ", ".join(config.jobs) or "none"
        raise NotFound(f"there is no job {job!r} in {config.path or config.folder}; there are: {there}")
    return config.jobs[job]
