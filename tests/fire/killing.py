"""Processes of a running server, and somebody who kills them.

python -m tests.fire.killing FORM SECONDS     FORM: children, beside, workers, poison; prints its figures
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bimodal
from bimodal.realtime.server import Server
from tests.fire.load import Load, Outcome, together

SIGNALS = (signal.SIGSEGV, signal.SIGKILL)
CODE = '''
import contextlib, ctypes, multiprocessing, os, pathlib, signal, subprocess, sys, time
import numpy as np

HERE = pathlib.Path(__file__).parent


def spin():
    """A loop in native code that holds the GIL."""
    ctypes.pythonapi.PyRun_SimpleString(b"while True: pass")


def overflow():
    """The stack of native code, which no recursion limit watches."""
    overflow.again = ctypes.CFUNCTYPE(None)(lambda: overflow.again())
    sys.setrecursionlimit(10**8)
    overflow.again()


def deaf():
    os.closerange(0, 256)
    time.sleep(60)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def orphan():
    """What it has started is left alone."""
    helper = subprocess.Popen(["sleep", "300"])
    (HERE / "helper").write_text(str(helper.pid))
    os.abort()


def loop():
    while True:
        time.sleep(1)


def haunted():
    """A process that it has forked holds all that it held, and goes on."""
    helper = multiprocessing.get_context("fork").Process(target=loop, daemon=True)
    helper.start()
    (HERE / "helper").write_text(str(helper.pid))
    ctypes.string_at(0)


def stray():
    """Bytes for a file that was closed, whose number is another's by now."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(number, b"\\x01" * 8)


DEATHS = {
    1: lambda: ctypes.string_at(0),
    2: lambda: os._exit(3),
    3: os.abort,
    4: overflow,
    5: spin,
    6: lambda: np.ones(2 * 2**30 // 8),
    7: deaf,
    8: stop,
    9: lambda: os.killpg(0, signal.SIGKILL),
    10: lambda: os.killpg(0, signal.SIGTERM),
    11: orphan,
    12: haunted,
    13: stray,
    14: os.fork,  # both come back
}


class Model:
    """Twice `x`. `deed`: which death a row brings, 0 for none; each is noted before it comes."""

    inputs = {"x": float, "deed": int}
    outputs = {"prediction": float}

    def predict(self, rows):
        for deed in rows["deed"][rows["deed"] > 0]:
            with open(HERE / "deaths", "a") as file:
                file.write(f"{deed}\\n")
            DEATHS[int(deed)]()
        time.sleep(0.005 * len(rows["x"]))
        return rows["x"] * 2
'''


def model(folder: Path) -> str:
    """A model that takes 5 ms a row, and dies in any way that a row asks for."""
    (folder / "mortal.py").write_text(CODE)
    return f"{folder / 'mortal.py'}:Model"


def deaths(folder: Path) -> list[int]:
    """What rows have brought about by now."""
    path = folder / "deaths"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def body(x: float, deed: int = 0) -> bytes:
    return json.dumps({"rows": [{"x": x, "deed": deed}]}).encode()


def children(pid: int) -> list[int]:
    """Processes that this one has started."""
    with contextlib.suppress(OSError):
        return [int(each) for path in Path(f"/proc/{pid}/task").iterdir() for each in _read(path / "children").split()]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def runners(worker: int) -> list[int]:
    """The processes that run the models of a worker: forks of those that have loaded them."""
    return [each for child in children(worker) for each in children(child) if not is_dead(each)]


def is_dead(pid: int) -> bool:
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] in ([], ["Z"])


class Killer:
    """Kills one of the processes that `victims` gives, every so many seconds, in a thread; use it in a `with`."""

    def __init__(self, victims: Callable[[], Sequence[int]], every: float) -> None:
        self.killed = 0
        self._victims, self._every = victims, every
        self._over = threading.Event()
        self._chance = random.Random(1)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            found = list(self._victims())
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._chance.choice(found), SIGNALS[self.killed % 2])
                    self.killed += 1


def workers(server: Server) -> list[int]:
    return list(server.pids)


def all_runners(server: Server) -> list[int]:
    return [each for worker in workers(server) for each in runners(worker)]


def is_ready(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_ready(server: Server, state: bool, seconds: float = 60.0) -> float:
    """Seconds until it is (or is not) ready."""
    start = time.monotonic()
    while is_ready(server) is not state:
        assert time.monotonic() - start < seconds, f"ready is not {state} after {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start


def ask(server: Server, x: float, deed: int = 0, within: float = 5.0) -> tuple[int, Any]:
    """Status and JSON."""
    headers = {"content-type": "application/json", "x-request-timeout-ms": f"{within * 1e3:g}"}
    request = urllib.request.Request(f"{server.url}/predict", body(x, deed), headers)
    try:
        with urllib.request.urlopen(request, timeout=within + 20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def harmless(count: int = 97) -> tuple[list[bytes], list[bytes]]:
    """Bodies, and what their answers hold."""
    return [body(x) for x in range(count)], [b"[%d.0]" % (2 * x) for x in range(count)]


def under_load(server: Server, seconds: float, rate: float, **options: Any) -> Outcome:
    bodies, expected = harmless()
    return Load(f"{server.url}/predict", rate, seconds, bodies, expected=expected, **options).run()


def main(form: str, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bimodal.serve(model(folder), port=0, workers=2, model_memory=500_000_000) as server:
            {"children": long_children, "beside": long_beside, "workers": long_workers, "poison": long_poison}[form](
                server, folder, seconds
            )


def long_children(server: Server, folder: Path, seconds: float) -> None:
    with Killer(lambda: all_runners(server), 2.0) as killer:
        outcome = under_load(server, seconds, 280, deadline_ms=1000)
    print(f"{killer.killed} processes of models killed\n{outcome.told()}")
    print(f"slowest answer {max(each.latency for each in outcome.records) * 1e3:.0f} ms")


def long_beside(server: Server, folder: Path, seconds: float) -> None:
    """The same beside a server of which nothing is killed: what the machine does to both is not the kills' doing."""
    bodies, expected = harmless()
    with tempfile.TemporaryDirectory() as name, bimodal.serve(model(Path(name)), port=0, workers=2) as calm:
        loads = [
            Load(f"{each.url}/predict", 140, seconds, bodies, expected=expected, deadline_ms=1000)
            for each in (server, calm)
        ]
        with Killer(lambda: all_runners(server), 2.0) as killer:
            killed, left = together(*loads)
    print(f"{killer.killed} processes of models killed\n{killed.told()}\nbeside it, none killed: {left.told()}")


def long_workers(server: Server, folder: Path, seconds: float) -> None:
    with Killer(lambda: workers(server), 10.0) as killer:  # it needs some seconds to come back
        outcome = under_load(server, seconds, 100, deadline_ms=5000)
    print(f"{killer.killed} workers killed\n{outcome.told()}")


def long_poison(server: Server, folder: Path, seconds: float) -> None:
    """A thousand poisoned requests among good ones."""
    bodies, expected = harmless()
    poison = Load(f"{server.url}/predict", 1000 / seconds, seconds, [body(1.0, 1)], deadline_ms=1000)
    good = Load(f"{server.url}/predict", 200, seconds, bodies, expected=expected, deadline_ms=1000)
    poisoned, others = together(poison, good)
    print(f"{len(deaths(folder))} processes died\npoison: {poisoned.told()}\ngood: {others.told()}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
