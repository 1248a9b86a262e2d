"""Folders that others may write into, and copies of them that nobody else can.

What was checked in a folder may be another file by the time it is loaded. Where its owner alone (or the system's) may
change a folder there is nobody to do so who could not do worse; where others may, a copy is checked, and loaded.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path


class Copy:
    """A folder of mode 0700 with the same files; it goes when nothing refers to it any more."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """names: of the files in it, as relative paths. Raises OSError."""
        self.path = Path(tempfile.mkdtemp(prefix="bimodal-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        for name in names:
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, place, follow_symlinks=False)


def is_exposed(folder: Path, names: Iterable[str]) -> bool:
    """Whether anybody but this user and the system's own may put another file in the place of one of these.

    names: relative paths of files. Looked at are they, the folders that they stand in, and all folders above.
    """
    places = {folder / name for name in names}
    folders = {parent for place in places for parent in place.parents} | {folder}
    return any(_is_open(each) for each in places) or any(_is_open(each) for each in folders)


def _is_open(place: Path) -> bool:
    found = place.lstat()
    if found.st_uid not in (0, os.geteuid()):
        return True
    shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX  # as /tmp: others may add, not replace
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not shared
