"""Running jobs by hand: what `bimodal jobs` does, as functions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bimodal.config import Config, JobTable, find, read
from bimodal.errors import BimodalError, TooManyRejects, UsageError, by_code
from bimodal.jobs.notify import Notices
from bimodal.jobs.opening import open_store
from bimodal.jobs.schedule import Schedule
from bimodal.jobs.store import JobRun, JobStore, due_slot, new_id
from bimodal.jobs.work import Told, Worker, known, owner_of

LOOKED = 0.5  # seconds between two looks at a run that another process has
FAREWELL = 60.0  # seconds for the notices of a run, at most
DAY = 86_400.0
TRIES = 1000  # runs of one due time that failed, at most


@dataclass(frozen=True)
class Listed:
    """A job with when it is due next, and its latest run."""

    name: str
    table: JobTable
    due: float | None
    last: JobRun | None


class Jobs:
    """The jobs of a configuration, with their state. A context manager; or `close` it."""

    def __init__(self, config: Config | str | Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config if isinstance(config, Config) else read(find(config))
        self.store: JobStore = open_store(self.config.state, self.config.folder)
        self.clock = clock

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.store.close()

    # -- looking ---------------------------------------------------------------------------------------------------

    def all(self) -> list[Listed]:
        """All jobs, with when they are due next."""
        now = self.clock()
        found = []
        for name, table in self.config.jobs.items():
            schedule = Schedule.of(table)
            last = self.store.runs(name, limit=1)
            found.append(Listed(name, table, schedule.after(now) if schedule else None, last[0] if last else None))
        return found

    def history(self, name: str | None = None, *, limit: int = 20) -> list[JobRun]:
        """Runs, the latest first."""
        if name is not None:
            known(self.config, name)
        return self.store.runs(name, limit=limit)

    def show(self, run: str) -> JobRun:
        """One run, by id or the beginning of one. Raises NotFound."""
        return self.store.find(run)

    def cancel(self, run: str) -> JobRun:
        """Have a run end; what it did stays resumable. Raises NotFound."""
        return self.store.cancel(run, self.clock())

    # -- running ---------------------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        *,
        date: str | date | None = None,
        key: str | None = None,
        now: bool = False,
        since: str | None = None,
        from_start: bool = False,
        wait: bool = True,
        told: Told | None = None,
    ) -> JobRun:
        """Run a job, in a child of this process or, where another one has the run already, by waiting for that.

        Without date, key and now, a job with a schedule runs for its latest due time: called twice, on whatever
        machines share the state, it runs once. date: as if it were that day. key: once for this key. now: a run of its
        own. since: a run of its own of an incremental job, for the rows whose watermark is above that value.
        from_start: one for which nothing counts as done. wait: without it, the run is only entered, for a worker.
        told: hears how it goes.
        """
        table = known(self.config, name)
        begin = _begin(name, table, since, from_start=from_start)
        if sum((date is not None, key is not None, now)) > 1:
            raise UsageError("--date, --key and --now exclude each other: each says which run is meant")
        if begin and (date is not None or key is not None):
            raise UsageError("--since and --from-start are of a run of its own: they go without --date and --key")
        slot, due = self._slot(table, date, key, now=now or bool(begin))
        asked = self._asked(name, slot, due, again=slot.startswith(("due:", "date:")), parameters=begin)
        if not wait or asked.over:
            return asked
        return self.follow(asked, told)

    def backfill(
        self,
        name: str,
        first: str | date,
        last: str | date,
        *,
        told: Told | None = None,
    ) -> Iterator[JobRun]:
        """Run a job for each of its due times from the first day to the last (of a job without a schedule, for each
        day), in order; those that succeeded are left out, one that fails ends it. Gives each run as it ends.
        """
        table = known(self.config, name)
        begin, end = _day(first), _day(last)
        if end < begin:
            raise UsageError(f"--to {end} lies before --from {begin}")
        for slot, due in _slots(table, begin, end):
            if due > self.clock():
                raise UsageError(
                    f"{datetime.fromtimestamp(due, UTC):%Y-%m-%d %H:%M} UTC is yet to come: --to an earlier day"
                )
            asked = self._asked(name, slot, due, again=True)
            over = asked if asked.over else self.follow(asked, told)
            yield over
            if over.status != "succeeded":
                return

    def planned(self, name: str, first: str | date, last: str | date) -> int:
        """How many due times (or days) a backfill of these days looks at."""
        return sum(1 for _ in _slots(known(self.config, name), _day(first), _day(last)))

    def follow(self, run: JobRun, told: Told | None = None) -> JobRun:
        """See a run through: here, as soon as nobody else has it."""
        notices = Notices(self.config.home, self.config.jobs)
        worker = Worker(self.config, self.store, owner_of("run"), self.clock, run=run.id, told=told, notices=notices)
        waiting = _Waiting(told)
        try:
            while True:
                pause = worker.step(self.clock())
                if not worker.busy:
                    run = self.store.find(run.id)
                    if run.over:
                        break
                    waiting.tell(run, self._blocked_by(run))
                worker.wait(min(pause, LOOKED))
        except BaseException:
            with _patient():
                worker.drain()
            raise
        finally:
            worker.close()
            notices.join(FAREWELL)
        return run

    def _blocked_by(self, run: JobRun) -> JobRun | None:
        """The run that has to end first, where this one is queued."""
        if run.status != "queued" or run.not_before > self.clock():
            return None
        others = self.store.runs(run.job, statuses=("running",))
        return next((each for each in others if each.id != run.id), None)

    def _slot(self, table: JobTable, day: str | date | None, key: str | None, *, now: bool) -> tuple[str, float]:
        """What the run is for, and its due time."""
        clock = self.clock()
        if day is not None:
            wanted = _day(day)
            slots = list(_slots(table, wanted, wanted))
            if len(slots) == 1:
                return slots[0]  # the run that is due on that day, as `backfill` and the scheduler know it
            return f"date:{wanted}", slots[0][1] if slots else _midnight(table, wanted)
        if key is not None:
            return f"key:{key}", clock
        schedule = None if now else Schedule.of(table)
        latest = None if schedule is None else _latest(schedule, clock)
        return ("", clock) if latest is None else (due_slot(latest), latest)

    def _asked(
        self, name: str, slot: str, due: float, *, again: bool, parameters: Mapping[str, Any] | None = None
    ) -> JobRun:
        """The run of the slot; where it ended without a result, and another try is meant, the next one of it."""
        run = new_id()
        wanted = JobRun(run, name, slot or f"run:{run}", "queued", self.clock(), due, parameters or {})
        asked, _ = self.store.ask(wanted)
        for number in range(1, TRIES):
            if not (again and asked.over and asked.status != "succeeded"):
                return asked
            asked, _ = self.store.ask(_renamed(wanted, f"{slot}:again:{number}"))
        return asked


def _begin(name: str, table: JobTable, since: str | None, *, from_start: bool) -> dict[str, Any]:
    """Where a caller wants an incremental job to begin, as its parameters tell it."""
    if since is None and not from_start:
        return {}
    if since is not None and from_start:
        raise UsageError("--since and --from-start exclude each other: each says where the run begins")
    if since is not None and table.incremental != "column":
        raise UsageError(f'--since is a watermark, and job {name} has none: it is not incremental = "column"')
    if from_start and table.incremental not in ("column", "files"):
        raise UsageError(f'--from-start is for jobs that are incremental by "column" or "files", and {name} is not')
    return {"since": since} if since is not None else {"from_start": True}


def _renamed(run: JobRun, slot: str) -> JobRun:
    return JobRun(run.id, run.job, slot, run.status, run.created, run.due)


class _Waiting:
    """Tells why nothing is done here: once who has the run, then how far it is."""

    def __init__(self, told: Told | None) -> None:
        self._told, self._said, self._progress = told, "", dict[str, Any]()

    def tell(self, run: JobRun, other: JobRun | None) -> None:
        if self._told is None:
            return
        said = ""
        if other is not None:
            said = f"run {other.id} of {run.job} goes first; {other.owner} has it"
        elif run.status == "running":
            said = f"run {run.id} of {run.job} is under way already: {run.owner} has it; waiting for its end"
        if said and said != self._said:
            self._said = said
            self._told("waiting", {"run": run.id, "owner": (other or run).owner, "text": said})
        shown = dict(run.progress)
        if shown and shown != self._progress:
            self._progress = shown
            self._told("progress", {"run": run.id, **shown})


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """A second Ctrl-C while the run is given back ends it the hard way: that is resumable too."""
    with contextlib.suppress(KeyboardInterrupt):
        yield


def failure(run: JobRun) -> BimodalError | None:
    """Why the run gave no result, as the error that it ended with; None where it succeeded."""
    if run.status == "succeeded":
        return None
    reason = run.error or f"run {run.id} of {run.job} was {run.status}"
    code = str(run.report.get("code", "error"))
    kind = by_code(code)
    error = BimodalError(reason) if kind not in _plain() else kind(reason)
    error.code = code
    return error


def _plain() -> tuple[type[BimodalError], ...]:
    return (TooManyRejects, UsageError)


def _latest(schedule: Schedule, now: float) -> float | None:
    """The latest due time that is not after now: looked for in ever longer spans."""
    span = 3600.0
    while span < 60 * 366 * DAY:
        found = schedule.between(now - span, now)
        if found:
            return found[-1]
        span *= 24
    return None


def _slots(table: JobTable, first: date, last: date) -> Iterator[tuple[str, float]]:
    """Slot and due time of each due time of these days, or of each day."""
    schedule = Schedule.of(table)
    begin, end = _midnight(table, first), _midnight(table, last + timedelta(days=1))
    if schedule is not None:
        for due in schedule.between(begin - 1, end - 1):
            yield due_slot(due), due
        return
    day = first
    while day <= last:
        yield f"date:{day}", _midnight(table, day)
        day += timedelta(days=1)


def _midnight(table: JobTable, day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(table.timezone)).timestamp()


def _day(given: str | date) -> date:
    if isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise UsageError(f"{given!r} is no date; write it like 2026-03-31") from None


# -- the same as functions -------------------------------------------------------------------------------------------


def list_jobs(config: Config | str | Path | None = None) -> list[Listed]:
    """All jobs of a configuration (a path, or where `bimodal` finds it), with when they are due next."""
    with Jobs(config) as jobs:
        return jobs.all()


def run(name: str, config: Config | str | Path | None = None, **options: Any) -> JobRun:
    """Run a job; options: those of `Jobs.run`. A run that failed comes back as it ended: look at its `status`."""
    with Jobs(config) as jobs:
        return jobs.run(name, **options)


def history(name: str | None = None, config: Config | str | Path | None = None, *, limit: int = 20) -> list[JobRun]:
    """Runs, the latest first."""
    with Jobs(config) as jobs:
        return jobs.history(name, limit=limit)


def show(run: str, config: Config | str | Path | None = None) -> JobRun:
    """One run. Raises NotFound."""
    with Jobs(config) as jobs:
        return jobs.show(run)


def cancel(run: str, config: Config | str | Path | None = None) -> JobRun:
    """Have a run end. Raises NotFound."""
    with Jobs(config) as jobs:
        return jobs.cancel(run)


def backfill(
    name: str, first: str | date, last: str | date, config: Config | str | Path | None = None, **options: Any
) -> list[JobRun]:
    """Run a job for days that have passed. The runs in order; the last one may be one that failed."""
    with Jobs(config) as jobs:
        return list(jobs.backfill(name, first, last, **options))


def told(run: JobRun) -> Mapping[str, Any]:
    """A run as plain values for JSON."""
    names = ("id", "job", "slot", "status", "due", "created", "started", "ended", "attempt", "owner", "error")
    values = {name: getattr(run, name) for name in (*names, "lease_until")}
    return {**values, "parameters": run.parameters, "progress": run.progress, "report": run.report}
