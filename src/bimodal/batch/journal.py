"""Journal: what is done, a line an entry, each with a checksum of itself. A torn or damaged end counts as not written.

A line is a JSON array of the checksum (CRC-32, hexadecimal) and the entry: `["8d3fb2a1",{"mark":0,…}]`.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bimodal.batch.sinks.durable import sync_folder, write_all

VERSION = 1
BLOCK = 1 << 20


class Journal:
    """An append-only file. `add` may be called in several threads. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._adding = threading.Lock()

    def begin(self, head: Mapping[str, Any]) -> None:
        """A new journal with its first entry."""
        self.close()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        self.add(head)

    def go_on(self, end: int) -> None:
        """Go on behind the byte `end`; what stands after it is gone. Written anew, so that a page that an earlier
        process could not bring to the disk is not taken for one that is there.
        """
        self.close()
        anew = self.path.with_name(f"{self.path.name}.new")
        with open(self.path, "rb") as old, open(anew, "wb") as new:
            while block := old.read(min(BLOCK, end - new.tell())):
                new.write(block)
            new.flush()
            os.fsync(new.fileno())
        os.replace(anew, self.path)
        sync_folder(self.path.parent)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def add(self, entry: Mapping[str, Any]) -> None:
        """One entry, in one write."""
        assert self._file is not None, "begin comes first"
        line = encoded(entry)
        with self._adding:
            write_all(self._file, line)

    def sync(self) -> None:
        assert self._file is not None, "begin comes first"
        os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def entries(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Every entry, and the byte behind it, up to the first one that is not whole."""
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - closed by the with below
        except FileNotFoundError:
            return
        end = 0
        with file:
            for line in file:
                entry = decoded(line)
                if entry is None:
                    return
                end += len(line)
                yield entry, end

    def damaged(self) -> bool:
        """Whether it is broken as no kill and no power cut leaves it: behind a line that is not whole stands what was
        added when that line was durable (the first one is, once there is another; others at the second `synced`).
        """
        bad, later, durable = -1, 0, 0
        for number, entry in enumerate(self._lines()):
            if entry is None:
                bad = number if bad < 0 else bad
            elif bad >= 0:
                later += 1
                durable += "synced" in entry or "complete" in entry
        return later > 0 if bad == 0 else bad > 0 and durable > 1

    @property
    def headless(self) -> bool:
        """Whether there is a file, and its first entry cannot be read."""
        return self.path.exists() and next(self._lines(), None) is None

    def _lines(self) -> Iterator[dict[str, Any] | None]:
        try:
            with open(self.path, "rb") as file:
                yield from map(decoded, file)
        except FileNotFoundError:
            return


def encoded(entry: Mapping[str, Any]) -> bytes:
    """An entry as a line."""
    text = msgspec.json.encode(entry)
    return b'["%08x",%b]\n' % (zlib.crc32(text), text)


def decoded(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, None where the line is not as it was written."""
    text = line[12:-2]
    if line != b'["%08x",%b]\n' % (zlib.crc32(text), text):
        return None
    entry: dict[str, Any] = msgspec.json.decode(text)
    return entry
