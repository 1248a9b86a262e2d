"""Habit: how long the calls of a model took of late, and from when on one that goes on is taken to hang.

Of a model that has had few calls, or whose calls vary much, nothing is concluded: those wait for their deadlines.
"""

from __future__ import annotations

from math import inf

MANY = 50  # calls by which a model is known
TIMES = 50.0  # how many times what was expected a call takes that hangs
FIRST, LAST = 0.25, 1.0  # seconds before which no call is taken to hang, where a deadline is near, and where none is
_FADE = 0.99  # of the longest call, with each that follows


class Habit:
    """Of one model. The longest call counts, not the mean: one that is slow at times is not taken to hang for it."""

    def __init__(self) -> None:
        self._calls = 0
        self._longest = 0.0

    def took(self, seconds: float) -> None:
        """A call has ended with an answer."""
        self._calls += 1
        self._longest = max(seconds, _FADE * self._longest)

    def limit(self, expected: float, left: float) -> float:
        """Seconds after which a call hangs. expected: what its cost says; left: seconds to its first deadline."""
        if self._calls < MANY:
            return inf
        return max(TIMES * max(expected, self._longest), min(LAST, max(FIRST, left / 2)))
