"""A lone request, with batching and without: from the app's call to its answer, in one process, without a socket.

    python tasks.py bench lone

"Without" is the same batcher held to one row a batch, which goes at once; a batch waits for the end of the loop's turn,
to see who else came in it. Both take turns, now this one first and now the other; medians of the rounds' medians.
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
    print("| model | with batching, µs | without, µs | ratio |\n| --- | ---: | ---: | ---: |")
    for case in (models.linear(), models.mixed()):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the server's own loop
            runner.run(compare(case, asked.requests))


async def compare(case: Case, requests: int) -> None:
    """One line of the table."""
    model = load(case.model, runtime="exact")
    try:
        ways = {most: held(wire([model], Limits()), model.name, most) for most in (1, None)}
        seen: dict[int | None, list[float]] = {most: [] for most in ways}
        for turn in range(ROUNDS):
            for most, wired in list(ways.items())[:: 1 if turn % 2 else -1]:
                seen[most].append(median(await times(wired, case, requests)))
        together, alone = (1e6 * median(seen[most]) for most in (None, 1))
        print(f"| {case.name} | {together:.1f} | {alone:.1f} | {together / alone:.2f} |", flush=True)
    finally:
        model.close()


def held(wired: Wired, name: str, most: int | None) -> Wired:
    """The app, its batches held to so many rows."""
    if most is not None:
        wired.service.find(name).batcher._most = most  # no user has a use for a setting of this
    return wired


async def times(wired: Wired, case: Case, requests: int) -> Iterable[float]:
    """Seconds of each request, one after the other."""
    loop = asyncio.get_running_loop()
    seen = []
    for number in range(requests):
        answered: asyncio.Future[Response] = loop.create_future()
        body = case.bodies[number % len(case.bodies)]
        start = perf_counter()
        request = Request("POST", "/predict", "", {b"content-type": b"application/json"}, body, monotonic())
        wired.app(request, answered.set_result)
        response = await answered
        seen.append(perf_counter() - start)
        if response.status != 200:
            raise SystemExit(f"{case.name}: {response.status} {response.body!r}")
    return seen


if __name__ == "__main__":
    main()
