"""Spool: the answers of slow calls, kept until their chunk is written: what a kill loses is a call, not a chunk.

A file a chunk, each entry told by a digest of the call's rows: an answer is taken for those very rows alone. It is an
aid: what cannot be written or read is predicted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from bimodal.batch.sinks.durable import sync_folder, write_all
from bimodal.rows import Rows
from bimodal.runtimes import wire

SLOW = 0.2  # seconds of a call from which on its answer is kept
HEAD = struct.Struct("<16sIQ")  # digest of the rows, checksum of the answer, its length


class Spool:
    """The answers in a folder, which is made when there is one to keep. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = 0  # answers that were kept and are not whole, or belong to no rows
        self._known: dict[int, dict[bytes, tuple[int, int, int]]] = {}
        self._taken: dict[int, set[bytes]] = {}
        self._rows: dict[int, int] = {}  # that are kept of each chunk
        self._lock = threading.Lock()
        self._broken = False

    @property
    def kept(self) -> int:
        """Rows whose answers are kept, of the chunks that are not written."""
        with self._lock:
            return sum(self._rows.values())

    def survey(self, after: int) -> int:
        """Look at what an earlier process left of the chunks behind this one; how many rows that is."""
        with contextlib.suppress(OSError):
            for file in self.folder.iterdir() if self.folder.is_dir() else ():
                if file.name.isdecimal() and int(file.name) > after:
                    self._entries(int(file.name))
        return self.kept

    def take(self, chunk: int, rows: Rows, outputs: Sequence[str]) -> Rows | None:
        """The answer that an earlier process had to these rows of a chunk."""
        known = self._entries(chunk)
        if not known or (entry := known.get(digest := _digest(rows, outputs))) is None:
            return None
        start, size, checksum = entry
        self._taken.setdefault(chunk, set()).add(digest)
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
            with open(self._file(chunk), "rb") as file:
                file.seek(start)
                data = file.read(size)
            if len(data) == size and zlib.crc32(data) == checksum:
                return _decoded(data)
        return None

    def keep(self, chunk: int, rows: Rows, outputs: Sequence[str], answer: Rows) -> None:
        """Make an answer durable. Where that fails, nothing more is kept."""
        if self._broken:
            return
        data = b"".join(wire.encode({}, answer))
        entry = HEAD.pack(_digest(rows, outputs), zlib.crc32(data), len(data)) + data
        try:
            with self._lock:
                self.folder.mkdir(exist_ok=True)
                file = os.open(self._file(chunk), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                write_all(file, entry)
                os.fsync(file)
            finally:
                os.close(file)
            sync_folder(self.folder)
            with self._lock:
                self._rows[chunk] = self._rows.get(chunk, 0) + rows.count
        except (OSError, TypeError, OverflowError, msgspec.EncodeError):
            self._broken = True

    def forget(self, written: int) -> None:
        """This chunk is written: take the answers of earlier ones away. Its own stay until that is surely durable."""
        with self._lock:
            self.damaged += len(self._known.pop(written, {}).keys() - self._taken.pop(written, set()))
            self._rows = {chunk: count for chunk, count in self._rows.items() if chunk > written}
        with contextlib.suppress(OSError):
            for file in self.folder.iterdir() if self.folder.is_dir() else ():
                if int(file.name) < written:
                    file.unlink()

    def _file(self, chunk: int) -> Path:
        return self.folder / str(chunk)

    def _entries(self, chunk: int) -> dict[bytes, tuple[int, int, int]]:
        """What an earlier process left of the chunk: start, size and checksum of each answer. A torn end is cut off,
        so that what is kept from now on can be read behind it.
        """
        with self._lock:
            if chunk not in self._known:
                self._known[chunk] = {}
                with contextlib.suppress(OSError), open(self._file(chunk), "r+b") as file:
                    file.truncate(self._read(chunk, file))
            return self._known[chunk]

    def _read(self, chunk: int, file: BinaryIO) -> int:
        """Take in the entries that are whole; where the last one ends."""
        end, size = 0, file.seek(0, os.SEEK_END)
        while end + HEAD.size <= size:
            file.seek(end)
            digest, checksum, length = HEAD.unpack(file.read(HEAD.size))
            if end + HEAD.size + length > size:
                break
            data = file.read(length)
            if zlib.crc32(data) == checksum:
                self._known[chunk][digest] = (end + HEAD.size, length, checksum)
                self._rows[chunk] = self._rows.get(chunk, 0) + _count(data)
            else:
                self.damaged += 1
            end += HEAD.size + length
        self.damaged += end < size
        return end


def _digest(rows: Rows, outputs: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for buffer in wire.encode({"outputs": list(outputs)}, rows):
        digest.update(buffer)
    return digest.digest()


def _count(data: bytes) -> int:
    """The rows of an answer."""
    head, _ = wire.PREFIX.unpack_from(data)
    return int(wire.decode_header(memoryview(data)[wire.PREFIX.size : wire.PREFIX.size + head]).get("count", 0))


def _decoded(data: bytes) -> Rows | None:
    head, _ = wire.PREFIX.unpack_from(data)
    start = wire.PREFIX.size + head
    view = memoryview(data)
    return wire.decode_rows(wire.decode_header(view[wire.PREFIX.size : start]), view[start:])
