"""Shown: figures as people read them; the terminal and the page have the same ones."""

from __future__ import annotations

from collections.abc import Sequence

from bimodal.advice.advising import Advice
from bimodal.advice.figure import Figure
from bimodal.advice.modes import Mode
from bimodal.advice.needs import Needs

MARKS = {"measured": "ᵐ", "assumed": "ᵃ", "given": "ᵍ", "derived": ""}
HEADINGS = {
    "latency, p50": "p50", "latency, p99": "p99", "throughput of a machine": "throughput", "machines": "machines",
    "cost a month": "month", "cost per million answers": "per_million", "age of an answer, at most": "freshness",
    "a month without requests": "idle",
}  # fmt: skip


def cells(modes: Sequence[Mode]) -> list[list[str]]:
    """A table: for each line its heading and the value of every mode."""
    told = [[heading, *(shown(getattr(mode, name)) for mode in modes)] for heading, name in HEADINGS.items()]
    return [*told, ["meets all that is asked", *("yes" if mode.meets else "no" for mode in modes)]]


def shown(figure: Figure) -> str:
    """The value with its unit and the mark of its origin; a dash where there is none."""
    if figure.value is None:
        return "–"
    return f"{_value(figure.value, figure.unit)}{MARKS[figure.origin]}"


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return duration(value)
    if unit == "bytes":
        return f"{value / 1e6:,.0f} MB"
    if unit in ("requests/s", "rows/s"):
        return f"{value:,.0f}/s"
    if unit in ("a month", "per million answers", "per hour"):
        return money(value)
    return f"{value:,.0f}" if value == round(value) or value >= 1000 else f"{value:.3g}"


def money(value: float) -> str:
    """Cents where there are some; of less, two digits."""
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """0.42 ms, 1.5 s, 15 min, 1 days."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit.removesuffix('s') if seconds == size and unit == 'days' else unit}"
    return f"{seconds * 1e6:.3g} µs" if seconds else "0 s"


def lines(found: Advice) -> list[str]:
    """What was measured, a line each."""
    bulk, live = found.measured.bulk, found.measured.live
    cores = found.measured.cores
    one, one_p99 = _noisy(found.measured.one_row), shown(found.measured.one_row_p99)
    told = [
        f"one row in process  {one}, p99 {one_p99} ({found.measured.runtime})",
        f"batch               {_noisy(bulk.rate)}, start {_noisy(bulk.start)}, {shown(bulk.memory)} ({bulk.runtime})",
    ]
    for load in live.loads:
        many = f"{load.connections} connection{'s' if load.connections > 1 else ''}"
        told.append(
            f"live, {many:<15}{_noisy(load.rate)}, p50 {shown(load.p50)}, p99 {_noisy(load.p99)}"
            + (f", {load.refused:.1%} refused" if load.refused else "")
        )
    told.append(f"live, a machine     {shown(live.full)} at saturation: {live.full.how}")
    lookup = found.measured.lookup
    told.append(f"lookup, 1 connection {_noisy(lookup.alone.rate)}, p50 {shown(lookup.alone.p50)}")
    told.append(f"lookup, a machine   {shown(lookup.full)} at saturation: {lookup.full.how}")
    if live.start is not None and live.memory is not None:
        told.append(f"server              start {_noisy(live.start)}, {shown(live.memory)} a worker")
    told.append(f"machine             {cores} cores; ± is half the spread of the rounds")
    return told


def _noisy(figure: Figure) -> str:
    return shown(figure) + ("" if figure.noise is None else f" ± {figure.noise:.0%}")


def asked(needs: Needs) -> str:
    """What was given and assumed, in a sentence."""
    named = {
        "requests a day": needs.requests, "rows a batch": needs.rows, "keys": needs.keys, "p99 wanted": needs.latency,
        "freshness": needs.freshness, "an hour of this machine": needs.price, "peak over mean": needs.peak,
    }  # fmt: skip
    return ", ".join(f"{name} {shown(figure)}" for name, figure in named.items() if figure is not None)
