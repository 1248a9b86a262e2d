"""A lone request, with batching and without: from the app's call to its answer, in one process, without a socket.

    python tasks.py bench lone

"Without" is the same batcher held to one row a batch, which goes at once; a batch waits for the end of the loop's turn,
to see who else came in it, unless the wire tells that nobody can (the request is `alone`: its connection is the only
one, and brought nothing else). Both take turns, now this one first and now the other; medians of the rounds' medians.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from statistics import median
from time import monotonic, perf_counter

import uvloop

from bench import models
from bench.models import Case
from bimodal.model import load
from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.limits import Limits
from bimodal.realtime.wiring import Wired, wire

ROUNDS = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=2000, help="in each round")
    asked = options.parse_args()
    print("| model | alone, µs | not known to be, µs | without batching, µs | first / last |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case in (models.linear(), models.mixed()):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the server's own loop
            runner.run(compare(case, asked.requests))


async def compare(case: Case, requests: int) -> None:
    """One line of the table."""
    model = load(case.model, runtime="exact")
    try:
        wired = wire([model], Limits())
        one = held(wire([model], Limits()), model.name)
        ways = {"alone": (wired, True), "in company": (wired, False), "without": (one, False)}
        seen: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(ROUNDS):
            for way, (asked, alone) in list(ways.items())[:: 1 if turn % 2 else -1]:
                seen[way].append(median(await times(asked, case, requests, alone=alone)))
        told = [1e6 * median(seen[way]) for way in ways]
        print(f"| {case.name} | {' | '.join(f'{each:.1f}' for each in told)} | {told[0] / told[2]:.2f} |", flush=True)
    finally:
        model.close()


def held(wired: Wired, name: str) -> Wired:
    """The app, its batches held to one row."""
    batcher = wired.service.find(name).batcher
    batcher._most = batcher._full = 1  # no user has a use for a setting of this
    return wired


async def times(wired: Wired, case: Case, requests: int, *, alone: bool) -> Iterable[float]:
    """Seconds of each request, one after the other."""
    loop = asyncio.get_running_loop()
    seen = []
    for number in range(requests):
        answered: asyncio.Future[Response] = loop.create_future()
        body = case.bodies[number % len(case.bodies)]
        start = perf_counter()
        request = Request("POST", "/predict", "", {b"content-type": b"application/json"}, body, monotonic(), alone)
        wired.app(request, answered.set_result)
        response = await answered
        seen.append(perf_counter() - start)
        if response.status != 200:
            raise SystemExit(f"{case.name}: {response.status} {response.body!r}")
    return seen


if __name__ == "__main__":
    main()
