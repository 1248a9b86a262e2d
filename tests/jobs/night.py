"""A scheduler and a trivial worker as one process, with time sped up: `python -m tests.jobs.night STATE OUTPUT BEGIN
SPEED END`. It is killed and started again until every due time has its result.

The moment is (monotonic time − BEGIN) × SPEED: it goes on while nobody runs, as the world's does. The worker commits a
row into a table of another database, which refuses nothing: only the worker itself looks whether its run's row is there
already, as a batch run that resumes finds its publication done. So a due time that was entered twice, or a run that two
owners held, shows as a second row.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from bimodal.config.tables import JobTable
from bimodal.jobs.scheduler import Scheduler
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobStore, LeaseLost

EVERY = 60
TTL = 30.0
JOBS = {"nightly": JobTable("m", "i", every=EVERY, overlap="queue", catch_up="all")}


def moment(begin: float, speed: float) -> float:
    """Seconds since the beginning of the night, as they are told to scheduler and worker."""
    return (time.monotonic() - begin) * speed


def results(output: Path) -> sqlite3.Connection:
    """The table of results: nothing in it keeps a due time from standing there twice."""
    connection = sqlite3.connect(output, timeout=60, isolation_level=None)
    connection.execute("CREATE TABLE IF NOT EXISTS results (due REAL, run TEXT, fence INTEGER)")
    return connection


def work(store: JobStore, output: sqlite3.Connection, now: float) -> bool:
    """One run: claim, settle, renew before publication, publish where that was not done yet, finish."""
    run = store.claim(f"worker {os.getpid()}", now, TTL)
    if run is None:
        return False
    try:
        run = store.settle(run, {"due": run.due})
        output.execute("BEGIN IMMEDIATE")
        if not output.execute("SELECT 1 FROM results WHERE run = ?", (run.id,)).fetchone():
            store.renew(run, now, TTL)
            output.execute("INSERT INTO results VALUES (?, ?, ?)", (run.due, run.id, run.fence))
        output.execute("COMMIT")
        store.finish(run, "succeeded", now)
    except LeaseLost:
        if output.in_transaction:
            output.execute("ROLLBACK")
    return True


def main() -> None:
    state, output, begin, speed, end = Path(sys.argv[1]), Path(sys.argv[2]), *(float(each) for each in sys.argv[3:6])
    store = SqliteStore(state)
    scheduler = Scheduler(JOBS, store)
    with closing(results(output)) as connection:
        while True:
            now = min(end, moment(begin, speed))
            wait = scheduler.tick(now)
            busy = work(store, connection, moment(begin, speed))
            if now == end and not busy and not store.runs(statuses=("queued", "running")):
                return
            if not busy:
                time.sleep(min(wait / speed, 0.05))


if __name__ == "__main__":
    main()
