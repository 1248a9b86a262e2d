"""What the isolation of native models costs: the hop to their process, the memory and the time of a spare.

    python tasks.py bench isolation                 five rounds of 2,000 calls each, in turns
    python tasks.py bench isolation --rounds 9

Needs scikit-learn. The hop is one row to the process and back on an event loop, by a model that does nothing; with a
spare and without one in turns, so that a noisy neighbour hits both alike. Memory is the proportional set size (PSS): a
page that two processes share counts half for each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

from bimodal.errors import ModelCrashed
from bimodal.location import Location
from bimodal.model import Model
from bimodal.rows import Rows
from bimodal.runtimes import memory
from bimodal.runtimes.process import ProcessRuntime
from bimodal.runtimes.quarantine import Quarantine

CALLS = 2_000
IDLE = "class Idle:\n    inputs = {'x': float}\n\n    def predict(self, rows):\n        return rows['x']\n"
THREAD = "class Busy:\n    inputs = {'x': float}\n\n    def load(self):\n        import threading\n\n"
THREAD += "        self.data = __import__('numpy').ones(25_000_000)  # 200 MB\n"
THREAD += "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n\n"
THREAD += "    def predict(self, rows):\n        return rows['x']\n"


@dataclass(frozen=True)
class Work:
    """As much of a request as the quarantine looks at."""

    count: int = 1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "idle.py").write_text(IDLE)
        (folder / "busy.py").write_text(THREAD)
        features, classes = make_classification(20_000, 20, random_state=0)
        joblib.dump(RandomForestClassifier(200, random_state=0).fit(features, classes), folder / "forest.pkl")
        hop(f"{folder}/idle.py:Idle", rounds)
        quarantine()
        for title, path in (
            ("a model that does nothing", f"{folder}/idle.py:Idle"),
            ("a forest of 200 trees", f"{folder}/forest.pkl"),
            ("200 MB and a thread", f"{folder}/busy.py:Busy"),
        ):
            spare(title, path)


def opened(path: str, wish: str) -> tuple[Model, ProcessRuntime]:
    model = Model.open(Location.find(path, spare=wish, runtime="native"), background=False)
    assert isinstance(model.runtime, ProcessRuntime)
    return model, model.runtime


def hop(path: str, rounds: int) -> None:
    kinds = {wish: opened(path, wish) for wish in ("never", "auto")}
    rows = Rows({"x": np.ones(1)})

    async def calls(model: Model) -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            await model.run_async(rows)
        return (time.perf_counter() - start) / CALLS * 1e6

    async def all_rounds() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {wish: [] for wish in kinds}
        for _ in range(rounds):
            for wish, (model, _) in kinds.items():
                found[wish].append(await calls(model))
        return found

    found = asyncio.run(all_rounds())
    without, with_one = (statistics.median(found[wish]) for wish in ("never", "auto"))
    ratio = statistics.median(b / a for a, b in zip(found["never"], found["auto"], strict=True))
    print(f"one hop: {without:.0f} µs without a spare, {with_one:.0f} µs with one: {ratio:.3f} times")
    for model, _ in kinds.values():
        model.close()


def quarantine() -> None:
    """One look-up of a batch of 32 requests of a row of 30 numbers."""
    kept, key = Quarantine(), (("prediction",), None)
    rows = Rows({"input": np.random.default_rng(0).random((32, 30))})
    works = [Work()] * 32
    empty = timed(lambda: kept.holds)
    kept.remember(key, rows.slice(0, 1), ModelCrashed("it was killed"))
    held = timed(lambda: kept.sift(key, works[1:], rows.slice(1, 32)))
    print(f"quarantine: {empty * 1e9:.0f} ns a batch while it is empty, {held / 31 * 1e6:.1f} µs a request otherwise")


def timed(work: object, count: int = 2_000) -> float:
    assert callable(work)
    start = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count


def spare(title: str, path: str) -> None:
    start = time.perf_counter()
    alone, runtime = opened(path, "never")
    loaded = time.perf_counter() - start
    single = weight([runtime.pid])
    alone.close()
    model, runtime = opened(path, "always")
    until = time.monotonic() + 60
    while not runtime._succession.ready and time.monotonic() < until:
        time.sleep(0.1)
    row = Rows({each.name: np.zeros((1, *each.shape)) for each in model.signature.inputs})

    def call() -> float:
        start = time.perf_counter()
        model.run(row)
        return time.perf_counter() - start

    calls = [call() for _ in range(20)]
    both = weight(family(os.getpid()))
    os.kill(runtime.pid, signal.SIGKILL)
    while runtime._child.alive():
        time.sleep(0.001)
    again = call() - min(calls)
    print(
        f"{title}: loaded in {loaded:.2f} s, {memory.told(single)} alone, {memory.told(both)} with a spare "
        f"({both / single:.2f} times; {runtime.spare}); after a kill the next answer comes {again * 1e3:.1f} ms later"
    )
    model.close()


def weight(pids: Sequence[int]) -> int:
    return sum([memory.proportional(pid) or 0 for pid in pids])


def family(pid: int) -> list[int]:
    """All processes below this one."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for each in map(int, path.read_text().split()):
            found += [each, *family(each)]
    return found


if __name__ == "__main__":
    main()
