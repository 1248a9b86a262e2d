"""Keys that had no result, and rows that have changed since they were scored: collected by the server for the next run.

A file of JSON Lines a worker process, `collected/WORKER-PID.jsonl` in the store's folder. A run takes what is there by
moving the files to `collected/taken/RUN/`, where an attempt that comes again finds the same, and clears them when its
edition is current. What a run took and never cleared goes to the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bimodal.errors import SourceError

log = logging.getLogger("bimodal.predictions")

FOLDER, TAKEN = "collected", "taken"
PART = ".part"
KEYS = 100_000  # remembered by a process: a key is written once
SIZE = 64 << 20  # bytes of one file; what comes after is not collected
ROW = 64 << 10  # bytes of one row; a longer one is left out, its key stays


class Line(msgspec.Struct):
    """One entry. reason: miss or changed. row: as it was sent, if it was. at: seconds since the epoch."""

    key: int | str
    reason: str
    at: float
    row: dict[str, Any] | list[Any] | None = None


class Collector:
    """Collects in one process. `add` keeps in memory, `flush` writes; an entry that is not written is lost with the
    process. Keys beyond the limits are counted, not kept.
    """

    def __init__(
        self, folder: str | os.PathLike[str], worker: int, *, keys: int = KEYS, size: int = SIZE, row: int = ROW
    ) -> None:
        self._folder = Path(folder) / FOLDER
        self._path = self._folder / f"{worker}-{os.getpid()}.jsonl"
        self._keys, self._size, self._row = keys, size, row
        self._known: dict[int | str, int] = {}
        self._waiting: list[bytes] = []
        self._written = self._inode = 0
        self._encode = msgspec.json.Encoder().encode
        self.dropped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, key: int | str, reason: str, row: Any = None, mark: int = 0) -> None:
        """mark: the row's fingerprint: a key comes again only with another row."""
        known = self._known.get(key)
        if known is not None and (row is None or known == mark):
            return
        if known is None and len(self._known) >= self._keys:
            self.dropped += 1
            return
        line = self._encode(Line(key, reason, time.time(), row))
        if len(line) > self._row:
            line = self._encode(Line(key, reason, time.time()))
        if self._written + len(line) > self._size or len(line) > self._row:
            self.dropped += 1
            return
        self._known[key] = mark
        self._written += len(line) + 1
        self._waiting.append(line)

    def flush(self) -> None:
        """Write what was added. Trouble is told in the log: no request fails for it."""
        if not self._waiting:
            return
        lines, self._waiting = self._waiting, []
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._append(b"\n".join(lines) + b"\n")
        except OSError as error:
            self.dropped += len(lines)
            log.error("%d keys for the next run could not be written: %s", len(lines), error.strerror)

    def _append(self, data: bytes) -> None:
        while True:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if not self._still_there(handle):
                    continue  # a run took the file between opening and locking
                inode = os.fstat(handle).st_ino
                if inode != self._inode:  # a file of its own after a run took the last one: all begins anew
                    self._inode, self._written = inode, len(data)
                    self._known.clear()
                os.write(handle, data)
                return
            finally:
                os.close(handle)

    def _still_there(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self._path))
        except FileNotFoundError:
            return False


def take(folder: str | os.PathLike[str], run: str) -> list[Line]:
    """What the next run is to score too: the latest of each key. The same again for the same run, until `clear`."""
    base = Path(folder) / FOLDER
    if not base.is_dir():
        return []
    try:
        return _read(_taken(base, run))
    except OSError as error:
        raise SourceError(f"the keys collected in {base} cannot be read: {error.strerror}") from error


def clear(folder: str | os.PathLike[str], run: str) -> None:
    """The run's edition is current: what it took is done."""
    shutil.rmtree(Path(folder) / FOLDER / TAKEN / run, ignore_errors=True)


def _taken(base: Path, run: str) -> Path:
    """The folder with what the run took. It is complete when it has its name."""
    place = base / TAKEN / run
    if place.is_dir():
        return place
    started = place.with_name(run + PART)
    started.mkdir(parents=True, exist_ok=True)
    for other in (base / TAKEN).iterdir():  # what earlier runs have left
        if other != started:
            for path in other.iterdir():
                path.rename(started / f"{other.name}-{path.name}")
            with contextlib.suppress(OSError):
                other.rmdir()
    for path in sorted(base.glob("*.jsonl")):
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # whoever writes has ended, and sees that the file is another one
            path.rename(started / f"{time.time_ns()}-{path.name}")
    started.rename(place)
    return place


def _read(place: Path) -> list[Line]:
    """The latest entry of each key; one with a row counts more than one without."""
    found: dict[int | str, Line] = {}
    decode = msgspec.json.Decoder(Line).decode
    for path in sorted(place.iterdir()):
        for text in path.read_bytes().split(b"\n"):
            try:
                line = decode(text)
            except msgspec.DecodeError:
                continue  # cut off by a crash, or empty
            last = found.get(line.key)
            if last is None or (line.at >= last.at and (line.row is not None or last.row is None)):
                found[line.key] = line
    return list(found.values())


def as_rows(lines: list[Line]) -> list[tuple[int | str, Mapping[str, Any] | list[Any]]]:
    """Those that can be scored: key and row."""
    return [(line.key, line.row) for line in lines if line.row is not None]
