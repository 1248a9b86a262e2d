"""A prediction store in PostgreSQL, for several machines: two tables, the current edition of each store in one row.

An edition's rows come in one transaction with the row that makes it the current one, so a reader's one query sees an
edition as a whole, or the last one. The rows of older editions go afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg

from bimodal.errors import BimodalError, InputError, SinkError, SourceError
from bimodal.predictions.contract import Edition, Found, StoreReader, StoreWriter
from bimodal.predictions.shared import named, referred, texts, twice

PATIENCE = 5  # seconds for a connection, and for one query of a reader
LOCK = 0x62696D6F  # of those who make the tables

TABLES = (
    "CREATE TABLE IF NOT EXISTS bimodal_editions (store text PRIMARY KEY, version bigint NOT NULL, edition text)",
    """CREATE TABLE IF NOT EXISTS bimodal_predictions (store text, version bigint, key text, mark bigint NOT NULL,
    body bytea NOT NULL, PRIMARY KEY (store, version, key))""",
)
FIND = """
SELECT e.version, CASE WHEN e.version = %(known)s THEN NULL ELSE e.edition END, p.key, p.mark, p.body
FROM bimodal_editions e
LEFT JOIN bimodal_predictions p ON p.store = e.store AND p.version = e.version AND p.key = ANY(%(keys)s)
WHERE e.store = %(store)s
"""

Connection = psycopg.Connection[tuple[Any, ...]]


def open_reader(url: str, store: str) -> PostgresReader:
    return PostgresReader(url, store)


def open_writer(url: str, store: str, draft: Edition) -> PostgresWriter:
    return PostgresWriter(url, store, draft)


class PostgresReader(StoreReader):
    """Looks up in one query. A connection that fails is opened anew with the next call. Raises SourceError."""

    def __init__(self, url: str, store: str) -> None:
        self._url, self._store = url, store
        self._connection: Connection | None = None
        self._edition: Edition | None = None
        self.look(())

    def edition(self) -> Edition | None:
        """As of the last look."""
        return self._edition

    def look(self, keys: Sequence[int | str]) -> tuple[Edition | None, list[Found | None]]:
        wanted = texts(keys, None if self._edition is None else self._edition.kind)
        known = None if self._edition is None else self._edition.version
        asked = [key for key in wanted if key is not None and "\0" not in key]
        rows = self._ask({"known": known, "keys": asked, "store": self._store})
        if not rows:
            self._edition = None
            return None, [None] * len(keys)
        if rows[0][1] is not None:
            before, self._edition = self._edition, msgspec.json.decode(rows[0][1], type=Edition)
            if before is None or before.kind != self._edition.kind:
                return self.look(keys)  # now that it is known what kind its keys are
        found = {row[2]: Found(bytes(row[4]), row[3]) for row in rows if row[2] is not None}
        return self._edition, [None if key is None else found.get(key) for key in wanted]

    def _ask(self, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with _told(self._url, SourceError, "read"):
            try:
                if self._connection is None:
                    self._connection = _connected(self._url)
                    self._connection.execute(f"SET statement_timeout = {PATIENCE * 1000}")
                return self._connection.execute(FIND, values).fetchall()
            except psycopg.errors.UndefinedTable:
                return []
            except psycopg.Error:
                self.close()
                raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresWriter(StoreWriter):
    """Gathers the rows in a temporary table; `commit` is one transaction. Raises SinkError."""

    def __init__(self, url: str, store: str, draft: Edition) -> None:
        self._url, self._store, self._draft = url, store, draft
        self._count = 0
        with _told(url, SinkError, "written"):
            self._connection = _connected(url)
            try:
                self._connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
                for statement in TABLES:
                    self._connection.execute(statement.encode())
                self._connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
                self._connection.execute(
                    "CREATE TEMP TABLE bimodal_new (place bigint, key text, mark bigint, body bytea)"
                )
            except BaseException:
                self._connection.close()
                raise

    def add(self, keys: Sequence[int | str], bodies: Sequence[bytes], fingerprints: Sequence[int]) -> None:
        words = named(keys, self._draft.kind, self._count)
        for place, word in enumerate(words, self._count + 1):
            if "\0" in word:
                raise InputError(f"row {place}: PostgreSQL holds no text with a null character", row=place)
        with (
            _told(self._url, SinkError, "written"),
            self._connection.cursor() as cursor,
            cursor.copy("COPY bimodal_new FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int8", "text", "int8", "bytea"])
            for place, (word, body, mark) in enumerate(zip(words, bodies, fingerprints, strict=True), self._count + 1):
                copy.write_row((place, word, mark, body))
        self._count += len(words)

    def commit(self, committed: float) -> Edition:
        with _told(self._url, SinkError, "written"):
            with self._connection.transaction():
                edition = self._publish(committed)
            self._connection.execute(
                "DELETE FROM bimodal_predictions WHERE store = %s AND version < "
                "(SELECT version FROM bimodal_editions WHERE store = %s)",
                (self._store, self._store),
            )
        self.abandon()
        return edition

    def _publish(self, committed: float) -> Edition:
        """Within a transaction: the rows, and the row that makes them count."""
        execute = self._connection.execute
        execute("INSERT INTO bimodal_editions VALUES (%s, 0, NULL) ON CONFLICT DO NOTHING", (self._store,))
        row = execute(
            "SELECT version, edition FROM bimodal_editions WHERE store = %s FOR UPDATE", (self._store,)
        ).fetchone()
        version, text = row or (0, None)
        if text is not None:
            current = msgspec.json.decode(text, type=Edition)
            if (current.job, current.run) == (self._draft.job, self._draft.run):
                return current
        both = execute(
            "SELECT min(place), (array_agg(place ORDER BY place))[2] FROM bimodal_new GROUP BY key "
            "HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
        ).fetchone()
        if both is not None:
            raise twice(both[1], both[0])
        edition = msgspec.structs.replace(self._draft, version=version + 1, committed=committed, count=self._count)
        execute(
            "INSERT INTO bimodal_predictions SELECT %s, %s, key, mark, body FROM bimodal_new",
            (self._store, edition.version),
        )
        execute(
            "UPDATE bimodal_editions SET version = %s, edition = %s WHERE store = %s",
            (edition.version, msgspec.json.encode(edition).decode(), self._store),
        )
        return edition

    def abandon(self) -> None:
        """The temporary table goes with the connection."""
        self._connection.close()


def _connected(url: str) -> Connection:
    return psycopg.connect(referred(url), autocommit=True, connect_timeout=PATIENCE, application_name="bimodal store")


@contextlib.contextmanager
def _told(url: str, kind: type[BimodalError], what: str) -> Iterator[None]:
    """Errors in one sentence, with no word of the URL but the host."""
    try:
        yield
    except psycopg.Error as error:
        host = urlsplit(referred(url)).hostname or "this machine"
        reason = type(error).__name__ if error.sqlstate else "no connection"
        raise kind(f"the prediction store in PostgreSQL on {host} cannot be {what} ({reason})") from None
