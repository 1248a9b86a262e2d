"""Priority: a process that gives way to whatever else runs on the machine, and one that ends with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import sys
import threading
import time

PDEATHSIG = 1
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}  # the number of the system call, for which C has no function
IO_IDLE = 3 << 13
LOOKED = 1.0  # seconds between looks for the parent, where the system does not tell


def low() -> None:
    """A tenth of a core that others want too; children inherit it."""
    with contextlib.suppress(OSError):
        os.nice(10)


def idle() -> None:
    """Computing and disk when nobody else wants them, as far as the system can say so; children inherit it."""
    with contextlib.suppress(OSError):
        os.nice(19)
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, IO_IDLE)


def die_with(parent: int) -> None:
    """Have the system end this process when its parent (on Linux: the thread that started it) does."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)  # it ended before the call


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOKED)
    os._exit(1)
