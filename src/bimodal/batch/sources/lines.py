"""Lines: what stands where in a segment of text, found for 64 bytes at a time.

For each kind of byte that matters, a word of 64 bits says where it stands. What is inside quotes is then where the
number of quotes so far is odd, which six shifts find for all words at once. Nothing here knows cells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LINE_FEED, RETURN, QUOTE = 10, 13, 34
Places = NDArray[np.int64]
Array = NDArray[np.uint8]
Words = NDArray[np.uint64]  # bit i of word w stands for byte 64 * w + i
WORD = np.dtype("<u8")
ONE, TOP = np.uint64(1), np.uint64(63)
STEP = 256  # quotes
SET = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


class Lines:
    """A segment of text and its line ends.

    ends: the last byte of each row's line end. blank: the first byte of each blank line. inner: line ends within
    quotes. loose: quotes that close a field which then goes on. inside: it ends inside quotes. closed: its last byte
    ends a row.
    """

    inside: bool
    closed: bool

    def __init__(self, data: bytes, separator: int | None, before: Lines | None = None) -> None:
        """before: the segment ahead of it, which ends neither in a quote nor in a carriage return; None where the
        text starts a row. separator: None where quotes mean nothing.
        """
        self.data = data
        self.inside = before is not None and before.inside
        array = np.frombuffer(data, np.uint8)
        ends = marks = _words(array == LINE_FEED)
        if b"\r" in data:
            returns = _words(array == RETURN)
            marks = ends | returns
            ends = ends | (returns & ~_moved_down(ends))
        inner, loose = Bits(None), Bits(None)
        if separator is not None and (self.inside or b'"' in data):
            first = before.data[-1] if before else LINE_FEED
            within, falling = _quoted(array, separator, marks, first, inside=self.inside)
            inner, loose = Bits(ends & within), Bits(falling)
            ends = ends & ~within
            self.inside = _last(within, len(data))
        self.ends, self.inner, self.loose = Bits(ends), inner, loose
        self.blank = Bits(_moved_up(ends, before is None or before.closed) & marks)
        self.closed = not data or _last(ends, len(data))


class Bits:
    """Which bytes of a segment are of some kind. words: None where there is none."""

    def __init__(self, words: Words | None) -> None:
        self._words = words
        self._sums: Places | None = None
        self.count = 0 if words is None else int(_ones(words).sum(dtype=np.int64))

    def before(self, stop: int) -> int:
        """How many there are among the first so many bytes."""
        if self._words is None or not self.count:
            return 0
        word, bit = divmod(stop, 64)
        if word >= len(self._words):
            return self.count
        return int(self._ahead()[word]) + (int(self._words[word]) & ((1 << bit) - 1)).bit_count()

    def within(self, start: int, stop: int) -> int:
        """How many there are from here to there."""
        return self.before(stop) - self.before(start)

    def place(self, number: int) -> int:
        """Where the one with this number stands; they are counted from 1."""
        assert self._words is not None, "there is none"
        word = int(np.searchsorted(self._ahead(), number)) - 1
        bits = int(self._words[word])
        for _ in range(number - int(self._ahead()[word]) - 1):
            bits &= bits - 1  # takes the lowest away
        return 64 * word + (bits & -bits).bit_length() - 1

    def places(self) -> Places:
        """Where they stand."""
        if self._words is None:
            return np.empty(0, np.int64)
        places: Places = np.flatnonzero(np.unpackbits(self._words.view(np.uint8), bitorder="little"))
        return places

    def _ahead(self) -> Places:
        """How many there are ahead of each word, and in all."""
        if self._sums is None:
            assert self._words is not None, "there is none"
            self._sums = np.concatenate(([0], np.cumsum(_ones(self._words), dtype=np.int64)))
        return self._sums


def _counted(words: Words) -> Array:
    """How many bits are set in each word, where NumPy (before 2) does not count them."""
    counts: Array = SET[words.view(np.uint16)].reshape(-1, 4).sum(axis=1, dtype=np.uint8)
    return counts


_ones: Callable[[Words], Array] = getattr(np, "bitwise_count", _counted)


def _words(found: NDArray[np.bool_]) -> Words:
    packed = np.packbits(found, bitorder="little")
    padded = np.zeros(-(-len(packed) // 8) * 8, np.uint8)
    padded[: len(packed)] = packed
    return padded.view(WORD)


def _last(words: Words, length: int) -> bool:
    """The bit of the last byte."""
    return bool(int(words[-1]) >> ((length - 1) % 64) & 1)


def _moved_up(words: Words, first: bool) -> Words:
    """Each bit one byte further on; first: what comes in."""
    moved = words << ONE
    moved[1:] |= words[:-1] >> TOP
    if first and len(moved):
        moved[0] |= ONE
    return moved


def _moved_down(words: Words) -> Words:
    """Each bit one byte back; none comes in."""
    moved = words >> ONE
    moved[:-1] |= words[1:] << TOP
    return moved


def _odd(words: Words, already: bool) -> Words:
    """Where the number of bits up to and with each byte is odd. already: it is odd ahead of the first."""
    odd = words.copy()
    for step in (1, 2, 4, 8, 16, 32):
        odd ^= odd << np.uint64(step)
    carried = np.empty_like(odd)
    carried[0] = already
    carried[1:] = odd[:-1] >> TOP
    odd ^= np.uint64(0) - np.bitwise_xor.accumulate(carried)
    return odd


# -- quotes -----------------------------------------------------------------------------------------------------------


def _quoted(array: Array, separator: int, marks: Words, before: int, *, inside: bool) -> tuple[Words, Words]:
    """What is inside quotes (the closing quote is not), and the quotes that close a field which then goes on.

    marks: line feeds and carriage returns. before: the byte ahead of the first.
    """
    quotes = _words(array == QUOTE)
    borders = _words(array == separator) | marks | quotes  # a second quote doubles the first
    starts = _moved_up(borders, before in (separator, LINE_FEED, RETURN))
    within = _odd(quotes, inside)
    if np.any(quotes & within & ~starts):
        plain = quotes & ~starts & ~_moved_down(borders)  # amid a field: outside quotes it is a character
        quotes &= ~plain
        within = _odd(quotes, inside)
        if np.any((quotes & ~starts | plain) & within):
            quotes = _field_quotes(array, separator, before, inside=inside)
            within = _odd(quotes, inside)
    loose = quotes & ~within & ~_moved_down(borders)
    if _last(loose, len(array)):  # the text ends there, and so does the field
        loose[-1] ^= ONE << np.uint64((len(array) - 1) % 64)
    return within, loose


def _field_quotes(array: Array, separator: int, before: int, *, inside: bool) -> Words:
    """The quotes that open and close fields, where some quotes are plain characters: these are looked for in ever
    larger steps, and around each of them quote by quote.
    """
    places = np.flatnonzero(array == QUOTE)
    ahead = array[np.maximum(places - 1, 0)]
    if len(places) and places[0] == 0:
        ahead[0] = before
    border = (ahead == separator) | (ahead == LINE_FEED) | (ahead == RETURN)
    doubling = np.concatenate((places[1:] == places[:-1] + 1, [False]))  # another follows at once
    kept = np.ones(len(places), bool)
    at, step = 0, STEP
    while at < len(places):
        stop = _apart(doubling, min(at + step, len(places)))
        opening = border[at + inside : stop : 2] | (ahead[at + inside : stop : 2] == QUOTE)
        if opening.all():
            inside ^= bool((stop - at) % 2)
            at, step = stop, 2 * step
        else:
            at += inside + 2 * int(np.argmin(opening))
            at, inside = _walk(border, doubling, kept, at, _apart(doubling, min(at + STEP // 8, len(places))))
            step = STEP
    marked = np.zeros(len(array), bool)
    marked[places[kept]] = True
    return _words(marked)


def _apart(doubling: NDArray[np.bool_], stop: int) -> int:
    """The next place from here on that does not part two quotes that stand together."""
    while 0 < stop < len(doubling) and doubling[stop - 1]:
        stop += 1
    return stop


def _walk(
    border: NDArray[np.bool_], doubling: NDArray[np.bool_], kept: NDArray[np.bool_], at: int, stop: int
) -> tuple[int, bool]:
    """From a place outside quotes quote by quote; plain ones are taken from those kept. Where it ends, and whether
    inside quotes.
    """
    inside = False
    while at < stop:
        if inside and doubling[at]:
            at += 2
            continue
        if inside or border[at]:
            inside = not inside
        else:
            kept[at] = False
        at += 1
    return at, inside
