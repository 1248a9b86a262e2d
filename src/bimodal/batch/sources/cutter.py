"""Cutting a stream of text into blocks of whole rows, without parsing it.

A row ends at a line feed, a carriage return, or both together, outside quotes. A quote opens a field only where the
field begins, as in Python's csv module and in Arrow: in `5" pipe` it is a character like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bimodal.batch.sources.contract import CHUNK_BYTES, CHUNK_ROWS
from bimodal.batch.sources.lines import LINE_FEED, RETURN, Lines, Places
from bimodal.batch.sources.stream import PIECE, Bytes, ByteStream, Opened, Rewound
from bimodal.errors import SourceChanged, SourceError

LONGEST_ROW = 256 << 20


@dataclass(frozen=True)
class Block:
    """Whole rows.

    rows: how many, blank lines not counted. end: where in the text the block ends, in bytes. separator: None where
    quotes mean nothing (JSON Lines). multiline: a quoted field holds a line end. loose: a field goes on after its
    closing quote. open: the input ended inside the quoted field of the last row.
    """

    data: bytes
    rows: int
    end: int
    separator: int | None
    multiline: bool = False
    loose: bool = False
    open: bool = False

    def ends(self) -> Places:
        """Where each row ends (after its line end), blank lines too."""
        lines = self._lines()
        ends = lines.ends.places() + 1
        return ends if lines.closed else np.append(ends, len(self.data))

    def starts(self) -> Places:
        """Where the rows that are no blank lines start."""
        starts = np.concatenate(([0], self.ends()[:-1])).astype(np.int64)
        first = np.frombuffer(self.data, np.uint8)[starts]
        filled: Places = starts[(first != LINE_FEED) & (first != RETURN)]
        return filled

    def loose_quotes(self) -> Places:
        """The quotes that close a field which then goes on."""
        return self._lines().loose.places()

    def _lines(self) -> Lines:
        return Lines(self.data, self.separator)


def cut(
    stream: Bytes,
    separator: int | None,
    *,
    rows: int = CHUNK_ROWS,
    size: int = CHUNK_BYTES,
    piece: int = PIECE,
    header: bool = False,
    live: bool = False,
    start: int = 0,
) -> Iterator[Block]:
    """Blocks of `rows` rows each, blank lines counted, or of what fits into `size` bytes (one row at least).

    header: the first row that is no blank line is left out. live: a block is given as soon as nothing more is there
    to be read. start: where in the text the stream begins: at the start of a row.
    """
    text = _Text(stream, separator, piece, start)
    while header and text.gather(1, 1):
        header = text.take(1).rows == 0
    while text.gather(rows, size, live=live):
        yield text.take(max(1, min(rows, text.ended_within(size))))


def skipped(text: Bytes, count: int) -> Bytes:
    """The text without its first so many bytes."""
    while count and (piece := text.read()):
        if len(piece) > count:
            return Rewound(piece[count:], text)
        count -= len(piece)
    return text


def check_place(file: Opened, offset: int) -> None:
    """A row must end where the reading of a file is to go on; SourceChanged where none does."""
    stream = ByteStream(file, offset - 1)
    try:
        last, more = stream.read(1), stream.read(1)
    finally:
        stream.close()
    if not last or (more and last not in (b"\n", b"\r")):
        raise SourceChanged(f"{file.name} is no longer what it was when it was read; --fresh starts anew")


class _Text:
    """The text that is read and not yet given away, in segments; it starts where a row starts.

    ended: how many rows end in it, blank lines too.
    """

    def __init__(self, stream: Bytes, separator: int | None, piece: int, start: int) -> None:
        self._stream, self._separator, self._piece = stream, separator, piece
        self._segments: list[Lines] = []
        self._from = 0  # where in the first segment the text starts
        self._held = b""  # read, but what it means depends on the next byte
        self._given = start
        self._final = False
        self.ended = 0

    def gather(self, rows: int, size: int, *, live: bool = False) -> bool:
        """Read until there are rows enough, or bytes enough, or no more; whether there is anything."""
        while not self._final and self.ended < rows:
            length = self._length()
            if self.ended and (length >= size or (live and not self._stream.ready())):
                break
            if length > LONGEST_ROW:
                raise SourceError("a row is longer than 256 MiB: is there a quote that is opened and never closed?")
            self._read()
        return bool(self._segments)

    def _length(self) -> int:
        return sum(len(each.data) for each in self._segments) - self._from

    def _read(self) -> None:
        new = self._stream.read(self._piece)
        self._final = not new
        data = self._held + new if self._held else new
        whole = data if self._final else data.rstrip(b'"\r')
        self._held = data[len(whole) :]
        if whole:
            before = self._segments[-1] if self._segments else None
            self._segments.append(Lines(whole, self._separator, before))
            self.ended += self._segments[-1].ends.count
        if self._final and self._segments and not self._segments[-1].closed:
            self.ended += 1  # the last row has no line end

    def ended_within(self, size: int) -> int:
        """How many rows end in the first so many bytes."""
        if self._length() <= size:
            return self.ended
        count, stop = -self._segments[0].ends.before(self._from), self._from + size
        for each in self._segments:
            count += each.ends.before(max(stop, 0))
            stop -= len(each.data)
        return count

    def take(self, rows: int) -> Block:
        """The first so many rows."""
        parts: list[memoryview] = []
        filled, multiline, loose, unclosed = rows, False, False, False
        wanted = rows + self._segments[0].ends.before(self._from)
        while wanted and self._segments:
            segment, start = self._segments[0], self._from
            stop = segment.ends.place(wanted) + 1 if wanted <= segment.ends.count else len(segment.data)
            parts.append(memoryview(segment.data)[start:stop])
            filled -= segment.blank.within(start, stop)
            multiline |= segment.inner.within(start, stop) > 0
            loose |= segment.loose.within(start, stop) > 0
            unclosed = segment.inside and stop == len(segment.data)
            wanted = max(wanted - segment.ends.count, 0)
            self._from = stop
            if stop == len(segment.data):
                del self._segments[0]
                self._from = 0
        self.ended -= rows
        data = b"".join(parts)
        self._given += len(data)
        return Block(data, filled, self._given, self._separator, multiline, loose, unclosed)
