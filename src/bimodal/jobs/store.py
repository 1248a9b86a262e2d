"""JobStore: what is known of the runs of jobs, shared by all that may start one. SQLite or PostgreSQL.

Times are UTC, in seconds since the epoch, and always a parameter: nothing here looks at a clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "skipped"]
OVER: tuple[Status, ...] = ("succeeded", "failed", "cancelled", "skipped")


@dataclass(frozen=True)
class JobRun:
    """One run of a job, from the moment it is asked for.

    slot: what it is for, unique within its job: `due:<seconds>` of the schedule, `key:<idempotency key>` of a caller,
    or `run:<id>`. parameters: all that decides its plan beside the job's table (dates, the files or the bounds of an
    incremental run), settled at the first attempt and kept by the next ones. fence: grows with each owner. attempt: 1
    for the first. not_before: when a queued run may start (backoff). progress: rows and bytes so far.
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


class LeaseLost(Exception):
    """Another owner has the run by now, or it is over: what was done here must not be committed."""


class JobStore(ABC):
    """Runs, leases and what incremental jobs have done. Every method is one transaction; any number of processes (and,
    with PostgreSQL, machines) may call at once. A lost connection is opened again by the next call.
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
        one_per_job, none of a job of which another run is running under a valid lease. None: there is nothing.
        """

    @abstractmethod
    def renew(self, run: JobRun, now: float, ttl: float, progress: Mapping[str, Any] | None = None) -> JobRun:
        """Keep the lease and tell how far it is; the run comes back as it stands (`cancelled` may be set). Raises
        LeaseLost where the fence is another by now or the run is over. A lease that ended but was taken by nobody is
        renewed.
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
        it has processed: in the same transaction. Raises LeaseLost.
        """

    @abstractmethod
    def cancel(self, run: str, now: float) -> JobRun:
        """A queued run is cancelled; of a running one it is noted for its owner. Raises NotFound."""

    @abstractmethod
    def find(self, run: str) -> JobRun:
        """By id, or the beginning of one. Raises NotFound."""

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
    def scheduled(self, job: str) -> float | None:
        """Up to which due time (inclusive) the job's schedule has been dealt with. None: never."""

    @abstractmethod
    def advance(self, job: str, until: float, runs: Sequence[JobRun]) -> list[JobRun]:
        """Enter the runs of due times and note `until`, in one transaction; those that were there already are left as
        they are. Never goes back: with an `until` before what is noted, nothing happens.
        """

    @abstractmethod
    def prune(self, before: float) -> int:
        """Forget the runs that ended before; the slots of due times after the schedule's mark stay."""

    @abstractmethod
    def close(self) -> None: ...
