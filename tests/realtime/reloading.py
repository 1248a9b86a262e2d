"""Reloads under an open load: python -m tests.realtime.reloading --reloads 100 --broken 20

Requests are sent when they are due, whatever became of those before (an open load), at 70 % of what the same caller got
from the same server one after the other. First for a while undisturbed; then one reload follows the other, some of them
of a file that cannot be loaded. Every answer is compared with what the versions that were served then answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

SHARE = 0.7
CONNECTIONS = 200  # of the open load; what is due then waits, and its time counts
CALLERS = 16  # connections for the peak
BODY = json.dumps({"input": [[2.0, 1.0, 1.0, 1.0]]}).encode()
PYTHON = """
import numpy as np

class Times:
    outputs = {{"prediction": float}}

    def predict(self, rows):
        return {{"prediction": np.asarray(rows)[:, 0] * {factor} / 2}}
"""


@dataclass
class Seen:
    """What the callers saw: seconds of each answer from when its request was due; how many were refused since the
    queue was full; what failed; what was answered.
    """

    seconds: list[float] = field(default_factory=list)
    full: int = 0
    failed: list[str] = field(default_factory=list)
    values: set[float] = field(default_factory=set)

    def p(self, percent: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.seconds, percent)) * 1e3


@dataclass
class Figures:
    """rate: requests a second. refused: reloads of broken files that were refused, as they should be."""

    rate: float
    steady: Seen
    reloading: Seen
    reloads: int = 0
    refused: int = 0
    seconds: float = 0.0

    def told(self) -> str:
        return (
            f"{self.rate:.0f} requests/s; undisturbed: p50 {self.steady.p(50):.2f} p99 {self.steady.p(99):.2f} ms; "
            f"under {self.reloads} reloads ({self.refused} of them refused) in {self.seconds:.0f} s: p50 "
            f"{self.reloading.p(50):.2f} p99 {self.reloading.p(99):.2f} ms; {len(self.reloading.seconds)} requests, "
            f"{len(self.steady.failed) + len(self.reloading.failed)} failed, {self.steady.full} undisturbed and "
            f"{self.reloading.full} under reloads were told that the queue is full"
        )


class Caller:
    """Connections that are kept, and asked when a request is due."""

    def __init__(self, port: int, path: str) -> None:
        self.seen = Seen()
        self._port = port
        self._request = _post(path, BODY)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def ask(self, due: float) -> None:
        async with self._room:
            await self._ask(due)

    async def _ask(self, due: float) -> None:
        try:
            while self._free and self._free[-1][0].at_eof():  # unused for so long that the server closed it
                self._free.pop()[1].close()
            link = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
            status, told = await asyncio.wait_for(_exchange(link, self._request), 20)
            self._free.append(link)
            if status == 429:
                self.seen.full += 1
                return
            if status != 200:
                self.seen.failed.append(told.decode())
                return
            self.seen.values.add(round(json.loads(told)["prediction"][0], 6))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.seen.failed.append(repr(error))
            return
        self.seen.seconds.append(time.monotonic() - due)

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


def _post(path: str, body: bytes, *fields: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "host: test", "content-type: application/json", *fields]
    return "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body


async def _exchange(link: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> tuple[int, bytes]:
    reader, writer = link
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def peak(port: int, path: str, seconds: float) -> float:
    """Requests a second of CALLERS that ask one after the other."""
    caller, until = Caller(port, path), time.monotonic() + seconds

    async def keep_asking() -> None:
        while time.monotonic() < until:
            await caller.ask(time.monotonic())

    await asyncio.gather(*[keep_asking() for _ in range(CALLERS)])
    caller.close()
    return len(caller.seen.seconds) / seconds


async def openly(caller: Caller, rate: float, over: asyncio.Event) -> None:
    """Ask `rate` times a second until it is over."""
    tasks: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while not over.is_set():
        now = time.monotonic()
        while due <= now:
            task = asyncio.create_task(caller.ask(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += 1 / rate
        await asyncio.sleep(max(0.0005, due - time.monotonic()))
    await asyncio.gather(*tasks)


def put(place: Path, kind: str, factor: int, *, broken: bool) -> None:
    """A model that answers so many times the first value, in the place of the one before, in one step."""
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
        file.write_text(PYTHON.format(factor=factor))
    file.rename(place / name)


async def load(port: int, name: str) -> int:
    request = _post(f"/v2/repository/models/{name}/load", b"{}", "connection: close")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return int(answer[9:12])


async def measure(
    port: int, folder: Path, kind: str, reloads: int, broken: int, steady: float, share: float, pause: float
) -> Figures:
    rate = share * await peak(port, "/models/m/predict", 3.0)
    undisturbed, disturbed = Caller(port, "/models/m/predict"), Caller(port, "/models/m/predict")
    over = asyncio.Event()
    running = asyncio.create_task(openly(undisturbed, rate, over))
    await asyncio.sleep(steady)
    over.set()
    await running
    figures = Figures(rate, undisturbed.seen, disturbed.seen, reloads)
    over, begun = asyncio.Event(), time.monotonic()
    running = asyncio.create_task(openly(disturbed, rate, over))
    good = {1.0}
    for number in range(1, reloads + 1):
        bad = broken > 0 and number % (reloads // broken) == 0
        await asyncio.to_thread(put, folder / "m" / "1", kind, 1 + number, broken=bad)
        status = await load(port, "m")
        if status != (500 if bad else 200):
            raise AssertionError(f"reload {number}: {status}")
        figures.refused += bad
        good |= set() if bad else {1.0 + number}
        await asyncio.sleep(pause)
    figures.seconds = time.monotonic() - begun
    over.set()
    await running
    if not disturbed.seen.values <= good:
        raise AssertionError(f"answers of no version that was served: {disturbed.seen.values - good}")
    for each in (undisturbed, disturbed):
        each.close()
    return figures


def run(
    kind: str,
    reloads: int,
    broken: int,
    *,
    workers: int = 2,
    steady: float = 10.0,
    share: float = SHARE,
    pause: float = 0.0,
) -> Figures:
    """All of it, against `bimodal serve` in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        put(folder / "m" / "1", kind, 1, broken=False)
        command = [sys.executable, "-m", "bimodal", "serve", place, "--port", "0", "--workers", str(workers)]
        features = ["--features", "a,b,c,d"] if kind == "python" else []
        with subprocess.Popen([*command, *features], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(b":", 1)[1])
            try:
                return asyncio.run(measure(port, folder, kind, reloads, broken, steady, share, pause))
            finally:
                server.terminate()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("sklearn", "python"), default="sklearn")
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steady", type=float, default=10.0, help="seconds without a reload")
    parser.add_argument("--share", type=float, default=SHARE, help="of the peak")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two reloads")
    told = parser.parse_args(arguments)
    options = {name: getattr(told, name) for name in ("workers", "steady", "share", "pause")}
    figures = run(told.kind, told.reloads, told.broken, **options)
    print(figures.told())
    for each in (*figures.steady.failed, *figures.reloading.failed)[:5]:
        print(each)


if __name__ == "__main__":
    main()
