"""Cutting a stream of text into pieces of whole rows, without parsing it.

A row ends at a line feed, a carriage return, or both together, outside quotes. A quote opens a field only where the
field begins, as in Python's csv module and in Arrow: in `5" pipe` it is a character like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bimodal.batch.sources.contract import CHUNK_BYTES, CHUNK_ROWS
from bimodal.batch.sources.stream import PIECE, Bytes
from bimodal.errors import SourceError

LONGEST_ROW = 256 << 20
LINE_FEED, RETURN, QUOTE = 10, 13, 34
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Whole rows.

    ends: where each row ends (after its line end), blank lines too. quotes: the quotes that open and close fields, by
    turns. multiline: a quoted field holds a line end. open: the input ended inside the quoted field of the last row.
    """

    data: bytes
    ends: Places
    quotes: Places
    multiline: bool = False
    open: bool = False

    def starts(self) -> Places:
        """Where the rows that are no blank lines start."""
        starts = np.concatenate(([0], self.ends[:-1])).astype(np.int64)
        first = np.frombuffer(self.data, np.uint8)[starts]
        filled: Places = starts[(first != LINE_FEED) & (first != RETURN)]
        return filled


@dataclass(frozen=True)
class Found:
    """What is seen in some text: where rows end, where the field quotes stand, whether it ends inside quotes, and where
    a line first ends within a quoted field (its length, if nowhere).
    """

    ends: Places
    quotes: Places
    inside: bool
    inner: int


def row_ends(data: bytes, separator: int | None, *, final: bool) -> Found:
    """Where rows end in `data`, and what else decides that.

    data: starts a row. separator: None where quotes mean nothing (JSON Lines). final: no more data follows.
    """
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == LINE_FEED)
    if b"\r" in data:
        returns = np.flatnonzero(array == RETURN)
        if not final and len(returns) and returns[-1] == len(data) - 1:
            returns = returns[:-1]  # a line feed may follow
        following = array[np.minimum(returns + 1, len(data) - 1)]
        lone = returns[(following != LINE_FEED) | (returns == len(data) - 1)]
        if len(lone):
            ends = np.sort(np.concatenate((ends, lone)))
    quotes, inner = np.empty(0, np.int64), len(data)
    if separator is not None and b'"' in data:
        quotes = field_quotes(array, separator)
        outside = np.searchsorted(quotes, ends) % 2 == 0
        if not outside.all():
            inner = int(ends[np.argmin(outside)])
            ends = ends[outside]
    return Found(ends + 1, quotes, len(quotes) % 2 == 1, inner)


def field_quotes(array: NDArray[np.uint8], separator: int) -> Places:
    """The places of the quotes that open and close fields, by turns; doubled quotes may be among them in pairs."""
    quotes = np.flatnonzero(array == QUOTE)
    before = array[np.maximum(quotes[0::2] - 1, 0)]
    opens = (before == separator) | (before == LINE_FEED) | (before == RETURN) | (before == QUOTE) | (quotes[0::2] == 0)
    if opens.all():
        return quotes
    return _walk(array, quotes, separator)


def _walk(array: NDArray[np.uint8], quotes: Places, separator: int) -> Places:
    """The same, quote by quote, where some quotes are plain characters."""
    found: list[int] = []
    places = quotes.tolist()
    before = array[np.maximum(quotes - 1, 0)].tolist()
    inside, at = False, 0
    while at < len(places):
        place = places[at]
        if inside and at + 1 < len(places) and places[at + 1] == place + 1:
            at += 2  # doubled
            continue
        if inside or place == 0 or before[at] in (separator, LINE_FEED, RETURN):
            found.append(place)
            inside = not inside
        at += 1
    return np.array(found, np.int64)


def cut(
    stream: Bytes,
    separator: int | None,
    *,
    rows: int = CHUNK_ROWS,
    size: int = CHUNK_BYTES,
    piece: int = PIECE,
    header: bool = False,
    live: bool = False,
) -> Iterator[Piece]:
    """Pieces of `rows` rows each, or of what fits into `size` bytes (one row at least).

    header: the first row that is no blank line is left out. live: a piece is given as soon as nothing more is there
    to be read.
    """
    data, final = b"", False
    while not (final and not data):
        data, final, found = _gather(stream, data, final, separator, rows, size, piece, live)
        ends, inside = found.ends, found.inside
        if not data:
            return
        if final and (not len(ends) or ends[-1] < len(data)):
            ends = np.append(ends, len(data))
        else:
            inside = False
        if header:
            skipped = _header_end(data, ends)
            header, data = skipped is None, data[skipped if skipped is not None else ends[-1] :]
            continue
        chosen = ends[:rows]
        fitting = chosen[chosen <= size]
        chosen = fitting if len(fitting) else chosen[:1]
        end = int(chosen[-1])
        quotes = found.quotes[: np.searchsorted(found.quotes, end)]
        yield Piece(data[:end], chosen, quotes, found.inner < end, inside and end == len(data))
        data = data[end:]


def _header_end(data: bytes, ends: Places) -> int | None:
    """Where the first row that is no blank line ends, if there is one."""
    start = 0
    for end in ends.tolist():
        if data[start] not in (LINE_FEED, RETURN):
            return int(end)
        start = end
    return None


def _gather(
    stream: Bytes, data: bytes, final: bool, separator: int | None, rows: int, size: int, piece: int, live: bool
) -> tuple[bytes, bool, Found]:
    """Read until there are rows enough, or bytes enough, or no more."""
    lines = _lines(data)
    pieces = [data] if data else []
    length = len(data)
    wanted = 0  # after a vain look at the rows, look again when there is half as much again
    while True:
        while not final and (
            length < wanted or (lines < rows and length < size and not (live and lines and not stream.ready()))
        ):
            new = stream.read(piece)
            final = not new
            pieces.append(new)
            lines += _lines(new)
            length += len(new)
        data = b"".join(pieces)
        found = row_ends(data, separator, final=final)
        if final or len(found.ends) >= rows or (len(found.ends) and (length >= size or (live and not stream.ready()))):
            return data, final, found
        if length > LONGEST_ROW:
            raise SourceError("a row is longer than 256 MiB: is there a quote that is opened and never closed?")
        pieces, wanted = [data], length + (1 if live else max(length // 2, 1))


def _lines(data: bytes) -> int:
    """About how many lines there are: enough to know when to look closely."""
    lines = int(np.count_nonzero(np.frombuffer(data, np.uint8) == LINE_FEED))
    return lines or data.count(b"\r")
