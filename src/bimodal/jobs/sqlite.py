"""The job store in a SQLite file, for the processes of one machine.

A rollback journal, not a write-ahead log: with the log, versions before 3.51.3 can damage the file when two processes
write and checkpoint at once (sqlite.org/wal.html, "The WAL-Reset Bug"), and it needs shared memory, which network
file systems lack. A store of jobs writes a few times a second at most.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bimodal.errors import BimodalError, SinkError, SourceError, Unavailable
from bimodal.jobs.statements import Execute, Row, SqlStore

log = logging.getLogger("bimodal.jobs")

WAIT = 30.0  # seconds for the other processes
# TRUNCATE: a commit touches no folder. EXTRA: it is on the disk when it returns.
SETTINGS = ("PRAGMA journal_mode = TRUNCATE", "PRAGMA synchronous = EXTRA")
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class SqliteStore(SqlStore):
    """JobStore in the file at `path`, made where it is missing, for its user alone (mode 0600; its folder 0700)."""

    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"
    real = "REAL"
    listed = "SELECT 1 FROM sqlite_master WHERE name = 'bimodal_jobs_schema'"

    def __init__(self, path: Path | str, *, wait: float = WAIT) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.wait = wait
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._place: tuple[int, int] | None = None  # device and inode of the file that is open
        with self._lock, self._told():
            self._open()

    @contextmanager
    def writing(self) -> Iterator[Execute]:
        with self._lock, self._told():
            connection = self._open()
            with _transaction(connection):
                yield _executing(connection)

    @contextmanager
    def reading(self) -> Iterator[Execute]:
        with self._lock, self._told():
            yield _executing(self._open())

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        """The connection of this process: one that came through a fork is not to be used, nor closed; one whose file
        was taken away gives way to one to the file that stands there now.
        """
        if self._connection is not None and self._process == os.getpid() and self._is_gone(self._connection):
            log.warning("%s was removed or replaced: the state of jobs goes on with what stands there now", self.path)
            self._connection.close()
            self._connection = None
        if self._connection is None or self._process != os.getpid():
            self._connection = self._connected()
            self._process = os.getpid()
        return self._connection

    def _is_gone(self, connection: sqlite3.Connection) -> bool:
        return not connection.in_transaction and _place(self.path) != self._place

    def _connected(self) -> sqlite3.Connection:
        _make(self.path)
        connection = sqlite3.connect(self.path, timeout=self.wait, isolation_level=None, check_same_thread=False)
        try:
            for each in SETTINGS:
                connection.execute(each)
            with _transaction(connection):
                self.prepare(_executing(connection))
        except BaseException:
            connection.close()
            raise
        self._place = _place(self.path)
        return connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The driver's errors, in a sentence."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._meant(error) from error
        except OSError as error:
            raise SinkError(f"the state of jobs cannot be kept in {self.path}: {error.strerror or error}") from error

    def _meant(self, error: sqlite3.Error) -> BimodalError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BUSY:
            return Unavailable(f"the state of jobs in {self.path} was locked for {self.wait:g} s by other processes")
        if code in BROKEN:
            return SourceError(f"{self.path} is no state of jobs ({error}): move it away, and a new one is made")
        return SinkError(f"the state of jobs cannot be kept in {self.path}: {error}")


def _make(path: Path) -> None:
    """The file and its folder, before SQLite makes them for everybody to read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _place(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except FileNotFoundError:
        return None
    return told.st_dev, told.st_ino


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _executing(connection: sqlite3.Connection) -> Execute:
    def do(statement: str, *values: Any) -> list[Row]:
        return connection.execute(statement, values).fetchall()

    return do
