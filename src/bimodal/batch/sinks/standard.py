"""StandardOutput: text that is flushed chunk by chunk. Devices and pipes with a name are written in the same way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from bimodal.batch.sinks.contract import OldEncoder, OldSink
from bimodal.batch.sinks.file import writable


class StandardOutput(OldSink):
    """Standard output (path None), or a device. What was written cannot be taken back."""

    def __init__(self, encoder: OldEncoder, path: Path | None = None) -> None:
        self.name = str(path) if path else "standard output"
        self._encoder = encoder
        self._path = path
        self._out: BinaryIO | None = None

    def open(self) -> None:
        with writable(self.name):
            self._out = open(self._path, "wb") if self._path else sys.stdout.buffer  # noqa: SIM115 - closed by publish

    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        assert self._out is not None, "open comes first"
        with writable(self.name):
            self._encoder.begin(self._out, schema, metadata)
            self._out.flush()

    def write(self, table: pa.Table) -> None:
        assert self._out is not None, "open comes first"
        with writable(self.name):
            self._encoder.write(table)
            self._out.flush()

    def finish(self) -> None:
        assert self._out is not None, "open comes first"
        with writable(self.name):
            self._encoder.end()
            self._out.flush()

    def publish(self) -> None:
        """It is there already."""
        if self._path and self._out is not None:
            with writable(self.name):
                self._out.close()

    def abort(self) -> None:
        """What is written stays written."""
