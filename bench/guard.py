"""What the guard costs: the processor time of a request, without a guard, with it, with keys.

    python tasks.py bench guard                       nine rounds of 20,000 requests each

In one process, without a socket: the bytes of a request go into a connection, and the answer's come out. A compiled
linear model, 32 connections, one row each; and paths that are ever new (as those of lookups are), so that no head is
known already: a route of no model, whose answer is a 404. All variants get the same bytes and take turns; shown is the
median over the rounds of the ratio to no guard in the same round. Processor time, so that it may run on a busy machine.
`bench guarded` has the throughput of a whole server.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import uvloop

import bimodal
from bench import models
from bimodal import keys
from bimodal.realtime.guard import Guard
from bimodal.realtime.hosts import Hosts
from bimodal.realtime.http import Connection
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.ring import Ring
from bimodal.realtime.wiring import wire

CONNECTIONS = 32
KEYS = 20  # in the file


class Wire:
    """A transport that nobody is at the other end of."""

    def __init__(self) -> None:
        self.answers = self.good = 0

    def write(self, data: bytes) -> None:
        self.answers += data.count(b"HTTP/1.1 200 ") + data.count(b"HTTP/1.1 404 ")
        self.good += data.count(b"HTTP/1.1 200 ")

    def get_extra_info(self, name: str) -> None:
        """None of it."""

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=9)
    chosen = options.parse_args()
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(compared(Path(folder), chosen.requests, chosen.rounds))


async def compared(folder: Path, requests: int, rounds: int) -> None:
    key = keys.add(folder / "keys.json", "bench")
    for each in range(KEYS - 1):
        keys.add(folder / "keys.json", f"other{each}")
    case = models.linear()
    with bimodal.load(case.model, runtime="exact") as model:
        wired = wire([model], Limits())
        guards = {
            "no guard": None,
            "hosts and origins": Guard(Hosts("127.0.0.1")),
            f"and keys ({KEYS})": Guard(Hosts("127.0.0.1"), ring=Ring(folder / "keys.json")),
        }
        listeners = {name: Listener(wired.app, Limits(), wired.methods, guard) for name, guard in guards.items()}
        fields = f"host: 127.0.0.1:8000\r\nauthorization: Bearer {key}\r\n"
        body = case.bodies[0]
        post = f"POST /predict HTTP/1.1\r\n{fields}content-length: {len(body)}\r\n\r\n".encode() + body
        numbers = count()
        asked: dict[str, Callable[[], Iterator[bytes]]] = {
            "a prediction": lambda: (post for _ in numbers),
            "GET at ever new paths (a 404)": lambda: (
                f"GET /models/{number} HTTP/1.1\r\n{fields}\r\n".encode() for number in numbers
            ),
        }
        print(f"| | {' | '.join(f'{each}, µs | ×' for each in listeners)} |")
        print("| --- |" + " ---: |" * 6)
        for name, said in asked.items():
            runs: dict[str, list[float]] = {each: [] for each in listeners}
            for turn in range(-1, rounds):
                for way in list(listeners)[:: 1 if turn % 2 else -1]:
                    spent = await pressed(listeners[way], list(islice(said(), requests)))
                    if turn >= 0:
                        runs[way].append(spent)
            show(name, runs)
        await wired.close()


async def pressed(listener: Listener, asked: list[bytes]) -> float:
    """Microseconds of the processor for each request."""
    loop = asyncio.get_running_loop()
    connections = [Connection(listener, loop) for _ in range(CONNECTIONS)]
    wires = [Wire() for _ in connections]
    for each, wire_ in zip(connections, wires, strict=True):
        each.connection_made(cast(Any, wire_))
    began = time.process_time()
    for start in range(0, len(asked), CONNECTIONS):
        for each, said in zip(connections, asked[start : start + CONNECTIONS], strict=False):
            each.data_received(said)
        await asyncio.sleep(0)
    spent = time.process_time() - began
    await asyncio.sleep(0.05)
    answered = sum(each.answers for each in wires)
    good = sum(each.good for each in wires)
    assert answered == len(asked), f"{answered} answers to {len(asked)} requests"
    assert good == (len(asked) if asked[0].startswith(b"POST") else 0), f"{good} predictions"
    for each in connections:
        each.connection_lost(None)
    return 1e6 * spent / len(asked)


def show(name: str, runs: dict[str, list[float]]) -> None:
    first = next(iter(runs.values()))
    cells = []
    for mine in runs.values():
        ratio = median([spent / base for spent, base in zip(mine, first, strict=True)])
        cells.append(f"{median(mine):.2f} | {ratio:.3f}")
    print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
