"""Servers that are asked for more than they can do: one core for the server, models that take 5 ms a row."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc import service_pb2

from tests.fire.load import STAMP, Load, Outcome

MODEL = '''
import time
from pathlib import Path

import numpy as np

NOTES = Path(__file__).with_name("notes")

class Waits:
    """Waits 5 ms a row, as one does that asks another machine."""

    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        time.sleep(0.005 * len(rows["x"]))
        return {"prediction": np.asarray(rows["x"]) * 2}


class Computes(Waits):
    """Takes the processor for 5 ms a row, also from the server, which has the same core."""

    def predict(self, rows):
        spent = 0.005 * len(rows["x"]) + time.process_time()
        while time.process_time() < spent:
            pass
        return {"prediction": np.asarray(rows["x"]) * 2}


class Notes(Waits):
    """Takes as row the moment of its deadline, and notes how long before that its prediction began."""

    def predict(self, rows):
        early = np.asarray(rows["x"]) - time.monotonic()
        with open(NOTES, "a") as notes:
            notes.writelines(f"{each:.6f}\\n" for each in early)
        time.sleep(0.005 * len(early))
        return {"prediction": early}
'''
NOTES = "models.py:Notes"
BODY = json.dumps({"rows": [{"x": 2.0}]}).encode()
EXPECTED = b'"prediction":[4.0]'
DEADLINE_MS = 500.0
GOALS = {1.5: 0.95, 2.0: 0.95, 3.0: 0.90, 5.0: 0.80}  # good answers within the deadline, to the peak, by load
REFUSED = (429, 503)
WINDOW = 0.25  # seconds


@dataclass(frozen=True)
class Place:
    """A running server: where it is, and which core the load is bound to."""

    url: str
    core: int | None
    model: str = "Waits"
    seconds: float = 4.0  # of one load
    grpc: bool = False

    @property
    def predict(self) -> str:
        return self.url.replace("http", "grpc", 1) if self.grpc else f"{self.url}/predict"

    def load(self, rate: float, seconds: float, **options: Any) -> Load:
        """Requests of one row, whose answers are checked (over gRPC: their status alone)."""
        body, expected = (message(self.model), None) if self.grpc else (BODY, EXPECTED)
        return Load(self.predict, rate, seconds, [body], expected=expected, core=self.core, **options)


def cores() -> tuple[int | None, int | None]:
    """One for the server and one for the load, where the system lets them be chosen."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(there) < 2 or not shutil.which("taskset"):
        return None, None
    return there[0], there[-1]


@contextmanager
def served(folder: Path, model: str, *options: str) -> Iterator[Place]:
    """`bimodal serve` with one worker on one core. model: a class of MODEL, or the path of a saved one; the model Notes
    is there beside it.
    """
    (folder / "models.py").write_text(MODEL)
    path = model if os.sep in model else f"{folder / 'models.py'}:{model}"
    core, other = cores()
    command = [
        sys.executable,
        "-m",
        "bimodal",
        "serve",
        path,
        str(folder / NOTES),
        "--port",
        "0",
        "--workers",
        "1",
        *options,
    ]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://[\d.:]+", line)
            assert found, f"the server did not start: {line}"
            yield Place(found[0], other, model)
        finally:
            process.terminate()
            process.wait(60)


@dataclass
class Step:
    """One load of so many times the peak beside probes of the health, every 100 ms."""

    times: float
    peak: float
    seen: Outcome
    health: Outcome
    deadline: float

    @property
    def goodput(self) -> float:
        """Good answers within the deadline, to the peak."""
        good = sum(1 for each in self.seen.records if each.status == 200 and each.latency <= self.deadline)
        return (good - self.seen.wrong) / self.seen.seconds / self.peak

    @property
    def missed(self) -> int:
        """Probes without a good answer."""
        return self.health.sent - self.health.statuses[200]


def message(model: str) -> bytes:
    """A ModelInferRequest of one row."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP64", shape=[1])
    request.raw_input_contents.append(struct.pack("<d", 2.0))
    return bytes(request.SerializeToString())


def step(place: Place, times: float, rate: float) -> Step:
    """One load, the probes of health from a process of their own."""
    seconds = place.seconds
    with Load(f"{place.url}/health/ready", 10, seconds, even=True).begin() as probes:
        seen = place.load(times * rate, seconds, deadline_ms=DEADLINE_MS).run()
        return Step(times, rate, seen, probes.finish(), DEADLINE_MS / 1e3)


def capacity(place: Place, seconds: float, connections: int = 16) -> float:
    """Good answers a second of a closed loop."""
    return place.load(0.0, seconds, connections=connections).run().rate


def recovery(place: Place, rate: float) -> tuple[float, Outcome]:
    """Seconds from the end of a five-fold load to the first WINDOW in which all is answered, and as quickly as usual at
    0.7 times the peak; and what was seen. Usual: at most twice the 99th percentile of the same load before.
    """
    seconds = place.seconds
    then = [(5 * rate, seconds), (0.7 * rate, seconds)]
    seen = place.load(0.7 * rate, seconds, deadline_ms=DEADLINE_MS, then=then).run()
    usual = 2 * seen.between(0, seconds).p(99, 200, *REFUSED)
    for number in range(int(seconds / WINDOW)):
        start = 2 * seconds + number * WINDOW
        window = seen.between(start, start + WINDOW)
        if set(window.statuses) == {200} and window.p(99, 200) <= usual:
            return number * WINDOW, seen
    return seconds, seen


def expired(place: Place, folder: Path, rate: float, deadline_ms: float = 50.0) -> tuple[Outcome, list[float]]:
    """Three times the peak with short deadlines: what was seen, and how many seconds before its deadline each row's
    prediction began, by the model's own clock.
    """
    notes = folder / "notes"
    notes.unlink(missing_ok=True)  # of the rows with which the model was tried
    body = b'{"rows": [{"x": %s}]}' % STAMP
    url = f"{place.url}/models/Notes/predict"
    seen = Load(url, 3 * rate, place.seconds, [body], deadline_ms, core=place.core).run()
    return seen, [float(line) for line in notes.read_text().split()]
