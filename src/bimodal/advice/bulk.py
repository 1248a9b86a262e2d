"""Bulk: the batch path, timed: whole runs in processes of their own, so that the start is told apart from the rate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bimodal.advice.figure import Figure, measured
from bimodal.advice.material import Material
from bimodal.advice.measured import Bulk
from bimodal.advice.rounds import rounds
from bimodal.batch.bounds import LARGE
from bimodal.batch.crew import processors
from bimodal.errors import BimodalError
from bimodal.model import Model

FEW = 4096  # rows of a run that shows the start
MOST_BYTES = 1 << 30  # of the rows in memory, which bounds the file
RUNS = 3
LONGEST = 4.0  # seconds of a run that are enough


@dataclass(frozen=True)
class _Run:
    """wall: of the whole process; seconds: of the run in it."""

    rows: int
    wall: float
    seconds: float
    memory: int
    workers: int
    runtime: str


@dataclass
class Batch:
    """Times runs over the material. alone: the wanted batches are so small that one worker would take them."""

    model: Model
    material: Material
    folder: Path
    alone: bool
    tell: Callable[[str], None]

    def measure(self, seconds: float) -> Bulk:
        """Within about so many seconds."""
        self.tell("batch: the start of a run")
        few = self.material.write(self.folder, FEW)
        small = [self._run(few, FEW) for _ in rounds(seconds / 5, RUNS)]
        self.tell("batch: rows a second")
        length = min(LONGEST, seconds / 8)
        count, large = self._long_enough(small[-1], length, time.monotonic() + seconds / 3)
        path = self.folder / f"rows-{count}.{'csv' if self.material.csv else 'parquet'}"
        runs, until = [large], time.monotonic() + seconds / 3
        while len(runs) < RUNS and time.monotonic() + large.wall < until:
            runs.append(self._run(path, count))
        path.unlink()
        base = median(run.seconds for run in small)
        rates = [_rate(run, base) for run in runs]
        starts = [max(run.wall - FEW / median(rates), 0.0) for run in small]
        return Bulk(
            self._of_machine(rates, large, count),
            measured(starts, "s", f"a whole process with {FEW:,} rows, less the time of its rows"),
            measured([float(run.memory) for run in runs], "bytes", "the largest sum of all processes of a run"),
            large.workers,
            large.runtime,
        )

    def _long_enough(self, small: _Run, length: float, until: float) -> tuple[int, _Run]:
        """A number of rows whose run takes about so many seconds, or what was found by then, and that run."""
        most = max(FEW * 2, int(MOST_BYTES / max(self.material.table.nbytes / self.material.table.num_rows, 1)))
        count = FEW * 2
        guess = max(FEW / small.seconds, self._promised()) * length
        while True:
            count = min(most, max(count, int(guess)))
            run = self._run(self.material.write(self.folder, count), count)
            if run.seconds >= length / 2 or count == most or time.monotonic() + run.wall > until:
                return count, run
            (self.folder / f"rows-{count}.{'csv' if self.material.csv else 'parquet'}").unlink()
            guess = count * min(length / run.seconds, 20)

    def _promised(self) -> float:
        """Rows a second, half of what calls of the model alone give."""
        rows = max(self.model.costs, default=0)
        return rows / self.model.costs[rows] / 2 if rows >= FEW else 0.0

    def _of_machine(self, rates: list[float], run: _Run, count: int) -> Figure:
        found = measured(rates, "rows/s", f"runs of {count:,} rows, {run.workers} at work, start apart")
        cores = processors()
        if self.alone or count >= LARGE or run.workers >= cores:
            return found
        how = f"{found.value:,.0f} of one worker, measured; equal shares of {cores} cores assumed"
        return Figure(found.number * cores, found.unit, "derived", how, found.noise, found.rounds)

    def _run(self, path: Path, rows: int) -> _Run:
        output = self.folder / f"answers.{'csv' if self.material.csv else 'parquet'}"
        order = {
            "spec": self.model.spec(),
            "input": str(path),
            "output": str(output),
            "header": "present" if self.material.csv else None,
            "workers": 1 if self.alone else None,
            "path": [entry or os.getcwd() for entry in sys.path],
        }
        started = time.perf_counter()
        told = _ordered(order, self.folder)
        wall = time.perf_counter() - started
        if "error" in told:
            raise BimodalError(f"the batch run failed: {told['error']}")
        return _Run(rows, wall, told["seconds"], told["memory"], told["workers"], told["runtime"])


def _rate(run: _Run, base: float) -> float:
    """Rows a second, without the seconds that a run of FEW rows takes; with them where there is too little beside."""
    return (run.rows - FEW) / (run.seconds - base) if run.seconds > 2 * base else run.rows / run.seconds


def _ordered(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The answer of a child process. Its runs are none of the user's, so their history is thrown away."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bimodal.advice.run"],
        input=json.dumps(order) + "\n",
        env={**os.environ, "BIMODAL_STATE": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise BimodalError(f"the batch run ended with {done.returncode} and told nothing") from None
    return told
