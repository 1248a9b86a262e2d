"""SQLite: the adapter on the standard library's driver.

No second driver: two copies of SQLite in one process undo each other's locks on a file (sqlite.org/howtocorrupt.html),
and whoever calls us from Python may have it open. For the same reason nothing here opens the file past SQLite.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.affinity import loss
from bimodal.batch.databases.contract import Database, Mode, Query, Relation, Session, TableName
from bimodal.batch.databases.filelock import hold
from bimodal.batch.databases.source import refuse_twice
from bimodal.batch.databases.storage import Misfit, declared, field_of, read_as, stored
from bimodal.errors import SinkError, SourceError, UsageError
from bimodal.field import listed, nearest

WAIT = 30.0  # seconds for another program's lock
SMALLEST_ROW = 4  # bytes
SAMPLE = 1000  # rows that a column's type is proven on before the run
BATCH_ROWS = 4096
BATCH_BYTES = 4 << 20
STATEMENT_VALUES = 2048  # in one INSERT of many rows: the interpreter's lock is let go once a statement
VIEW = "bimodal_query"
EXTRA = 3  # PRAGMA synchronous: a commit is on the disk when it returns; at FULL a power cut may undo the last one


class SQLite(Database):
    """A database file. As a source it must exist; as a sink it is made."""

    kind = "sqlite"
    placeholder = "?"
    folds = True
    integer = "INTEGER"
    word = "TEXT"

    path: Path

    def __init__(self, address: Address) -> None:
        self.name = address.name
        if not address.database or address.database == ":memory:":
            raise UsageError("sqlite:// names no file: write sqlite:///relative.db or sqlite:////absolute.db")
        if address.options:
            raise UsageError(f"{self.name}: SQLite takes no options ({', '.join(sorted(address.options))})")
        self.path = Path(address.database)
        self.schemas: dict[Relation, pa.Schema] = {}

    # -- reading ----------------------------------------------------------------------------------------------------

    def schema(self, relation: Relation) -> pa.Schema:
        """Each column as it is declared, or, where the first rows are something else, as they are."""
        if relation not in self.schemas:
            with self._reading() as connection:
                self.schemas[relation] = self._schema(connection, relation)
        return self.schemas[relation]

    def rows(self, relation: Relation) -> int | None:
        """The span of the row ids, which is the number of rows where nothing was deleted; not known where the file
        is too small for so many.
        """
        if isinstance(relation, Query):
            return None
        with self._reading() as connection:
            self._columns(connection, relation)
            try:
                span = f"SELECT max(rowid), min(rowid) FROM {self.spell(relation)}"  # noqa: S608 - quoted
                last, first = connection.execute(span).fetchone()
            except sqlite3.OperationalError:  # a view, or a table WITHOUT ROWID
                return None
        if last is None:
            return 0
        known = isinstance(last, int) and isinstance(first, int)
        return last - first + 1 if known and last - first < self.path.stat().st_size // SMALLEST_ROW else None

    def batches(self, relation: Relation, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        schema = self.schema(relation)
        fields = [schema.field(name) for name in columns]
        with self._reading() as connection:
            self._columns(connection, relation)  # a query is one that reads, or this fails
            statement, places = self._select(relation, columns, schema)
            connection.execute("BEGIN")
            yield from self._batches(connection, statement, fields, places)

    def _batches(
        self, connection: sqlite3.Connection, statement: str, fields: Sequence[pa.Field], places: Sequence[int]
    ) -> Iterator[pa.RecordBatch]:
        cursor = connection.execute(statement)
        start, size = 0, 256
        while rows := self._fetched(connection, cursor, statement, start, size):
            values = list(zip(*rows, strict=True))
            arrays = [self._array(values[place], field, start) for place, field in zip(places, fields, strict=True)]
            batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)) if fields else _bare(len(rows))
            yield batch
            start += len(rows)
            size = max(1, min(BATCH_ROWS, BATCH_BYTES * len(rows) // max(1, batch.nbytes)))

    def _fetched(
        self, connection: sqlite3.Connection, cursor: sqlite3.Cursor, statement: str, start: int, size: int
    ) -> list[Any]:
        try:
            return cursor.fetchmany(size)
        except sqlite3.OperationalError as error:
            found = re.match(r"Could not decode to UTF-8 column '(.*?)' with text", str(error), re.DOTALL)
            if found is None:
                raise
            row = _broken(connection, statement)
        misfit = Misfit(row - 1, "TEXT that is not UTF-8", lambda column: f"CAST({column} AS BLOB)")
        raise self._unfit(misfit, found[1], 0) from None

    def _array(self, values: Sequence[Any], field: pa.Field, start: int) -> pa.Array:
        try:
            return read_as(values, field.type)
        except Misfit as misfit:
            raise self._unfit(misfit, field.name, start) from None

    def _unfit(self, misfit: Misfit, column: str, start: int) -> SourceError:
        row = start + misfit.place + 1
        name = self.quote(column)
        return SourceError(
            f"{self.name}: row {row}, column {column!r} holds {misfit.found}, which the column's type does not; "
            f"say how to read it in a --query, as {misfit.remedy(name)} AS {name}, or leave such rows out with WHERE",
            row=row,
            column=column,
        )

    def _select(self, relation: Relation, columns: Sequence[str], schema: pa.Schema) -> tuple[str, Sequence[int]]:
        """The statement, and where in its rows the columns stand. A query runs as it was written, so that its ORDER
        BY decides.
        """
        if isinstance(relation, Query):
            return relation.text, [schema.get_field_index(name) for name in columns]
        listed = ", ".join(self.quote(name) for name in columns) or "1"
        return f"SELECT {listed} FROM {self.spell(relation)}", range(len(columns))  # noqa: S608 - quoted

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that cannot write. What fails in it is a SourceError."""
        if not self.path.is_file():
            raise SourceError(f"{self.name}: there is no such file")
        try:
            with closing(self._readable()) as connection:
                yield connection
        except sqlite3.Error as error:
            raise SourceError(f"{self.name}: {_reason(error)}") from None

    def _readable(self) -> sqlite3.Connection:
        """Opened for writing where that is allowed: SQLite then cleans up after a program that died. A database of
        write-ahead kind in a folder where nothing may be made is read as it lies there.
        """
        connection = _connected(self.path, "mode=rw")
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:  # a log that only one who may write there can take up
            connection.close()
            log = self.path.with_name(self.path.name + "-wal")
            if os.access(self.path.parent, os.W_OK) or (log.exists() and log.stat().st_size > 0):
                raise
            connection = _connected(self.path, "mode=ro&immutable=1")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _schema(self, connection: sqlite3.Connection, relation: Relation) -> pa.Schema:
        declarations = self._columns(connection, relation)
        statement, _ = self._select(relation, list(declarations), pa.schema([]))
        cursor = connection.execute(statement)
        refuse_twice([each[0] for each in cursor.description], relation)
        rows = self._fetched(connection, cursor, statement, 0, SAMPLE)
        samples = list(zip(*rows, strict=True)) or [()] * len(declarations)
        fields = []
        for (name, declaration), values in zip(declarations.items(), samples, strict=True):
            sample = values if any(value is not None for value in values) else self._first(connection, relation, name)
            try:
                fields.append(field_of(name, declaration, sample))
            except Misfit as misfit:
                raise self._unfit(misfit, name, 0) from None
        return pa.schema(fields)

    def _columns(self, connection: sqlite3.Connection, relation: Relation) -> dict[str, str]:
        """The columns with their declared types. A query is made a view that this connection alone sees: SQLite then
        tells its columns, and that it only reads.
        """
        if isinstance(relation, Query):
            try:
                connection.execute(f"CREATE TEMP VIEW IF NOT EXISTS {VIEW} AS {relation.text}")
                found = connection.execute(f"PRAGMA temp.table_xinfo({VIEW})").fetchall()
            except (sqlite3.Error, sqlite3.Warning) as error:
                said = _reason(error)
                slip = "syntax error" in said and re.match(r"\s*(selec|sele?ct|with)\b", relation.text, re.IGNORECASE)
                what = "cannot be read" if slip else "is none that only reads"
                raise SourceError(f"{self.name}: the query {what}: {said}") from None
        else:
            if relation.schema not in (None, "main"):
                raise SourceError(self._no_schema(relation))
            found = connection.execute(f"PRAGMA main.table_xinfo({self.quote(relation.name)})").fetchall()
            if not found:
                raise self._absent(connection, relation)
        connection.execute("PRAGMA query_only = ON")
        return {row[1]: row[2] for row in found if row[6] != 1}

    def _absent(self, connection: sqlite3.Connection, table: TableName) -> SourceError:
        kinds = "SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        names = [row[0] for row in connection.execute(kinds)]
        near = nearest(table.name, names)
        hint = f"; did you mean {near}?" if near else f"; there are {listed(sorted(names)[:10])}" if names else ""
        return SourceError(f"{self.name}: there is no table {table.name}{hint}")

    def _first(self, connection: sqlite3.Connection, relation: Relation, column: str) -> tuple[Any, ...]:
        """The first value of a column that began with NULL."""
        place = VIEW if isinstance(relation, Query) else self.spell(relation)
        name = self.quote(column)
        found = connection.execute(f"SELECT {name} FROM {place} WHERE {name} IS NOT NULL LIMIT 1").fetchone()  # noqa: S608 - quoted
        return found or ()

    # -- writing ----------------------------------------------------------------------------------------------------

    def session(self) -> SQLiteSession:
        if not self.path.parent.is_dir():
            raise SinkError(f"{self.name}: there is no folder {self.path.parent}; make it first")
        return SQLiteSession(self)

    def lock(self, target: TableName) -> Callable[[], None] | str:
        return hold(self.path, target)

    def resolve(self, session: Session, table: TableName) -> TableName:
        if table.schema not in (None, "main"):
            raise SinkError(self._no_schema(table))
        return table

    def _no_schema(self, table: TableName) -> str:
        return (
            f"{self.name}: SQLite has no schema {table.schema}; write #{table.name}, or, where the dot belongs to the "
            f'name, #"{table}"'
        )

    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        found = session.query(f"PRAGMA main.table_xinfo({self.quote(table.name)})")
        return {row[1]: row[2] for row in found if row[6] != 1} or None

    def computed(self, session: Session, table: TableName) -> tuple[str, ...]:
        found = session.query(f"PRAGMA main.table_xinfo({self.quote(table.name)})")
        return tuple(row[1] for row in found if row[6] in (2, 3))

    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        for place, what in ((self.path, "file"), (self.path.parent, "folder")):
            if place.exists() and not os.access(place, os.W_OK):
                return f"{self.name}: the {what} {place} is not writable, and SQLite writes its journal beside the file"
        if session.query(
            "SELECT 1 FROM main.sqlite_master WHERE type = 'view' AND lower(name) = lower(?)", [target.name]
        ):
            return f"{self.name}: {target} is a view; rows go into a table"
        return None

    def unique(self, session: Session, table: TableName, key: Sequence[str]) -> bool:
        wanted = {name.lower() for name in key}
        columns = session.query(f"PRAGMA main.table_info({self.quote(table.name)})")
        if {row[1].lower() for row in columns if row[5]} == wanted:
            return True
        indexes = session.query(f"PRAGMA main.index_list({self.quote(table.name)})")
        return any(
            {str(row[2]).lower() for row in session.query(f"PRAGMA main.index_info({self.quote(name)})")} == wanted
            for _, name, unique, _, partial in indexes
            if unique and not partial
        )

    def required(self, session: Session, table: TableName) -> tuple[str, ...]:
        columns = session.query(f"PRAGMA main.table_info({self.quote(table.name)})")
        keys = [row[1] for row in columns if row[5] and row[2].upper() == "INTEGER"]
        numbered = keys[0] if len(keys) == 1 and sum(1 for row in columns if row[5]) == 1 else None  # the row id
        return tuple(row[1] for row in columns if row[3] and row[4] is None and row[1] != numbered)

    def left_behind(self, session: Session, table: TableName) -> str | None:
        kinds = "SELECT type, count(*) FROM main.sqlite_master WHERE lower(tbl_name) = lower(?) GROUP BY type"
        found = dict(session.query(kinds, [table.name]))
        parts = [
            _counted(found[kind], word) for kind, word in (("index", "index"), ("trigger", "trigger")) if kind in found
        ]
        return " and ".join(parts) or None

    def type_of(self, field: pa.Field) -> str:
        return declared(field)

    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> pa.Table:
        return pa.table({name: stored(table.column(name), table.field(name)) for name in table.column_names})

    def converted(self, column: str, have: str, want: str) -> str:
        """As it is: SQLite converts what it writes. (Its CAST takes '2020-01-31' AS DATE for 2020.)"""
        return column

    def differs(self, column: str, have: str, want: str) -> str | None:
        return loss(column, have, want)

    def convertible(self, session: Session, have: str, want: str) -> bool:
        return True

    def upsert(self, target: TableName, staging: TableName, values: Mapping[str, str], key: Sequence[str]) -> list[str]:
        keys = ", ".join(self.quote(name) for name in key)
        others = [self.quote(name) for name in values if name not in key]
        change = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
        # Without WHERE, ON would begin a join.
        return [f"{self.insert(target, staging, values)} WHERE true ON CONFLICT ({keys}) DO {change}"]

    def index(self, table: TableName, key: Sequence[str]) -> str:
        columns = ", ".join(self.quote(name) for name in key)
        name = self.quote("_".join((table.name, *key)))
        return f"CREATE UNIQUE INDEX {name} ON {self.spell(table)} ({columns})"

    def literal(self, expression: str) -> str:
        return f"quote({expression})"

    def quote(self, name: str) -> str:
        if not name or "\0" in name:
            raise SinkError(f"{self.name}: a name in SQLite is not empty and has no zero byte")
        return super().quote(name)


class SQLiteSession(Session):
    """One connection for writing. The journal's kind stays as the user has it; a commit is on the disk."""

    def __init__(self, database: SQLite) -> None:
        self.name = database.name
        self.quote = database.quote
        self.spell = database.spell
        with self._told():
            self.connection = _connected(database.path, "mode=rwc")
            try:
                self._prepare()
            except sqlite3.Error:
                self.connection.close()
                raise

    def _prepare(self) -> None:
        (level,) = self.connection.execute("PRAGMA synchronous").fetchone()
        self.connection.execute(f"PRAGMA synchronous = {max(level, EXTRA)}")
        # A view on the table that is being replaced would otherwise keep the staging table from taking its name.
        self.connection.execute("PRAGMA legacy_alter_table = ON")
        self.connection.execute("PRAGMA schema_version")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._told():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._told():
            self.connection.execute(statement, tuple(values))

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._told():
            return self.connection.execute(statement, tuple(values)).fetchall()

    def ingest(self, table: TableName, prepared: pa.Table) -> None:
        width = prepared.num_columns
        limit = self.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        many = max(1, min(limit, STATEMENT_VALUES) // width)
        names = ", ".join(self.quote(name) for name in prepared.column_names)
        head = f"INSERT INTO {self.spell(table)} ({names}) VALUES "  # noqa: S608 - quoted
        row = f"({', '.join('?' * width)})"
        with self._told():
            for batch in prepared.to_batches(max_chunksize=many * max(1, BATCH_ROWS // many)):
                values = _by_row(batch)
                whole = batch.num_rows // many * many * width
                statement = head + ", ".join([row] * many)
                self.connection.executemany(statement, _cut(values[:whole], many * width))
                self.connection.executemany(head + row, _cut(values[whole:], width))

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite refuses, as a SinkError."""
        try:
            yield
        except sqlite3.Error as error:
            raise SinkError(f"{self.name}: {_reason(error)}") from None


def _connected(path: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)


def _broken(connection: sqlite3.Connection, statement: str) -> int:
    """The number of the first row whose text cannot be decoded: the one at which reading fails again."""
    cursor = connection.execute("SELECT 1")
    count = 1
    try:
        cursor = connection.execute(statement)
        while cursor.fetchone() is not None:
            count += 1
    except sqlite3.OperationalError:  # it is the row that was looked for
        return count
    return count


def _bare(count: int) -> pa.RecordBatch:
    """So many rows without a column."""
    return pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))


def _by_row(batch: pa.RecordBatch) -> list[Any]:
    """All values, row after row."""
    values: list[Any] = [None] * (batch.num_rows * batch.num_columns)
    for place, column in enumerate(batch.columns):
        values[place :: batch.num_columns] = _values(column)
    return values


def _values(column: pa.Array) -> list[Any]:
    """As the driver takes them. By way of numpy, which is faster than Arrow's own list."""
    if column.null_count == 0 and not pa.types.is_null(column.type):
        return list(column.to_numpy(zero_copy_only=False).tolist())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        filled: list[Any] = column.fill_null(0).to_numpy(zero_copy_only=False).tolist()
        for place in column.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
            filled[place] = None
        return filled
    return list(column.to_numpy(zero_copy_only=False).tolist())


def _cut(values: list[Any], size: int) -> Iterator[list[Any]]:
    return (values[place : place + size] for place in range(0, len(values), size))


def _counted(count: int, word: str) -> str:
    plural = {"index": "indexes"}.get(word, word + "s")
    return f"{count} {word if count == 1 else plural}"


REASONS = {
    "SQLITE_BUSY": f"another program has it locked for over {WAIT:.0f} s; run the same command when that is done",
    "SQLITE_LOCKED": "a table of it is in use by this process; close what reads it",
    "SQLITE_NOTADB": "the file is no SQLite database (or an encrypted one)",
    "SQLITE_READONLY": "it cannot be written: the file or its folder is read-only",
    "SQLITE_FULL": "no space is left on the disk; what was written is kept: free some and run the same command again",
    "SQLITE_IOERR": "the disk failed; what was written is kept: run the same command again when it is well",
    "SQLITE_CORRUPT": "the file is damaged; PRAGMA integrity_check says how",
    "SQLITE_CANTOPEN": "it cannot be opened: look at the rights of the file and of its folder",
    "SQLITE_PERM": "it cannot be opened: look at the rights of the file and of its folder",
    "SQLITE_TOOBIG": "a value is larger than SQLite holds (1 GB)",
}


def _reason(error: Exception) -> str:
    """What happened, in words. SQLite's own speak of names and never of values."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return REASONS.get("_".join(name.split("_")[:2]), str(error))
