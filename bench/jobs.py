"""The scheduler's tick and the state of jobs.

    python tasks.py bench jobs [--jobs 1000] [--folder FOLDER]

Half of the jobs have five fields in a time zone, half an interval. Each figure is the processor's time and the clock's:
what lies between them is the disk (--folder says which one).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bimodal.config.tables import JobTable
from bimodal.jobs.scheduler import Scheduler
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobRun, JobStore

T = 1_800_000_000.0  # a full hour
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=1000)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store = SqliteStore(Path(folder) / "state.db")
        jobs = dict(_job(number) for number in range(given.jobs))
        scheduler = Scheduler(jobs, store, late=lambda run: None)
        print(f"| {given.jobs} jobs | processor, ms | clock, ms |\n| --- | ---: | ---: |")
        _told("first tick of all: every job is new", lambda: scheduler.tick(T))
        _told("first tick of a scheduler that takes over", lambda: Scheduler(jobs, store).tick(T + 1))
        _told("a tick with nothing due", lambda: scheduler.tick(T + 2), 50)
        _told("a tick with one job due", _one(store), 20)
        _told("a tick with all due at once", lambda: scheduler.tick(T + 3600))
        _told("a claim and an end", lambda: _worked(store), 50)
        _told("a claim that finds nothing", lambda: store.claim("bench", T + 3600, 30, jobs=["none"]), 50)
        _told("the latest 50 runs", store.runs, 50)
        store.close()
    print(f"\nMemory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


def _job(number: int) -> tuple[str, JobTable]:
    """Each hour, by five fields in a zone or as an interval: all are due at once (but in Lord Howe, at half past)."""
    zone = ZONES[number % len(ZONES)]
    cron = JobTable("m", "i", schedule="0 * * * *", timezone=zone, overlap="queue", late_after=600.0)
    return f"job{number}", cron if number % 2 else JobTable("m", "i", every=3600.0, overlap="queue")


def _one(store: JobStore) -> Callable[[], object]:
    """Each call is a tick of another scheduler, at which its one job is due again."""
    scheduler = Scheduler({"alone": JobTable("m", "i", every=1.0, overlap="queue")}, store)
    scheduler.tick(T)
    seconds = iter(range(1, 10**6))
    return lambda: scheduler.tick(T + next(seconds))


def _worked(store: JobStore) -> JobRun:
    run = store.claim("bench", T + 3600, 30)
    assert run is not None
    return store.finish(run, "succeeded", T + 3601, report={"rows": 1})


def _told(name: str, work: Callable[[], object], times: int = 1) -> None:
    """The median of some calls, as a row of the table."""
    clock, processor = [], []
    for _ in range(times):
        began = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    print(f"| {name} | {median(processor) * 1e3:.2f} | {median(clock) * 1e3:.2f} |", flush=True)


if __name__ == "__main__":
    main()
