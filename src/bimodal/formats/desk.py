"""Desk: the one folder that may be written into while a model file is read, made for that file alone.

Libraries put down temporary files of their own while they read a model. Those go here, since the folder for temporary
files is this one meanwhile; everybody else's files, in the usual one, are out of reach.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bimodal import private

VARIABLE = "TMPDIR"  # where libraries that are no Python look

_kept: dict[Path, tuple[int, int]] = {}  # those that still stand: the process that made each, and its lock's file


@contextmanager
def laid() -> Iterator[None]:
    """For this block temporary files go into a new folder that nobody else may look into (mode 0700). What is left in
    it stays until the process ends: a model may need it. Where no folder can be made, nothing can be written.
    """
    try:
        path, lock = private.made(private.DESK)
    except OSError:
        yield
        return
    folder = Path(path).resolve()
    before, told = tempfile.tempdir, os.environ.get(VARIABLE)
    _kept[folder] = os.getpid(), lock
    tempfile.tempdir = os.environ[VARIABLE] = str(folder)
    try:
        yield
    except BaseException:
        _remove(folder)
        raise
    finally:
        tempfile.tempdir = before
        if told is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = told
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
            _remove(folder)


def is_on(place: Path) -> bool:
    """Whether this place, resolved, is in such a folder of this process."""
    return any(place.is_relative_to(each) for each in _kept)


def clear() -> None:
    """Remove what is left, at the end of the process that made it; a fork leaves it to its mother."""
    for folder in [each for each, (process, _) in _kept.items() if process == os.getpid()]:
        _remove(folder)


def _remove(folder: Path) -> None:
    if folder in _kept:
        private.remove(str(folder), _kept.pop(folder)[1])


atexit.register(clear)
