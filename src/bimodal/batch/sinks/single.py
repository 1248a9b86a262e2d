"""FileSink: one output file, that appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from bimodal.batch.sinks.appended import Appended
from bimodal.batch.sinks.contract import Encoder
from bimodal.batch.sinks.durable import move_new
from bimodal.batch.sinks.journalled import Body, JournalledSink
from bimodal.errors import SinkError


class FileSink(JournalledSink):
    """One file, chunk after chunk of its format. overwrite: replace a file that stands there."""

    def __init__(self, path: Path, encoder: Encoder, *, overwrite: bool = False) -> None:
        super().__init__(path, encoder, overwrite=overwrite, kind=encoder.kind)

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    def _body_in(self, folder: Path) -> Body:
        return SingleBody(folder / "data")

    def _finished(self) -> Path:
        return self.folder / "data"

    def _move(self) -> None:
        if self._overwrite:
            os.replace(self._finished(), self.path)
        else:
            move_new(self._finished(), self.path)

    def _see(self) -> None:
        if self.path.is_dir():
            raise SinkError(f"{self.name} cannot be written: it is a folder")


class SingleBody(Body):
    """All chunks in one file."""

    def __init__(self, path: Path) -> None:
        self._file = Appended(path)

    def head(self, data: bytes) -> int:
        self._file.open(0)
        self._file.add(data)
        return self._file.end

    def add(self, number: int, data: bytes | memoryview) -> int:
        self._file.add(data)
        return self._file.end

    def finish(self, tail: bytes) -> int:
        self._file.add(tail)
        return self._file.end

    def stands(self, number: int, start: int, end: int) -> bool:
        return self._file.size >= end

    def holds(self, number: int, start: int, end: int, checksum: int) -> bool:
        return self._file.holds(start, end, checksum)

    def open(self, number: int, end: int) -> None:
        self._file.open(end)

    def again(self, number: int, start: int) -> None:
        self._file.again(start)

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()
