"""Sink: where the tables of a run go, and the journal of what is done. Encoder: a format, as bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bimodal.batch.marks import Begun, Beside, Mark, Published
from bimodal.batch.sources.contract import Source


@dataclass(frozen=True)
class Encoded:
    """A chunk as bytes. note: what the format's end must know of it (a Parquet row group's metadata), as JSON can hold
    it. content: what a sink that is no file makes of a chunk.
    """

    data: bytes | memoryview = b""
    note: Any = None
    content: Any = None


class Encoder(ABC):
    """A format as bytes that can be put one after another: head, chunks, tail. The same tables give the same bytes.

    After `begin`, `encode` may be called in several threads at once.
    """

    kind: str
    text: bool = False

    @abstractmethod
    def begin(self, schema: pa.Schema, metadata: Mapping[str, str]) -> bytes:
        """The bytes before the first chunk. metadata: what the plan decides, for formats that can hold it."""

    @abstractmethod
    def encode(self, table: pa.Table) -> Encoded:
        """A chunk of that schema."""

    @abstractmethod
    def tail(self, notes: Iterator[tuple[int, Any]]) -> bytes:
        """The bytes after the last chunk. notes: of each chunk in order, the offset of its bytes in the file and its
        note.
        """


class Sink(ABC):
    """A place for predictions, and the journal of what is durably there: every row once, however often a run is killed.

    The order of calls: `hold`; then `published`, `begun`, `exists` at will; `start` or `resume` (or `drop`, then
    `start`); `settle` once if the journal holds no schema yet; for each chunk, in order, `append` with what `encode`
    made of it (`encode` alone is called in other threads, several at once); `complete`; `publish`; `release`.
    A process may be killed between any two steps and within each: another one that holds the sink finds in `begun` (or
    `published`) where to go on, and ends with the same bytes. Nothing can be seen at the output's name before
    `publish`, which is one atomic step and may be repeated. What cannot be written is a SinkError of one sentence;
    what is done by then stays done.
    """

    name: str
    kind: str  # the format, or a database's name: it decides the bytes, so it is part of the plan
    resumable: bool = True
    table: bool = False  # of a `database`
    database: Any = None
    notes: tuple[str, ...] = ()  # worth telling when the run begins
    remarks: tuple[str, ...] = ()  # told of this execution, and not kept with its result
    path: Path | None = None  # where the output is a file or folder of this machine
    rejects_path: Path | None = None  # where the refused rows will be told
    text: bool = False  # what is written is text: a column may hold values of several kinds
    spool: Path | None = None  # a folder for what is kept of a chunk that is not done; it goes with the journal

    def hold(self, wait: float, told: Callable[[str], None]) -> None:  # noqa: B027 - standard output is nobody's
        """Take the lock, which ends with this process. Waits up to so many seconds, once `told` who holds it; then
        raises OutputHeld naming the process, its host and since when.
        """

    def published(self, plan_key: str | None = None) -> Published | None:
        """The finished output, if it still stands as a run left it; the latest, or that of the plan with this key (to
        a table many runs may have been appended).
        """
        return None

    def begun(self) -> Begun | None:
        """The unfinished run that stands here."""
        return None

    def exists(self) -> bool:
        """Whether something stands at the output's name (for a table: a table)."""
        return False

    def taken(self) -> str:
        """What to say where something stands at the output's name, and a run is not to replace it."""
        return f"{self.name} is there already; --overwrite replaces it"

    def see_input(self, source: Source) -> tuple[str, ...]:
        """UsageError where the result would take the place of the rows that it is made from, so far as the sink knows
        better than a file's name; sentences where that may be.
        """
        return ()

    @abstractmethod
    def check(self, schema: pa.Schema | None = None) -> tuple[str, ...]:
        """See that writing is possible: the folder, the rights, the table's columns. Leaves nothing behind. Sentences
        worth telling (a dry run prints them); what makes writing impossible is a SinkError.
        """

    def weigh(self, table: pa.Table) -> int | None:
        """How many bytes these rows will take, for a dry run; None: not known. Nothing is begun by it."""
        return None

    @abstractmethod
    def start(self, plan: Mapping[str, Any], run: str) -> None:
        """Begin a new journal."""

    def resume(self, begun: Begun) -> None:
        """Go on after `begun.last`: what was written behind it is taken away. Asked only of a sink whose `begun` found
        something: one that is not resumable has no need of it.
        """
        raise NotImplementedError(f"{self.name} cannot go on with an earlier run")

    @abstractmethod
    def settle(self, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
        """The columns, from the first chunk or (on resume) from the journal; before the first `encode`."""

    @abstractmethod
    def encode(self, table: pa.Table) -> Encoded:
        """The heavy part of writing a chunk of that schema, in any thread."""

    @abstractmethod
    def append(self, mark: Mark, encoded: Encoded, beside: Beside) -> None:
        """Write a chunk, what stands beside it, and its mark, as one: after a kill all of them are there or none."""

    @abstractmethod
    def complete(self) -> None:
        """All chunks are appended; everything is durable when this returns, and the journal says so."""

    def scored(self) -> Iterator[bytes]:
        """What `Beside.scored` of each chunk was, in order; after `complete`."""
        return iter(())

    def rejects(self) -> Iterator[bytes]:
        """What `Beside.rejects` of each chunk was, in order; after `complete`."""
        return iter(())

    def show_rejects(self) -> str:
        """Put the rejects where the user looks for them, though nothing is published: the file's name."""
        return ""

    @abstractmethod
    def publish(self, report: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put it under the output's name, with the rejects and the run record (durable before the output, or in the
        same transaction), and take the journal away. Gives the report as it was kept (with the place of the rejects).
        """

    def drop(self) -> None:  # noqa: B027 - nothing is kept where nothing resumes
        """Throw the unfinished run away."""

    def release(self) -> None:  # noqa: B027 - standard output is nobody's
        """Let go of the lock and of what is open. A run that has marks stays resumable, one that has none leaves
        nothing.
        """
