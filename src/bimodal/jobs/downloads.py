"""Downloads: a file of a run, sent in pieces as the caller takes them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from bimodal.errors import BimodalError, NotFound
from bimodal.realtime.exchange import Request, Response, Writer
from bimodal.realtime.failure import failure

PIECE = 1 << 20
KINDS = {
    ".csv": b"text/csv; charset=utf-8",
    ".jsonl": b"application/x-ndjson",
    ".ndjson": b"application/x-ndjson",
    ".parquet": b"application/vnd.apache.parquet",
    ".arrow": b"application/vnd.apache.arrow.file",
    ".json": b"application/json",
}


class Download:
    """The answer to a GET: found gives the path of what is to be sent, or raises what is to be told."""

    def __init__(self, request: Request, writer: Writer, found: Callable[[], Awaitable[Path]]) -> None:
        self._request, self._writer, self._found = request, writer, found
        self._task: asyncio.Task[None] | None = None

    def feed(self, piece: bytes) -> None:
        """A body means nothing here."""

    def finish(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._send())

    def cut(self, code: str, sentence: str) -> None:
        self.abort()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _send(self) -> None:
        try:
            path = await self._found()
            file = await asyncio.to_thread(_opened, path)
        except BimodalError as error:
            self._writer.start(failure(error, self._request.headers))
            self._writer.end()
            return
        with file:
            length = os.fstat(file.fileno()).st_size
            name = quote(path.name)
            headers = (
                (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode("ascii")),
                (b"x-content-bytes", b"%d" % length),
            )
            kind = KINDS.get(path.suffix, b"application/octet-stream")
            self._writer.start(Response(200, b"", kind, headers))
            while piece := await asyncio.to_thread(file.read, PIECE):
                self._writer.write(piece)
                await self._writer.ready()
            self._writer.end()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise NotFound(f"{path.name} is not there any more ({error.strerror})") from error
