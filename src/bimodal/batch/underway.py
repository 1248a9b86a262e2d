"""Underway: how far the chunks are that are read and not written yet, as calls of the model end."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class _Chunk:
    rows: int
    begin: int  # bytes of the source before it, about
    end: int  # and behind it
    done: int = 0


class Underway:
    """Counts rows of several chunks at once. Thread-safe; what it tells never goes back while a chunk is counted."""

    def __init__(self) -> None:
        self._chunks: dict[int, _Chunk] = {}
        self._lock = threading.Lock()

    def begin(self, number: int, rows: int, end: int) -> None:
        """A chunk that is read. end: the byte of the source behind it; chunks are taken to have as many bytes each."""
        with self._lock:
            self._chunks[number] = _Chunk(rows, end * number // (number + 1), end)

    def count(self, number: int, rows: int) -> None:
        """So many more rows of the chunk are predicted."""
        with self._lock:
            self._chunks[number].done += rows

    def end(self, number: int) -> None:
        """The chunk is written, and counted elsewhere from now on."""
        with self._lock:
            self._chunks.pop(number, None)

    def told(self, written: int) -> tuple[int, int]:
        """Rows predicted of the chunks under way, and the bytes of the source that are done with them, about.

        written: bytes of the source whose chunks are written (0 where an interrupted run had written them).
        """
        with self._lock:
            chunks = list(self._chunks.values())
        if not chunks:
            return 0, written
        size = sum((each.end - each.begin) * each.done // each.rows for each in chunks if each.rows)
        begin = max(written, min(each.begin for each in chunks))
        return sum(each.done for each in chunks), min(begin + size, max(each.end for each in chunks))
