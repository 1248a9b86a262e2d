"""Uploads: a body that is written to a file as it arrives, for a run of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from bimodal.errors import BimodalError, MalformedInput, SinkError, TooLarge, UnsupportedMedia
from bimodal.realtime.exchange import Request, Response, Writer
from bimodal.realtime.failure import failure
from bimodal.realtime.protocols.lines import Pausing

HIGH = 4 << 20  # bytes that wait for the disk: no more is read above it
ROOM = 256 << 20  # bytes of the disk that uploads leave free
SUFFIXES = {
    "text/csv": ".csv",
    "application/csv": ".csv",
    "application/vnd.apache.parquet": ".parquet",
    "application/x-parquet": ".parquet",
    "application/parquet": ".parquet",
    "application/x-ndjson": ".jsonl",
    "application/ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/vnd.apache.arrow.file": ".arrow",
}

Taken = Callable[[Path], Awaitable[Response]]


def suffix_of(headers: Mapping[bytes, bytes]) -> str:
    """How the uploaded file's name ends, by its content type. Raises UnsupportedMedia."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMedia("compressed bodies are not understood; send the file without content-encoding")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind not in SUFFIXES:
        names = ", ".join(dict.fromkeys(first for first, _ in _first_names()))
        raise UnsupportedMedia(f"this content type is no data set that is understood; send one of {names}")
    return SUFFIXES[kind]


def _first_names() -> list[tuple[str, str]]:
    """The usual content type of each kind of file."""
    usual: dict[str, str] = {}
    for kind, suffix in SUFFIXES.items():
        usual.setdefault(suffix, kind)
    return [(kind, suffix) for suffix, kind in usual.items()]


class Upload:
    """One body on its way to `path`. taken: called with the path when it is whole and durable; it gives the answer.

    Pieces are written by a thread; while the disk is behind, no more is read. What was not completed is removed.
    """

    def __init__(self, request: Request, writer: Writer, path: Path, most: int, taken: Taken) -> None:
        self._request, self._writer, self._path, self._most, self._taken = request, writer, path, most, taken
        self._pieces: deque[bytes] = deque()
        self._waiting = self._size = 0
        self._more = asyncio.Event()
        self._whole = False
        self._paused = False
        self._task = asyncio.get_running_loop().create_task(self._work())

    # What the wire calls

    def feed(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._size += len(piece)
        if self._waiting > HIGH and not self._paused and isinstance(self._writer, Pausing):
            self._paused = True
            self._writer.pause()
        self._more.set()

    def finish(self) -> None:
        self._whole = True
        self._more.set()

    def cut(self, code: str, sentence: str) -> None:
        """The wire takes no more of the body: it answers by itself, since nothing was begun."""
        self.abort()

    def abort(self) -> None:
        self._task.cancel()

    # The work

    async def _work(self) -> None:
        try:
            response = await self._answer()
        except BimodalError as error:
            response = failure(error, self._request.headers)
        self._writer.start(response)
        self._writer.end()

    async def _answer(self) -> Response:
        done = False
        try:
            await asyncio.to_thread(_room, self._path)
            with await asyncio.to_thread(_opened, self._path) as file:
                await self._write(file)
            if not self._size:
                raise MalformedInput("the body is empty; send the data set as the body")
            response = await self._taken(self._path)
            done = True
            return response
        except OSError as error:
            raise SinkError(f"the upload cannot be stored: {error.strerror or type(error).__name__}") from error
        finally:
            if not done:
                shutil.rmtree(self._path.parent, ignore_errors=True)

    async def _write(self, file: BinaryIO) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            whole = self._whole
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._waiting = 0
            if self._size > self._most:
                raise TooLarge(f"the upload is larger than {self._most:,} bytes; put it where a job reads it")
            await asyncio.to_thread(file.write, data)
            if self._paused and isinstance(self._writer, Pausing):
                self._paused = False
                self._writer.resume()
            if whole and not self._pieces:
                await asyncio.to_thread(_durable, file)
                return


def _room(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True)
    if shutil.disk_usage(path.parent).free < ROOM:
        raise SinkError("there is too little room on the disk for uploads")


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _durable(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
