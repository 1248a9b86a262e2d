"""Live: a real server in worker processes, and the load in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from bimodal.advice.figure import measured
from bimodal.advice.load import SHARES
from bimodal.advice.lookup import Shelf
from bimodal.advice.measured import Load, Loads
from bimodal.advice.rounds import rounds
from bimodal.batch.crew import processors
from bimodal.batch.memory import held
from bimodal.errors import BimodalError
from bimodal.model import Model
from bimodal.realtime.server import Server
from bimodal.realtime.serving import serve

CONNECTIONS = (1, 4, 16, 32, 64, 128)
FEW = (1, 32)  # where there is little time
LITTLE = 8.0  # seconds
ROUNDS = 3
SHORTEST = 0.1  # seconds of one load
PATIENCE = 4.0  # times that length, for a model that answers nothing in it
Told = dict[str, Any]


class Generator:
    """The process that makes the load. Its answers are those of `load.press`."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "bimodal.advice.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def press(self, server: Server, path: str, bodies: Sequence[str], connections: int, seconds: float) -> Told:
        """One load. Raises BimodalError where the server or the load fails."""
        order = {
            "address": [server.host, server.port], "method": "POST" if bodies else "GET", "path": path,
            "bodies": list(bodies), "connections": connections, "seconds": seconds, "watched": server.pids,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        told: Told = json.loads(line) if line else {"error": "the load ended early"}
        if "error" in told:
            raise BimodalError(f"the load on the server failed: {told['error']}")
        return told

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def generator() -> Iterator[Generator]:
    made = Generator()
    try:
        yield made
    finally:
        made.close()


def serving(model: Model, shelf: Shelf, seconds: float) -> tuple[Server, list[float]]:
    """A server with one worker, and the seconds that each start took."""
    starts: list[float] = []
    server: Server | None = None
    for _ in rounds(seconds, ROUNDS):
        if server is not None:
            server.close()
        started = time.perf_counter()
        server = serve(model, port=0, workers=1, stores=shelf.stores, keys="", tls_cert="")
        starts.append(time.perf_counter() - started)
    assert server is not None
    return server, starts


def measure(
    model: Model, bodies: Sequence[str], shelf: Shelf, seconds: float, tell: Callable[[str], None]
) -> tuple[Loads, Loads]:
    """The loads of /predict, and those of lookups, within about so many seconds."""
    tell("real time: the start of a server")
    server, starts = serving(model, shelf, seconds / 6)
    try:
        with server, generator() as made:
            tell("real time: latency and throughput over HTTP")
            loads = ladder(made, server, "/predict", bodies, seconds * 0.55)
            memory = float(sum(held(pid) for pid in server.pids))
            tell("real time: lookups over HTTP")
            looked = ladder(made, server, shelf.path, shelf.bodies, seconds * 0.2)
    except BaseException:
        server.close(0)
        raise
    start = measured(starts, "s", "from the call of serve until the first request can be answered")
    held_there = measured([memory], "bytes", "proportional set size of one worker and its children, after the load")
    return Loads(tuple(loads), processors(), start, held_there), Loads(tuple(looked), processors())


def ladder(
    made: Generator,
    server: Server,
    path: str,
    bodies: Sequence[str],
    seconds: float,
) -> list[Load]:
    """A Load for each number of connections; they take turns in every round."""
    steps = CONNECTIONS if seconds >= LITTLE else FEW
    length = max(SHORTEST, min(1.5, seconds / len(steps) / ROUNDS / 1.2))
    seen: dict[int, list[Told]] = {count: [] for count in steps}
    for _ in rounds(seconds, ROUNDS):
        for count in steps:
            told = made.press(server, path, bodies, count, length)
            if not told["answered"]:
                told = made.press(server, path, bodies, count, length * PATIENCE)
            if told["answered"]:
                seen[count].append(told)
    if not seen[steps[0]]:
        raise BimodalError(f"no request was answered well within {length * PATIENCE:.1f} s; give a larger --budget")
    return [_load(count, told) for count, told in seen.items() if told]


def _load(connections: int, runs: list[Told]) -> Load:
    rates = [told["answered"] / told["seconds"] for told in runs]
    cores = [told["processor"] / told["seconds"] or 1.0 for told in runs]  # 0 where the system does not tell
    each = [rate / taken for rate, taken in zip(rates, cores, strict=True)]
    quantiles = [median(values) for values in zip(*(told["quantiles"] for told in runs), strict=True)]
    counted = sum(told["answered"] + told["refused"] for told in runs)
    how = f"{connections} connection{'s' if connections > 1 else ''}, closed loop, one worker"
    return Load(
        connections,
        measured(rates, "requests/s", how),
        measured(cores, "cores", "processor seconds of the server in a second"),
        measured(each, "requests/s", f"{how}, for each second of a core"),
        measured([told["quantiles"][SHARES.index(0.5)] for told in runs], "s", how),
        measured([told["quantiles"][SHARES.index(0.99)] for told in runs], "s", how),
        sum(told["refused"] + told["broken"] for told in runs) / max(counted, 1),
        sum(told["answered"] for told in runs),
        tuple(zip(SHARES, quantiles, strict=True)),
    )
