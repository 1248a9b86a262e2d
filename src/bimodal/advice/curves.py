"""Curves: a month's cost of each mode over the requests a day, and where real time and batch cost the same."""

from __future__ import annotations

from dataclasses import dataclass

from bimodal.advice.measured import Measured
from bimodal.advice.modes import BATCH, BOTH, REAL_TIME, costs
from bimodal.advice.needs import Needs

LEAST, MOST, STEPS = 2, 10, 8  # powers of ten of requests a day; points for each


@dataclass(frozen=True)
class Curves:
    """requests: a day. months: by mode, the cost for each of them; None where the mode cannot be. break_even: requests
    a day at which real time and batch cost the same; None where they never do, and `told` says which is cheaper.
    """

    requests: tuple[float, ...]
    months: dict[str, tuple[float | None, ...]]
    break_even: float | None
    told: str

    @classmethod
    def of(cls, needs: Needs, measured: Measured) -> Curves:
        asked = tuple(10 ** (LEAST + at / STEPS) for at in range((MOST - LEAST) * STEPS + 1))
        months = {
            name: tuple(costs(name, needs, measured, each) for each in asked) for name in (REAL_TIME, BATCH, BOTH)
        }
        return cls(asked, months, *_break_even(needs, measured, asked, months))


def _break_even(
    needs: Needs, measured: Measured, asked: tuple[float, ...], months: dict[str, tuple[float | None, ...]]
) -> tuple[float | None, str]:
    known = [
        (each, live < bulk)
        for each, live, bulk in zip(asked, months[REAL_TIME], months[BATCH], strict=True)
        if live is not None and bulk is not None
    ]
    if not known:
        return None, "batch cannot do this at any number of requests a day"
    turn = next((at for at in range(1, len(known)) if known[at][1] != known[at - 1][1]), None)
    if turn is None:
        return None, f"{REAL_TIME if known[0][1] else BATCH} costs less at any number of requests a day"
    low, high = known[turn - 1][0], known[turn][0]
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _live_is_cheaper(needs, measured, middle) == known[turn][1] else (middle, high)
    cheaper = REAL_TIME if known[turn][1] else BATCH
    return high, f"from {high:,.0f} requests a day on, {cheaper} costs less"


def _live_is_cheaper(needs: Needs, measured: Measured, requests: float) -> bool:
    live, bulk = costs(REAL_TIME, needs, measured, requests), costs(BATCH, needs, measured, requests)
    return bulk is None or (live is not None and live < bulk)
