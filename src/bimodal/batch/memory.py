"""Memory of a run: the proportional set size of this process and all that it started (Linux; elsewhere 0)."""

from __future__ import annotations

import os
import time
from pathlib import Path

PROC = Path("/proc")
EVERY = 0.5  # seconds between measurements


def held(process: int | None = None) -> int:
    """Bytes held by a process and its descendants, shared pages counted by share."""
    process = os.getpid() if process is None else process
    return _own(process) + sum(held(child) for child in _children(process))


def _own(process: int) -> int:
    try:
        for line in (PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0


def _children(process: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in (PROC / str(process) / "task").iterdir():
            found += [int(word) for word in (thread / "children").read_text().split()]
    except (OSError, ValueError):
        return found
    return found


class Peak:
    """What is held, measured now and then. bytes: the most so far; fresh: it was measured just now."""

    def __init__(self) -> None:
        self.bytes = self.now = 0
        self.fresh = False
        self._next = 0.0

    def look(self, *, now: bool = False) -> int:
        """Bytes held, measured unless that was done a moment ago."""
        self.fresh = now or time.monotonic() >= self._next
        if self.fresh:
            self.now = held()
            self.bytes = max(self.bytes, self.now)
            self._next = time.monotonic() + EVERY
        return self.now
