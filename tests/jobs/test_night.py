"""Promise 32: a scheduler that is killed again and again; each due time has exactly one committed result.

The whole of it, 1,000 due times and a kill every 5 s: `python tasks.py test tests/jobs/test_night.py -m soak -s`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bimodal.jobs.scheduler import Scheduler
from bimodal.jobs.sqlite import SqliteStore
from tests.jobs.night import EVERY, JOBS, results


def night(folder: Path, dues: int, speed: float, every: float, rivals: int) -> tuple[int, float]:
    """Let `rivals` processes go through so many due times, one of them killed every so many seconds, until all is done.
    The number of kills, and the seconds that it took.
    """
    state, output = folder / "state.db", folder / "output.db"
    store = SqliteStore(state)
    Scheduler(JOBS, store).tick(0)  # the job is seen for the first time
    store.close()
    begin = time.monotonic()
    values = (str(state), str(output), str(begin), str(speed), str(dues * EVERY))
    command = [sys.executable, "-m", "tests.jobs.night", *values]
    crew = [subprocess.Popen(command) for _ in range(rivals)]
    kills = 0
    while crew:
        victim = crew.pop(0)
        with suppress(subprocess.TimeoutExpired):
            assert victim.wait(every) == 0  # it found everything done
            continue
        victim.kill()
        victim.wait()
        kills += 1
        if kills > 10 + dues // 10:
            every *= 1.2  # on a machine where a start takes longer it comes to an end, too
        crew.append(subprocess.Popen(command))
    return kills, time.monotonic() - begin


def check(folder: Path, dues: int) -> None:
    """Each due time once among the results; no run left, none failed."""
    with closing(results(folder / "output.db")) as connection:
        found = Counter(due for (due,) in connection.execute("SELECT due FROM results"))
    assert found == Counter({float(number * EVERY): 1 for number in range(1, dues + 1)})
    store = SqliteStore(folder / "state.db")
    runs = store.runs(limit=10**6)
    assert Counter(run.status for run in runs) == {"succeeded": dues}
    store.close()


def test_a_killed_scheduler_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The short form: 60 due times, two processes, a kill every 0.7 s."""
    kills, _ = night(tmp_path, 60, 60 * 60 / 5.0, 0.7, 2)
    assert kills > 2
    check(tmp_path, 60)


@pytest.mark.soak
@pytest.mark.parametrize("rivals", [1, 2])
def test_a_thousand_due_times(tmp_path: Path, rivals: int) -> None:
    """A due time every 0.2 s, so that the scheduler dies 40 times and more while there is something to do."""
    kills, seconds = night(tmp_path, 1000, 300.0, 5.0, rivals)
    print(f"{rivals} processes, 1000 due times, {kills} kills in {seconds:.0f} s: each has exactly one result")
    assert kills > 30
    check(tmp_path, 1000)
