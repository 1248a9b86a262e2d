"""A run of a TableSink without a model: chunks that depend on their number alone; also in a process that is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from bimodal.batch.databases.contract import Database, Session, TableName
from bimodal.batch.databases.opening import open_sink
from bimodal.batch.databases.sink import TableSink
from bimodal.batch.marks import Beside, Mark

PLAN = {"key": "k1", "model": "m"}
ROWS = 40
SCHEMA = pa.schema([("id", pa.int64()), ("label", pa.string()), ("score", pa.float64())])


def chunk(number: int, rows: int = ROWS) -> pa.Table:
    """ids, texts with hostile ones among them, scores with nulls."""
    ids = list(range(number * rows, number * rows + rows))
    words = ["a", "", None, "q\"uo'te", "line\nbreak", "comma,semi;", "back\\slash", "naïve 🦉", "\\.", "NULL"]
    labels = [words[i % len(words)] for i in ids]
    return pa.table([ids, labels, [None if i % 7 == 0 else i / 3 for i in ids]], schema=SCHEMA)


def expected(chunks: int, rows: int = ROWS) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for number in range(chunks) for row in chunk(number, rows).to_pylist()]


def mark(number: int, rows: int = ROWS, rejected: int = 0) -> Mark:
    return Mark(number, {"chunk": number, "row": (number + 1) * rows}, rows + rejected, rows, rejected)


def run_all(
    sink: TableSink,
    chunks: int = 3,
    *,
    run: str = "0f" * 16,
    plan: dict[str, Any] = PLAN,
    stop: int | None = None,
    rows: int = ROWS,
    report: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """What a run does, from `hold` to `release`. stop: give up (as one who is interrupted) after so many chunks."""
    sink.hold(5, lambda told: None)
    try:
        published = sink.published(plan["key"])
        if published is not None:
            return dict(published.report)
        begun = sink.begun()
        if begun is None:
            sink.start(plan, run)
        else:
            sink.resume(begun)
        done = -1 if begun is None or begun.last is None else begun.last.number
        if begun is None or begun.schema is None:
            sink.settle(SCHEMA, {})
        if begun is None or not begun.complete:
            for number in range(done + 1, chunks):
                if number == stop:
                    return None
                sink.append(mark(number, rows), sink.encode(chunk(number, rows)), Beside(b"", b"scored%d" % number))
            sink.complete()
        return dict(sink.publish(report or {"plan": plan, "predicted": chunks * rows, "status": "complete"}))
    finally:
        sink.release()


# -- a process that dies ---------------------------------------------------------------------------------------------


class Deadly:
    """A database whose process is killed before its n-th act: a statement, a COMMIT, a connection."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


class DeadlySession(Session):
    """Acts through another session, and dies when it is time."""

    def __init__(self, inner: Session, deadly: Deadly) -> None:
        self._inner, self._deadly = inner, deadly

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._inner.transaction():
            yield
            self._deadly.step()
        self._deadly.step()

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._inner.execute(statement, values)
        self._deadly.step()

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._inner.query(statement, values)

    def ingest(self, table: TableName, prepared: Any) -> None:
        self._inner.ingest(table, prepared)
        self._deadly.step()

    def close(self) -> None:
        self._inner.close()


def deadly(database: Database, at: int) -> Database:
    """The database, with sessions that die. The adapter's own `session` is shadowed in this object alone."""
    dying, made = Deadly(at), database.session
    database.session = lambda: DeadlySession(made(), dying)  # type: ignore[method-assign]
    return database


def write(url: str, mode: str, key: tuple[str, ...], chunks: int, rows: int, at: int | None, folder: str) -> None:
    """The whole run, in a process of its own. at: the act before which it is killed."""
    os.chdir(folder)
    sink = open_sink(url, None, mode, key)
    if at is not None:
        sink.database = deadly(sink.database, at)
    run_all(sink, chunks, rows=rows)
