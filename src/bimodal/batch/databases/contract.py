"""Database: what a source or a sink needs of a database. Adapters: PostgreSQL, SQLite, DuckDB, and a general one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class TableName:
    """A table, as the database spells it (identifiers are compared and quoted as they are, never interpolated raw)."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True)
class Query:
    """A SELECT statement of the user's own."""

    text: str

    def __str__(self) -> str:
        return "the query"


Relation = TableName | Query


@dataclass(frozen=True)
class Mode:
    """What happens to the target. word: create, append, replace or upsert. key: the columns of upsert."""

    word: str = "create"
    key: tuple[str, ...] = ()


class CommitUnknown(Exception):
    """The connection was lost while a COMMIT was under way: it may have happened or not. The caller connects again and
    looks at its marks.
    """


class Session(ABC):
    """One connection for writing. Not thread-safe. What fails is a SinkError of one sentence without the data."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Everything in it happens or nothing. Raises CommitUnknown where the COMMIT's fate is not known."""

    @abstractmethod
    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """One statement; values stand where the Database's `placeholder` does."""

    @abstractmethod
    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a small answer, as Python values."""

    @abstractmethod
    def ingest(self, table: TableName, prepared: Any) -> None:
        """Append rows to a table that has columns of these names and types, within the running transaction. prepared:
        what `Database.prepare` made of them.
        """

    @abstractmethod
    def close(self) -> None: ...


class Database(ABC):
    """A database behind its URL. Opening reads nothing but what is needed to say that it can be reached.

    kind: postgresql, sqlite, duckdb, or the dialect's name (mysql, …). name: for messages and records; never a
    password. ddl_commits: a CREATE or RENAME ends the transaction (MySQL).
    """

    kind: str
    name: str
    placeholder: str = "%s"
    ddl_commits: bool = False

    # -- reading ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def schema(self, relation: Relation) -> pa.Schema:
        """The columns with their exact types (`docs/databases.md` has the table). Raises SourceError where there is no
        such table, naming the nearest, or where the query is none that reads.
        """

    @abstractmethod
    def rows(self, relation: Relation) -> int | None:
        """About how many rows there are, from what the database knows without counting; None: not known."""

    @abstractmethod
    def batches(self, relation: Relation, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of these columns, in one consistent view and in the database's own order, which is the same as long
        as nothing is written; of any size, a few MB at most. Memory does not grow with the table. A connection of its
        own, which ends with the generator.
        """

    # -- writing ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def session(self) -> Session:
        """A new connection for writing."""

    @abstractmethod
    def lock(self, target: TableName) -> Callable[[], None] | str:
        """Try to take the lock on a target, which ends with this process (or its connection): how to give it back, or,
        where another one has it, that one in words (`process 12 on host, since …`).
        """

    @abstractmethod
    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        """The columns of a table and their types as this database writes them, or None where there is no such table."""

    @abstractmethod
    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        """What the user lacks to write there so, in one sentence; None where nothing is missing."""

    @abstractmethod
    def type_of(self, field: pa.Field) -> str:
        """As what type a column of a new table holds this field without loss; SinkError naming the column if there is
        none.
        """

    @abstractmethod
    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> Any:
        """The heavy part of `Session.ingest`, in any thread: rows for a table whose columns have these types."""

    @abstractmethod
    def upsert(self, target: TableName, staging: TableName, types: Mapping[str, str], key: Sequence[str]) -> list[str]:
        """The statements that insert the staging table's rows or, where the key is there, update the others."""

    def quote(self, name: str) -> str:
        """An identifier as this database quotes it; SinkError where it cannot be one (empty, too long, a zero byte)."""
        return '"' + name.replace('"', '""') + '"'

    def spell(self, table: TableName) -> str:
        """A table's quoted name."""
        return ".".join(self.quote(part) for part in (table.schema, table.name) if part is not None)

    def same(self, other: Database) -> bool:
        """Whether both write to one file, so that a reader in progress would keep the writer from committing."""
        return False
