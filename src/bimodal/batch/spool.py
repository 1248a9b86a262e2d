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
        self._known: dict[int, dict[bytes, tuple[int, int, int]]] = {}
        self._lock = threading.Lock()
        self._broken = False

    def take(self, chunk: int, rows: Rows, outputs: Sequence[str]) -> Rows | None:
        """The answer that an earlier process had to these rows of a chunk."""
        known = self._entries(chunk)
        if not known or (entry := known.get(_digest(rows, outputs))) is None:
            return None
        start, size, checksum = entry
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
        except (OSError, TypeError, OverflowError, msgspec.EncodeError):
            self._broken = True

    def forget(self, before: int) -> None:
        """Take the answers of earlier chunks away."""
        with contextlib.suppress(OSError):
            for file in self.folder.iterdir() if self.folder.is_dir() else ():
                if int(file.name) < before:
                    file.unlink()

    def _file(self, chunk: int) -> Path:
        return self.folder / str(chunk)

    def _entries(self, chunk: int) -> dict[bytes, tuple[int, int, int]]:
        """What an earlier process left of the chunk: start, size and checksum of each answer. A torn end is cut off,
        so that what is kept from now on can be read behind it.
        """
        with self._lock:
            if chunk not in self._known:
                found: dict[bytes, tuple[int, int, int]] = {}
                with contextlib.suppress(OSError), open(self._file(chunk), "r+b") as file:
                    end, size = 0, file.seek(0, os.SEEK_END)
                    while end + HEAD.size <= size:
                        file.seek(end)
                        digest, checksum, length = HEAD.unpack(file.read(HEAD.size))
                        if end + HEAD.size + length > size:
                            break
                        found[digest] = (end + HEAD.size, length, checksum)
                        end += HEAD.size + length
                    file.truncate(end)
                self._known[chunk] = found
            return self._known[chunk]


def _digest(rows: Rows, outputs: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for buffer in wire.encode({"outputs": list(outputs)}, rows):
        digest.update(buffer)
    return digest.digest()


def _decoded(data: bytes) -> Rows | None:
    head, _ = wire.PREFIX.unpack_from(data)
    start = wire.PREFIX.size + head
    view = memoryview(data)
    return wire.decode_rows(wire.decode_header(view[wire.PREFIX.size : start]), view[start:])
