"""The embedded store: one file an edition (see `layout`), mapped into memory by all who read it.

`current` beside the files is 8 bytes that all readers have mapped: the number of the edition that counts. One aligned
store flips it for all processes at once. An edition is written under a temporary name, made durable, read back,
renamed, and then only made current (see `embedded_writer`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from bimodal.predictions.contract import Edition, Found, StoreReader
from bimodal.predictions.layout import MOST, Damaged, File, Key, editions, log, name, whole

LOOK = 1.0  # seconds between two looks whether `current` is still the file that is mapped


class EmbeddedReader(StoreReader):
    """Reads what is current in a folder, from a mapping that all processes share. Where the folder is empty, or not
    there yet, there is no edition. The first edition is read once as a whole; those that come later were read back by
    their writer. A folder that was removed and written anew is noticed within a second.
    """

    prompt = True

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._file: File | None = None
        self._seen = 0  # the number that was current when we last looked
        self._map: mmap.mmap | None = None
        self._current: memoryview[int] | None = None
        self._place = (0, 0)  # device and inode of what is mapped
        self._look_at = monotonic() + LOOK
        self._refresh()
        if not whole(self._folder / name(self._seen)):
            self._fall_back()

    def edition(self) -> Edition | None:
        self._look_again()
        self._refresh()
        return None if self._file is None else self._file.edition

    def look(self, keys: Sequence[Key]) -> tuple[Edition | None, list[Found | None]]:
        if monotonic() > self._look_at:
            self._look_again()
        current = self._current
        if current is None or current[0] != self._seen:
            self._refresh()
        file = self._file
        if file is None:
            return None, [None] * len(keys)
        find = file.find
        return file.edition, [find(key) for key in keys]

    def find(self, key: Key) -> tuple[Edition | None, Found | None]:
        if monotonic() > self._look_at:
            self._look_again()
        current = self._current
        if current is None or current[0] != self._seen:
            self._refresh()
        file = self._file
        return (None, None) if file is None else (file.edition, file.find(key))

    def close(self) -> None:
        self._detach()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._folder = Path(os.devnull)  # nothing more is found there

    def _refresh(self) -> None:
        """Open the edition that counts, if it is another one. One that cannot be opened leaves the last in place."""
        if self._current is None:
            self._attach()
        if self._current is None or self._current[0] == self._seen:
            return
        number = self._current[0]
        try:
            opened = File(self._folder / name(number))
        except FileNotFoundError:
            if self._current[0] != number:
                self._refresh()  # it was replaced, and taken away, while we looked
                return
            self._refuse(number, "it is not there")
        except (OSError, Damaged) as error:
            self._refuse(number, str(error))
        else:
            if self._file is not None:
                self._file.close()
            self._file = opened
        self._seen = number

    def _refuse(self, number: int, why: str) -> None:
        log.error("edition %d in %s is not opened: %s; the last good one stays", number, self._folder, why)

    def _attach(self) -> None:
        """Map `current`, where there is one by now."""
        try:
            with open(self._folder / "current", "rb") as file:
                told = os.fstat(file.fileno())
                self._map = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # none yet, or not yet of its size
            return
        self._place = (told.st_dev, told.st_ino)
        self._current = memoryview(self._map).cast("Q")

    def _detach(self) -> None:
        if self._current is not None:
            self._current.release()
            self._current = None
        if self._map is not None:
            self._map.close()
            self._map = None

    def _look_again(self) -> None:
        """Leave a `current` that stands there no more for the one that does; until there is one, nothing changes."""
        self._look_at = monotonic() + LOOK
        if self._current is None:
            return
        try:
            told = os.stat(self._folder / "current")
        except OSError:
            return
        if (told.st_dev, told.st_ino) != self._place and told.st_size >= 8:
            self._detach()
            self._attach()
            self._seen = -1  # the same number may be another edition

    def _fall_back(self) -> None:
        """The one that counts is lost or damaged: the newest before it that is whole, or of all, where `current` names
        none.
        """
        if self._file is not None:
            self._refuse(self._seen, "it is damaged")
            self._file.close()
            self._file = None
        edge = self._seen if 0 < self._seen <= MOST else MOST
        for number, path in reversed(editions(self._folder)):
            if number < edge and whole(path):
                self._file = File(path)
                log.error("edition %d is answered instead", number)
                return
