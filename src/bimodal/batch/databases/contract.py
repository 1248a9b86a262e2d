"""Database: what a source or a sink needs of a database. Adapters: PostgreSQL, SQLite, DuckDB, and a general one."""

from __future__ import annotations

import decimal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bimodal.errors import SinkError

TYPE = b"bimodal.type"  # of a field: `kind:type`, what a column that is carried as text is in its database


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


def text_field(name: str, kind: str, declared: str) -> pa.Field:
    """A column whose type Arrow has not, or not exactly (uuid, interval, numeric without bounds), carried as the text
    that the database writes: a sink of the same kind makes it that type again. `numeric` is a word of all kinds: a
    number of any size, which is read as a double where it feeds the model.
    """
    return pa.field(name, pa.string(), metadata={TYPE: f"{kind}:{declared}".encode()})


def declared_type(field: pa.Field, kind: str) -> str | None:
    """The type that `text_field` was told, for a database of that kind (`numeric` for any)."""
    where, _, declared = (field.metadata or {}).get(TYPE, b"").decode().partition(":")
    return declared if declared and (where == kind or declared == "numeric") else None


class CommitUnknown(Exception):
    """The connection was lost within a transaction or while its COMMIT was under way: it may have happened or not. The
    caller connects again and looks at its marks.
    """


class Unfit(Exception):
    """A value that the database cannot hold. column: its name; place: the row's, from 0 within the table that was to be
    prepared; reason: the rest of the sentence, without the value.
    """

    def __init__(self, column: str, place: int, reason: str) -> None:
        super().__init__(reason)
        self.column, self.place, self.reason = column, place, reason


class Session(ABC):
    """One connection for writing. Not thread-safe. What fails is a SinkError of one sentence without the data."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Everything in it happens or nothing. Raises CommitUnknown where its fate is not known, and where the
        connection was lost before the COMMIT: the caller may connect again and repeat it. Outside of one, each
        statement is a transaction of its own.
        """

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
    """A database behind its URL; an adapter is made of an `Address`. Opening reads nothing but what is needed to say
    that it can be reached.

    kind: postgresql, sqlite, duckdb, or the dialect's name (mysql, …). name: for messages and records; never a
    password. identity: which one it is, whoever asks (of one that is no file). ddl_commits: a CREATE or RENAME ends
    the transaction (MySQL). folds: columns whose names differ in upper and lower case alone are one. path: the file of
    a database that is one.
    integer, text, blob: the words for a column of 64-bit integers, of text of any length, of bytes of any length.
    word: for a text of up to 200 characters that may be (part of) a primary key.
    """

    kind: str
    name: str
    identity: str = ""
    placeholder: str = "%s"
    ddl_commits: bool = False
    folds: bool = False
    path: Path | None = None
    integer: str = "BIGINT"
    word: str = "VARCHAR(200)"
    text: str = "TEXT"
    blob: str = "BLOB"

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

    def resolve(self, session: Session, table: TableName) -> TableName:
        """The table with the schema that it is in or, where there is none of that name, would be made in (unchanged
        where a database has no schemas). The staging table and the books stand in the same schema.
        """
        return table

    @abstractmethod
    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        """The columns of a table and their types as this database writes them, or None where there is no such table."""

    def required(self, session: Session, table: TableName) -> tuple[str, ...]:
        """The columns that every new row has to give: not null, without a default."""
        return ()

    def computed(self, session: Session, table: TableName) -> tuple[str, ...]:
        """The columns whose values the database makes itself, and takes from nobody."""
        return ()

    @abstractmethod
    def unique(self, session: Session, table: TableName, key: Sequence[str]) -> bool:
        """Whether the table has a unique index (or key) on exactly these columns, in any order, and on all rows."""

    def left_behind(self, session: Session, table: TableName) -> str | None:
        """What a table has that is not there any more when another one takes its name, in words (`2 indexes`)."""
        return None

    @abstractmethod
    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        """What the user lacks to write there so, in one sentence; None where nothing is missing."""

    def unwritable(self, session: Session, tables: Sequence[TableName]) -> str | None:
        """What the user lacks to read and write those of these tables that are there, as `rights`; None where nothing
        is missing, or where the server alone can tell.
        """
        return None

    @abstractmethod
    def type_of(self, field: pa.Field) -> str:
        """As what type a column of a new table holds this field without loss (`declared_type` first); SinkError naming
        the column if there is none.
        """

    @abstractmethod
    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> Any:
        """The heavy part of `Session.ingest`, in any thread: rows for a table whose columns have these types, as
        `type_of` gave them. Raises Unfit.
        """

    def converted(self, column: str, have: str, want: str) -> str:
        """A column (a quoted name, or an expression) of one type as another, which the target has. Must not lose a
        thing without `differs` telling.
        """
        return column if have.lower() == want.lower() else f"CAST({column} AS {want})"

    def differs(self, column: str, have: str, want: str) -> str | None:
        """A condition that holds in the rows where `converted` loses something; None where it cannot."""
        if have.lower() == want.lower():
            return None
        return f"CAST(CAST({column} AS {want}) AS {have}) IS DISTINCT FROM {column}"

    def convertible(self, session: Session, have: str, want: str) -> bool:
        """Whether the one type can be converted to the other at all."""
        try:
            session.query(f"SELECT {self.converted(f'CAST(NULL AS {have})', have, want)}")
        except SinkError:
            return False
        return True

    def failing(self, session: Session, table: TableName, expression: str) -> int | None:
        """The row of a table, from 1 in the order of writing, for which an expression cannot be computed; None: there
        is none, or it cannot be found cheaply.
        """
        return None

    # -- statements -------------------------------------------------------------------------------------------------

    def insert(self, target: TableName, staging: TableName, values: Mapping[str, str]) -> str:
        """The statement that appends the staging table's rows, in their order. values: for each column of the target
        the expression over the staging table's columns.
        """
        names = ", ".join(self.quote(name) for name in values)
        chosen = ", ".join(values.values())
        return f"INSERT INTO {self.spell(target)} ({names}) SELECT {chosen} FROM {self.spell(staging)}"  # noqa: S608 - names quoted, values bound

    @abstractmethod
    def upsert(self, target: TableName, staging: TableName, values: Mapping[str, str], key: Sequence[str]) -> list[str]:
        """The statements that insert the staging table's rows or, where the key is there, update the others. values:
        as of `insert`. The staging table has no key twice, and none that is null.
        """

    def rename(self, table: TableName, name: str) -> str:
        """The statement that gives a table another name in its schema; it fails where there is one of that name."""
        return f"ALTER TABLE {self.spell(table)} RENAME TO {self.quote(name)}"

    def replace(self, session: Session, target: TableName, staging: TableName) -> list[str]:
        """The statements that put the staging table in the target's place, if there is one; readers never see a gap.
        They run in one transaction; but where ddl_commits, the first does it all at once (one RENAME TABLE, the old
        table to the staging table's name with `_old` behind it), and the others clean up, and may be repeated.
        """
        return [f"DROP TABLE IF EXISTS {self.spell(target)}", self.rename(staging, target.name)]

    def index(self, table: TableName, key: Sequence[str]) -> str:
        """The command for the unique index that an upsert needs, to be shown."""
        columns = ", ".join(self.quote(name) for name in key)
        return f"CREATE UNIQUE INDEX ON {self.spell(table)} ({columns})"

    def quote(self, name: str) -> str:
        """An identifier as this database quotes it; SinkError where it cannot be one (empty, too long, a zero byte)."""
        return '"' + name.replace('"', '""') + '"'

    def literal(self, expression: str) -> str:
        """An expression whose value is the text of a literal: exactly what this one is, as SQL writes it. A database
        that has none gives the expression itself, and `written` makes the literal of its value.
        """
        return expression

    def written(self, value: Any) -> str:
        """A number, a text or a time, as a literal."""
        if isinstance(value, float):
            return repr(value)
        if isinstance(value, int | decimal.Decimal):
            return str(int(value)) if isinstance(value, bool) else str(value)
        return "'" + str(value).replace("'", "''") + "'"

    def spell(self, table: TableName) -> str:
        """A table's quoted name."""
        return ".".join(self.quote(part) for part in (table.schema, table.name) if part is not None)

    def same(self, other: Database) -> bool:
        """Whether both are one file, so that a reader in progress would keep the writer from committing."""
        if self.path is None or other.path is None or self.kind != other.kind:
            return False
        if self.path.exists() and other.path.exists():
            return self.path.samefile(other.path)
        return self.path.resolve() == other.path.resolve()

    def server(self, session: Session) -> str:
        """Which database this is, whatever its address calls it (localhost, 127.0.0.1, another name of the machine)."""
        return self.identity

    def is_one(self, one: TableName, other: TableName) -> bool:
        """Whether two names, both resolved, are one table's. Most databases fold a table's name."""
        return (one.schema or "main", one.name.lower()) == (other.schema or "main", other.name.lower())

    def limit_memory(self, size: int) -> None:  # noqa: B027 - most run in a process of their own
        """The run has bytes to keep to, and this is its part that the database may use within this process."""
