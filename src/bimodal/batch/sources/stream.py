"""ByteStream: a file or standard input as bytes, decompressed and in UTF-8, and how far in the file it has come."""

from __future__ import annotations

import codecs
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa

from bimodal.batch.mishap import told
from bimodal.dialect import WESTERN
from bimodal.errors import SourceError, WrongFormat

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
PIECE = 1 << 20


class Bytes(Protocol):
    """What a reader needs of a stream."""

    def read(self, size: int = PIECE) -> bytes: ...
    def ready(self) -> bool: ...


class Opened(Protocol):
    """What a ByteStream needs of a file."""

    @property
    def name(self) -> str: ...
    @property
    def codec(self) -> str | None: ...
    def stream(self, offset: int = 0) -> Any: ...


class ByteStream:
    """The bytes of a file from an offset on (of a compressed one: from a frame on), decompressed. `position` counts the
    bytes of the file itself.
    """

    def __init__(self, file: Opened, offset: int = 0) -> None:
        self.name = file.name
        self._file = file.stream(offset)
        self._stream = _decompressed(self._file, file.codec) if file.codec else self._file

    def read(self, size: int = PIECE) -> bytes:
        """Up to `size` bytes; none at the end."""
        with readable(self.name):
            return bytes(self._stream.read(size))

    def ready(self) -> bool:
        return True

    @property
    def position(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()


class StandardInput:
    """Standard input, or a pipe that has a name, piece by piece as it comes."""

    def __init__(self, pipe: str | None = None) -> None:
        self.name = pipe or "standard input"
        with readable(self.name):
            self._number = os.open(pipe, os.O_RDONLY) if pipe else sys.stdin.fileno()
        self._mine = pipe is not None
        self.position = 0

    def read(self, size: int = PIECE) -> bytes:
        piece = os.read(self._number, size)
        self.position += len(piece)
        return piece

    def ready(self) -> bool:
        """Whether something (or the end) is there to be read at once."""
        return bool(select.select([self._number], [], [], 0)[0])

    def close(self) -> None:
        """Standard input stays open; it belongs to the process."""
        if self._mine:
            os.close(self._number)
            self._mine = False


class Rewound:
    """A stream with bytes put back in front of it."""

    def __init__(self, head: bytes, stream: Bytes) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = PIECE) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._stream.read(size)

    def ready(self) -> bool:
        return bool(self._head) or self._stream.ready()


class Transcoded:
    """A stream of another encoding as UTF-8."""

    def __init__(self, stream: Bytes, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("replace") if encoding != "cp1252" else None

    def read(self, size: int = PIECE) -> bytes:
        while piece := self._stream.read(size):
            if text := self._decode(piece, final=False):
                return text.encode("utf-8", "replace")
        return self._decode(b"", final=True).encode("utf-8", "replace")

    def _decode(self, piece: bytes, *, final: bool) -> str:
        if self._decoder is None:
            return codecs.charmap_decode(piece, "strict", WESTERN)[0]
        return self._decoder.decode(piece, final)

    def ready(self) -> bool:
        return self._stream.ready()


def _decompressed(file: Any, codec: str) -> pa.NativeFile:
    return pa.CompressedInputStream(file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, mode="r"), codec)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Errors of reading, in one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{name} does not exist") from error
    except PermissionError as error:
        raise SourceError(f"{name} may not be read: no permission") from error
    except OSError as error:
        reason = str(error)
        if "Truncated" in reason:
            raise SourceError(f"{name} ends in the middle: its compressed data is cut off") from error
        if "incorrect header check" in reason or "Unknown frame descriptor" in reason:
            raise WrongFormat(f"{name} is not compressed, though its name says so: rename it") from error
        if "Corrupt" in reason:
            raise SourceError(f"{name} is broken: {told(error)}") from error
        raise SourceError(f"{name} cannot be read: {told(error)}") from error
