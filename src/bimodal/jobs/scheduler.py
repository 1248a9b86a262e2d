"""Scheduler: enters the runs that are due. It runs none of them, and any number of schedulers may share a store.

What was dealt with is a mark in the store, written in the transaction that enters the runs. It never goes back, so a
scheduler that is killed, or a clock that is set back, enters no due time twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from math import inf

from bimodal.config.tables import JobTable, Overlap
from bimodal.errors import UsageError
from bimodal.jobs.schedule import Schedule
from bimodal.jobs.store import JobRun, JobStore, due_slot, new_id

GRACE = 60.0  # seconds by which a due time may be passed and still count as on time
LONGEST = 30.0  # seconds between two ticks: for a clock that was set, a suspended machine, and late runs
AT_ONCE = 500  # runs in one transaction
TOLD = (
    100  # of the due times that one tick leaves out, the latest so many are entered as skipped; the others are counted
)
PASSED = "missed: its time passed while nothing ran (catch_up = none)"
LATER = "missed: a later due time had come before it was entered"


@dataclass
class Entry:
    """A job with its schedule. mark: the due time (or the beginning) up to which it is dealt with; None: not known yet.
    next: its next due time, None where there is none.
    """

    name: str
    job: JobTable
    schedule: Schedule
    mark: float | None = None
    next: float | None = None

    def at(self, mark: float) -> None:
        self.mark = mark
        self.next = self.schedule.after(mark)


class Scheduler:
    """late: is told once of each run that is unfinished `late_after` seconds past its due time; it must not raise.
    Raises UsageError where a job's schedule cannot be understood.
    """

    def __init__(
        self, jobs: Mapping[str, JobTable], store: JobStore, *, late: Callable[[JobRun], None] | None = None
    ) -> None:
        self.store = store
        self._entries = list(_entries(jobs))
        self._late = late
        self._late_after = {name: job.late_after for name, job in jobs.items() if job.late_after is not None}

    def tick(self, now: float) -> float:
        """Enter what is due at `now` (UTC, seconds); the seconds until the next tick, at most LONGEST: to be waited on
        a clock that nobody sets. Raises what the store raises; the next tick then goes on where this one stopped.
        """
        self._begin(now)
        for entry in self._entries:
            if entry.next is not None and entry.next <= now:
                self._enter(entry, now)
        if self._late is not None:
            for run in self.store.late(self._late_after, now):
                self._late(run)
        soonest = min((entry.next for entry in self._entries if entry.next is not None), default=inf)
        return max(0.0, min(LONGEST, soonest - now))

    def _begin(self, now: float) -> None:
        """Go on where the last scheduler stopped; a new job, or one whose schedule is another, starts from now."""
        fresh = [entry for entry in self._entries if entry.mark is None]
        if not fresh:
            return
        marks = self.store.marks()
        for entry in fresh:
            known, spec = marks.get(entry.name), entry.schedule.spec
            if known is None or known.spec != spec:
                self.store.advance(entry.name, now, [], spec=spec)
                entry.at(now)
            else:
                entry.at(known.until)

    def _enter(self, entry: Entry, now: float) -> None:
        """All due times up to now: the missed ones by catch_up, and the latest, which may be on time, by overlap."""
        assert entry.mark is not None
        due = takewhile(lambda time: time <= now, entry.schedule.times(entry.mark))
        if entry.job.catch_up == "all":
            latest = self._catch_up(entry, due, now)
        else:
            latest = self._leave_out(entry, due, now)
        entry.at(latest)

    def _catch_up(self, entry: Entry, due: Iterator[float], now: float) -> float:
        """Each missed due time waits in the queue, whatever else does."""
        latest = next(due)
        while missed := list(islice(due, AT_ONCE)):
            runs = [_due(entry, time, now) for time in (latest, *missed[:-1])]
            self._advance(entry, runs, "queue")
            latest = missed[-1]
        self._advance(entry, [_due(entry, latest, now)], entry.job.overlap if now - latest <= GRACE else "queue")
        return latest

    def _leave_out(self, entry: Entry, due: Iterator[float], now: float) -> float:
        """Of the missed due times only the latest gets its run, or none does."""
        more, kept = 0, deque[float]()
        for time in due:
            kept.append(time)
            if len(kept) > TOLD + 1:
                kept.popleft()
                more += 1
        latest = kept.pop()
        runs = [_due(entry, time, now, LATER) for time in kept]
        if more:
            runs[0] = _due(entry, kept[0], now, f"{LATER}, as had {more} due times before it")
        passed = entry.job.catch_up == "none" and now - latest > GRACE
        self._advance(entry, [*runs, _due(entry, latest, now, PASSED if passed else None)], entry.job.overlap)
        return latest

    def _advance(self, entry: Entry, runs: list[JobRun], overlap: Overlap) -> None:
        until = runs[-1].due
        assert until is not None
        self.store.advance(entry.name, until, runs, spec=entry.schedule.spec, overlap=overlap)


def _entries(jobs: Mapping[str, JobTable]) -> Iterator[Entry]:
    for name, job in jobs.items():
        try:
            schedule = Schedule.of(job)
        except UsageError as error:
            raise UsageError(f"job {name}: {error}") from None
        if schedule is not None:
            yield Entry(name, job, schedule)


def _due(entry: Entry, due: float, now: float, left_out: str | None = None) -> JobRun:
    """The run of a due time; left_out: why it is skipped."""
    if left_out is not None:
        return JobRun(new_id(), entry.name, due_slot(due), "skipped", now, due, ended=now, error=left_out)
    return JobRun(new_id(), entry.name, due_slot(due), "queued", now, due)
