"""FolderSink: a folder of files, a part a chunk, that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from bimodal.batch.sinks.appended import Appended
from bimodal.batch.sinks.contract import Encoded, Encoder
from bimodal.batch.sinks.durable import appeared, exchange, sync_folder, write_all
from bimodal.batch.sinks.journalled import Body, JournalledSink
from bimodal.errors import OutputExists, SinkError

PART = re.compile(r"part-\d{5,}\.[a-z.]+")
OPEN = 64  # parts that are open at once, waiting to be made durable


class FolderSink(JournalledSink):
    """Files `part-00000.parquet`, by the number of the chunk, each whole by itself; a chunk without rows has none.

    There is nothing else in the folder: the record and the rejects stand beside it. overwrite: replace a folder of
    parts; one that holds anything else is left alone.
    """

    def __init__(self, path: Path, encoder: Encoder, ending: str, *, overwrite: bool = False) -> None:
        self._ending = ending
        super().__init__(path, encoder, overwrite=overwrite, kind=f"{encoder.kind}/")
        self._head = b""

    def exists(self) -> bool:
        return os.path.lexists(self.path) and not (self.path.is_dir() and _empty(self.path))

    def encode(self, table: pa.Table) -> Encoded:
        """The whole part."""
        chunk = self._encoder.encode(table)
        if not len(chunk.data):
            return self._summed(chunk)
        tail = self._encoder.tail(iter([(len(self._head), chunk.note)]))
        return self._summed(replace(chunk, data=b"".join((self._head, chunk.data, tail)), note=None))

    def _begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> bytes:
        self._head = self._encoder.begin(schema, metadata)
        return b""

    def _tail(self) -> bytes:
        """Without a row there is one part, that tells the columns."""
        return b"" if self._known().ends[0] else self._head + self._encoder.tail(iter(()))

    def _body_in(self, folder: Path) -> Body:
        return PartsBody(folder / "parts", self._ending)

    def _finished(self) -> Path:
        return self.folder / "parts"

    def _move(self) -> None:
        if self._overwrite and self.exists():
            self._see()
            if not exchange(self._finished(), self.path):  # for a moment there is none
                os.rename(self.path, self.folder / "old")
                os.rename(self._finished(), self.path)
            return
        try:
            os.rename(self._finished(), self.path)  # takes the place of an empty folder
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise appeared(self.path) from None
            raise

    def _see(self) -> None:
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise SinkError(f"{self.name} cannot be written: it is a file, not a folder")
        if self._overwrite and self.path.is_dir():
            for each in sorted(self.path.iterdir()):
                if not PART.fullmatch(each.name) or each.is_dir():
                    raise OutputExists(
                        f"{self.name} is not replaced: it holds {each.name}, which is no part of an output; name "
                        "another folder, or move that away"
                    )


class PartsBody(Body):
    """A file a chunk, written under a temporary name and renamed. Bytes are counted through all parts."""

    def __init__(self, folder: Path, ending: str) -> None:
        self._folder, self._ending = folder, ending
        self._end = 0
        self._fresh: list[int] = []  # open files that are not durable yet
        self._taking = threading.Lock()

    def head(self, data: bytes) -> int:
        """Each part has its own."""
        return 0

    def add(self, number: int, data: bytes | memoryview) -> int:
        if not len(data):
            return self._end
        temporary = self._folder.with_name("part.tmp")
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        with self._taking:
            self._fresh.append(file)
        write_all(file, data)
        os.rename(temporary, self._part(number))
        self._end += len(data)
        if len(self._fresh) >= OPEN:
            self.sync()
        return self._end

    def finish(self, tail: bytes) -> int:
        """tail: the one part of an output without rows."""
        return self.add(0, tail)

    def stands(self, number: int, start: int, end: int) -> bool:
        return start == end or Appended(self._part(number)).size == end - start

    def holds(self, number: int, start: int, end: int, checksum: int) -> bool:
        return self.stands(number, start, end) and Appended(self._part(number)).holds(0, end - start, checksum)

    def open(self, number: int, end: int) -> None:
        self.close()
        self._folder.mkdir(exist_ok=True)
        for each in self._folder.iterdir():
            if _number(each) > number:
                each.unlink()
        self._end = end

    def again(self, number: int, start: int) -> None:
        for each in self._folder.iterdir():
            if _number(each) > number:
                part = Appended(each)
                part.open(part.size)
                part.again(0)
                part.sync()
                part.close()

    def sync(self) -> None:
        with self._taking:
            fresh, self._fresh = self._fresh, []
        try:
            for file in fresh:
                os.fsync(file)
        finally:
            for file in fresh:
                os.close(file)
        sync_folder(self._folder)

    def close(self) -> None:
        with self._taking:
            fresh, self._fresh = self._fresh, []
        for file in fresh:
            os.close(file)

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05}{self._ending}"


def _number(part: Path) -> int:
    return int(part.name.removeprefix("part-").partition(".")[0])


def _empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None
