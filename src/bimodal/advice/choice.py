"""The choice: one mode of those that meet what is asked, and why, in a sentence.

The cheapest counts. Where others cost at most NEAR more, the one whose median answer comes in less than half the time
of all of theirs, and FELT sooner, counts; where none does, the one with the fewest parts: batch, real time, both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bimodal.advice.modes import BATCH, BOTH, REAL_TIME, Mode

NEAR = 1.10
FELT = 0.001  # seconds: what an answer must be sooner by to be worth more parts
ORDER = (BATCH, REAL_TIME, BOTH)


@dataclass(frozen=True)
class Choice:
    """name: of the mode; None where no mode meets all that is asked."""

    name: str | None
    reason: str


def choose(modes: Sequence[Mode]) -> Choice:
    good = [mode for mode in modes if mode.meets]
    if not good:
        told = "; ".join(f"{mode.name}: {mode.misses[0]}" for mode in modes)
        return Choice(None, f"No mode meets all that is asked: {told}.")
    least = min(mode.month.number for mode in good)
    near = sorted((mode for mode in good if mode.month.number <= NEAR * least), key=lambda m: ORDER.index(m.name))
    quick = _quickest(near)
    chosen = quick or near[0]
    return Choice(chosen.name, _reason(chosen, near, modes, quick is not None))


def _quickest(near: Sequence[Mode]) -> Mode | None:
    """The one that answers so much sooner than all the others; None where none does."""
    timed = sorted((mode for mode in near if mode.p50.value is not None), key=lambda mode: mode.p50.number)
    if len(timed) < 2:
        return None
    first, second = timed[0].p50.number, timed[1].p50.number
    return timed[0] if first < second / 2 and second - first > FELT else None


def _reason(chosen: Mode, near: Sequence[Mode], modes: Sequence[Mode], quick: bool) -> str:
    others = [mode for mode in modes if mode is not chosen]
    price = f"it costs {chosen.month.number:,.2f} a month"
    if quick:
        quicker = "its median answer comes in less than half the time"
        why = f"{price}, about as much as {_names(near, chosen)}, and {quicker}"
    elif len(near) > 1:
        why = f"{price}, about as much as {_names(near, chosen)}, with fewer parts to run"
    else:
        rivals = [f"{mode.name} {mode.month.number:,.2f}" for mode in others if mode.meets]
        why = price + (f" ({', '.join(rivals)})" if rivals else " and no other mode meets what is asked")
    failed = [f"{mode.name} does not: {mode.misses[0]}" for mode in others if not mode.meets]
    return f"It meets all that is asked; {why}" + "".join(f"; {each}" for each in failed) + "."


def _names(near: Sequence[Mode], chosen: Mode) -> str:
    return " and ".join(mode.name for mode in near if mode is not chosen)
