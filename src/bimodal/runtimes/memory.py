"""Memory: what a process holds, what the machine (or the container) has, and what of it is free. All in bytes.

It is asked at each load. Places are plain strings, as in `realtime/processes.py`.
"""

from __future__ import annotations

import re

SHARE = 0.75  # of all memory, that one model may hold unless `model_memory` says otherwise
_HELD = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB", re.MULTILINE)
_RESERVED = re.compile(rb"^VmData:\s+(\d+) kB", re.MULTILINE)
_SHARED = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_MACHINE = re.compile(r"^(MemTotal|MemAvailable):\s+(\d+) kB", re.MULTILINE)
_CACHED = re.compile(rb"^(?:total_)?inactive_file (\d+)$", re.MULTILINE)
_GROUPS = "/sys/fs/cgroup"
_NO_LIMIT = 1 << 60  # as version 1 writes it


def held(pid: int) -> int | None:
    """What a process holds that nobody can take back: not the pages of files that it maps, such as a model's weights.
    None where that cannot be seen.
    """
    return _sum(_HELD, _read(f"/proc/{pid}/status"))


def reserved(pid: int) -> int | None:
    """Private memory that a process may write, whether it has done so or not."""
    return _sum(_RESERVED, _read(f"/proc/{pid}/status"))


def proportional(pid: int) -> int | None:
    """What a process holds, a page that n share counted as 1/n."""
    return _sum(_SHARED, _read(f"/proc/{pid}/smaps_rollup"))


def total() -> int | None:
    """What there is: of the machine, or of the container where that has less."""
    found = [each for each in (_machine("MemTotal"), *(most for most, _ in _groups())) if each is not None]
    return min(found, default=None)


def free() -> int | None:
    """What of it is left."""
    found = [_machine("MemAvailable"), *(most - used for most, used in _groups())]
    return min([each for each in found if each is not None], default=None)


def allowed(given: int | None) -> int | None:
    """What a model may hold: as given, else SHARE of what there is."""
    if given is not None:
        return given
    everything = total()
    return None if everything is None else int(everything * SHARE)


def told(size: int) -> str:
    """A size in words."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def _machine(name: str) -> int | None:
    text = (_read("/proc/meminfo") or b"").decode("ascii", "replace")
    return next((int(size) * 1024 for found, size in _MACHINE.findall(text) if found == name), None)


def _groups() -> list[tuple[int, int]]:
    """The limits of the control groups that this process is in, and what they have taken, in both their versions."""
    found = []
    for line in (_read("/proc/self/cgroup") or b"").decode("utf-8", "replace").splitlines():
        _, kinds, place = line.split(":", 2)
        if kinds == "":
            files = ("memory.max", "memory.current", _GROUPS)
        elif "memory" in kinds.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", f"{_GROUPS}/memory")
        else:
            continue
        limit, used, root = files
        # in a container, its own group is often the root of what is seen
        for folder in {root + place.rstrip("/"), root}:
            most, taken = _number(f"{folder}/{limit}"), _number(f"{folder}/{used}")
            if most is not None and taken is not None and most < _NO_LIMIT:
                found.append((most, taken - _given_back(folder)))
    return found


def _given_back(folder: str) -> int:
    """What a group gives back when memory is short: files that were read and are not in use."""
    found = _CACHED.search(_read(f"{folder}/memory.stat") or b"")
    return int(found[1]) if found else 0


def _number(path: str) -> int | None:
    data = (_read(path) or b"").strip()
    return int(data) if data.isdigit() else None


def _sum(pattern: re.Pattern[bytes], data: bytes | None) -> int | None:
    found = pattern.findall(data or b"")
    return sum(map(int, found)) * 1024 if found else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
