"""What follows from the figures: machines, costs and the recommended mode, as the rules in docs/advise.md say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.advice.choice import choose
from bimodal.advice.curves import Curves
from bimodal.advice.modes import BATCH, BOTH, REAL_TIME, Mode, costs, modes
from bimodal.advice.needs import DAY, Needs
from bimodal.errors import UsageError
from tests.advice.scenes import machine

SLOW = machine(rate=10, one=0.15, crowded=0.4, rows=100)  # 20 requests/s of the whole machine
QUICK = machine(rate=50_000, one=2e-4, crowded=2e-3, rows=1e6, start=1.0)


def needs(**told: Any) -> Needs:
    return Needs.read(2, **{"price_per_hour": 1.0, **told})


def of(name: str, wanted: Needs, measured: Any) -> Mode:
    return next(mode for mode in modes(wanted, measured) if mode.name == name)


@pytest.mark.parametrize(
    ("wanted", "measured", "chosen"),
    [
        # an answer may not be older than a run needs to start
        ({"requests_per_day": 1e5, "keys": 10_000, "freshness": 0.5}, machine(), REAL_TIME),
        # the rows come with the requests
        ({"requests_per_day": 1e5}, machine(), REAL_TIME),
        ({"requests_per_day": 1e5, "latency": 0.1, "freshness": DAY}, machine(), REAL_TIME),
        # known keys, once a day, few lookups, nobody waits
        ({"requests_per_day": 1000, "keys": 100_000, "freshness": DAY}, machine(), BATCH),
        # a data set alone
        ({"rows": 10_000_000, "freshness": DAY}, machine(), BATCH),
        ({"rows": 10_000_000}, machine(), BATCH),
        # requests that may wait an hour are collected
        ({"requests_per_day": 1e5, "latency": 3600}, machine(), BATCH),
        # most keys known, live features for the new ones, and the model is slow
        ({"requests_per_day": 1e7, "keys": 1_000_000, "rows": 950_000, "freshness": DAY, "latency": 1.0}, SLOW, BOTH),
        ({"requests_per_day": 1e6, "keys": 100_000, "latency": 0.05, "freshness": DAY}, machine(crowded=1.0, one=0.5),
         BOTH),
        # one quick machine does it all: nothing else is worth its parts
        ({"requests_per_day": 1e6, "keys": 1_000_000, "freshness": DAY, "latency": 0.1}, QUICK, REAL_TIME),
        # a wanted p99 that no load keeps, and rows that nobody knows before
        ({"requests_per_day": 1e5, "latency": 0.0001}, machine(), None),
        # fresher than a run, quicker than the model
        ({"requests_per_day": 1e5, "keys": 10, "latency": 0.001, "freshness": 1.0}, machine(), None),
    ],
)  # fmt: skip
def test_the_recommendation_follows_the_rules(wanted: dict[str, Any], measured: Any, chosen: str | None) -> None:
    asked = needs(**wanted)
    choice = choose(modes(asked, measured))
    assert choice.name == chosen, choice.reason
    assert choice.reason.endswith(".")
    assert choice.reason.startswith("It meets" if chosen else "No mode meets")


amounts = st.floats(1, 1e9)


@given(
    st.none() | amounts, st.none() | st.integers(1, 10**9), st.none() | st.integers(1, 10**9),
    st.none() | st.floats(1e-5, 1e5), st.none() | st.floats(1e-2, 1e7), st.floats(1, 50),
    st.builds(machine, rate=st.floats(1, 1e5), one=st.floats(1e-5, 1), crowded=st.floats(1e-5, 1),
              rows=st.floats(10, 1e7), start=st.floats(0.1, 60), cores=st.integers(1, 64)),
)  # fmt: skip
def test_no_recommendation_misses_what_is_asked(
    requests: float | None, rows: int | None, keys: int | None, latency: float | None, freshness: float | None,
    peak: float, measured: Any,
) -> None:  # fmt: skip
    """Judged from the figures themselves, not from what the mode says of itself."""
    asked = needs(
        requests_per_day=requests, rows=rows, keys=keys if requests else None, latency=latency, freshness=freshness,
        peak_factor=peak,
    )  # fmt: skip
    found = modes(asked, measured)
    choice = choose(found)
    if choice.name is None:
        assert not any(mode.meets for mode in found)
        return
    chosen = next(mode for mode in found if mode.name == choice.name)
    if freshness is not None:
        assert chosen.freshness.number <= freshness * (1 + 1e-9)
    if latency is not None and asked.requests is not None and chosen.p99.value is not None:
        assert chosen.p99.value <= latency * (1 + 1e-9)
    if latency is not None and chosen.p99.value is None and asked.requests is not None:
        assert latency >= chosen.freshness.number
    if chosen.name != BATCH and asked.requests is not None:
        peak_rate = asked.requests.number / DAY * peak
        assert chosen.machines.number * chosen.throughput.number >= peak_rate * (1 - 1e-6)
    if asked.requests is not None and asked.coverage.number < 1 and chosen.name == BATCH:
        assert chosen.p99.number <= (latency or 1.0) * (1 + 1e-9)
    others = [mode for mode in found if mode.meets]
    assert chosen.month.number <= 1.1 * min(mode.month.number for mode in others)


def test_the_cost_of_a_server_is_that_of_its_machines() -> None:
    mode = of(REAL_TIME, needs(requests_per_day=86_400 * 3000, peak_factor=2), machine(rate=1000))
    assert mode.throughput.value == 2000
    assert mode.machines.value == 3
    assert mode.month.value == 3 * 730
    assert mode.idle.value == 730
    assert mode.per_million.number == pytest.approx(3 * 730 / (86.4 * 3000 / 1000 * 365 / 12))


def test_the_cost_of_runs_is_that_of_their_time() -> None:
    mode = of(BATCH, needs(rows=10_000_000, freshness=DAY), machine(rows=100_000, start=2.0))
    assert mode.month.number == pytest.approx(102 / (DAY - 102) * 730)  # a run of 102 s, the next begins in time
    assert mode.freshness.value == DAY


def test_a_run_that_is_too_long_for_one_machine_gets_more() -> None:
    mode = of(BATCH, needs(rows=10_000_000, freshness=60.0), machine(rows=100_000, start=2.0))
    assert mode.machines.value == 4  # 100 s of work in 28 s, beside 2 s of start, twice a minute
    assert mode.meets


def test_a_wanted_latency_takes_the_largest_load_that_keeps_it() -> None:
    measured = machine(rate=1000, one=0.005, crowded=0.05)
    assert of(REAL_TIME, needs(requests_per_day=1e3, latency=0.06), measured).throughput.value == 2000
    assert of(REAL_TIME, needs(requests_per_day=1e3, latency=0.01), measured).throughput.value == 400
    assert not of(REAL_TIME, needs(requests_per_day=1e3, latency=0.001), measured).meets


def test_a_load_with_refusals_is_none_that_can_be_kept() -> None:
    from dataclasses import replace

    measured = machine()
    alone, full = measured.live.loads
    busy = replace(measured.live, loads=(alone, replace(full, refused=0.2)))
    kept = busy.within(None)
    assert kept is not None
    assert kept[0] is alone


def test_the_break_even_is_where_both_cost_the_same() -> None:
    """Ten million rows scored each minute keep three machines busy; a server needs so many for many requests alone."""
    asked = needs(requests_per_day=1e5, keys=10_000_000, freshness=60.0)
    measured = machine(rate=100, rows=100_000)
    curves = Curves.of(asked, measured)
    assert curves.break_even is not None
    below, above = (
        [costs(name, asked, measured, curves.break_even * factor) or 0.0 for name in (REAL_TIME, BATCH)]
        for factor in (0.99, 1.01)
    )
    assert (below[0] < below[1]) != (above[0] < above[1])
    assert "requests a day on" in curves.told


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"latency": -1.0}, "--latency -1 cannot be"),
        ({"requests_per_day": 0}, "--requests-per-day 0 cannot be"),
        ({"rows": 0}, "--rows 0 cannot be"),
        ({"freshness": float("nan")}, "--freshness nan cannot be"),
        ({"price_per_hour": -2.0}, "--price-per-hour -2 cannot be"),
        ({"requests_per_day": 5, "peak_factor": 0.5}, "1 at least"),
        ({"keys": 5}, "with --requests-per-day N"),
    ],
)
def test_what_cannot_be_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Needs.read(2, **told)


def test_what_is_not_said_is_assumed_and_says_so() -> None:
    told = Needs.read(4)
    assert {told.price.origin, told.peak.origin, told.requests.origin if told.requests else ""} == {"assumed"}
    assert told.price.value == pytest.approx(0.2)
    assert needs(rows=5).requests is None
