"""A server that is asked for more than it can do: useful work, refusals, recovery, health; goals beside the figures.

    python tasks.py bench overload                      all of it: about 4 minutes
    python tasks.py bench overload --only steps --model Computes --seconds 8
    python tasks.py bench overload --only cheap         a model that is cheaper than a refusal (needs wrk)

One core for the server (one worker and the model's process), one for the load, which is open: a request is sent when it
is due, whatever became of those before, and its time is counted from then. `Waits` waits 5 ms a row, `Computes` takes
the processor for as long, on the server's own core. The peak is that of a closed loop of 16 connections right before
and right after each load. Requests carry a deadline of 500 ms; an answer after it is no useful work. Where the machine
has other work the ratios hold better than the milliseconds; `lag` is how late the generator itself was (p99): a time
below it says nothing of the server.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import models, servers
from bench.load import press
from tests.fire import overload
from tests.fire.load import Load
from tests.fire.overload import DEADLINE_MS, GOALS, REFUSED, Place, Step

LOADS = (1.0, 1.5, 2.0, 3.0, 5.0)
QUICK = {3.0: 20.0}  # ms, of refusals, by load
HEALTHY = {5.0: 50.0}  # ms, of health
LIMIT = 4000  # connections of the closed loop, just below the server's own limit of 4,096
BIG = 155, 10_000  # columns and rows of a JSON body of 15 MB


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=sorted(PARTS), help="one part")
    options.add_argument("--model", choices=("Waits", "Computes"), help="one model, in steps")
    options.add_argument("--seconds", type=float, default=5.0, help="of one load")
    asked = options.parse_args()
    kinds = [asked.model] if asked.model else ["Waits", "Computes"]
    for name in [asked.only] if asked.only else PARTS:
        print(f"\n## {name}\n", flush=True)
        PARTS[name](kinds, asked.seconds)


def verdict(figure: float, goal: float | None, *, least: bool = False) -> str:
    """Whether a goal was met, where there is one. least: it is the least that is wanted, not the most."""
    if goal is None:
        return ""
    return f"(goal {goal:g}: {'met' if (figure >= goal if least else figure <= goal) else 'MISSED'})"


def steps(kinds: Iterable[str], seconds: float) -> None:
    """Promises 7, 8 and 11."""
    for kind in kinds:
        for grpc in (False, True):
            with TemporaryDirectory() as folder, overload.served(Path(folder), kind) as place:
                print(f"{kind}, {'gRPC' if grpc else 'HTTP'}")
                _steps(replace(place, seconds=seconds, grpc=grpc))


def _steps(place: Place) -> None:
    before = overload.capacity(place, 2.0)
    for times in LOADS:
        step = overload.step(place, times, before)
        after = overload.capacity(place, 2.0)
        step.peak = (before + after) / 2
        before = after
        print(told(step), flush=True)


def told(step: Step) -> str:
    """A line, and beneath it each figure that has a goal."""
    seen, health = step.seen, step.health
    accepted, refused, alive = (1e3 * each for each in (seen.p(99, 200), seen.p(99, *REFUSED), health.p(99, 200)))
    own = [1e3 * seen.own(percent, *REFUSED) for percent in (50, 99)]
    figures = [
        f"useful {step.goodput:.3f} of the peak {verdict(step.goodput, GOALS.get(step.times), least=True)}",
        f"answers p50 {1e3 * seen.p(50, 200):.0f} p99 {accepted:.0f} ms {verdict(accepted, DEADLINE_MS)}",
        f"refusals p50 {1e3 * seen.p(50, *REFUSED):.1f} p99 {refused:.1f} ms {verdict(refused, QUICK.get(step.times))}",
        f"refusals from when they were sent p50 {own[0]:.1f} p99 {own[1]:.1f} ms",
        f"refusals without Retry-After {seen.bare} {verdict(seen.bare, 0)}",
        f"health p99 {alive:.1f} ms {verdict(alive, HEALTHY.get(step.times))}",
        f"health missed {step.missed} {verdict(step.missed, 0)}",
        f"wrong answers {seen.wrong} {verdict(seen.wrong, 0)}, all: {dict(sorted(seen.statuses.items()))}",
    ]
    head = f"{step.times:g} × the peak of {step.peak:.0f}/s, lag of the load {1e3 * seen.lag:.1f} ms"
    return "\n    ".join([head, *figures])


def recovery(kinds: Iterable[str], seconds: float) -> None:
    """Promise 9."""
    for kind in kinds:
        with TemporaryDirectory() as folder, overload.served(Path(folder), kind) as place:
            rate = overload.capacity(place, 2.0)
            took, seen = overload.recovery(replace(place, seconds=seconds), rate)
            print(
                f"{kind}: usual again {took:.2f} s after 5 × the peak {verdict(took, 1)}; lag {1e3 * seen.lag:.1f} ms"
            )


def expired(kinds: Iterable[str], seconds: float) -> None:
    """Promise 10."""
    with TemporaryDirectory() as folder, overload.served(Path(folder), "Waits") as place:
        rate = overload.capacity(place, 2.0)
        seen, early = overload.expired(replace(place, seconds=seconds), Path(folder), rate)
        late = sum(1 for each in early if each < 0)
        good = seen.rate / rate
        print(f"deadlines of 50 ms at 3 × the peak: {late} of {len(early)} rows begun after it {verdict(late, 0)}")
        print(
            f"  useful {good:.2f} of the peak; {dict(seen.statuses)}; the latest began {1e3 * min(early):.1f} ms before"
        )


def cheap(kinds: Iterable[str], seconds: float) -> None:
    """A compiled linear model: no answer of it costs more than a refusal, so the connections are the bound."""
    case = models.linear()
    with servers.bimodal("linear", case.model, body=case.bodies[0], runtime="exact") as server:
        press(server, 64, 1, case.bodies)  # to warm up
        for connections in (1024, LIMIT):
            before = press(server, 64, 2, case.bodies)
            seen = press(server, connections, round(seconds), case.bodies)
            after = press(server, 64, 2, case.bodies)
            share = 2 * seen.rate / (before.rate + after.rate)
            print(f"closed loop of {connections}: {seen.rate:,.0f}/s, p99 {seen.p99:.0f} ms, refused {seen.refused}")
            print(f"    {share:.2f} of that of 64 {verdict(share, 0.9, least=True)}")
            print(f"    broken {seen.broken} {verdict(seen.broken, 0)}")


def busy(kinds: Iterable[str], seconds: float) -> None:
    """Promise 11 beside bodies of 15 MB, which are read and predicted in one piece each."""
    case = models.wide(*BIG)
    with servers.bimodal("wide", case.model, body=case.bodies[0], runtime="exact") as server:
        address = server.url.removesuffix("/predict")
        probes = Load(f"{address}/health/live", 10, seconds, even=True)
        with Load(server.url, 1.0, seconds, case.bodies, core=servers.LOAD_CORE).begin() as load:
            seen = probes.run()
            posted = load.finish()
        p99, missed = 1e3 * seen.p(99, 200), seen.sent - seen.statuses[200]
        print(
            f"health beside {posted.sent} bodies of 15 MB (p50 {1e3 * posted.p(50, 200):.0f} ms each): p99 {p99:.1f} ms"
            f" {verdict(p99, 50)}, missed {missed} {verdict(missed, 0)}"
        )


PARTS: dict[str, Callable[[Iterable[str], float], None]] = {
    "steps": steps,
    "recovery": recovery,
    "expired": expired,
    "cheap": cheap,
    "busy": busy,
}


if __name__ == "__main__":
    main()
