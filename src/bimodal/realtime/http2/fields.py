"""Header blocks (HPACK, RFC 7541): read with a table of those already seen, written without state.

Tables and the Huffman code are the library's (`hpack`). Callers repeat the same block from call to call. A block that
changes no table means the same until another one does, so what it says is kept, under its bytes, until then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Generic, TypeVar

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from bimodal.realtime.http2.frames import TABLE_BYTES, Code, ConnectionFault, StreamFault

Fields = list[tuple[bytes, bytes]]
T = TypeVar("T")

LONGEST = 1 << 18  # bytes of a list of fields that is too long for its stream alone; the connection ends beyond
KNOWN = 256  # blocks remembered for a connection
_KNOWN_BYTES = 2048  # a longer block is not remembered
SHRINK = b"\x20"  # a table size update to 0: we use no dynamic table
_unsound = re.compile(rb"[\r\n\0]").search
_OVERHEAD = 32  # bytes that each field counts beyond its text (RFC 9113, section 6.5.2)


class Reader(Generic[T]):
    """Reads the header blocks of one connection, in their order. make: of fields what is wanted, such as a checked
    head; what it raises is not remembered. most: bytes of a header list.
    """

    def __init__(self, make: Callable[[Fields], T], most: int) -> None:
        self.known: dict[bytes, T] = {}
        self._make = make
        self._most = most
        self._table = HeaderTable()
        self._changed = False

    def read(self, block: bytes) -> T:
        """Raises ConnectionFault where the block cannot be read, and what `make` raises."""
        made = self.known.get(block)
        if made is None:
            fields = self.fields(block)
            made = self._make(fields)
            if not self._changed and len(block) <= _KNOWN_BYTES:
                if len(self.known) >= KNOWN:
                    self.known.clear()
                self.known[block] = made
        return made

    def fields(self, block: bytes) -> Fields:
        """Names and values of a block."""
        self._changed = False
        try:
            return self._fields(block)
        except (HPACKError, IndexError):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block that cannot be decoded") from None
        finally:
            if self._changed:
                self.known.clear()

    def _fields(self, block: bytes) -> Fields:
        table = self._table
        fields: Fields = []
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0x80:  # an indexed field
                index, at = _integer(block, at, 0x7F)
                field = table.get_by_index(index)
            elif first & 0x60 == 0x20:  # a new size of the table
                at = self._resize(block, at, fields)
                continue
            else:
                field, at = self._literal(block, at, 0x3F if first & 0x40 else 0x0F)
                if first & 0x40:
                    table.add(*field)
                    self._changed = True
            size += len(field[0]) + len(field[1]) + _OVERHEAD
            if size > self._most:
                if size > LONGEST:
                    raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"a header list over {LONGEST} bytes")
                continue  # it is read to its end: the blocks after it build on it
            fields.append(field)
        if size > self._most:
            raise StreamFault(Code.ENHANCE_YOUR_CALM, f"a header list over {self._most} bytes")
        return fields

    def _resize(self, block: bytes, at: int, fields: Fields) -> int:
        size, at = _integer(block, at, 0x1F)
        if fields or size > TABLE_BYTES:
            raise HPACKError("a table size update that is too large, or not at the beginning of a block")
        self._table.maxsize = size
        self._changed = True
        return at

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[tuple[bytes, bytes], int]:
        index, at = _integer(block, at, mask)
        if index:
            name = self._table.get_by_index(index)[0]
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        return (name, value), at


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """A number whose first bits are in the byte at `at`, and where it ends (section 5.1)."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HPACKError("a number that is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    """A name or a value, and where it ends (section 5.2)."""
    huffman = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise HPACKError("a text that is longer than its block")
    text = block[at:end]
    return (_huffman(text) if huffman else text), end


@lru_cache(1024)
def _huffman(text: bytes) -> bytes:
    return decode_huffman(text)


_STATIC = {}  # indexes of the names that have one (RFC 7541, appendix A)
for _index in range(HeaderTable.STATIC_TABLE_LENGTH, 0, -1):
    _STATIC[HeaderTable.STATIC_TABLE[_index - 1][0]] = _index
_STATUS = {b"200": 8, b"204": 9, b"206": 10, b"304": 11, b"400": 12, b"404": 13, b"500": 14}


def status(value: int) -> bytes:
    """The block of `:status`."""
    text = b"%d" % value
    index = _STATUS.get(text)
    return bytes((0x80 | index,)) if index is not None else field(b":status", text)


def field(name: bytes, value: bytes) -> bytes:
    """The block of one field: a literal that enters no table, so that it means the same everywhere."""
    index = _STATIC.get(name)
    if index is None:
        return b"\x00" + _length(len(name)) + name + _length(len(value)) + value
    start = bytes((index,)) if index < 0x0F else bytes((0x0F, index - 0x0F))
    return start + _length(len(value)) + value


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The block of several fields. Raises ValueError for a value with a line end or a null in it."""
    return b"".join([field(name, _sound(name, value)) for name, value in fields])


def _sound(name: bytes, value: bytes) -> bytes:
    if _unsound(value) or _unsound(name):
        raise ValueError(f"header field {name!r} holds a line end or a null")
    return value


def _length(size: int) -> bytes:
    """A length of plain text (section 5.1, seven bits)."""
    if size < 0x7F:
        return bytes((size,))
    size -= 0x7F
    parts = bytearray(b"\x7f")
    while size >= 0x80:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    parts.append(size)
    return bytes(parts)
