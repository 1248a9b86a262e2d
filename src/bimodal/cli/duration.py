"""Durations as they are shown."""

from __future__ import annotations


def shown(seconds: float) -> str:
    """1.52 ms, 4.7 µs, 23 ns."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
