"""Processes as Linux tells of them in /proc: whether one lives, its memory and processor time, its children.

https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html. Elsewhere nothing is told.

Whoever reads /metrics asks for it, as long as the server runs. Places are plain strings: pathlib interns each part of a
path, and Python makes its table of interned strings (2 MiB in a server) anew when enough of them have come and gone,
which leaves holes in the heap.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

PROC = "/proc"
# places in /proc/PID/stat, counted from the state, which stands behind the name in brackets
_STATE, _TIME, _REAPED, _BORN, _PAGES = 0, slice(11, 13), slice(13, 15), 19, 21


@dataclass(frozen=True)
class Usage:
    """cpu, reaped: seconds, its own and that of children that have ended. memory: bytes. born: ticks since the start of
    the machine; with the process id it names one process for good.
    """

    born: int
    cpu: float
    reaped: float
    memory: int


def usage(pid: int) -> Usage | None:
    """Of a process; None where it is gone, or nothing can be known."""
    try:
        fields = _read(f"{PROC}/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return None
    if fields[_STATE] in "ZX":
        return None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return Usage(
        int(fields[_BORN]),
        sum(map(int, fields[_TIME])) / ticks,
        sum(map(int, fields[_REAPED])) / ticks,
        int(fields[_PAGES]) * page,
    )


def lives(pid: int, born: int) -> bool:
    """Whether the process that began then is still there. Where nothing can be known it is taken to be."""
    if not os.path.isdir(PROC):
        return True
    found = usage(pid)
    return found is not None and found.born == born


def children(pid: int) -> list[int]:
    """The processes that are there now of those that it started, and that these started (forks of a loaded one)."""
    found: list[int] = []
    with suppress(OSError):  # it ended meanwhile, or this system does not tell
        for task in os.listdir(f"{PROC}/{pid}/task"):
            with suppress(OSError):
                found += map(int, _read(f"{PROC}/{pid}/task/{task}/children").split())
    return [*found, *(below for each in found for below in children(each))]


def _read(file: str) -> str:
    with open(file) as opened:
        return opened.read()
