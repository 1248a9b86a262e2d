"""Whether this process can be forked as it is, and its fork.

A fork has the memory of its parent, but only one of its threads, and shares every open file and connection with it. So
a process is forked only where it has no other thread, and no file open that it did not have at its start: libraries
with thread pools (OpenMP with several threads, PyTorch after its first call, TensorFlow), devices (CUDA), and models
that hold a connection to a database are started anew instead.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from pathlib import Path

from bimodal.formats import desk
from bimodal.runtimes import confine

_DEVICES = ("/dev/nvidia", "/dev/dri/", "/dev/kfd")
_HARMLESS = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")


class Forking:
    """Made at the start of the process, when nothing is open yet but what it was given."""

    def __init__(self) -> None:
        self._given = set(_open())
        self._frozen = False

    def hindrance(self) -> str:
        """Why this process cannot be forked; empty where it can."""
        if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
            return "this system has no forks that can be watched"
        with contextlib.suppress(OSError):
            threads = len(os.listdir("/proc/self/task"))
            if threads > 1:
                return f"its libraries have started {threads - 1} threads"
            opened = [each for fd, each in _open().items() if fd not in self._given and not _is_harmless(each)]
            return f"it holds {len(opened)} files or connections open" if opened else ""
        return "this system does not tell of its threads"

    @staticmethod
    def device() -> bool:
        """Whether the process uses a device with memory of its own."""
        with contextlib.suppress(OSError):
            return any(place.startswith(_DEVICES) for place in _open().values())
        return False

    def fork(self) -> int:
        """0 in the new process, which ends with this one."""
        if not self._frozen:
            self._frozen = True
            gc.collect()
            gc.freeze()  # collections of the forks shall not write on what they share
        sys.stdout.flush()
        sys.stderr.flush()
        mother = os.getpid()
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)  # a group of its own, as its mother has
            confine.end_with(mother)
        return pid


def _is_harmless(place: str) -> bool:
    """The lock on the folder of a file that was read is the forks' too: the files in it are."""
    return place in _HARMLESS or desk.is_on(Path(place))


def _open() -> dict[int, str]:
    """What each open file is."""
    found: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself, which is closed by now
            found[int(entry.name)] = os.readlink(entry)
    return found
