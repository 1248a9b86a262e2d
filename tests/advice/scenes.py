"""A machine that was measured, for tests of what follows from it."""

from __future__ import annotations

from typing import Any

from bimodal.advice.advising import Advice
from bimodal.advice.choice import choose
from bimodal.advice.curves import Curves
from bimodal.advice.figure import Figure
from bimodal.advice.load import SHARES
from bimodal.advice.measured import Bulk, Load, Loads, Measured
from bimodal.advice.modes import modes
from bimodal.advice.needs import Needs


def figure(value: float, unit: str = "") -> Figure:
    return Figure(value, unit, "measured")


def load(connections: int, rate: float, p50: float, p99: float, cores: float = 1.0, refused: float = 0.0) -> Load:
    quantiles = tuple((share, p50 + (p99 - p50) * max(0.0, share - 0.5) * 2) for share in SHARES)
    rates = (figure(rate), figure(cores), figure(rate / cores))
    return Load(connections, *rates, figure(p50), figure(p99), refused, 1000, quantiles)


def machine(
    *, rate: float = 1000.0, one: float = 0.005, crowded: float = 0.05, rows: float = 100_000.0, start: float = 2.0,
    cores: int = 2, lookup: float = 50_000.0,
) -> Measured:  # fmt: skip
    """rate: requests/s of one core at saturation; one, crowded: p99 on one connection and at saturation, seconds; rows:
    a second in batch; lookup: requests/s of the machine, in 0.1 ms.
    """
    alone = load(1, rate / 5, one / 2, one, cores=0.5)
    loads = Loads((alone, load(32, rate, crowded / 2, crowded)), cores, figure(2.0), figure(1e8))
    bulk = Bulk(figure(rows), figure(start), figure(2e8), cores, "native")
    found = Loads((load(1, lookup / cores, 1e-4, 2e-4),), cores)
    return Measured(cores, "native", figure(one / 2), figure(one), bulk, loads, found)


def advice(measured: Measured | None = None, **asked: Any) -> Advice:
    """What `advise` would find on such a machine."""
    measured, needs = measured or machine(), Needs.read(2, **asked)
    found = modes(needs, measured)
    return Advice(
        "churn", "0123456789ab", "sklearn", "a file <b>", needs, measured, found, choose(found),
        Curves.of(needs, measured), ("a note",), 1.5,
    )  # fmt: skip
