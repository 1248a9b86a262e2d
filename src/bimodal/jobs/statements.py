"""The job store in SQL: what SQLite and PostgreSQL have in common. Their own files know how to connect, and how a
transaction keeps all others out.

A transaction that writes is alone: SQLite's BEGIN IMMEDIATE, an advisory lock in PostgreSQL. So each method below is
read as if nobody else were there.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

from bimodal.config.tables import Overlap
from bimodal.errors import NotFound, SourceError
from bimodal.jobs.store import DUE, JobRun, JobStore, LeaseLost, Mark, Status

VERSION = 1  # of the tables below
NAMES = tuple(each.name for each in fields(JobRun))
TEXTS = ("parameters", "progress", "report")  # JSON: PostgreSQL's own type refuses what a report may hold
FLAGS = ("cancelled", "late")
COLUMNS = ", ".join(NAMES)

# number: the order of entry. lasts: for how long the lease, or the wait before a retry, was given. alone: claimed with
# one_per_job.
TABLES = (
    "CREATE TABLE bimodal_jobs_schema (version INTEGER NOT NULL)",
    """CREATE TABLE bimodal_jobs_runs (
        number {serial}, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL, slot TEXT NOT NULL, status TEXT NOT NULL,
        created {real} NOT NULL, due {real}, parameters TEXT NOT NULL, attempt INTEGER NOT NULL,
        not_before {real} NOT NULL, owner TEXT, fence INTEGER NOT NULL, lease_until {real}, started {real},
        ended {real}, progress TEXT NOT NULL, report TEXT NOT NULL, error TEXT, cancelled INTEGER NOT NULL,
        late INTEGER NOT NULL, lasts {real}, alone INTEGER NOT NULL DEFAULT 0, UNIQUE (job, slot))""",
    "CREATE INDEX bimodal_jobs_runs_active ON bimodal_jobs_runs (status, created)",
    "CREATE INDEX bimodal_jobs_runs_latest ON bimodal_jobs_runs (job, created)",
    "CREATE TABLE bimodal_jobs_marks (job TEXT PRIMARY KEY, until {real} NOT NULL, spec TEXT NOT NULL)",
    "CREATE TABLE bimodal_jobs_memory (job TEXT PRIMARY KEY, memory TEXT NOT NULL)",
    """CREATE TABLE bimodal_jobs_files (
        job TEXT NOT NULL, path TEXT NOT NULL, fingerprint TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (job, path))""",
)

Row = tuple[Any, ...]
Execute = Callable[..., list[Row]]  # a statement with ? for its values; the rows it gives


class SqlStore(JobStore):
    """JobStore on a database. name: what it is called in messages, without a secret."""

    name: str
    serial: str
    real: str
    listed: str  # a query that gives a row where the tables are there

    @abstractmethod
    def writing(self) -> AbstractContextManager[Execute]:
        """A transaction in which nobody else writes; committed at the end, rolled back by an exception."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Execute]:
        """Single statements, each seeing what is committed."""

    def prepare(self, do: Execute) -> None:
        """Make the tables where they are missing. Raises SourceError where a later Bimodal made them."""
        if not do(self.listed):
            for each in TABLES:
                do(each.format(serial=self.serial, real=self.real))
            do("INSERT INTO bimodal_jobs_schema (version) VALUES (?)", VERSION)
        ((known,),) = do("SELECT version FROM bimodal_jobs_schema")
        if known > VERSION:
            raise SourceError(
                f"the state of jobs in {self.name} was written by a later version of Bimodal: upgrade this one, or "
                "name another `state` in bimodal.toml"
            )

    # -- asked for ----------------------------------------------------------------------------------------------------

    def ask(self, run: JobRun) -> tuple[JobRun, bool]:
        with self.writing() as do:
            known = _of_slot(do, run)
            return (known, False) if known is not None else (_enter(do, run), True)

    def cancel(self, run: str, now: float) -> JobRun:
        with self.writing() as do:
            found = _find(do, run)
            _cancel(do, found, now, None)
            return _read(do, found.id)

    # -- owned --------------------------------------------------------------------------------------------------------

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
        with self.reading() as do:  # most calls find nothing, and then nobody is kept waiting
            if not do("SELECT 1 FROM bimodal_jobs_runs WHERE status IN ('queued', 'running') LIMIT 1"):
                return None
        with self.writing() as do:
            _put_right(do, now)
            found = _claimable(do, now, run, jobs, one_per_job)
            if found is None:
                return None
            do(
                """UPDATE bimodal_jobs_runs SET status = 'running', owner = ?, fence = fence + 1, attempt = attempt + 1,
                lease_until = ?, lasts = ?, alone = ?, started = coalesce(started, ?) WHERE id = ?""",
                *(owner, now + ttl, ttl, int(one_per_job), now, found),
            )
            return _read(do, found)

    def renew(self, run: JobRun, now: float, ttl: float, progress: Mapping[str, Any] | None = None) -> JobRun:
        with self.writing() as do:
            known = _owned(do, run)
            if known.lease_until is not None and known.lease_until <= now and _overtaken(do, known, now):
                raise LeaseLost(f"another run of {run.job} began while the lease of run {run.id} had ended")
            told = known.progress if progress is None else progress
            do(
                "UPDATE bimodal_jobs_runs SET lease_until = ?, lasts = ?, progress = ? WHERE id = ?",
                *(now + ttl, ttl, _text(told), run.id),
            )
            return replace(known, lease_until=now + ttl, progress=told)

    def settle(self, run: JobRun, parameters: Mapping[str, Any]) -> JobRun:
        with self.writing() as do:
            known = _owned(do, run)
            do("UPDATE bimodal_jobs_runs SET parameters = ? WHERE id = ?", _text(parameters), run.id)
            return replace(known, parameters=parameters)

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
        with self.writing() as do:
            known = _known(do, run)
            if _told_before(known, run, status, retry_at):
                return known
            known = _owned(do, run)
            if retry_at is not None and known.cancelled:
                status, retry_at = "cancelled", None
            over = retry_at is None
            do(
                """UPDATE bimodal_jobs_runs SET status = ?, ended = ?, not_before = ?, lasts = ?,
                lease_until = NULL, report = ?, error = ? WHERE id = ?""",
                status if over else "queued",
                now if over else None,
                known.not_before if retry_at is None else retry_at,
                None if retry_at is None else retry_at - now,
                _text(known.report if report is None else report),
                _line(known.error if error is None and status == "cancelled" else error),
                run.id,
            )
            if over and status == "succeeded":
                _remember(do, run.job, memory, files)
            return _read(do, run.id)

    # -- known --------------------------------------------------------------------------------------------------------

    def find(self, run: str) -> JobRun:
        with self.reading() as do:
            return _find(do, run)

    def runs(self, job: str | None = None, *, limit: int = 50, statuses: Sequence[Status] = ()) -> list[JobRun]:
        conditions, values = ["1 = 1"], list[Any]()
        if job is not None:
            conditions.append("job = ?")
            values.append(job)
        if statuses:
            conditions.append(f"status IN ({_marks(statuses)})")
            values.extend(statuses)
        where = " AND ".join(conditions)
        with self.reading() as do:
            return _all(do, f"WHERE {where} ORDER BY created DESC, number DESC LIMIT ?", *values, limit)

    def memory(self, job: str) -> Mapping[str, Any]:
        with self.reading() as do:
            rows = do("SELECT memory FROM bimodal_jobs_memory WHERE job = ?", job)
        found: Mapping[str, Any] = json.loads(rows[0][0]) if rows else {}
        return found

    def files(self, job: str) -> Mapping[str, tuple[str, str]]:
        with self.reading() as do:
            rows = do("SELECT path, fingerprint, digest FROM bimodal_jobs_files WHERE job = ?", job)
        return {json.loads(path): (fingerprint, digest) for path, fingerprint, digest in rows}

    # -- scheduled ----------------------------------------------------------------------------------------------------

    def marks(self) -> Mapping[str, Mark]:
        with self.reading() as do:
            return {
                job: Mark(until, spec) for job, until, spec in do("SELECT job, until, spec FROM bimodal_jobs_marks")
            }

    def advance(
        self, job: str, until: float, runs: Sequence[JobRun], *, spec: str = "", overlap: Overlap = "queue"
    ) -> list[JobRun]:
        with self.writing() as do:
            rows = do("SELECT until, spec FROM bimodal_jobs_marks WHERE job = ?", job)
            noted = rows[0][0] if rows and rows[0][1] == spec else None
            if noted is not None and until <= noted:
                return []
            fresh = [each for each in runs if noted is None or each.due is None or each.due > noted]
            entered = [_enter_due(do, each, overlap) for each in fresh if _of_slot(do, each) is None]
            do(
                """INSERT INTO bimodal_jobs_marks (job, until, spec) VALUES (?, ?, ?)
                ON CONFLICT (job) DO UPDATE SET until = excluded.until, spec = excluded.spec""",
                *(job, until, spec),
            )
            return [_read(do, each.id) for each in entered]

    def late(self, after: Mapping[str, float], now: float) -> list[JobRun]:
        if not after:
            return []
        with self.reading() as do:
            if not _late(do, after, now):
                return []
        with self.writing() as do:
            found = _late(do, after, now)
            for each in found:
                do("UPDATE bimodal_jobs_runs SET late = 1 WHERE id = ?", each.id)
            return [replace(each, late=True) for each in found]

    def prune(self, before: float) -> int:
        with self.writing() as do:
            gone = do(
                """SELECT id FROM bimodal_jobs_runs r
                LEFT JOIN bimodal_jobs_marks m ON m.job = r.job
                LEFT JOIN (SELECT job, max(due) AS latest FROM bimodal_jobs_runs GROUP BY job) l ON l.job = r.job
                WHERE r.ended < ? AND (r.due IS NULL OR (r.due <= coalesce(m.until, r.due) AND r.due < l.latest))""",
                before,
            )
            for (run,) in gone:
                do("DELETE FROM bimodal_jobs_runs WHERE id = ?", run)
        return len(gone)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=True, separators=(",", ":"))


def _line(error: str | None) -> str | None:
    """A text that every database takes."""
    return error.encode(errors="replace").decode().replace("\0", "") if error is not None else None


def _values(run: JobRun) -> list[Any]:
    """The run's fields as columns."""
    held = {name: getattr(run, name) for name in NAMES}
    held |= {name: _text(held[name]) for name in TEXTS} | {name: int(held[name]) for name in FLAGS}
    return list(held.values())


def _run(row: Row) -> JobRun:
    held = dict(zip(NAMES, row, strict=True))
    held |= {name: json.loads(held[name]) for name in TEXTS} | {name: bool(held[name]) for name in FLAGS}
    return JobRun(**held)


def _all(do: Execute, rest: str, *values: Any) -> list[JobRun]:
    return [_run(row) for row in do(f"SELECT {COLUMNS} FROM bimodal_jobs_runs AS r {rest}", *values)]  # noqa: S608 - our own words


def _read(do: Execute, run: str) -> JobRun:
    (found,) = _all(do, "WHERE id = ?", run)
    return found


def _find(do: Execute, run: str) -> JobRun:
    found = _all(do, "WHERE id = ?", run) or _all(do, "WHERE substr(id, 1, ?) = ? LIMIT 2", len(run), run)
    if not found or not run:
        raise NotFound(f"there is no run {run}: `bimodal jobs history` lists them")
    if len(found) > 1:
        raise NotFound(f"more than one run begins with {run}: give more of its id")
    return found[0]


def _of_slot(do: Execute, run: JobRun) -> JobRun | None:
    found = _all(do, "WHERE job = ? AND slot = ?", run.job, run.slot)
    return found[0] if found else None


def _enter(do: Execute, run: JobRun) -> JobRun:
    do(f"INSERT INTO bimodal_jobs_runs ({COLUMNS}) VALUES ({_marks(NAMES)})", *_values(run))  # noqa: S608 - our own words
    return _read(do, run.id)


def _enter_due(do: Execute, run: JobRun, overlap: Overlap) -> JobRun:
    """A run of the schedule, by what else of its job is there."""
    if run.status != "queued" or overlap == "queue":
        return _enter(do, run)
    others = _all(do, "WHERE job = ? AND status IN ('queued', 'running') ORDER BY number", run.job)
    if others and overlap == "skip":
        reason = f"run {others[0].id} of the job was still {others[0].status}"
        return _enter(do, replace(run, status="skipped", ended=run.created, error=reason))
    for each in others:
        if each.slot.startswith(DUE):
            _cancel(do, each, run.created, f"run {run.id} of a later due time took its place")
    return _enter(do, run)


def _cancel(do: Execute, run: JobRun, now: float, reason: str | None) -> None:
    if run.status == "queued":
        do(
            """UPDATE bimodal_jobs_runs SET status = 'cancelled', cancelled = 1, ended = ?, error = coalesce(?, error)
            WHERE id = ?""",
            *(now, reason, run.id),
        )
    elif run.status == "running":
        do("UPDATE bimodal_jobs_runs SET cancelled = 1, error = coalesce(?, error) WHERE id = ?", reason, run.id)


def _put_right(do: Execute, now: float) -> None:
    """What a clock that was set back, or an owner that died, has left."""
    do(
        "UPDATE bimodal_jobs_runs SET lease_until = ? + lasts WHERE status = 'running' AND lease_until > ? + lasts",
        now,
        now,
    )
    do(
        "UPDATE bimodal_jobs_runs SET not_before = ? + lasts WHERE status = 'queued' AND not_before > ? + lasts",
        now,
        now,
    )
    do(
        """UPDATE bimodal_jobs_runs SET status = 'cancelled', ended = ?, lease_until = NULL
        WHERE status = 'running' AND cancelled = 1 AND lease_until <= ?""",
        *(now, now),
    )


def _claimable(do: Execute, now: float, run: str | None, jobs: Sequence[str], one_per_job: bool) -> str | None:
    """The id of the oldest run that may be taken."""
    conditions = "((status = 'queued' AND not_before <= ?) OR (status = 'running' AND lease_until <= ?))"
    values: list[Any] = [now, now]
    if run is not None:
        conditions += " AND id = ?"
        values.append(run)
    if jobs:
        conditions += f" AND job IN ({_marks(jobs)})"
        values.extend(jobs)
    if one_per_job:
        conditions += """ AND NOT EXISTS (SELECT 1 FROM bimodal_jobs_runs o WHERE o.job = r.job AND o.id <> r.id
            AND o.status = 'running' AND o.lease_until > ?)"""
        values.append(now)
    found = _all(do, f"WHERE {conditions} ORDER BY created, number LIMIT 1", *values)
    return found[0].id if found else None


def _known(do: Execute, run: JobRun) -> JobRun:
    found = _all(do, "WHERE id = ?", run.id)
    if not found:
        raise LeaseLost(f"run {run.id} of {run.job} is not known any more")
    return found[0]


def _owned(do: Execute, run: JobRun) -> JobRun:
    """The run as it stands, if whoever holds `run` owns it."""
    known = _known(do, run)
    if known.status != "running":
        raise LeaseLost(f"run {run.id} of {run.job} is {known.status} already")
    if known.fence != run.fence:
        raise LeaseLost(f"run {run.id} of {run.job} belongs to {known.owner} by now")
    return known


def _overtaken(do: Execute, run: JobRun, now: float) -> bool:
    """Whether another run of the job took the place of one that is to run alone."""
    return bool(
        do(
            """SELECT 1 FROM bimodal_jobs_runs me JOIN bimodal_jobs_runs o ON o.job = me.job AND o.id <> me.id
            WHERE me.id = ? AND me.alone = 1 AND o.status = 'running' AND o.lease_until > ?""",
            *(run.id, now),
        )
    )


def _told_before(known: JobRun, run: JobRun, status: Status, retry_at: float | None) -> bool:
    """Whether this end was told by this owner already."""
    if known.fence != run.fence or not known.fence:
        return False
    return known.status == ("queued" if retry_at is not None else status)


def _remember(do: Execute, job: str, memory: Mapping[str, Any] | None, files: Sequence[tuple[str, str, str]]) -> None:
    if memory is not None:
        do(
            """INSERT INTO bimodal_jobs_memory (job, memory) VALUES (?, ?)
            ON CONFLICT (job) DO UPDATE SET memory = excluded.memory""",
            *(job, _text(memory)),
        )
    for path, fingerprint, digest in files:
        do(
            """INSERT INTO bimodal_jobs_files (job, path, fingerprint, digest) VALUES (?, ?, ?, ?)
            ON CONFLICT (job, path) DO UPDATE SET fingerprint = excluded.fingerprint, digest = excluded.digest""",
            *(job, json.dumps(path), fingerprint, digest),  # a name need not be UTF-8
        )


def _late(do: Execute, after: Mapping[str, float], now: float) -> list[JobRun]:
    waiting = _all(
        do, "WHERE status IN ('queued', 'running') AND late = 0 AND due IS NOT NULL AND due <= ? ORDER BY due", now
    )
    return [each for each in waiting if each.job in after and each.due is not None and now - each.due > after[each.job]]
