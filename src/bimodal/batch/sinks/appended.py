"""Appended: a file that only grows, of which a known part is believed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK = 1 << 20


class Appended:
    """A file to append to. end: the byte behind what is done. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        self._file: int | None = None
        self._changed = False

    def open(self, end: int = 0) -> None:
        """Go on behind this byte; what stands after it is taken away."""
        self.close()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self._file, end)
        self.end, self._changed = end, True

    def add(self, data: bytes | memoryview) -> None:
        """Write behind the end."""
        assert self._file is not None, "open comes first"
        view = memoryview(data).cast("B")
        while view:
            self._changed = True
            written = os.pwrite(self._file, view, self.end)
            self.end += written
            view = view[written:]

    def again(self, start: int) -> None:
        """Write what stands from there on once more: an earlier process may have been told that the disk did not take
        it, and no later fsync would say so.
        """
        assert self._file is not None, "open comes first"
        while start < self.end:
            block = os.pread(self._file, min(BLOCK, self.end - start), start)
            start += os.pwrite(self._file, block, start)

    def sync(self) -> None:
        """In any thread."""
        assert self._file is not None, "open comes first"
        if self._changed:
            self._changed = False  # before: what is added meanwhile counts for the next time
            os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def size(self) -> int:
        """Of what stands there, believed or not."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def holds(self, start: int, end: int, checksum: int) -> bool:
        """Whether the bytes between stand there as they were written."""
        if self.size < end:
            return False
        found = 0
        for block in self.blocks(start, end):
            found = zlib.crc32(block, found)
        return found == checksum

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes between, a block at a time."""
        if start == end:
            return
        with open(self.path, "rb") as file:
            file.seek(start)
            while start < end and (block := file.read(min(BLOCK, end - start))):
                start += len(block)
                yield block
