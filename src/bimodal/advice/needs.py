"""Needs: what is asked of the model, given or assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bimodal.advice.figure import Figure, assumed, given
from bimodal.errors import UsageError

DAY = 86_400.0
REQUESTS = 100_000.0  # a day, where nothing is said of what is needed
LATENCY = 1.0  # seconds within which a request about a row that nobody knew before is answered, where nothing is said
PEAK = 3.0
CORE_PRICE = 0.05  # an hour of one core, in whatever the prices are told in


@dataclass(frozen=True)
class Needs:
    """requests: live answers a day; None where only a data set is to be scored. rows: of one batch. keys: how many the
    live answers are about. latency: wanted p99, seconds. freshness: how old an answer may be, seconds. price: of an
    hour of a machine like this one. peak: the busiest time's rate, as a multiple of the mean. None: nothing is asked.
    """

    requests: Figure | None
    rows: Figure | None
    keys: Figure | None
    latency: Figure | None
    freshness: Figure | None
    price: Figure
    peak: Figure

    @classmethod
    def read(
        cls,
        cores: int,
        *,
        requests_per_day: float | None = None,
        rows: int | None = None,
        keys: int | None = None,
        latency: float | None = None,
        freshness: float | None = None,
        price_per_hour: float | None = None,
        peak_factor: float | None = None,
    ) -> Needs:
        """What the user said; what was not said and is needed is assumed. Raises UsageError for what cannot be."""
        if keys is not None and requests_per_day is None:
            raise UsageError("--keys says what live answers are about: say how many with --requests-per-day N")
        requests = _given("requests_per_day", requests_per_day, "requests/day")
        if requests is None and rows is None:
            requests = assumed(REQUESTS, "requests/day", "nothing was said of what is needed")
        price = _given("price_per_hour", price_per_hour, "per hour", zero=True)
        peak = _given("peak_factor", peak_factor, "×")
        if peak is not None and peak.number < 1:
            raise UsageError("--peak-factor is the busiest time's rate over the mean one: 1 at least")
        return cls(
            requests,
            _given("rows", rows, "rows"),
            _given("keys", keys, "keys"),
            _given("latency", latency, "s"),
            _given("freshness", freshness, "s"),
            price or assumed(CORE_PRICE * cores, "per hour", f"{CORE_PRICE:g} an hour for each of {cores} cores"),
            peak or assumed(PEAK, "×", "the busiest time's rate over the mean one"),
        )

    @property
    def known(self) -> Figure | None:
        """The rows that a batch scores before anybody asks."""
        return self.rows or self.keys

    @property
    def coverage(self) -> Figure:
        """The share of the live answers that are about a row of the batch."""
        if self.requests is None:
            return given(1.0, "share", "no live answers are asked for")
        if self.keys is None or self.known is None:
            return assumed(0.0, "share", "no keys were given, so every request is taken to be about a new row")
        share = min(1.0, self.known.number / self.keys.number)
        return assumed(share, "share", "requests are taken to be spread evenly over the keys")

    def told(self) -> dict[str, Any]:
        return {**vars(self), "coverage": self.coverage}


def _given(name: str, value: float | None, unit: str, *, zero: bool = False) -> Figure | None:
    if value is None:
        return None
    flag = f"--{name.replace('_', '-')}"
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise UsageError(f"{flag} {value:g} cannot be: give a number above 0")
    return given(float(value), unit, flag)
