"""Retention: how long, and how much of, the prediction log is kept. The oldest whole files go first.

A thread looks once a minute. It knows the log's files by their place (MODEL/VERSION) and their name, and touches no
others: neither those that grow, which have another name, nor what somebody else has put there.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("bimodal.realtime")

LOOK = 60.0  # seconds between two looks
_ours = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]+-[0-9]+-[0-9a-f]{8}-[0-9]+\.parquet").fullmatch


@dataclass(frozen=True)
class Bound:
    """age: seconds since a file was finished; size: bytes of all files. None: as long, as much as there is."""

    age: float | None = None
    size: int | None = None

    def __bool__(self) -> bool:
        return self.age is not None or self.size is not None


class Retention:
    """Of one folder. deleted: how many files were, by this process."""

    def __init__(self, folder: Path, bound: Bound, look: float = LOOK) -> None:
        self.deleted = 0
        self._folder, self._bound, self._look = folder, bound, look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bimodal-prediction-log-keep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Delete no more. Blocks while a look is under way."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.tend(time.time())
            self._ended.wait(self._look)

    def tend(self, now: float) -> None:
        """Delete what is too old or too much."""
        files = whole(self._folder)
        total, count, freed = sum([size for _, size, _ in files]), 0, 0
        for finished, size, path in files:
            old = self._bound.age is not None and now - finished > self._bound.age
            if not old and (self._bound.size is None or total <= self._bound.size):
                break
            total -= size
            try:
                path.unlink()
            except FileNotFoundError:
                continue  # another worker was quicker
            except OSError as error:
                log.warning("a file of the prediction log cannot be deleted: %s: %s", path, error.strerror)
                continue
            count, freed = count + 1, freed + size
        if count:
            self.deleted += count
            told = "%d files of the prediction log in %s were deleted, %.1f MB: beyond what is kept"
            log.info(told, count, self._folder, freed / 1e6)


def whole(folder: Path) -> list[tuple[float, int, Path]]:
    """The finished files of a log, oldest first: when they were finished (seconds since 1970), bytes, path."""
    found = []
    for path in folder.glob("*/*/*.parquet"):
        if _ours(path.name):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                told = path.stat()
                found.append((told.st_mtime, told.st_size, path))
    return sorted(found)
