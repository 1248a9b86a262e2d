"""Heap: what many closed connections leave free is given back to the system.

A TLS connection has a buffer of 256 KiB, of which it touches the first pages. When many were open at once, the C
library keeps what they leave as free pieces of its heap, and the next ones touch other pages of it: the process would
grow from round to round, up to all of those buffers (some 400 MB after rounds of 1,500).
"""

from __future__ import annotations

import ctypes
import sys
import threading

FALL = 256  # connections that are fewer than at most since the last time
PAUSE = 10.0  # seconds between two times


class Heap:
    """Looked at by the sweep; `trim` takes some 15 ms for what 1,500 connections have left, in a thread of its own."""

    def __init__(self) -> None:
        self._most = 0
        self._next = 0.0

    def look(self, connections: int, now: float) -> None:
        """connections: how many are open."""
        self._most = max(self._most, connections)
        if self._most - connections >= FALL and now >= self._next:
            self._most, self._next = connections, now + PAUSE
            threading.Thread(target=trim, name="bimodal-heap", daemon=True).start()


def trim() -> None:
    """Give the free pages of the heap back, where the C library can (glibc)."""
    if sys.platform.startswith("linux"):
        give = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if give is not None:
            give(0)
