"""What a peer may ask of a connection without any use to itself: so much at once, so much a second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Budget:
    """Pays for nuisances. It fills up with time and with what the peer did of use, to `most` and no further."""

    def __init__(self, most: float, rate: float, clock: Callable[[], float] = monotonic) -> None:
        """rate: a second."""
        self._most = self._left = most
        self._rate = rate
        self._clock = clock
        self._then = clock()
        self._useful = 0

    def spend(self, useful: int) -> bool:
        """Pay for one; False where nothing is left. useful: all that was of use so far."""
        now = self._clock()
        gained = (now - self._then) * self._rate + useful - self._useful
        self._left = min(self._most, self._left + gained) - 1
        self._then, self._useful = now, useful
        return self._left >= 0
