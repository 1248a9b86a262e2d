"""Desk: the one folder that may be written into while a model file is read, made for that file alone.

Libraries put down temporary files of their own while they read a model. Those go here, since the folder for temporary
files is this one meanwhile; everybody else's files, in the usual one, are out of reach.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "TMPDIR"  # where libraries that are no Python look

_kept: dict[Path, int] = {}  # those of this process that still stand, and the process that made each


@contextmanager
def laid() -> Iterator[None]:
    """For this block temporary files go into a new folder that nobody else may look into (mode 0700). What is left in
    it stays until the process ends: a model may need it. Where no folder can be made, nothing can be written.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="bimodal-load-")).resolve()
    except OSError:
        yield
        return
    before, told = tempfile.tempdir, os.environ.get(VARIABLE)
    _kept[folder] = os.getpid()
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
            _kept.pop(folder, None)


def is_on(place: Path) -> bool:
    """Whether this place, resolved, is in such a folder of this process."""
    return any(place.is_relative_to(each) for each in _kept)


def clear() -> None:
    """Remove what is left, at the end of the process that made it; a fork leaves it to its mother."""
    for folder in [each for each, process in _kept.items() if process == os.getpid()]:
        _remove(folder)


def _remove(folder: Path) -> None:
    _kept.pop(folder, None)
    shutil.rmtree(folder, ignore_errors=True)


atexit.register(clear)
