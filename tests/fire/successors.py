"""How soon a worker that was killed is followed by one that answers: promise 3.

python -m tests.fire.successors KIND WORKERS [TIMES]     KIND: light (linear), native (a forest in scikit-learn itself)

From SIGKILL to the first good answer over a connection that the successor holds, with a new connection tried every 10
ms; and, between the kills, what the model's own library takes to load the file in a new Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

import bimodal
from bimodal.realtime.server import Server

REST = 4.0  # seconds between an answer and the next kill: a worker that dies sooner has died twice in a row
FEATURES = 10
LOAD = """
import sys, time
began = time.perf_counter()
import joblib
joblib.load(sys.argv[1])
print(time.perf_counter() - began)
"""


def saved(kind: str, folder: Path) -> Path:
    """A model file."""
    chance = np.random.default_rng(1)
    given = chance.normal(size=(4000, FEATURES))
    model = LinearRegression() if kind == "light" else RandomForestClassifier(300, random_state=1)
    path = folder / f"{kind}.joblib"
    joblib.dump(model.fit(given, (given.sum(axis=1) + chance.normal(size=4000) > 0).astype(int)), path)
    return path


def loading(path: Path) -> float:
    """Seconds that the library takes, without the start of Python."""
    told = subprocess.run([sys.executable, "-P", "-c", LOAD, path], check=True, capture_output=True, text=True)
    return float(told.stdout)


def holds(pid: int, inode: str) -> bool:
    """Whether the process has this socket open."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(os.readlink(each) == f"socket:[{inode}]" for each in folder.iterdir())
    except OSError:  # it ended, or closed one meanwhile
        return False


def inode(server: int, caller: int) -> str:
    """Of the server's end of a connection, by the two ports."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[1][-4:], fields[2][-4:]) == (f"{server:04X}", f"{caller:04X}"):
            return fields[9]
    return ""


async def ask(server: Server, known: set[int], answered: asyncio.Future[float]) -> None:
    """One request on a connection of its own; tells when its answer came, where a new worker gave it."""
    body = json.dumps({"rows": [{f"x{place}": 1.0 for place in range(FEATURES)}]}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    caller = writer.get_extra_info("socket")
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # nothing of it stays behind
    writer.write(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError):
        return
    now = time.monotonic()
    fresh = {*server.pids} - known
    if head.startswith(b"HTTP/1.1 200") and fresh and not answered.done():
        number = inode(server.port, writer.get_extra_info("sockname")[1])
        if any(holds(pid, number) for pid in fresh):
            answered.set_result(now)
    writer.transport.abort()


async def followed(server: Server) -> float:
    """Seconds from the death of a worker to its successor's first good answer."""
    known, loop = set(server.pids), asyncio.get_running_loop()
    answered: asyncio.Future[float] = loop.create_future()
    began = time.monotonic()
    os.kill(server.pids[0], signal.SIGKILL)
    asked = set()
    while not answered.done():
        asked.add(loop.create_task(ask(server, known, answered)))
        await asyncio.sleep(0.01)
    for each in asked:
        each.cancel()
    return answered.result() - began


def main(kind: str, workers: int, times: int = 9) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = saved(kind, Path(name))
        loads, took = [], []
        with bimodal.serve(path, port=0, workers=workers, runtime="native" if kind == "native" else None) as server:
            time.sleep(REST * 2)
            for _ in range(times):
                loads.append(loading(path))
                took.append(asyncio.run(followed(server)))
                print(f"load {loads[-1]:.2f} s, first answer after {took[-1]:.2f} s", flush=True)
                time.sleep(REST)
        print(f"{kind}, {workers} workers: medians {median(loads):.2f} and {median(took):.2f} s")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
