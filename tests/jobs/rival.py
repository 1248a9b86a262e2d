"""A process that uses a job store at the same time as others: `python -m tests.jobs.rival WHAT PLACE LOG …`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from bimodal.jobs.opening import open_store
from bimodal.jobs.store import JobStore
from tests.jobs.contract import TTL, T, queued


def claim(store: JobStore, log: Path) -> None:
    """Take runs and end them until there are none; each is logged once it is owned."""
    me = str(os.getpid())
    with log.open("w", buffering=1) as out:
        while (run := store.claim(me, T, TTL, one_per_job=False)) is not None:
            print(run.id, me, file=out)
            _meet(log)
            store.finish(run, "succeeded", T)


def _meet(log: Path) -> None:
    """Wait until another has a run too: the first may have done all before the others wake up."""
    until = time.monotonic() + 60
    while sum(each.stat().st_size > 0 for each in log.parent.glob(f"{log.name[:-1]}?")) < 2:
        assert time.monotonic() < until, "it is alone"
        time.sleep(0.002)


def ask(store: JobStore, log: Path) -> None:
    """Ask for the same slots as all the others."""
    with log.open("w") as out:
        for number in range(40):
            print(store.ask(queued(f"{os.getpid()}-{number}", due=T + number))[0].id, file=out)


def advance(store: JobStore, log: Path, job: str) -> None:
    """Enter three runs a step until the end comes from outside; each step is logged after it."""
    name = f"k{job}"
    with log.open("w", buffering=1) as out:
        for step in range(1, 10**9):
            due = [T + step - 1 + part / 4 for part in (2, 3, 4)]
            runs = [queued(f"{name}-{step}-{part}", name, due=each) for part, each in enumerate(due)]
            runs = [run.__class__(**{**run.__dict__, "slot": f"due:{run.due}"}) for run in runs]
            store.advance(name, T + step, runs)
            print(step, file=out)


def main() -> None:
    what, place, log, *rest = sys.argv[1:]
    store = open_store(place, Path.cwd())
    print("ready", flush=True)
    sys.stdin.readline()
    {"claim": claim, "ask": ask, "advance": advance}[what](store, Path(log), *rest)  # type: ignore[operator]  # each has its own


if __name__ == "__main__":
    main()
