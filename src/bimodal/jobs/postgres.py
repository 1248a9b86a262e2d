"""The job store in PostgreSQL, for the processes of several machines. Its tables are `bimodal_jobs_…`, in the schema
that the connection's search path begins with.

A writing transaction holds one advisory lock, so that writers follow each other as they do in SQLite: they are short,
and few a second. Nothing outlives a transaction but the connection, so a pooler in between is no obstacle.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bimodal.errors import BimodalError, SinkError, Unavailable, UsageError
from bimodal.jobs.statements import Execute, Row, SqlStore

LOCK = int.from_bytes(b"bimodal\0", "big")  # the advisory lock's key
BEGIN = f"""BEGIN; SET LOCAL lock_timeout = '30s';
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
SELECT pg_advisory_xact_lock({LOCK})"""
# So that a machine or a network that goes away is noticed, and nobody waits for it for ever.
DEFAULTS = {"connect_timeout": "10", "keepalives_idle": "20", "tcp_user_timeout": "30000"}
SECRETS = ("password", "sslpassword")
AGAIN = ("08", "40", "53", "55P03", "57")  # SQLSTATEs (their beginnings) after which trying again may help

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresStore(SqlStore):
    """JobStore in the database at `url`, as libpq reads it. By reference: env:NAME or file:PATH for the whole URL, the
    same for a password in it (postgresql://user:env:NAME@host/database, or ?password=file:/path).
    """

    serial = "BIGSERIAL PRIMARY KEY"
    real = "DOUBLE PRECISION"
    listed = "SELECT 1 WHERE to_regclass('bimodal_jobs_schema') IS NOT NULL"

    def __init__(self, url: str) -> None:
        self._url = url
        given = _given(url)
        port = f":{given['port']}" if given.get("port") else ""
        self.name = f"postgresql://{given.get('host', '')}{port}/{given.get('dbname', '')}"
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._process = 0
        with self.writing() as do:
            self.prepare(do)

    @contextmanager
    def writing(self) -> Iterator[Execute]:
        with self._lock, self._told():
            self._begin()
            connection = self._open()
            try:
                yield _executing(connection)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(psycopg.Error):  # of a lost connection the server rolls back
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[Execute]:
        with self._lock, self._told():
            yield self._asked

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def _begin(self) -> None:
        """A transaction that is alone. A connection that was lost while nobody used it is opened again."""
        try:
            self._open().execute(BEGIN.encode())
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError) and self._lost():
                self._open().execute(BEGIN.encode())
                return
            self.close()  # it may be in a transaction that waits for its end
            raise

    def _asked(self, statement: str, *values: Any) -> list[Row]:
        """A single statement, asked again where the connection was lost meanwhile."""
        try:
            return _executing(self._open())(statement, *values)
        except psycopg.OperationalError:
            if not self._lost():
                raise
            return _executing(self._open())(statement, *values)

    def _open(self) -> Connection:
        """The connection of this process: one that came through a fork is not to be used, nor closed."""
        if self._connection is None or self._process != os.getpid() or self._connection.closed:
            given = DEFAULTS | {"application_name": f"bimodal jobs {os.getpid()}"} | _given(self._url)
            self._connection = psycopg.connect(make_conninfo(**given), autocommit=True, prepare_threshold=None)
            self._process = os.getpid()
        return self._connection

    def _lost(self) -> bool:
        return self._connection is not None and self._connection.closed

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The driver's errors, in a sentence."""
        try:
            yield
        except psycopg.Error as error:
            raise self._meant(error) from None  # the driver's own may hold the data, and the address

    def _meant(self, error: psycopg.Error) -> BimodalError:
        state = error.diag.sqlstate
        if state == "55P03":
            return Unavailable(f"the state of jobs in {self.name} was locked for 30 s by other processes")
        why = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
        if state is None or state.startswith(AGAIN):
            return Unavailable(f"the state of jobs in {self.name} cannot be reached: {why}")
        return SinkError(f"the state of jobs cannot be kept in {self.name}: {why}")


def _given(url: str) -> dict[str, Any]:
    """The URL's parts, secrets and all: for the driver alone. Raises UsageError without a word of them."""
    try:
        found = conninfo_to_dict(_referred(url))
    except psycopg.ProgrammingError:
        raise UsageError(
            "the URL of `state` cannot be read: write postgresql://user@host/database, and characters such as "
            "# / ? : @ in a name or password as %23 %2F %3F %3A %40"
        ) from None
    return {name: _referred(str(value)) if name in SECRETS else value for name, value in found.items()}


def _referred(value: str) -> str:
    """What stands at env:NAME or file:PATH, or the value itself."""
    mark, _, place = value.partition(":")
    if mark == "env":
        if not os.environ.get(place):
            raise UsageError(f"the environment variable {place} is not set; `state` refers to it")
        return os.environ[place]
    if mark == "file":
        try:
            return Path(place).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(f"the file {place}, which `state` refers to, cannot be read: {reason}") from None
    return value


def _executing(connection: Connection) -> Execute:
    def do(statement: str, *values: Any) -> list[Row]:
        cursor = connection.execute(statement.replace("?", "%s").encode(), values)
        return cursor.fetchall() if cursor.description else []

    return do
