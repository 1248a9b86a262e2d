"""Modes: what real time, batch and both would need and cost, from what is measured and what is needed.

The rules, which docs/advise.md tells too:

real time   a server is always there, on one machine at least, and on as many as the busiest time needs. An answer is
            fresh. It meets a wanted p99 that was kept under some load here.
batch       a run scores all rows again before the oldest answer is too old: interval + run ≤ freshness, and a run takes
            no more than half of that, on as many machines as it needs; it is paid for while it runs. Rows that are not
            known before wait for the next run. Where the rows are known, answers are read from the result: without a
            server, so neither within a wanted latency, nor for more than FEW requests a day.
both        the batch, and a server that looks known keys up and predicts the others live.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bimodal.advice.figure import Figure, absent, derived
from bimodal.advice.measured import Load, Measured
from bimodal.advice.needs import DAY, LATENCY, Needs

HOURS = 730.0  # of a month
DAYS = 365 / 12
FEW = 86_400.0  # requests a day, one a second: beyond it, a server is needed to read results from
REAL_TIME, BATCH, BOTH = "real time", "batch", "both"


@dataclass(frozen=True)
class Mode:
    """One mode. misses: the requirements that it does not meet, in sentences. machines: at the busiest time. month,
    per_million: cost, in the price's unit. freshness: the oldest age of an answer, seconds. idle: what a month costs
    without any request.
    """

    name: str
    p50: Figure
    p99: Figure
    throughput: Figure
    machines: Figure
    month: Figure
    per_million: Figure
    freshness: Figure
    idle: Figure
    misses: tuple[str, ...] = ()

    @property
    def meets(self) -> bool:
        return not self.misses


def modes(needs: Needs, measured: Measured) -> tuple[Mode, ...]:
    return tuple(make(needs, measured) for make in (real_time, batch, both))


def costs(name: str, needs: Needs, measured: Measured, requests: float) -> float | None:
    """A month's cost of a mode if there were so many requests a day; None where it cannot be."""
    make: dict[str, Callable[[Needs, Measured], Mode]] = {REAL_TIME: real_time, BATCH: batch, BOTH: both}
    return make[name](replace(needs, requests=derived(requests, "requests/day", "")), measured).month.value


# -- real time ---------------------------------------------------------------------------------------------------------


def real_time(needs: Needs, measured: Measured) -> Mode:
    latency = None if needs.latency is None else needs.latency.value
    found = measured.live.within(latency)
    load, rate = found or (measured.live.alone, measured.live.full)
    misses = () if found else (f"p99 is {_seconds(load.p99.number)} even on one connection",)
    peak = _asked(needs) / DAY * (needs.peak.number if needs.requests else 1.0)
    machines = _machines(peak / rate.number)
    month, idle = _always_on(machines, needs)
    each = peak / machines.number / measured.cores
    shown = _load_of(measured, load, each, latency)
    return Mode(
        REAL_TIME, shown.p50, shown.p99, rate, machines, month, _per_million(month, _asked(needs)),
        derived(0.0, "s", "each request is predicted when it comes"), idle, misses,
    )  # fmt: skip


def _asked(needs: Needs) -> float:
    """Answers a day: the live ones, or a data set's rows as often as they must be fresh."""
    if needs.requests is not None:
        return needs.requests.number
    assert needs.rows is not None
    return needs.rows.number * DAY / (needs.freshness.number if needs.freshness else DAY)


def _load_of(measured: Measured, most: Load, rate: float, latency: float | None) -> Load:
    """The smallest measured load that carries the rate of one worker at the busiest time, and keeps the wanted p99."""
    kept = (load for load in measured.live.loads if load.keeps(latency) and load.connections <= most.connections)
    return next((load for load in kept if load.rate.number >= rate), most)


def _machines(share: float) -> Figure:
    return derived(max(1, math.ceil(share - 1e-9)), "machines", f"{share:.3g} of one machine at the busiest time")


def _always_on(machines: Figure, needs: Needs) -> tuple[Figure, Figure]:
    price = needs.price.number
    month = derived(machines.number * price * HOURS, "a month", f"{machines.number:g} × {price:g} × {HOURS:g} hours")
    return month, derived(price * HOURS, "a month", f"one machine that waits: {price:g} × {HOURS:g} hours")


def _per_million(month: Figure, asked: float) -> Figure:
    if month.value is None:
        return absent("per million answers", month.how)
    return derived(month.value / (asked * DAYS) * 1e6, "per million answers", f"{asked * DAYS:,.0f} answers a month")


# -- batch -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runs:
    """rows: of one. seconds: of one. age: of the oldest answer when the next run is done, seconds. month: its cost."""

    rows: float
    seconds: float
    machines: Figure
    age: float
    month: Figure


def _runs(needs: Needs, measured: Measured, window: float, rows: float) -> _Runs | str:
    """The runs that keep all answers younger than `window` seconds, or why none do."""
    bulk = measured.bulk
    start, work = bulk.start.number, rows / bulk.rate.number
    if window / 2 <= start:
        return f"a run takes {_seconds(start)} to start, too long for answers within {_seconds(window)}"
    machines = _machines(work / (window / 2 - start))
    seconds = start + work / machines.number
    interval = window - seconds
    hours = machines.number * seconds / interval * HOURS
    how = f"{machines.number:g} × {seconds:,.1f} s every {_seconds(interval)}, paid for while it runs (assumed)"
    return _Runs(rows, seconds, machines, window, derived(hours * needs.price.number, "a month", how))


def batch(needs: Needs, measured: Measured) -> Mode:
    collected = needs.requests is not None and needs.coverage.number < 1
    window = _window(needs, collected)
    rows = _asked(needs) * window / DAY if collected else (needs.known or _none()).number
    runs = _runs(needs, measured, window, rows)
    if isinstance(runs, str):
        return _impossible(BATCH, runs, measured.bulk.rate)
    misses = _unserved(needs, collected, window)
    if collected:
        latency = derived(window, "s", "a row waits for the next run")
    else:
        latency = absent("s", "answers are read from the result; there is no server")
    return Mode(
        BATCH, replace(latency, value=None if latency.value is None else window / 2), latency, measured.bulk.rate,
        runs.machines, runs.month, _per_million(runs.month, _asked(needs)), _age(runs, window, needs),
        derived(0.0, "a month", "nothing runs between the runs"), misses,
    )  # fmt: skip


def _none() -> Figure:
    return derived(0.0, "rows", "")


def _window(needs: Needs, collected: bool) -> float:
    """Seconds within which all answers must be there anew."""
    fresh = DAY if needs.freshness is None else needs.freshness.number
    if not collected:
        return fresh
    wait = LATENCY if needs.latency is None else needs.latency.number
    return wait if needs.freshness is None else min(wait, fresh)


def _unserved(needs: Needs, collected: bool, window: float) -> tuple[str, ...]:
    if collected or needs.requests is None:
        return ()
    if needs.latency is not None and needs.latency.number < window:
        return (f"no server is there to answer within {_seconds(needs.latency.number)}",)
    if needs.requests.number > FEW:
        return (f"more than {FEW:,.0f} requests a day need a server that looks results up",)
    return ()


def _age(runs: _Runs, window: float, needs: Needs) -> Figure:
    asked = "as asked" if needs.freshness is not None else "once a day is assumed"
    return derived(window, "s", f"a run of {runs.rows:,.0f} rows takes {_seconds(runs.seconds)}; {asked}")


def _impossible(name: str, why: str, rate: Figure) -> Mode:
    none = absent("", why)
    return Mode(name, none, none, rate, none, none, none, none, none, (why,))


# -- both --------------------------------------------------------------------------------------------------------------


def both(needs: Needs, measured: Measured) -> Mode:
    look, share = measured.lookup.alone, needs.coverage.number
    rate = measured.lookup.full
    if needs.requests is None:
        return _impossible(BOTH, "no live answers are asked for", rate)
    if needs.known is None or share == 0:
        return _impossible(BOTH, "no keys were given, so nothing can be looked up (--keys N)", rate)
    window = DAY if needs.freshness is None else needs.freshness.number
    runs = _runs(needs, measured, window, needs.known.number)
    if isinstance(runs, str):
        return _impossible(BOTH, runs, rate)
    live = real_time(needs, measured)
    weight = share / rate.number + (1 - share) / live.throughput.number
    machines = _machines(needs.requests.number / DAY * needs.peak.number * weight)
    server, idle = _always_on(machines, needs)
    month = derived(server.number + runs.month.number, "a month", f"{server.how}, and {runs.month.how}")
    p99 = look.p99 if share > 0.99 else _slower(look.p99, live.p99)
    return Mode(
        BOTH, look.p50 if share >= 0.5 else live.p50, p99,
        derived(1 / weight, "requests/s", f"{share:.0%} looked up, the others predicted live"),
        machines, month, _per_million(month, needs.requests.number), _age(runs, window, needs),
        derived(idle.number + runs.month.number, "a month", f"{idle.how}, and the runs"), _late(needs, p99),
    )  # fmt: skip


def _slower(one: Figure, other: Figure) -> Figure:
    return max(one, other, key=lambda figure: figure.number)


def _late(needs: Needs, p99: Figure) -> tuple[str, ...]:
    if needs.latency is None or p99.number <= needs.latency.number:
        return ()
    return (f"p99 is {_seconds(p99.number)}",)


def _seconds(value: float) -> str:
    for unit, size in (("days", DAY), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if value >= 2 * size or (unit == "s" and value >= 1):
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e3:.3g} ms"
