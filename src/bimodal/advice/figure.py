"""Figure: a number with its unit, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Origin = Literal["measured", "derived", "given", "assumed"]


@dataclass(frozen=True)
class Figure:
    """value: in `unit`; None where there is none, and `how` says why.

    origin: measured here; derived from measured, given and assumed ones; given by the user; or assumed. how: in words.
    noise: half of the spread of the rounds, as a share of their median; None where there was one round or none.
    rounds: how many were measured.
    """

    value: float | None
    unit: str
    origin: Origin
    how: str = ""
    noise: float | None = None
    rounds: int = 0

    @property
    def number(self) -> float:
        """The value, where it is known that there is one."""
        assert self.value is not None
        return self.value


def measured(values: Sequence[float], unit: str, how: str) -> Figure:
    """The median of the rounds."""
    middle = median(values)
    noise = (max(values) - min(values)) / 2 / middle if len(values) > 1 and middle else None
    return Figure(middle, unit, "measured", how, noise, len(values))


def derived(value: float, unit: str, how: str) -> Figure:
    return Figure(value, unit, "derived", how)


def assumed(value: float, unit: str, how: str) -> Figure:
    return Figure(value, unit, "assumed", how)


def given(value: float, unit: str, how: str) -> Figure:
    return Figure(value, unit, "given", how)


def absent(unit: str, why: str) -> Figure:
    return Figure(None, unit, "derived", why)
