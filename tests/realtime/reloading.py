"""Reloads under an open load: python -m tests.realtime.reloading --reloads 100 --broken 20

Requests are sent when they are due, whatever became of those before, at 70 % of what a closed loop got from the same
server. First for a while undisturbed; then reloads, one each `--period` seconds, some of them of a file that cannot be
loaded. The model takes 5 ms of a processor for a row (`--cost`), so that what sends the requests takes little beside
it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

from tests.fire.load import Load, Outcome, peak
from tests.realtime.versions import whole

SHARE = 0.7
CALLERS = 16  # connections for the peak
BODY = json.dumps({"input": [[2.0, 1.0, 1.0, 1.0]]}).encode()
PYTHON = """
import time

import numpy as np

class Times:
    outputs = {{"prediction": float}}

    def predict(self, rows):
        rows = np.asarray(rows)
        until = time.perf_counter() + {cost} * len(rows)
        while time.perf_counter() < until:
            pass
        return {{"prediction": rows[:, 0] * {factor} / 2}}
"""


@dataclass
class Figures:
    """What callers saw. rate: requests a second. refused: reloads of broken files that were refused, as they should be.
    longest: seconds of a reload.
    """

    rate: float
    steady: Outcome
    reloading: Outcome
    reloads: int = 0
    refused: int = 0
    longest: float = 0.0

    @property
    def failed(self) -> int:
        """Requests that were neither answered well nor told that the queue is full."""
        wrong = sum(each.wrong for each in (self.steady, self.reloading))
        told = sum(each.sent - each.statuses[200] - each.statuses[429] for each in (self.steady, self.reloading))
        return wrong + told

    @property
    def ratio(self) -> float:
        """The 99th percentile under reloads against the steady one."""
        return self.reloading.p(99, 200) / self.steady.p(99, 200)

    def told(self) -> str:
        before, under = self.steady, self.reloading
        return (
            f"{self.rate:.0f} requests/s; undisturbed: p50 {before.p(50, 200) * 1e3:.2f} p99 "
            f"{before.p(99, 200) * 1e3:.2f} ms; under {self.reloads} reloads ({self.refused} of them refused, the "
            f"longest {self.longest:.1f} s) in {under.seconds:.0f} s: p50 {under.p(50, 200) * 1e3:.2f} p99 "
            f"{under.p(99, 200) * 1e3:.2f} ms, {self.ratio:.1f} times (goal 2); {under.sent} requests, {self.failed} "
            f"failed (goal 0), {before.statuses[429]} undisturbed and {under.statuses[429]} under reloads were told "
            f"that the queue is full; the caller's own delay p99 {before.lag * 1e3:.1f} and {under.lag * 1e3:.1f} ms"
        )


def put(place: Path, kind: str, factor: int, *, broken: bool, cost: float = 0.0) -> None:
    """A model that answers so many times the half of the first value, in the place of the one before, in one step."""
    place.mkdir(parents=True, exist_ok=True)
    name = "model.pkl" if kind == "sklearn" else "model.py"
    file = place / f"{name}.new"
    if broken:
        file.write_bytes(
            b"\x80\x04 no model" if kind == "sklearn" else b"raise ValueError('no model')\n" + b"#" * factor
        )
    elif kind == "sklearn":
        model = LinearRegression(fit_intercept=False)
        random = np.random.default_rng(1)
        rows = random.normal(size=(50, 4))
        joblib.dump(model.fit(rows, rows @ np.array([factor / 2, 0, 0, 0])), file)
    else:
        file.write_text(PYTHON.format(factor=factor, cost=cost))
    file.rename(place / name)


def load(port: int, name: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", f"/v2/repository/models/{name}/load", b"{}", {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def measure(
    port: int,
    folder: Path,
    kind: str,
    reloads: int,
    broken: int,
    *,
    steady: float,
    share: float,
    period: float,
    cost: float,
) -> Figures:
    url = f"http://127.0.0.1:{port}/models/m/predict"
    rate = share * peak(url, CALLERS, 3.0, [BODY]).rate
    before = Load(url, rate, steady, [BODY], expected=whole).run()
    figures = Figures(rate, before, before)
    wanted = Load(url, rate, reloads * period + 2, [BODY], expected=whole)
    with wanted.begin() as running, ThreadPoolExecutor(1) as pool:
        seen = pool.submit(running.finish)
        begun = time.monotonic()
        for number in range(1, reloads + 1):
            if time.monotonic() - begun > wanted.seconds:
                break  # each takes longer than its period: what comes now would be without the load
            bad = broken > 0 and number % (reloads // broken) == 0
            put(folder / "m" / "1", kind, 1 + number, broken=bad, cost=cost)
            started = time.monotonic()
            status = load(port, "m")
            if status != (500 if bad else 200):
                raise AssertionError(f"reload {number}: {status}")
            figures.longest = max(figures.longest, time.monotonic() - started)
            figures.refused += bad
            figures.reloads += 1
            time.sleep(max(0.0, begun + number * period - time.monotonic()))
        figures.reloading = seen.result()
    return figures


def run(
    kind: str,
    reloads: int,
    broken: int,
    *,
    workers: int = 2,
    steady: float = 20.0,
    share: float = SHARE,
    period: float = 2.0,
    cost: float = 0.005,
) -> Figures:
    """All of it, against `bimodal serve` in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put(folder / "m" / "1", kind, 1, broken=False, cost=cost)
        command = [sys.executable, "-m", "bimodal", "serve", place, "--port", "0", "--workers", str(workers)]
        features = ["--features", "a,b,c,d"] if kind == "python" else []
        with subprocess.Popen([*command, *features], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(b":", 1)[1])
            options = {"steady": steady, "share": share, "period": period, "cost": cost}
            try:
                return measure(port, folder, kind, reloads, broken, **options)
            finally:
                server.terminate()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("sklearn", "python"), default="python")
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steady", type=float, default=20.0, help="seconds without a reload")
    parser.add_argument("--share", type=float, default=SHARE, help="of the peak")
    parser.add_argument("--period", type=float, default=2.0, help="seconds from one reload to the next")
    parser.add_argument("--cost", type=float, default=0.005, help="seconds of a row, of a model in Python")
    told = vars(parser.parse_args(arguments))
    print(run(told.pop("kind"), told.pop("reloads"), told.pop("broken"), **told).told())


if __name__ == "__main__":
    main()
