"""What the process of a model does to itself before it loads anything, so that it harms nothing beside it.

It ends with its parent, also where native code holds it up; it leaves no core dump (which would hold rows); it cannot
gain rights that it was not given (set-user-id programs); where the system runs out of memory, it goes before the
process that holds the callers' connections.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from bimodal.runtimes import memory

if sys.platform != "win32":
    import resource

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_GOES_FIRST = b"500"  # of -1000 to 1000, what is added to its share of memory when the system looks for a victim
_ORPHANED = 2.0  # seconds between looks whether the parent is still there, where the system does not tell
_SPARE = 64 * 2**20  # bytes of address space that libraries take beyond what they use


def confine() -> None:
    """Once, at the start of the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not everywhere, and not needed for anything else
        Path("/proc/self/oom_score_adj").write_bytes(_GOES_FIRST)
    end_with(os.getppid())
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def end_with(parent: int) -> None:
    """End when the parent does. On Linux the kernel sees to it; elsewhere a thread, which native code can hold up."""
    if not sys.platform.startswith("linux"):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it ended before the call


def bound(allowed: int | None) -> None:
    """Let the process take no more memory than what is left of `allowed` bytes, from now on: a request for more fails
    at once, before the memory is touched. What libraries have reserved by now does not count.
    """
    if allowed is None or not sys.platform.startswith("linux"):
        return
    held, reserved = memory.held(os.getpid()), memory.reserved(os.getpid())
    if held is not None and reserved is not None:
        most = reserved + max(0, allowed - held) + _SPARE
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHANED)
    os._exit(0)
