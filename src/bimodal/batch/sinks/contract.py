"""Sink: where the tables of a run go. Encoder: how a format turns tables into bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa


class Out(Protocol):
    """What an encoder writes to."""

    def write(self, data: bytes, /) -> int: ...


class Encoder(ABC):
    """A format. `begin` once, `write` for each chunk, `end` once; the same tables give the same bytes."""

    kind: str

    @abstractmethod
    def begin(self, out: Out, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        """metadata: what the plan decides, for formats that can hold it."""

    @abstractmethod
    def write(self, table: pa.Table) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class Sink(ABC):
    """The place of an output: `open`, `begin`, `write` for each chunk in order, `finish`, `publish`; or `abort`.

    Nothing can be seen at the output's name before `publish`, which is one atomic step; after `abort` nothing is left.
    What cannot be written is a SinkError of one sentence.
    """

    name: str

    @abstractmethod
    def open(self) -> None:
        """See that writing is possible: the folder, the rights."""

    @abstractmethod
    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        """Tell the columns, before the first `write`."""

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """One chunk of the schema given to `begin`."""

    @abstractmethod
    def finish(self) -> None:
        """Everything is written; it is durable when this returns."""

    @abstractmethod
    def publish(self) -> None:
        """Put it under the output's name."""

    @abstractmethod
    def abort(self) -> None:
        """Leave nothing. May be called at any time, after `publish` without effect."""
