"""The rows of keys that have no result, from a database's table: looked up by key, one query for many."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Database, TableName
from bimodal.errors import SourceError, UsageError
from bimodal.field import listed, nearest
from bimodal.formats.library import library
from bimodal.signature import Signature

MOST = 500  # keys of one query
PATIENCE = 10  # seconds for one query
KINDS = ("sqlite", "postgresql", "duckdb")

DATA = "22"  # the class of SQL states that means: a value is not of its type
MISFITS = ("OverflowError", "ConversionException", "DataError", "UnicodeEncodeError")  # how drivers say so

Key = int | str


class Misfit(Exception):
    """A key is no value of the column's type."""


class Session(Protocol):
    """A connection that only reads."""

    def select(self, statement: str, keys: Sequence[Key]) -> list[tuple[Any, ...]]: ...

    def close(self) -> None: ...


class Rows:
    """A table's rows by key. Used by one thread at a time; a connection that fails is opened anew for the next."""

    def __init__(self, database: Database, table: TableName, key: str, names: Sequence[str]) -> None:
        self._database, self._key, self._names = database, key, tuple(names)
        self._columns = ", ".join(database.quote(name) for name in (key, *self._names))
        self._table = ".".join(database.quote(each) for each in (table.schema, table.name) if each is not None)
        self._session: Session | None = None

    def fetch(self, keys: Sequence[Key]) -> list[Mapping[str, Any] | None]:
        """Each key's row: its features by name; None where the table has none. Raises SourceError."""
        found: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(keys), MOST):
            for key, *values in self._of(keys[start : start + MOST]):
                found[str(key)] = dict(zip(self._names, values, strict=True))
        return [found.get(str(key)) for key in keys]

    def _of(self, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        """The rows of so many keys. A key that cannot be one of the column's (a word, where it has integers) has no
        row; the database refuses the whole query for it, so that it is looked for in halves.
        """
        try:
            return self._select(keys)
        except Misfit:
            half = len(keys) // 2
            return [*self._of(keys[:half]), *self._of(keys[half:])] if half else []

    def close(self) -> None:
        if self._session is not None:
            with contextlib.suppress(Exception):  # it may be gone already
                self._session.close()
            self._session = None

    def _select(self, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        word = "%s" if self._database.kind == "postgresql" else "?"
        places = ", ".join([word] * len(keys))
        column = self._database.quote(self._key)
        statement = f"SELECT {self._columns} FROM {self._table} WHERE {column} IN ({places})"  # noqa: S608 - quoted
        try:
            if self._session is None:
                self._session = _session(self._database)
            return self._session.select(statement, keys)
        except SourceError:
            self.close()
            raise
        except Exception as error:
            kind = type(error).__name__
            if kind in MISFITS or str(getattr(error, "sqlstate", "")).startswith(DATA):
                raise Misfit from None
            self.close()
            raise SourceError(f"{self._database.name}: the rows of keys cannot be read ({kind})") from None


def open_rows(text: str, key: str, signature: Signature) -> Rows:
    """The rows of the table that an address names. key: its column. Of a model that knows no names the table's other
    columns are the features, in their order. Raises UsageError, SourceError.
    """
    address = Address.parse(text)
    database, table = address.open(), address.named
    if database.kind not in KINDS:
        raise UsageError(f"{address.name}: rows by key are read from {listed(KINDS)}")
    columns = database.schema(table).names
    names = [each.name for each in signature.inputs] if signature.named else [name for name in columns if name != key]
    for name in (key, *names):
        if name not in columns:
            near = nearest(name, columns)
            hint = f"did you mean {near!r}?" if near else f"it has {listed(columns)}"
            raise UsageError(f"{address.name} has no column {name!r}; {hint}")
    if database.kind == "postgresql" and table.schema is None:
        session = database.session()
        try:
            table = database.resolve(session, table)
        finally:
            session.close()
    return Rows(database, table, key, names)


def _session(database: Database) -> Session:
    if database.kind == "sqlite":
        return SQLiteRows(database)
    return PostgresRows(database) if database.kind == "postgresql" else DuckDBRows(database)


class SQLiteRows:
    """A file that is only read. A key of the other kind than the column's is compared as SQLite does: by affinity."""

    def __init__(self, database: Any) -> None:
        sqlite3 = library("sqlite3")
        self._connection = sqlite3.connect(
            f"{database.path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE, check_same_thread=False
        )

    def select(self, statement: str, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.execute(statement, list(keys)).fetchall()
        return rows

    def close(self) -> None:
        self._connection.close()


class PostgresRows:
    """One connection, each query a transaction of its own that only reads."""

    def __init__(self, database: Any) -> None:
        self._connection = database.connect(SourceError)
        self._connection.execute("SET default_transaction_read_only = on")
        self._connection.execute(f"SET statement_timeout = {PATIENCE * 1000}")

    def select(self, statement: str, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        # as text, so that the server reads them as what the column is
        rows: list[tuple[Any, ...]] = self._connection.execute(statement, [str(key) for key in keys]).fetchall()
        return rows

    def close(self) -> None:
        self._connection.close()


class DuckDBRows:
    """Opened for each query: DuckDB lets nobody write to a file that another process has open."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def select(self, statement: str, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        with self._database.connect(SourceError, reading=True) as connection:
            rows: list[tuple[Any, ...]] = connection.execute(statement, list(keys)).fetchall()
            return rows

    def close(self) -> None:
        """Nothing stays open."""
