"""Rounds: as many as are wanted, and as there is time for; one at least."""

from __future__ import annotations

import time
from collections.abc import Iterator


def rounds(seconds: float, most: int) -> Iterator[int]:
    """Numbers from 0; ends before a round that would not fit into the seconds, by the longest one so far."""
    began, longest = time.monotonic(), 0.0
    for number in range(most):
        started = time.monotonic()
        if number and started - began + longest > seconds:
            return
        yield number
        longest = max(longest, time.monotonic() - started)
