"""Workers and their children are killed at random while due times come: each has exactly one committed result.

    python -m tests.jobs.storm --due 1000 --kills 5      the long form: a kill every 5 seconds

The clock is the test's: a due time comes as soon as the runs before it are nearly done. So the storm lasts as long as
the runs take, and not as long as the schedule says.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from bimodal.config import read
from bimodal.jobs.opening import open_store
from bimodal.jobs.scheduler import Scheduler
from bimodal.jobs.work import Worker
from tests.jobs.desk import Desk, children, kill

START = 1_800_000_000.0
EVERY = 60.0
TTL = 2.0
TEXT = """
[jobs.minutely]
model = "doubled"
input = "sqlite:///shop.db"
query = "SELECT id, n, '{due:%Y-%m-%dT%H:%M}' AS due FROM numbers"
output = "sqlite:///shop.db#scores"
mode = "append"
every = "1 min"
catch_up = "all"
overlap = "queue"
retries = 1000
backoff = 0.01
priority = "normal"
"""


def work(folder: str) -> None:
    """A worker as `bimodal up` has one, until it is killed."""
    config = read(Path(folder, "bimodal.toml"))
    worker = Worker(config, open_store(config.state, config.folder), ttl=TTL)
    while True:
        worker.wait(min(0.1, worker.step(time.time())))


def storm(folder: Path, due: int, kills: float, seed: int = 1) -> dict[str, int]:
    """Let so many due times come, and kill a worker or a child every so many seconds. What there was of each."""
    desk, dice = Desk(folder, TEXT), random.Random(seed)
    desk.sql("CREATE TABLE numbers (id INTEGER, n REAL)")
    desk.sql("INSERT INTO numbers VALUES (1, 1), (2, 2), (3, 3)")
    config = read(folder / "bimodal.toml")
    store = open_store(config.state, config.folder)
    scheduler = Scheduler(config.jobs, store)
    scheduler.tick(START)
    worker, killed, children_killed, done = _started(folder), 0, 0, 0
    scheduler.tick(START + due * EVERY)
    next_kill = time.monotonic() + kills
    while (done := len(store.runs("minutely", limit=due + 1, statuses=("succeeded",)))) < due:
        time.sleep(0.05)
        if time.monotonic() < next_kill:
            continue
        next_kill = time.monotonic() + kills * dice.uniform(0.5, 1.5)
        below = children(worker.pid)
        if below and dice.random() < 0.5:
            children_killed += 1
            with suppress(ProcessLookupError):
                os.kill(dice.choice(below), signal.SIGKILL)
        else:
            killed += 1
            kill(worker)
            worker = _started(folder)
    kill(worker)
    store.close()
    counts = dict(desk.sql("SELECT due, count(*) FROM scores GROUP BY due"))
    right = {_told(START + number * EVERY): 3 for number in range(1, due + 1)}
    assert counts == right, {key: counts.get(key) for key in {*counts, *right} if counts.get(key) != right.get(key)}
    return {"due times": due, "succeeded": done, "workers killed": killed, "children killed": children_killed}


def _told(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M")


def _started(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.storm", "--work", str(folder)],
        text=True,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work")
    parser.add_argument("--due", type=int, default=1000)
    parser.add_argument("--kills", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        print(storm(Path(folder), asked.due, asked.kills, asked.seed), f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
