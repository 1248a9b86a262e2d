"""Runs of jobs by real processes that are killed, stopped, cancelled and asked twice: each has one committed result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bimodal.jobs
from bimodal.cli.jobs import silence
from bimodal.config import read
from bimodal.errors import NotFound, UsageError
from bimodal.jobs.running import Jobs
from bimodal.jobs.store import JobRun
from bimodal.jobs.work import TTL, Worker
from tests.jobs.desk import Desk, children, gone, kill, until

NIGHTLY = """
[jobs.nightly]
model = "doubled"
input = "{input}"
output = "sqlite:///shop.db#scores"
mode = "append"
priority = "normal"
backoff = 0.1
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, NIGHTLY.format(input="in.csv") + 'schedule = "0 3 * * *"\n')
    made.rows("in.csv", range(5))
    return made


@pytest.fixture
def jobs(desk: Desk) -> Iterator[Jobs]:
    with Jobs(desk.folder / "bimodal.toml") as opened:
        yield opened


def scores(desk: Desk) -> int:
    """How many rows have been committed; 0 where there is no table yet."""
    ((there,),) = desk.sql("SELECT count(*) FROM sqlite_master WHERE name = 'scores'")
    return int(desk.sql("SELECT count(*) FROM scores")[0][0]) if there else 0


def statuses(desk: Desk) -> list[Any]:
    return desk.state("SELECT status FROM bimodal_jobs_runs ORDER BY number")


def worked(jobs: Jobs, run: JobRun, during: Callable[[Worker], object] = lambda worker: None) -> JobRun:
    """See a run through with a worker of this process. during: called whenever its child may have moved on."""
    worker = Worker(jobs.config, jobs.store, run=run.id)

    def turn() -> bool:
        worker.wait(min(0.05, worker.step(time.time())))
        during(worker)
        return jobs.show(run.id).over

    try:
        until(turn, 60)
    finally:
        worker.close()
    return jobs.show(run.id)


def test_a_job_that_is_fired_twice_runs_once_and_the_second_is_told_who_has_it(desk: Desk) -> None:
    slow = desk.mark("slow")
    first = desk.start("jobs", "run", "nightly")
    made = "SELECT 1 FROM sqlite_master WHERE name = 'bimodal_jobs_runs'"
    until(lambda: (desk.folder / ".bimodal/state.db").exists() and desk.state(made))
    until(lambda: statuses(desk) == [("running",)])
    second = desk.start("jobs", "run", "nightly", "--json")
    assert second.stdout is not None
    said: list[dict[str, Any]] = []
    while not said or said[-1]["event"] != "waiting":
        said.append(json.loads(second.stdout.readline()))
    assert f"run {first.pid} on" in said[-1]["owner"]
    slow.unlink()
    out, _ = second.communicate(timeout=60)
    told = json.loads(out.splitlines()[-1])
    first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (told["event"], told["status"], told["report"]["predicted"]) == ("run", "succeeded", 5)
    assert (scores(desk), statuses(desk)) == (5, [("succeeded",)])
    third = desk.command("jobs", "run", "nightly")
    assert (third.returncode, scores(desk)) == (0, 5)
    assert "succeeded already (" in third.stdout


def owning(desk: Desk, run: JobRun) -> subprocess.Popen[str]:
    """A worker of its own process, with a lease of one second on the run."""
    command = [sys.executable, "-m", "tests.jobs.owner", str(desk.folder), "1", run.id]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_a_killed_owner_takes_its_child_along_and_the_next_one_goes_on(desk: Desk, jobs: Jobs) -> None:
    slow = desk.mark("slow")
    run = jobs.run("nightly", wait=False)
    owner = owning(desk, run)
    below = until(lambda: jobs.show(run.id).status == "running" and children(owner.pid))
    kill(owner)
    until(lambda: all(map(gone, below)))
    slow.unlink()
    over = worked(jobs, run)
    assert (over.status, over.attempt, scores(desk)) == ("succeeded", 2, 5)


def test_an_owner_that_was_stopped_past_its_lease_writes_nothing(desk: Desk, jobs: Jobs) -> None:
    slow = desk.mark("slow")
    run = jobs.run("nightly", wait=False)
    owner = owning(desk, run)
    below = until(lambda: jobs.show(run.id).parameters and children(owner.pid))
    for each in (owner.pid, *below):
        os.kill(each, signal.SIGSTOP)

    def released(worker: Worker) -> None:
        """The second owner waits for the output that the first one holds, until that is continued."""
        if worker.busy and slow.exists():
            slow.unlink()
            for each in (owner.pid, *below):
                os.kill(each, signal.SIGCONT)

    over = worked(jobs, run, released)
    out, _ = owner.communicate(timeout=60)
    assert "lost" in out.split()
    assert (over.status, over.attempt, scores(desk)) == ("succeeded", 2, 5)


def test_a_child_that_is_killed_is_followed_by_one_that_goes_on(desk: Desk, jobs: Jobs) -> None:
    slow = desk.mark("slow")
    run = jobs.run("nightly", wait=False)

    def shoot(worker: Worker) -> None:
        if worker.runs and worker.runs[0].parameters and slow.exists():
            slow.unlink()
            os.kill(worker.pids[0], signal.SIGKILL)

    over = worked(jobs, run, shoot)
    assert (over.status, over.attempt, over.report["failures"], scores(desk)) == ("succeeded", 2, 1, 5)


def test_a_cancelled_run_publishes_nothing(desk: Desk, jobs: Jobs) -> None:
    desk.mark("slow")
    run = jobs.run("nightly", wait=False)

    def cancel(worker: Worker) -> None:
        if worker.runs and not worker.runs[0].cancelled:
            jobs.cancel(run.id[:8])

    over = worked(jobs, run, cancel)
    assert (over.status, scores(desk)) == ("cancelled", 0)


def test_an_attempt_that_takes_too_long_is_ended_and_the_run_fails_with_its_retries(desk: Desk, jobs: Jobs) -> None:
    desk.mark("slow")
    desk.write(NIGHTLY.format(input="in.csv") + "timeout = 0.5\nretries = 1\n")
    with Jobs(desk.folder / "bimodal.toml") as opened:
        run = worked(opened, opened.run("nightly", now=True, wait=False))
    assert (run.status, run.attempt, run.error) == ("failed", 2, "the attempt took longer than its timeout of 0.5 s")


def test_a_retry_finds_what_was_missing_and_wrong_usage_is_not_tried_again(desk: Desk, jobs: Jobs) -> None:
    (desk.folder / "in.csv").rename(desk.folder / "later.csv")
    run, later = jobs.run("nightly", wait=False), desk.folder / "later.csv"

    def bring(worker: Worker) -> None:
        if later.exists() and jobs.show(run.id).report.get("failures"):
            later.rename(desk.folder / "in.csv")

    over = worked(jobs, run, bring)
    assert (over.status, over.attempt, scores(desk)) == ("succeeded", 2, 5)
    desk.write(NIGHTLY.format(input="in.csv") + 'keep = "nothing_like_it"\n')
    failed = desk.command("jobs", "run", "nightly", "--now")
    assert failed.returncode == 2
    assert "nothing_like_it" in failed.stderr
    with Jobs(desk.folder / "bimodal.toml") as opened:
        assert opened.history("nightly")[0].attempt == 1
    desk.write(NIGHTLY.format(input="in.csv"))
    (desk.folder / "in.csv").write_text("id,n\n1,1\n2,no number\n")
    rejected = desk.command("jobs", "run", "nightly", "--now")
    assert rejected.returncode == 3
    assert "1 row of 2 rejected, nothing was published" in rejected.stderr


def test_ctrl_c_gives_the_run_back_and_the_same_command_goes_on(desk: Desk) -> None:
    slow = desk.mark("slow")
    first = desk.start("jobs", "run", "nightly")
    until(lambda: (desk.folder / ".bimodal/state.db").exists() and statuses(desk) == [("running",)])
    time.sleep(0.5)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert (first.returncode, statuses(desk)) == (130, [("queued",)])
    slow.unlink()
    again = desk.command("jobs", "run", "nightly")
    assert (again.returncode, scores(desk), statuses(desk)) == (0, 5, [("succeeded",)])


def test_backfill_runs_each_day_once_and_goes_on_after_the_one_that_failed(desk: Desk) -> None:
    desk.write(NIGHTLY.format(input="in/{date}.csv") + "retries = 0\n")
    for day in (1, 3):
        desk.rows(f"in/2026-03-0{day}.csv", range(day))
    with Jobs(desk.folder / "bimodal.toml") as jobs:
        runs = list(jobs.backfill("nightly", "2026-03-01", "2026-03-03"))
        assert [(each.slot, each.status) for each in runs] == [
            ("date:2026-03-01", "succeeded"),
            ("date:2026-03-02", "failed"),
        ]
        desk.rows("in/2026-03-02.csv", range(2))
        runs = list(jobs.backfill("nightly", "2026-03-01", "2026-03-03"))
        assert [each.status for each in runs] == ["succeeded"] * 3
        assert [each.slot for each in runs][1] == "date:2026-03-02:again:1"
        assert (scores(desk), len(jobs.history())) == (6, 4)
        with pytest.raises(UsageError, match="lies before"):
            list(jobs.backfill("nightly", "2026-03-03", "2026-03-01"))
        with pytest.raises(UsageError, match="yet to come"):
            list(jobs.backfill("nightly", "2999-01-01", "2999-01-01"))
        with pytest.raises(UsageError, match="no date"):
            list(jobs.backfill("nightly", "yesterday", "2026-03-01"))


def test_a_backfill_of_very_many_runs_asks_first(desk: Desk) -> None:
    refused = desk.command("jobs", "backfill", "nightly", "--from", "2020-01-01", "--to", "2020-12-31")
    assert (refused.returncode, desk.told("jobs", "history")) == (2, [])
    assert "has 366 due times from 2020-01-01 to 2020-12-31: --yes runs them all" in refused.stderr


def test_the_owner_of_a_run_that_gives_no_sign_is_told(desk: Desk) -> None:
    run = JobRun("ab12", "nightly", "run:ab12", "running", 0.0, owner="worker 7 on host", lease_until=1030.0)
    assert silence(run, 1002.0) == "", "it was renewed two seconds ago"
    assert silence(run, 1012.0) == "worker 7 on host, was last seen 12 s ago; the run is taken over in 18 s"
    assert "taken over by the next worker" in silence(run, 1040.0)
    with Jobs(desk.folder / "bimodal.toml") as opened:
        asked, now = opened.run("nightly", now=True, wait=False), opened.clock()
        opened.store.claim("worker 7 on host", now - 15, TTL, run=asked.id)
    for words in (("history",), ("show", asked.id)):
        assert "worker 7 on host, was last seen " in desk.command("jobs", *words).stdout


def test_the_functions_are_seen_by_whoever_looks_around() -> None:
    assert {"run", "backfill", "history", "list", "show", "cancel"} <= set(dir(bimodal.jobs))


def test_slots_of_runs(desk: Desk, jobs: Jobs) -> None:
    clock = jobs.clock()
    due = jobs.run("nightly", wait=False)
    assert due.slot == f"due:{due.due:.0f}"
    assert due.due is not None
    assert clock - 86_400 <= due.due <= clock
    assert jobs.run("nightly", wait=False).id == due.id
    key = jobs.run("nightly", key="a", wait=False)
    assert jobs.run("nightly", key="a", wait=False).id == key.id != due.id
    assert jobs.run("nightly", now=True, wait=False).id != jobs.run("nightly", now=True, wait=False).id
    day = jobs.run("nightly", date="2026-03-31", wait=False)
    assert (day.slot, day.due) == ("due:1774926000", 1774926000.0), "at 3 o'clock of that day, as a backfill has it"
    assert jobs.run("nightly", date="2026-03-31", wait=False).id == day.id
    with pytest.raises(UsageError, match="exclude each other"):
        jobs.run("nightly", now=True, key="a")
    with pytest.raises(NotFound, match="there are: nightly"):
        jobs.run("nighly")
    found = jobs.all()
    assert [(each.name, each.last.id if each.last else "") for each in found] == [("nightly", day.id)]
    desk.write(NIGHTLY.format(input="in.csv") + "every = '6 h'\n")
    with Jobs(desk.folder / "bimodal.toml") as several:
        assert several.run("nightly", date="2026-03-31", wait=False).slot == "date:2026-03-31"


def test_what_imports_nothing_heavy() -> None:
    """The process of `bimodal up`, and that of `bimodal jobs`."""
    script = (
        "import sys, bimodal.cli.up, bimodal.cli.jobs, bimodal.jobs.postgres; "
        "print([each for each in ('numpy', 'pyarrow', 'pandas') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_lists_for_people_and_for_programs(desk: Desk) -> None:
    assert "no run yet" in desk.command("jobs", "history").stdout
    (job,) = desk.told("jobs", "list")
    assert (job["job"], job["model"], job["last"]) == ("nightly", "doubled", None)
    entered = desk.command("jobs", "run", "nightly", "--no-wait")
    assert "bimodal up" in entered.stdout
    (run,) = desk.told("jobs", "history", "nightly")
    assert run["status"] == "queued"
    shown = desk.command("jobs", "show", run["id"][:6]).stdout
    assert run["id"] in shown
    assert "queued" in shown
    assert "cancelled" in desk.command("jobs", "cancel", run["id"]).stdout
    assert desk.command("jobs", "show", "ffff").returncode == 1


def test_config_is_found_where_it_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIMODAL_CONFIG", str(desk.folder / "bimodal.toml"))
    with Jobs() as opened:
        assert list(opened.config.jobs) == list(read(desk.folder / "bimodal.toml").jobs)
