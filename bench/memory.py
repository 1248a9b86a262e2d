"""A command's time and peak memory, over all of its processes."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

PAUSE = 0.1  # seconds between two looks


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds; the largest sum of the processes' proportional set sizes that was seen, in bytes; seconds of
    all cores together, which a busy machine disturbs least.
    """

    seconds: float
    peak: int
    cpu: float


def watch(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end; a failure ends the comparison with what the command said."""
    started, used = time.perf_counter(), _used()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ended, peak = Event(), [0]

    def look() -> None:
        while not ended.wait(PAUSE):
            peak[0] = max(peak[0], proportional_size(process.pid))

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    _, said = process.communicate()
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Cost(seconds, peak[0], _used() - used)


def _used() -> float:
    """Processor seconds of all children that have ended, and of theirs that they waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def proportional_size(session: int) -> int:
    """Bytes in use by the session's processes and their descendants, shared pages counted once (Linux)."""
    return sum(_pss(process) for process in family(session))


def family(session: int) -> set[int]:
    """The processes of a session, and whatever they started in sessions of its own."""
    parents, family = {}, {session}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent, belongs = _kin(entry)
            parents[int(entry.name)] = parent
            if belongs == session:
                family.add(int(entry.name))
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return family


def _kin(process: Path) -> tuple[int, int]:
    """The parent and the session of a process; zeros when it has just ended."""
    try:
        fields = process.joinpath("stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[1]), int(fields[3])


def _pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # ended between two looks
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
