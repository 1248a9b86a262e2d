"""A chunked body, taken apart strictly: what a lenient reader forgives, a proxy in front may have read otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable

from bimodal.realtime.refusal import Refusal, malformed, too_large

_LINE = 4096  # bytes of a size line or of a trailer, at most

_size = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_trailer = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*").fullmatch


class Chunks:
    """Reads one chunked body: sizes, content, trailers (checked and dropped), to its end.

    `overhead` is the bytes that were not content; it is bounded, so a flood of tiny chunks ends soon.
    """

    __slots__ = ("_held", "_left", "_most", "_read", "overhead")

    def __init__(self, most_overhead: int) -> None:
        self._read: Callable[[bytes], bool] = self._read_size
        self._held = b""  # the start of a line whose end has not come
        self._left = 0  # content still to come in this chunk
        self._most = most_overhead
        self.overhead = 0

    def feed(self, data: bytes, take: Callable[[bytes], None]) -> bytes | None:
        """Give the content in `data` to `take`, piece by piece.

        Returns None while the body goes on, else the bytes that follow it. Raises Refusal, also what `take` raises.
        """
        if self._held:
            data, self._held = self._held + data, b""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                take(piece)
                if not self._left:
                    self._read = self._read_content_end
                continue
            end = data.find(b"\n", at, at + _LINE)
            if end < 0:
                self._hold(data[at:])
                return None
            if data[end - 1] != 13 or end == at:
                raise malformed("malformed chunked body: a line ends without CR")
            self._count(end + 1 - at)
            line = data[at : end - 1]
            at = end + 1
            if self._read(line):
                return data[at:]
        return None

    def _hold(self, rest: bytes) -> None:
        if len(rest) >= _LINE:
            raise malformed("malformed chunked body: a size or trailer line is too long")
        self._held = rest

    def _count(self, size: int) -> None:
        self.overhead += size
        if self.overhead > self._most:
            raise flooded(self._most)

    def _read_size(self, line: bytes) -> bool:
        match = _size(line)
        if match is None:
            raise malformed("malformed chunked body: a chunk does not begin with its size")
        self._left = int(match[1], 16)
        if not self._left:
            self._read = self._read_trailer
        return False

    def _read_content_end(self, line: bytes) -> bool:
        if line:
            raise malformed("malformed chunked body: a chunk is longer than its size")
        self._read = self._read_size
        return False

    def _read_trailer(self, line: bytes) -> bool:
        if line and not _trailer(line):
            raise malformed("malformed chunked body: a trailer is no header field")
        return not line


def flooded(most: int) -> Refusal:
    """A chunked body that is mostly chunk sizes."""
    return too_large(f"the chunked body holds over {most} bytes of chunk sizes and trailers: send larger chunks")
