"""The earlier contract on the new encoders, until the run no longer needs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from bimodal.batch.sinks.contract import Encoder, OldEncoder, OldSink, Out
from bimodal.batch.sinks.durable import writable


class OldStandardOutput(OldSink):
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


class OldStyle(OldEncoder):
    """A new encoder in the place of an old one."""

    def __init__(self, encoder: Encoder) -> None:
        self.kind = encoder.kind
        self._encoder = encoder
        self._out: Out | None = None
        self._notes: list[tuple[int, Any]] = []
        self._end = 0

    def begin(self, out: Out, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        self._out = out
        self._send(self._encoder.begin(schema, metadata))

    def write(self, table: pa.Table) -> None:
        encoded = self._encoder.encode(table)
        self._notes.append((self._end, encoded.note))
        self._send(encoded.data)

    def end(self) -> None:
        self._send(self._encoder.tail(iter(self._notes)))

    def _send(self, data: bytes | memoryview) -> None:
        assert self._out is not None, "begin comes first"
        self._out.write(bytes(data))
        self._end += len(data)
