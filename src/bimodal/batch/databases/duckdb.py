"""DuckDB: the adapter. Rows come and go as Arrow; one process at a time may have a file open for writing."""

from __future__ import annotations

import ast
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Database, Mode, Query, Relation, Session, TableName
from bimodal.batch.databases.duckdb_types import carried, declared, finite, fitted, read_as
from bimodal.batch.databases.filelock import hold
from bimodal.batch.databases.source import refuse_twice
from bimodal.batch.sinks.durable import appear, writable
from bimodal.errors import BimodalError, OutputHeld, SinkError, SourceError, UsageError
from bimodal.field import listed, nearest

MEMORY = 256 << 20  # DuckDB's own default is 80 % of the machine's
THREADS = 4
BATCH_ROWS = 16_384
WAIT = 30.0  # seconds for another process that has the file open
POLLED = 0.1
ROWS = "bimodal_rows"  # the name under which a chunk is seen by SQL
SQLITE = b"SQLite format 3\0"
OTHER = re.compile(r"Conflicting lock is held in .*?\(PID (\d+)\)", re.DOTALL)
SHARED = "different configuration"  # this process has the file open already, otherwise


class DuckDB(Database):
    """A database file. As a source it must exist; as a sink it is made.

    memory: bytes that DuckDB may use, in each process, for the sink and for the source; what does not fit it puts into
    files. wait: seconds for a file that another process has open.
    """

    kind = "duckdb"
    placeholder = "?"
    folds = True
    text = "VARCHAR"
    path: Path

    def __init__(self, address: Address, memory: int = MEMORY) -> None:
        self.name = address.name
        if not address.database or address.database == ":memory:":
            raise UsageError("duckdb:// names no file: write duckdb:///relative.duckdb or duckdb:////absolute.duckdb")
        if address.options:
            raise UsageError(f"{self.name}: DuckDB takes no options here ({', '.join(sorted(address.options))})")
        self.path = Path(address.database)
        self.memory, self.wait = memory, WAIT

    def limit_memory(self, size: int) -> None:
        self.memory = min(self.memory, size)

    @property
    def settings(self) -> dict[str, Any]:
        threads = min(THREADS, os.cpu_count() or 1)
        return {"memory_limit": f"{self.memory >> 20}MiB", "threads": str(threads), "preserve_insertion_order": "true"}

    def connect(self, error: type[BimodalError], *, reading: bool = False) -> duckdb.DuckDBPyConnection:
        """A connection. Raises `error`, or OutputHeld where another process keeps the file for over `wait` seconds."""
        if not reading and not self.path.exists() and self.path.parent.is_dir():
            with writable(self.name):
                self._make()
        if self._is_sqlite():
            raise error(f"{self.name}: the file is a SQLite database: write sqlite:/// instead of duckdb:///")
        until = time.monotonic() + self.wait
        while True:
            try:
                return self._connected(reading)
            except duckdb.Error as caught:
                other = OTHER.search(str(caught))
                if other is None:
                    raise error(f"{self.name}: {_opening(self.path, caught)}") from None
                if time.monotonic() >= until:
                    raise OutputHeld(
                        f"{self.name} is open in process {other[1]}, and DuckDB lets one process at a time write; "
                        "close it there and run the same command again"
                    ) from None
            time.sleep(POLLED)

    def _is_sqlite(self) -> bool:
        """Of such a file DuckDB would load an extension from the network."""
        try:
            with open(self.path, "rb") as file:
                return file.read(len(SQLITE)) == SQLITE
        except OSError:  # whether it can be opened, DuckDB says
            return False

    def _make(self) -> None:
        """A new file has its name when it is whole: DuckDB opens none that a kill left half made."""
        with tempfile.TemporaryDirectory(prefix="bimodal-") as folder:
            empty = Path(folder) / "empty.duckdb"
            duckdb.connect(str(empty)).close()
            appear(self.path, empty.read_bytes())

    def _connected(self, reading: bool) -> duckdb.DuckDBPyConnection:
        """All connections of a process share what was opened first: as it was set up, or not at all."""
        attempts: list[dict[str, Any]] = [{"read_only": reading, "config": self.settings}]
        attempts += [{"config": self.settings}, {}, {"read_only": True}]
        for place, options in enumerate(attempts):
            try:
                return duckdb.connect(str(self.path), **options)
            except duckdb.ConnectionException as caught:
                if SHARED not in str(caught) or place == len(attempts) - 1:
                    raise
        raise AssertionError("the last attempt connects or raises")

    # -- reading ----------------------------------------------------------------------------------------------------

    def schema(self, relation: Relation) -> pa.Schema:
        with self._reading() as connection:
            return self._schema(connection, relation)

    def rows(self, relation: Relation) -> int | None:
        if isinstance(relation, Query):
            return None
        with self._reading() as connection:
            found = connection.execute(
                "SELECT estimated_size FROM duckdb_tables() WHERE database_name = current_database() AND "
                "lower(table_name) = lower(?) AND schema_name = coalesce(?, current_schema())",
                [relation.name, relation.schema],
            ).fetchone()
        return None if found is None else int(found[0])

    def batches(self, relation: Relation, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._reading() as connection, tempfile.TemporaryDirectory(prefix="bimodal-") as spilled:
            connection.execute(f"SET temp_directory = '{_literal(spilled)}'")
            if isinstance(relation, Query):  # several threads would give groups and joins in another order each time
                connection.execute("SET threads = 1")
            schema = self._schema(connection, relation)
            fields = [schema.field(name) for name in columns]
            chosen = ", ".join(read_as(self.quote(each.name), each) for each in fields) or "1 AS one"
            found = self._relation(connection, relation).project(chosen)
            for batch in _reader(found):
                arrays = [finite(column, field, self.name) for column, field in zip(batch.columns, fields)]  # noqa: B905 - the one that stands for none is left out
                yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)) if fields else _bare(batch.num_rows)

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for reading, to itself. What fails in it is a SourceError."""
        if not self.path.is_file():
            raise SourceError(f"{self.name}: there is no such file")
        connection = self.connect(SourceError, reading=True)
        try:
            yield connection
        except (duckdb.Error, pa.ArrowException, OSError) as error:  # of Arrow, some are an OSError
            raise SourceError(f"{self.name}: {_reason(error)}") from None
        finally:
            connection.close()

    def _schema(self, connection: duckdb.DuckDBPyConnection, relation: Relation) -> pa.Schema:
        if isinstance(relation, Query):
            self._only_reads(relation)
        elif not self._exists(connection, relation):
            raise self._absent(connection, relation)
        found = self._relation(connection, relation)
        refuse_twice(found.columns, relation)
        kinds = dict(zip(found.columns, found.types, strict=True))
        schema = _reader(found.limit(0)).schema
        return pa.schema([carried(schema.field(name), kind, self.name) for name, kind in kinds.items()])

    def _relation(self, connection: duckdb.DuckDBPyConnection, relation: Relation) -> Any:
        """The rows, not asked for yet. A query runs as it was written."""
        if isinstance(relation, Query):
            return connection.sql(_unended(relation.text))
        return connection.sql(f"SELECT * FROM {self.spell(relation)}")  # noqa: S608 - names quoted

    def _only_reads(self, query: Query) -> None:
        try:
            statements = duckdb.extract_statements(query.text)
        except duckdb.Error as error:
            raise SourceError(f"{self.name}: the query cannot be read: {_reason(error)}") from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise SourceError(f"{self.name}: the query is none that only reads: write one SELECT")

    def _exists(self, connection: duckdb.DuckDBPyConnection, table: TableName) -> bool:
        return any(
            name.lower() == table.name.lower() and schema.lower() == (table.schema or "main").lower()
            for schema, name in _tables(connection)
        )

    def _absent(self, connection: duckdb.DuckDBPyConnection, table: TableName) -> SourceError:
        names = [str(TableName(name, None if schema == "main" else schema)) for schema, name in _tables(connection)]
        near = nearest(str(table), names)
        hint = f"; did you mean {near}?" if near else f"; there are {listed(sorted(names)[:10])}" if names else ""
        return SourceError(f"{self.name}: there is no table {table}{hint}")

    # -- writing ----------------------------------------------------------------------------------------------------

    def session(self) -> DuckDBSession:
        if not self.path.parent.is_dir():
            raise SinkError(f"{self.name}: there is no folder {self.path.parent}; make it first")
        return DuckDBSession(self)

    def lock(self, target: TableName) -> Callable[[], None] | str:
        return hold(self.path, target)

    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        found = _known(session, table, "duckdb_columns()", "column_index, column_name, data_type")
        return {str(name): str(kind) for _, name, kind in sorted(found)} or None

    def required(self, session: Session, table: TableName) -> tuple[str, ...]:
        chosen = "column_index, column_name, is_nullable, column_default"
        found = _known(session, table, "duckdb_columns()", chosen)
        return tuple(str(name) for _, name, empty, default in sorted(found) if not empty and default is None)

    def computed(self, session: Session, table: TableName) -> tuple[str, ...]:
        found = session.query(
            "SELECT column_name FROM information_schema.columns WHERE table_catalog = current_database() "
            "AND lower(table_name) = lower(?) AND lower(table_schema) = lower(coalesce(?, current_schema())) "
            "AND is_generated = 'ALWAYS'",
            [table.name, table.schema],
        )
        return tuple(str(name) for (name,) in found)

    def unique(self, session: Session, table: TableName, key: Sequence[str]) -> bool:
        own = _known(session, table, "duckdb_constraints()", "constraint_type, constraint_column_names")
        made = _known(session, table, "duckdb_indexes()", "is_unique, expressions")
        groups = [list(names) for kind, names in own if kind in ("PRIMARY KEY", "UNIQUE")]
        groups += [_names(str(expressions)) for unique, expressions in made if unique]
        wanted = sorted(name.lower() for name in key)
        return any(sorted(name.lower() for name in names) == wanted for names in groups)

    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        if _known(session, target, "duckdb_views()", "view_name", "view_name"):
            return f"{target} is a view; rows go into a table"
        if mode.word != "replace":
            return None
        others = _known(session, target, "duckdb_constraints()", "table_name", "referenced_table")
        referring = [str(name) for (name,) in others if str(name).lower() != target.name.lower()]
        if not referring:
            return None
        return (
            f"a foreign key of the table {referring[0]} refers to {target}, which cannot be replaced: --mode upsert, "
            "or drop that table first"
        )

    def left_behind(self, session: Session, table: TableName) -> str | None:
        indexes = len(_known(session, table, "duckdb_indexes()", "index_name"))
        rules = len(_known(session, table, "duckdb_constraints()", "constraint_index"))
        parts = [f"{indexes} {'index' if indexes == 1 else 'indexes'}"] if indexes else []
        parts += [f"{rules} constraint{'s' * (rules != 1)}"] if rules else []
        return " and ".join(parts) or None

    def type_of(self, field: pa.Field) -> str:
        return declared(field)

    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> pa.Table:
        columns = {field.name: fitted(table.column(place), field) for place, field in enumerate(table.schema)}
        return pa.table(columns)

    def differs(self, column: str, have: str, want: str) -> str | None:
        if have.lower() == want.lower():
            return None
        return f"TRY_CAST(TRY_CAST({column} AS {want}) AS {have}) IS DISTINCT FROM {column}"

    def upsert(self, target: TableName, staging: TableName, values: Mapping[str, str], key: Sequence[str]) -> list[str]:
        keys = ", ".join(self.quote(name) for name in key)
        others = [self.quote(name) for name in values if name not in key]
        change = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
        return [f"{self.insert(target, staging, values)} ON CONFLICT ({keys}) DO {change}"]

    def index(self, table: TableName, key: Sequence[str]) -> str:
        columns = ", ".join(self.quote(name) for name in key)
        return f"CREATE UNIQUE INDEX {self.quote('_'.join((table.name, *key)))} ON {self.spell(table)} ({columns})"

    def literal(self, expression: str) -> str:
        text = f"replace(CAST({expression} AS VARCHAR), '''', '''''')"
        return f"'CAST(''' || {text} || ''' AS ' || typeof({expression}) || ')'"

    def quote(self, name: str) -> str:
        if not name or "\0" in name:
            raise SinkError(f"{self.name}: a name in DuckDB is not empty and has no zero byte")
        return super().quote(name)

    def spell(self, table: TableName) -> str:
        """With the database's own name where the schema has the same: DuckDB would not know which is meant."""
        catalog = self.path.name.partition(".")[0]
        front = (
            f"{self.quote(catalog)}." if table.schema is not None and table.schema.lower() == catalog.lower() else ""
        )
        return front + super().spell(table)


class DuckDBSession(Session):
    """One connection for writing. A commit is in the write-ahead log and on the disk when it returns."""

    def __init__(self, database: DuckDB) -> None:
        self.name = database.name
        self.quote = database.quote
        self.spell = database.spell
        self.connection = database.connect(SinkError)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        self.execute("COMMIT")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._told():
            self.connection.execute(statement, list(values))

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._told():
            return self.connection.execute(statement, list(values)).fetchall()

    def ingest(self, table: TableName, prepared: pa.Table) -> None:
        names = ", ".join(self.quote(name) for name in prepared.column_names)
        with self._told():
            self.connection.register(ROWS, prepared)
            try:
                self.connection.execute(f"INSERT INTO {self.spell(table)} ({names}) SELECT {names} FROM {ROWS}")  # noqa: S608 - names quoted
            finally:
                self.connection.unregister(ROWS)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What DuckDB refuses, as a SinkError."""
        try:
            yield
        except duckdb.Error as error:
            raise SinkError(f"{self.name}: {_reason(error)}") from None


def _unended(query: str) -> str:
    """Without the semicolon at its end and the comments behind it, where it becomes part of a statement."""
    text = query.encode()
    for place, kind in reversed(duckdb.tokenize(query)):  # places are bytes
        if text[place : place + 1] == b";" and kind == duckdb.token_type.operator:
            text = text[:place]
        elif kind != duckdb.token_type.comment:
            break
    return text.decode() + "\n"  # a comment may end it


def _reader(relation: Any) -> pa.RecordBatchReader:
    """A relation's rows. DuckDB 1 has another name for it, and types of text that readers of Arrow do not all know."""
    reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    found: pa.RecordBatchReader = reader(BATCH_ROWS)
    return found


def _bare(count: int) -> pa.RecordBatch:
    """So many rows without a column."""
    return pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))


def _tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    found = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() UNION ALL "
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = current_database() AND NOT internal"
    )
    return [(str(schema), str(name)) for schema, name in found.fetchall()]


def _known(session: Session, table: TableName, told: str, chosen: str, by: str = "table_name") -> list[tuple[Any, ...]]:
    """What DuckDB tells of a table."""
    return session.query(
        f"SELECT {chosen} FROM {told} WHERE database_name = current_database() AND lower({by}) = lower(?) AND "  # noqa: S608 - our own words
        "lower(schema_name) = lower(coalesce(?, current_schema()))",
        [table.name, table.schema],
    )


def _literal(text: str) -> str:
    return text.replace("'", "''")


def _names(expressions: str) -> list[str]:
    """The columns of an index, which DuckDB tells as text: `[a, '"b c"']`; nothing of one on an expression."""
    found = re.findall(r"'(?:[^'\\]|\\.|'')*'|[^,\[\]\s]+", expressions)
    texts = [ast.literal_eval(each) if each.startswith("'") else each for each in found]
    return [text[1:-1].replace('""', '"') if text.startswith('"') else text for text in texts]


def _opening(path: Path, error: duckdb.Error) -> str:
    text = str(error)
    if "not a valid DuckDB database" in text:
        return "the file is no DuckDB database"
    if SHARED in text:
        return "this process has the file open already, set up otherwise; close that connection"
    if "storage version" in text or "newer" in text:
        return "the file was written by another version of DuckDB; install that version, or a newer one"
    return "it cannot be opened: " + _reason(error).replace(str(path.absolute()), path.name)


def _reason(error: Exception) -> str:
    """DuckDB's own words where they speak of names; where they may show a value, ours."""
    text = str(error).strip().splitlines()[0]
    if isinstance(error, duckdb.ConstraintException):
        kinds = ("PRIMARY KEY", "UNIQUE", "NOT NULL", "CHECK", "FOREIGN KEY")
        kind = next((word + " " for word in kinds if word in text.upper()), "")
        return f"a row breaks a {kind}constraint of the table"
    if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
        return (
            "a value cannot be converted to its column's type; find it with TRY_CAST, which gives NULL there, and read "
            "it as text: CAST(… AS VARCHAR)"
        )
    if "No space left" in text or "Disk quota" in text:
        return "the disk is full; what is done stays done, and the same command goes on from there once there is room"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "DuckDB has not memory enough for this in its part of it; read or write fewer rows at a time"
    return text
