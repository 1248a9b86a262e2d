"""The scheduler's tick and the state of jobs.

    python tasks.py bench jobs [--jobs 1000] [--folder FOLDER]
    python tasks.py bench jobs --idle 60        what `bimodal up` costs where nothing is asked and nothing is due
    python tasks.py bench jobs --beside 20      the p99 of live requests, alone and with an idle-priority run beside

Half of the jobs have five fields in a time zone, half an interval. Each figure is the processor's time and the clock's:
what lies between them is the disk (--folder says which one).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import Request, urlopen

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import bimodal
from bimodal.config.tables import JobTable
from bimodal.jobs.scheduler import Scheduler
from bimodal.jobs.sqlite import SqliteStore
from bimodal.jobs.store import JobRun, JobStore

DATA = Path(__file__).parent / "data"
ROUNDS, CONNECTIONS, GOAL = 3, 4, 1.3
T = 1_800_000_000.0  # a full hour
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=1000)
    options.add_argument("--folder", type=Path)
    options.add_argument("--idle", type=float, metavar="SECONDS")
    options.add_argument("--beside", type=float, metavar="SECONDS")
    options.add_argument("--input", type=Path, default=DATA / "flights-3000000")
    options.add_argument("--model", type=Path, default=DATA / "flights.pkl")
    given = options.parse_args()
    if given.beside:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            beside(Path(folder), given.beside, given.model.absolute(), given.input.absolute())
        return
    if given.idle:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            idle(Path(folder), given.idle)
        return
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


def idle(folder: Path, seconds: float) -> None:
    """Memory (PSS) and processor of a `bimodal up` with one compiled package and one job, all processes together."""
    flowers, kinds = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=500).fit(flowers, kinds), folder / "iris.pkl")
    bimodal.pack(folder / "iris.pkl", folder / "iris", sample=flowers)
    job = '[jobs.daily]\nmodel = "iris"\ninput = "in.csv"\noutput = "out.csv"\nschedule = "0 3 * * *"\n'
    (folder / "bimodal.toml").write_text(f'[models.iris]\npath = "iris"\n{job}')
    command = [sys.executable, "-m", "bimodal", "up", "--port", "0"]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    while not running.stdout.readline().startswith("state:"):
        pass
    time.sleep(5)
    processes = _below(running.pid)
    before = sum(map(_spent, processes))
    time.sleep(seconds)
    spent = sum(map(_spent, processes)) - before
    held = [_held(each) for each in processes]
    print("| `bimodal up`, idle | |\n| --- | ---: |")
    print(f"| processes | {len(processes)} |\n| memory (PSS), MB | {sum(held):.1f} |")
    print(f"| of a core, % | {spent / seconds * 100:.2f} |")
    running.terminate()
    running.communicate()


def beside(folder: Path, seconds: float, model: Path, data: Path) -> None:
    """The p99 of live requests of one row, at a steady third of the capacity, over kept connections: alone, and while
    idle-priority runs predict a data set with the same model, one after the other. Alternating rounds; the ratio of
    the medians.
    """
    job = f'[jobs.all]\nmodel = "flights"\ninput = "{data}"\noutput = "out/"\noverwrite = true\n'
    (folder / "bimodal.toml").write_text(f'[models.flights]\npath = "{model}"\n\n{job}')
    command = [sys.executable, "-m", "bimodal", "up", "--port", "0"]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    address = urlsplit(running.stdout.readline().split(" at ")[1].strip())
    try:
        body = _ask(address, "GET", "/models/flights")["example"]
        rate = _steady(address, body, min(seconds, 5.0), None).rate / 3
        print(f"{rate:.0f} requests a second\n\n| round | p50, ms | p99, ms | requests |\n| --- | ---: | ---: | ---: |")
        alone, loaded = [], []
        for number in range(1, ROUNDS + 1):
            alone.append(_steady(address, body, seconds, rate).told(f"{number}, alone"))
            with _runs(address):
                loaded.append(_steady(address, body, seconds, rate).told(f"{number}, run beside"))
        ratio = median(each.p99 for each in loaded) / median(each.p99 for each in alone)
        print(f"\np99 with a run beside / alone: {ratio:.2f} (goal: {GOAL})")
    finally:
        running.terminate()
        running.communicate()


@dataclass(frozen=True)
class Seen:
    """Requests a second; milliseconds."""

    rate: float
    p50: float
    p99: float
    count: int

    def told(self, name: str) -> Seen:
        print(f"| {name} | {self.p50:.2f} | {self.p99:.2f} | {self.count} |", flush=True)
        return self


def _steady(address: SplitResult, body: Any, seconds: float, rate: float | None) -> Seen:
    """A pool of kept connections, each a thread. rate: requests a second of all; a request's time begins when it is
    due, so that waiting for a late one counts too. None: as fast as it goes, which tells the capacity.
    """
    data, times = json.dumps(body), list[float]()
    begin = time.perf_counter() + 0.1
    due = itertools.count()

    def work() -> None:
        connection = HTTPConnection(str(address.hostname), address.port or 80, timeout=60)
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            at = time.perf_counter() if rate is None else begin + next(due) / rate
            if at > begin + seconds:
                break
            time.sleep(max(0.0, at - time.perf_counter()))
            connection.request("POST", "/models/flights/predict", data, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"a request was answered with {answer.status}")
            times.append((time.perf_counter() - at) * 1e3)
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for each in [pool.submit(work) for _ in range(CONNECTIONS)]:
            each.result()
    cuts = quantiles(times, n=100)
    return Seen(len(times) / seconds, cuts[49], cuts[98], len(times))


def _ask(address: SplitResult, method: str, path: str) -> Any:
    with urlopen(Request(f"{address.geturl()}{path}", method=method), timeout=60) as answer:
        return json.load(answer)


@contextmanager
def _runs(address: SplitResult) -> Iterator[None]:
    """From the moment that a run predicts: one run after the other, the last one cancelled."""
    enough, begun = threading.Event(), threading.Event()

    def work() -> None:
        while not enough.is_set():
            run = _ask(address, "POST", "/jobs/all/runs")["id"]
            while (told := _ask(address, "GET", f"/runs/{run}"))["status"] in ("queued", "running"):
                if told["progress"].get("rows"):
                    begun.set()
                if enough.wait(0.5):
                    _ask(address, "POST", f"/runs/{run}/cancel")
            begun.set()
            if told["status"] == "failed":
                raise SystemExit(f"the run failed: {told['error']}")

    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(work)
        begun.wait()
        try:
            yield
        finally:
            enough.set()
        runs.result()


def _below(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [process, *(each for task in tasks for child in task.read_text().split() for each in _below(int(child)))]


def _spent(process: int) -> float:
    """Seconds of the processor."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def _held(process: int) -> float:
    """MB of memory, what is shared divided by those who share it."""
    told = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in told.splitlines() if line.startswith("Pss:"))) / 1024


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
