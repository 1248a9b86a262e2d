"""The scheduler: every due time dealt with once, whatever the clock does. Promise 31 stands here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bimodal.config.tables import JobTable
from bimodal.errors import UsageError
from bimodal.jobs.scheduler import LONGEST, TOLD, Scheduler
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobRun, JobStore

T = 1_800_000_000.0  # a full hour
HOUR, DAY = 3600.0, 86400.0
JOB = JobTable("churn", "in.csv", every=600.0, overlap="queue", catch_up="all")


@pytest.fixture
def store(light: Path) -> Iterator[JobStore]:
    made = SqliteStore(light / "state.db")
    yield made
    made.close()


def dues(store: JobStore, status: str | None = None, job: str = "nightly") -> list[float]:
    """The due times that were entered, since T."""
    runs = [run for run in store.runs(job, limit=10**6) if status in (None, run.status)]
    return sorted(run.due - T for run in runs if run.due is not None)


def work(store: JobStore, now: float) -> None:
    """Run all that waits, at once."""
    while (run := store.claim("worker", now, 30)) is not None:
        store.finish(run, "succeeded", now)


def test_a_new_job_starts_from_now(store: JobStore) -> None:
    scheduler = Scheduler({"nightly": JOB}, store)
    assert scheduler.tick(T + 595) == 5
    assert dues(store) == []
    assert scheduler.tick(T + 600) == LONGEST
    assert dues(store, "queued") == [600]
    assert scheduler.tick(T + 600.5) == LONGEST
    assert scheduler.tick(T + 1199) == 1
    assert dues(store) == [600]


def test_a_scheduler_goes_on_where_the_last_one_stopped(store: JobStore) -> None:
    Scheduler({"nightly": JOB}, store).tick(T)
    Scheduler({"nightly": JOB}, store).tick(T + 1900)
    assert dues(store, "queued") == [600, 1200, 1800]


def test_two_schedulers_enter_each_due_time_once(store: JobStore) -> None:
    first, second = Scheduler({"nightly": JOB}, store), Scheduler({"nightly": JOB}, store)
    for minute in range(60):
        (first if minute % 3 else second).tick(T + 60 * minute)
        (second if minute % 2 else first).tick(T + 60 * minute)
    assert dues(store) == [600, 1200, 1800, 2400, 3000]


def test_a_changed_schedule_is_taken_from_now_on(store: JobStore) -> None:
    Scheduler({"nightly": JOB}, store).tick(T)
    changed = Scheduler({"nightly": replace(JOB, every=900.0)}, store)
    changed.tick(T + 2000)
    assert dues(store) == []
    changed.tick(T + 2700)
    assert dues(store) == [2700]
    Scheduler({"nightly": replace(JOB, every=900.0, retries=9)}, store).tick(T + 3600)  # the same schedule
    assert dues(store) == [2700, 3600]


@pytest.mark.parametrize(
    ("catch_up", "queued", "skipped"),
    [("none", [], [600, 1200, 1800]), ("one", [1800], [600, 1200]), ("all", [600, 1200, 1800], [])],
)
def test_catch_up(store: JobStore, catch_up: str, queued: list[float], skipped: list[float]) -> None:
    job = replace(JOB, catch_up=catch_up)  # type: ignore[arg-type]  # one of the three
    Scheduler({"nightly": job}, store).tick(T)
    scheduler = Scheduler({"nightly": job}, store)
    scheduler.tick(T + 1900)
    assert (dues(store, "queued"), dues(store, "skipped")) == (queued, skipped)
    assert all("missed" in str(run.error) for run in store.runs(statuses=("skipped",)))
    work(store, T + 1901)
    scheduler.tick(T + 2459)  # a due time that is late by less than a minute is on time
    assert dues(store, "queued") == [2400]


def test_many_missed_due_times_are_counted(store: JobStore) -> None:
    job = replace(JOB, every=1.0, catch_up="one")
    scheduler = Scheduler({"nightly": job}, store)
    scheduler.tick(T)
    scheduler.tick(T + 8 * HOUR)
    assert dues(store, "queued") == [8 * HOUR]
    left_out = store.runs(limit=10**6, statuses=("skipped",))
    assert len(left_out) == TOLD
    assert "as had 28699 due times before it" in str(min(left_out, key=lambda run: run.due or 0).error)


def test_all_of_very_many_are_entered(store: JobStore) -> None:
    scheduler = Scheduler({"nightly": replace(JOB, every=1.0)}, store)
    scheduler.tick(T)
    scheduler.tick(T + 1501)
    assert dues(store, "queued") == [float(second) for second in range(1, 1502)]


def test_overlap_skip(store: JobStore) -> None:
    scheduler = Scheduler({"nightly": replace(JOB, overlap="skip")}, store)
    scheduler.tick(T)
    scheduler.tick(T + 600)
    run = store.claim("worker", T + 601, 30)
    assert run is not None
    scheduler.tick(T + 1200)
    assert (dues(store, "running"), dues(store, "skipped")) == ([600], [1200])
    store.finish(run, "succeeded", T + 1300)
    scheduler.tick(T + 1800)
    assert dues(store, "queued") == [1800]


def test_overlap_queue(store: JobStore) -> None:
    scheduler = Scheduler({"nightly": JOB}, store)
    for tick in (0, 600, 1200, 1800):
        scheduler.tick(T + tick)
    assert dues(store, "queued") == [600, 1200, 1800]
    assert store.claim("worker", T + 1800, 30) is not None
    assert store.claim("worker", T + 1800, 30) is None  # one after the other


def test_overlap_replace(store: JobStore) -> None:
    scheduler = Scheduler({"nightly": replace(JOB, overlap="replace")}, store)
    scheduler.tick(T)
    scheduler.tick(T + 600)
    run = store.claim("worker", T + 601, 30)
    assert run is not None
    scheduler.tick(T + 1200)
    assert store.renew(run, T + 1201, 30).cancelled
    scheduler.tick(T + 1800)
    assert (dues(store, "cancelled"), dues(store, "queued")) == ([1200], [1800])


def test_missed_due_times_wait_although_others_would_be_skipped(store: JobStore) -> None:
    job = replace(JOB, overlap="skip")
    Scheduler({"nightly": job}, store).tick(T)
    Scheduler({"nightly": job}, store).tick(T + 1900)
    assert dues(store, "queued") == [600, 1200, 1800]


def test_a_clock_that_was_wrong_by_a_year_is_mended_by_a_changed_schedule(store: JobStore) -> None:
    Scheduler({"nightly": JOB}, store).tick(T)
    Scheduler({"nightly": replace(JOB, catch_up="one")}, store).tick(T + 365 * DAY)
    work(store, T)
    changed = Scheduler({"nightly": replace(JOB, every=300.0)}, store)
    changed.tick(T)
    changed.tick(T + 600)
    assert dues(store, "queued") == [300, 600]


def test_late_runs_are_told_once(store: JobStore) -> None:
    told: list[JobRun] = []
    jobs = {"nightly": replace(JOB, late_after=100.0), "weekly": JOB}
    scheduler = Scheduler(jobs, store, late=told.append)
    for second in range(0, 720, 10):
        scheduler.tick(T + second)
        Scheduler(jobs, store, late=told.append).tick(T + second)
    assert [(run.job, run.due) for run in told] == [("nightly", T + 600)]


def test_a_schedule_that_is_wrong_names_its_job(store: JobStore) -> None:
    with pytest.raises(UsageError, match=r"job nightly: .*never fires"):
        Scheduler({"nightly": JobTable("m", "i", schedule="0 0 30 2 *")}, store)


def test_jobs_without_a_schedule_are_left_alone(store: JobStore) -> None:
    assert Scheduler({"byhand": JobTable("m", "i")}, store).tick(T) == LONGEST
    assert store.marks() == {}


# -- promise 31: clock jumps are safe -------------------------------------------------------------------------------

CRON = JobTable("m", "i", schedule="*/10 * * * *", timezone="Europe/Berlin", overlap="queue", catch_up="all")


@pytest.mark.parametrize("job", [JOB, CRON], ids=["every", "cron"])
@pytest.mark.parametrize("step", [HOUR, -HOUR, DAY, -DAY, 8 * HOUR, 1.0, -1.0])
def test_a_clock_that_is_set_enters_no_due_time_twice_and_is_never_stuck(
    store: JobStore, job: JobTable, step: float
) -> None:
    """Steps of an hour and a day both ways, a suspension of 8 h, a leap second: then a day and more goes by."""
    scheduler = Scheduler({"nightly": job}, store)
    for minute in range(121):
        scheduler.tick(T + minute * 60)
    moment = 7200 + step
    last = abs(step) + 2 * HOUR
    for minute in range(int(last // 60)):
        scheduler.tick(T + moment + minute * 60)
        work(store, T + moment + minute * 60)
    end = moment + last - 60
    entered = dues(store)
    assert max(Counter(entered).values()) == 1
    assert entered == [float(each) for each in range(600, int(max(7200, end)) + 1, 600)]
    assert {run.status for run in store.runs(limit=10**6)} == {"succeeded"}


@pytest.mark.parametrize("step", [HOUR, -HOUR, DAY, -DAY])
def test_a_clock_that_is_set_and_set_right_again(store: JobStore, step: float) -> None:
    scheduler = Scheduler({"nightly": JOB}, store)
    scheduler.tick(T)
    scheduler.tick(T + 600)
    scheduler.tick(T + 700 + step)
    for minute in range(12, int(abs(step) / 60) + 30):
        scheduler.tick(T + minute * 60)
    entered = dues(store)
    assert max(Counter(entered).values()) == 1
    assert entered == [float(each) for each in range(600, int(abs(step)) + 30 * 60, 600)]


@pytest.mark.parametrize(("catch_up", "runs"), [("none", 0), ("one", 1), ("all", 48)])
def test_a_suspension_follows_catch_up(store: JobStore, catch_up: str, runs: int) -> None:
    scheduler = Scheduler({"nightly": replace(JOB, catch_up=catch_up)}, store)  # type: ignore[arg-type]  # one of the three
    scheduler.tick(T)
    scheduler.tick(T + 8 * HOUR + 90)
    assert len(dues(store, "queued")) == runs
    assert len(dues(store)) == 48


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([1.0, 30.0, 599.0, 600.0, HOUR, DAY, -1.0, -599.0, -HOUR, -DAY]), st.booleans()),
        max_size=25,
    )
)
def test_any_clock(steps: list[tuple[float, bool]], light: Path) -> None:
    """Whatever the clock does, and wherever a scheduler takes the place of another: each due time up to the latest
    moment that was seen, once.
    """
    store = SqliteStore(Path(tempfile.mkdtemp(dir=light)) / "state.db")
    now = latest = T
    scheduler = Scheduler({"nightly": JOB}, store)
    scheduler.tick(now)
    for step, another in steps:
        now += step
        latest = max(now, latest)
        if another:
            scheduler = Scheduler({"nightly": JOB}, store)
        scheduler.tick(now)
    assert dues(store) == [float(each) for each in range(600, int(latest - T) + 1, 600)]
    store.close()


# -- what it brings along -------------------------------------------------------------------------------------------


def test_scheduler_and_store_bring_nothing_heavy() -> None:
    code = (
        "import sys, bimodal.jobs.scheduler, bimodal.jobs.sqlite, bimodal.jobs.opening\n"
        "print(sorted({'numpy', 'pyarrow', 'pandas', 'psycopg', 'sklearn'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
