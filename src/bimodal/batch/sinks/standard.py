"""StandardOutput: text that is flushed chunk by chunk. Devices and pipes with a name are written in the same way."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa

from bimodal.batch.marks import Beside, Mark
from bimodal.batch.sinks.contract import Encoded, Encoder, Sink
from bimodal.batch.sinks.durable import writable

KEPT = "what was written before stays there"


class StandardOutput(Sink):
    """Standard output (path None), or a device. What was written cannot be taken back, and no run goes on with it.

    A reader that leaves is a BrokenPipeError.
    """

    resumable = False

    def __init__(self, encoder: Encoder, path: Path | None = None) -> None:
        self.name = str(path) if path else "standard output"
        self.path = path
        self.kind, self.text = encoder.kind, encoder.text
        self._encoder = encoder
        self._out: BinaryIO | None = None
        self._notes: list[tuple[int, Any]] = []
        self._end = 0
        self._scored: IO[bytes] | None = None
        self._sizes: list[int] = []

    def check(self, schema: pa.Schema | None = None) -> tuple[str, ...]:
        return ()

    def start(self, plan: Mapping[str, Any], run: str) -> None:
        with writable(self.name):
            self._out = open(self.path, "wb") if self.path else sys.stdout.buffer  # noqa: SIM115 - closed by publish

    def settle(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        self._send(self._encoder.begin(schema, metadata))

    def encode(self, table: pa.Table) -> Encoded:
        return self._encoder.encode(table)

    def append(self, mark: Mark, encoded: Encoded, beside: Beside) -> None:
        """The refused rows are the caller's to tell: there is no file for them."""
        if encoded.note is not None:
            self._notes.append((self._end, encoded.note))
        self._send(encoded.data)
        if beside.scored:
            with writable("the measures of quality", KEPT):
                if self._scored is None:
                    self._scored = tempfile.TemporaryFile()  # noqa: SIM115 - closed by release
                self._scored.write(beside.scored)
            self._sizes.append(len(beside.scored))

    def complete(self) -> None:
        self._send(self._encoder.tail(iter(self._notes)))

    def scored(self) -> Iterator[bytes]:
        if self._scored is not None:
            self._scored.seek(0)
            for size in self._sizes:
                yield self._scored.read(size)

    def publish(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        """It is there already."""
        if self.path and self._out is not None:
            with writable(self.name, KEPT):
                self._out.close()
        return report

    def release(self) -> None:
        if self._scored is not None:
            self._scored.close()
            self._scored = None

    def _send(self, data: bytes | memoryview) -> None:
        assert self._out is not None, "start comes first"
        with writable(self.name, KEPT):
            self._out.write(data)
            self._out.flush()
        self._end += len(data)
