"""JobStore: what is known of the runs of jobs, shared by all that may start one. SQLite or PostgreSQL.

Times are UTC, in seconds since the epoch, and always a parameter: nothing here looks at a clock. A clock that was set
back keeps nothing waiting: a lease, or the wait before a retry, never lasts longer from now on than it was given for.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bimodal.config.tables import Overlap

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "skipped"]
OVER: tuple[Status, ...] = ("succeeded", "failed", "cancelled", "skipped")
DUE = "due:"  # the beginning of the slots of a schedule


@dataclass(frozen=True)
class JobRun:
    """One run of a job, from the moment it is asked for.

    slot: what it is for, unique within its job: `due:<seconds>` of the schedule, `key:<idempotency key>` of a caller,
    or `run:<id>`. parameters: all that decides its plan beside the job's table (dates, the files or the bounds of an
    incremental run), settled at the first attempt and kept by the next ones. fence: grows with each owner. attempt: 1
    for the first. not_before: when a queued run may start (backoff). started: of the first attempt. progress: rows and
    bytes so far. report: as JSON holds it. error: why it failed, was skipped or cancelled, or is tried again.
    """

    id: str
    job: str
    slot: str
    status: Status
    created: float
    due: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    not_before: float = 0.0
    owner: str | None = None
    fence: int = 0
    lease_until: float | None = None
    started: float | None = None
    ended: float | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    cancelled: bool = False  # cancellation was asked for
    late: bool = False  # it was told that it is late

    @property
    def over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True)
class Mark:
    """Up to which due time (inclusive) a job's schedule has been dealt with, and which schedule that was."""

    until: float
    spec: str


def new_id() -> str:
    """The id of a run."""
    return uuid.uuid4().hex[:16]


def due_slot(due: float) -> str:
    """The slot of a due time."""
    return f"{DUE}{due:.0f}"


class LeaseLost(Exception):
    """Another owner has the run by now, or it is over: what was done here must not be committed."""


class JobStore(ABC):
    """Runs, leases and what incremental jobs have done. Every method is one transaction; any number of processes (and,
    with PostgreSQL, machines) may call at once, and any number of threads. A lost connection is opened again by the
    next call. Each may raise Unavailable (locked for too long, connection lost: try again), SinkError or SourceError.
    """

    @abstractmethod
    def ask(self, run: JobRun) -> tuple[JobRun, bool]:
        """Enter a run; where its job has one of the same slot already, that one is returned, and False."""

    @abstractmethod
    def claim(
        self,
        owner: str,
        now: float,
        ttl: float,
        *,
        run: str | None = None,
        jobs: Sequence[str] = (),
        one_per_job: bool = True,
    ) -> JobRun | None:
        """Take the oldest queued run that may start (not_before <= now), or a running one whose lease has ended; with
        `run` that one alone, with `jobs` those jobs' alone. It is then `running`, with a new fence, attempt + 1. With
        one_per_job, none of a job of which another run is running under a valid lease. A run that nobody owns any more
        and that was to be cancelled is cancelled instead. None: there is nothing.
        """

    @abstractmethod
    def renew(self, run: JobRun, now: float, ttl: float, progress: Mapping[str, Any] | None = None) -> JobRun:
        """Keep the lease and tell how far it is; the run comes back as it stands (`cancelled` may be set). Raises
        LeaseLost where the fence is another by now or the run is over. A lease that ended but was taken by nobody is
        renewed, unless the run was claimed with one_per_job and another of its job has begun since.
        """

    @abstractmethod
    def settle(self, run: JobRun, parameters: Mapping[str, Any]) -> JobRun:
        """Note the parameters of a claimed run, before anything is done with them. Raises LeaseLost."""

    @abstractmethod
    def finish(
        self,
        run: JobRun,
        status: Status,
        now: float,
        *,
        report: Mapping[str, Any] | None = None,
        error: str | None = None,
        retry_at: float | None = None,
        memory: Mapping[str, Any] | None = None,
        files: Sequence[tuple[str, str, str]] = (),
    ) -> JobRun:
        """End a claimed run, or with retry_at queue it again from that time on. memory: what the job's next run needs
        to know (its watermark, its model's digest, the version of its result); files: (path, fingerprint, digest) that
        it has processed: in the same transaction, and only with `succeeded`. A run whose cancellation was asked for is
        not queued again but cancelled; without an `error` a cancelled run keeps the reason that is known. Raises
        LeaseLost; but told twice by the same owner, the second time changes nothing, so that it can be repeated where
        the answer was lost.
        """

    @abstractmethod
    def cancel(self, run: str, now: float) -> JobRun:
        """A queued run is cancelled; of a running one it is noted for its owner; one that is over stays as it is. By
        id, or the beginning of one. Raises NotFound.
        """

    @abstractmethod
    def find(self, run: str) -> JobRun:
        """By id, or the beginning of one that begins no other. Raises NotFound."""

    @abstractmethod
    def runs(self, job: str | None = None, *, limit: int = 50, statuses: Sequence[Status] = ()) -> list[JobRun]:
        """The latest first."""

    @abstractmethod
    def memory(self, job: str) -> Mapping[str, Any]:
        """What the job's last successful run left: empty where there was none."""

    @abstractmethod
    def files(self, job: str) -> Mapping[str, tuple[str, str]]:
        """Path to (fingerprint, model digest) of the files that an incremental job has processed."""

    @abstractmethod
    def marks(self) -> Mapping[str, Mark]:
        """How far the schedules of all jobs have been dealt with."""

    def scheduled(self, job: str) -> float | None:
        """Up to which due time (inclusive) the job's schedule has been dealt with. None: never."""
        mark = self.marks().get(job)
        return mark.until if mark is not None else None

    @abstractmethod
    def advance(
        self, job: str, until: float, runs: Sequence[JobRun], *, spec: str = "", overlap: Overlap = "queue"
    ) -> list[JobRun]:
        """Enter the runs of due times and note `until`, in one transaction; those that were there already are left as
        they are. Never goes back: a run due at or before what is noted is not entered. spec: the schedule that they
        come from; with another one than is noted, it starts anew from `until`. overlap: what becomes of a queued one
        among `runs` while another run of the job is queued or running: it waits (queue), is entered as skipped (skip),
        or those of the schedule are cancelled first (replace: a run that somebody asked for is not). The runs that were
        entered come back as they stand.
        """

    @abstractmethod
    def late(self, after: Mapping[str, float], now: float) -> list[JobRun]:
        """The unfinished runs that passed their due time by more than their job's seconds in `after`: each is given
        once, by one of all that ask.
        """

    @abstractmethod
    def prune(self, before: float) -> int:
        """Forget the runs that ended before, and say how many. The slots of due times after the schedule's mark stay,
        and each job's latest due time, which `bimodal jobs run` asks for again.
        """

    @abstractmethod
    def close(self) -> None: ...
