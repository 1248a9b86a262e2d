"""Private: folders for temporary files that only this user can read.

Each is locked while its process lives. One whose process was killed keeps its files, but not its lock: whoever makes
the next one removes it. A lock tells that also between containers that share the folder for temporary files, where a
process id would not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

PREFIX = "bimodal-private-"
DESK = "bimodal-load-"  # of those that stand while a model file is read


class PrivateFolder:
    """One that goes when nothing refers to it any more."""

    def __init__(self) -> None:
        sweep()
        self.path, lock = made(PREFIX)
        weakref.finalize(self, remove, self.path, lock)


def sweep() -> None:
    """Remove those that are nobody's any more."""
    above = Path(tempfile.gettempdir())
    for place in (*above.glob(f"{PREFIX}*"), *above.glob(f"{DESK}*")):
        with contextlib.suppress(OSError):  # another user's, or in use
            if place.stat(follow_symlinks=False).st_uid == os.geteuid():
                remove(str(place), _locked(str(place)))


def made(prefix: str) -> tuple[str, int]:
    """A new one, and the file that holds its lock. Another process may have swept it before it was locked."""
    while True:
        path = tempfile.mkdtemp(prefix=prefix)  # mode 0700
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            lock = _locked_or_open(path)
            if os.path.isdir(path):
                return path, lock
            os.close(lock)


def _locked(path: str) -> int:
    """Raises BlockingIOError where another process has it locked."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        raise
    return number


def _locked_or_open(path: str) -> int:
    """Without a lock where the file system has none: nobody else gets one there either, and it is never swept."""
    try:
        return _locked(path)
    except BlockingIOError:
        raise
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def remove(path: str, lock: int) -> None:
    """Remove one, and give its lock back."""
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
