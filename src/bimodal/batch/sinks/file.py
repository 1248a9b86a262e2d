"""FileSink: a file that appears whole or not at all. Written under a temporary name beside it, synced, renamed."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from bimodal.batch.sinks.contract import OldEncoder, OldSink
from bimodal.batch.sinks.durable import move_new, sync_folder, writable, write_whole
from bimodal.errors import SinkError

__all__ = ["FileSink", "move", "sync_folder", "writable", "write_whole"]


class Gate(io.RawIOBase):
    """A file that swallows what is written once it was given up, as writers do when they are dropped."""

    def __init__(self, file: Any) -> None:
        self._file: Any = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self._file is None:
            return len(data)
        written: int = self._file.write(data)
        return written

    def give_up(self) -> None:
        self._file = None


class FileSink(OldSink):
    """One output file."""

    def __init__(self, path: Path, encoder: OldEncoder, *, overwrite: bool = False) -> None:
        self.name = str(path)
        self.path = path
        self._encoder = encoder
        self._overwrite = overwrite
        self._file: BinaryIO | None = None
        self._gate: Gate | None = None
        self.temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")

    def open(self) -> None:
        if not self.path.parent.is_dir():
            raise SinkError(f"{self.name} cannot be written: there is no folder {self.path.parent}")
        if self.path.is_dir():
            raise SinkError(f"{self.name} cannot be written: it is a folder")
        with writable(self.name):
            self._file = open(self.temporary, "xb", buffering=1 << 20)  # noqa: SIM115 - closed by finish or abort
            self._gate = Gate(self._file)

    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        assert self._gate is not None, "open comes first"
        with writable(self.name):
            self._encoder.begin(self._gate, schema, metadata)

    def write(self, table: pa.Table) -> None:
        with writable(self.name):
            self._encoder.write(table)

    def finish(self) -> None:
        assert self._file is not None, "open comes first"
        with writable(self.name):
            self._encoder.end()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def publish(self) -> None:
        move(self.temporary, self.path, overwrite=self._overwrite, name=self.name)
        self._file = None

    def hold(self, place: Path) -> None:
        """Keep the finished file under another name, not published."""
        move(self.temporary, place, overwrite=True, name=self.name)
        self._file = None

    def abort(self) -> None:
        if self._file is None:
            return
        if self._gate is not None:
            self._gate.give_up()
        with contextlib.suppress(OSError):  # what is still in the buffer may not fit on the disk; it is not wanted
            self._file.close()
        self._file = None
        self.temporary.unlink(missing_ok=True)


def move(source: Path, target: Path, *, overwrite: bool, name: str) -> None:
    """Rename durably. Without `overwrite` a file that appeared meanwhile is left alone: OutputExists."""
    with writable(name):
        if overwrite:
            os.replace(source, target)
        else:
            move_new(source, target)
        sync_folder(target.parent)
