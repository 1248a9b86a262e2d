"""The layout of an edition in the embedded store: one file, little-endian.

MAGIC · 8 bytes: length of the header · header (JSON of Shape) · CRC-32 of all that · padding to 8 bytes · the
directory, (buckets + 1) × 8 bytes · the records · CRC-32 of the records · END.

The top bits of a key's hash choose a bucket; the directory says where its records begin, and the next one's, where
they end: so an absent key mostly costs one look, and a present one two. A record is its CRC-32, its key's and body's
lengths, the fingerprint, the key, the body. Keys are compared whole: equal hashes are never an answer. A record that
is damaged is not answered.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import struct
from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.predictions.contract import Edition, Found

log = logging.getLogger("bimodal.predictions")

MAGIC = b"BIMODALP1\n\0\0\0\0\0\0"  # 16 bytes
END = b"EDITION\n"
MOST = 10**12 - 1  # the highest number of an edition
NAME = re.compile(r"edition-(\d{12})\.bin")

MASK = (1 << 64) - 1
M1, M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
HEAD = struct.Struct("<IIIq")  # of a record: CRC-32 of the rest, length of the key, of the body, fingerprint
PAIR = struct.Struct("<QQ")
BLOCK = 1 << 20

Key = int | str


class Shape(msgspec.Struct, frozen=True):
    """Where things are in a file. bits: there are 2**bits buckets. size: of the whole file."""

    edition: Edition
    bits: int
    records: int
    size: int


class Damaged(Exception):
    """The file is not the one that was written."""


def mixed(value: int) -> int:
    """The finalizer of SplitMix64: all bits depend on all."""
    value = ((value ^ (value >> 30)) * M1) & MASK
    value = ((value ^ (value >> 27)) * M2) & MASK
    return value ^ (value >> 31)


def hashes(seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mixed` of many."""
    value = seeds.copy()
    for shift, factor in ((30, M1), (27, M2)):
        value ^= value >> np.uint64(shift)
        value *= np.uint64(factor)
    value ^= value >> np.uint64(31)
    return value


def text_seed(key: bytes) -> int:
    """What is hashed of a text: few enough share it, and keys are compared whole."""
    return crc32(key) | len(key) << 32 & MASK


class File:
    """One edition, mapped. Raises Damaged, OSError."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < len(MAGIC) + 8:
                raise Damaged("it is cut off")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.shape, self._base = _shape(self._map, size)
        except BaseException:
            self._map.close()
            raise
        self.edition = self.shape.edition
        self._shift = 64 - self.shape.bits
        self._integers = self.edition.kind == "int"
        self._told = False

    def find(self, key: Key) -> Found | None:
        """The result of a key."""
        try:
            if self._integers:
                raw = key.to_bytes(8, "little", signed=True)  # type: ignore[union-attr] # else AttributeError, below
                seed = key & MASK  # type: ignore[operator]
            else:
                raw = key.encode()  # type: ignore[union-attr]
                seed = crc32(raw) | len(raw) << 32
        except (OverflowError, AttributeError, UnicodeEncodeError):
            return None
        seed = ((seed ^ (seed >> 30)) * M1) & MASK  # `mixed`, in place: a call costs as much as the rest
        seed = ((seed ^ (seed >> 27)) * M2) & MASK
        view = self._map
        at, end = PAIR.unpack_from(view, self._base + ((seed ^ (seed >> 31)) >> self._shift) * 8)
        while at < end:
            try:
                check, long, wide, fingerprint = HEAD.unpack_from(view, at)
            except struct.error:
                break
            start = at + 20
            middle = start + long
            at = middle + wide
            if view[start:middle] == raw:
                if at > end or crc32(view[start - 16 : at]) != check:
                    at = -1
                    break
                return Found(view[middle:at], fingerprint)
        if at != end:
            self._tell_damage()
        return None

    def _tell_damage(self) -> None:
        if not self._told:
            self._told = True
            log.error("a record of edition %d is damaged, and counts as absent", self.edition.version)

    def close(self) -> None:
        self._map.close()


def _shape(view: mmap.mmap, size: int) -> tuple[Shape, int]:
    """What the header says, and where the directory begins. Raises Damaged."""
    if view[: len(MAGIC)] != MAGIC:
        raise Damaged("it is no edition of this version")
    (long,) = struct.unpack_from("<Q", view, len(MAGIC))
    stop = len(MAGIC) + 8 + long
    if stop + 4 > size:
        raise Damaged("it is cut off")
    if struct.unpack_from("<I", view, stop)[0] != crc32(view[:stop]):
        raise Damaged("its header is damaged")
    shape = msgspec.json.decode(view[len(MAGIC) + 8 : stop], type=Shape)
    if shape.size != size or view[size - len(END) :] != END:
        raise Damaged("it is cut off")
    return shape, aligned(stop + 4)


def whole(path: Path) -> bool:
    """Whether every byte is as it was written: reads the file once."""
    try:
        file = File(path)
    except (OSError, Damaged):
        return False
    try:
        end = file.shape.size - len(END) - 4
        with open(path, "rb") as raw:
            raw.seek(file._base)
            seen, left = 0, end - file._base
            while left:
                block = raw.read(min(BLOCK, left))
                if not block:
                    return False
                seen, left = crc32(block, seen), left - len(block)
            return raw.read(4) == struct.pack("<I", seen)
    finally:
        file.close()


def name(number: int) -> str:
    return f"edition-{number:012d}.bin"


def editions(folder: Path) -> list[tuple[int, Path]]:
    """All that stand in the folder, the oldest first."""
    if not folder.is_dir():
        return []
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def aligned(place: int) -> int:
    return (place + 7) // 8 * 8


def header(edition: Edition, bits: int, count: int, total: int) -> tuple[bytes, int]:
    """The beginning of a file up to its directory, and where that begins."""
    size = 0
    while True:  # the header tells the size of the file, of which it is a part
        told = msgspec.json.encode(Shape(edition, bits, count, size))
        start = MAGIC + struct.pack("<Q", len(told)) + told
        base = aligned(len(start) + 4)
        found = base + ((1 << bits) + 1) * 8 + total + 4 + len(END)
        if found == size:
            return (start + struct.pack("<I", crc32(start))).ljust(base, b"\0"), base
        size = found
