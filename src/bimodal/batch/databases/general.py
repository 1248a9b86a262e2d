"""Any database that SQLAlchemy has a dialect for. What is the same everywhere works: tables and queries are read, new
tables written and rows appended. What would need a statement of the database's own (replace, upsert) is refused.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Dialect, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import (
    CommitUnknown,
    Database,
    Mode,
    Query,
    Relation,
    Session,
    TableName,
    Unfit,
    declared_type,
    text_field,
)
from bimodal.batch.databases.filelock import hold
from bimodal.errors import SinkError, SourceError, UsageError
from bimodal.field import listed, nearest
from bimodal.formats.library import missing

BATCH_ROWS = 10_000
SEEN_ROWS = 1_000  # of a query, by whose values its columns get their types
TRANSACTIONAL = ("sqlite", "postgresql", "mssql", "cockroachdb", "duckdb")  # elsewhere a CREATE may end a transaction
WAITLESS = ("oracle", "postgresql", "cockroachdb")  # SELECT … FOR UPDATE NOWAIT
SNAPSHOTS = ("REPEATABLE READ", "SERIALIZABLE")
READS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:select|with|values|table|from|\()", re.IGNORECASE | re.DOTALL)
ENDED = re.compile(r"[;\s]+\Z")
HOLE = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|\?")
LOCKS = "bimodal_locks"


class General(Database):
    """A database behind SQLAlchemy. The connection's URL is put together only while it is opened."""

    def __init__(self, address: Address) -> None:
        self.name = address.at(None).name
        self.identity = address.identity
        self._address = address
        self._engine = self._made()
        self._dialect: Dialect = self._engine.dialect
        self.kind = self._dialect.name
        self.ddl_commits = self.kind not in TRANSACTIONAL
        self.placeholder = "%s" if self._dialect.paramstyle in ("format", "pyformat") else "?"
        if self.kind == "sqlite":
            self.path = Path(address.database)
        self.integer, self.word = self._spelled(sa.BigInteger()), self._spelled(sa.String(200))
        self.text, self.blob = self._spelled(sa.Text()), self._spelled(sa.LargeBinary())
        with self._failing(SourceError, "reached"):
            self._engine.connect().close()

    def _made(self) -> Engine:
        """The engine knows the dialect; the URL with its secrets is made anew for each connection."""
        words = f"{self._address.kind}+{self._address.driver}" if self._address.driver else self._address.kind
        try:
            bare = URL.create(words, database=self._address.database or None)
            return sa.create_engine(bare, creator=lambda: self._connection(words), poolclass=sa.NullPool)
        except NoSuchModuleError:
            reason = f"SQLAlchemy has no dialect {words}; install the package that brings it"
        except ModuleNotFoundError as error:
            raise missing(error.name or words) from None
        except (ArgumentError, AttributeError, NotImplementedError):  # what they say may repeat the address
            reason = f"the dialect {words} cannot be used so"
        raise UsageError(f"{self.name}: {reason}")

    def _connection(self, words: str) -> Any:
        address = self._address
        url = URL.create(
            words,
            address.user,
            address.password(),
            address.host,
            address.port,
            address.database or None,
            address.settings(),
        )
        arguments, options = self._dialect.create_connect_args(url)
        return self._dialect.connect(*arguments, **options)

    def _spelled(self, kind: Any) -> str:
        return str(kind.compile(dialect=self._dialect))

    # -- reading ----------------------------------------------------------------------------------------------------

    def schema(self, relation: Relation) -> pa.Schema:
        with self._reading(relation), self._engine.connect() as connection:
            return self._schema(connection, relation)

    def _schema(self, connection: Connection, relation: Relation) -> pa.Schema:
        """By the catalogue; where that does not say, and for a query, by the first rows."""
        if isinstance(relation, Query):
            if not READS.match(relation.text):
                raise SourceError(f"--query is no statement that reads: {self.name} reads by SELECT or WITH")
            names, rows = self._first(connection, relation, None)
            fields: list[tuple[str, pa.DataType | None]] = [(name, None) for name in names]
        else:
            declared = self._catalogue(connection, relation)
            fields = [(name, arrow_type(kind)) for name, kind in declared.items()]
            names, rows = list(declared), []
            if any(kind is None for _, kind in fields):
                names, rows = self._first(connection, relation, names)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SourceError(f"{relation} of {self.name} has two columns called {listed(twice)}: use AS")
        return pa.schema(
            [
                pa.field(name, kind) if kind is not None else self._seen(name, [row[place] for row in rows])
                for place, (name, kind) in enumerate(fields)
            ]
        )

    def _catalogue(self, connection: Connection, table: TableName) -> dict[str, Any]:
        """The columns with SQLAlchemy's types."""
        inspector = sa.inspect(connection)
        if not inspector.has_table(table.name, table.schema):
            views = inspector.get_view_names(table.schema)
            if table.name not in views:
                raise SourceError(self._absent([*inspector.get_table_names(table.schema), *views], table))
        return {each["name"]: each["type"] for each in inspector.get_columns(table.name, table.schema)}

    def _absent(self, names: Sequence[str], table: TableName) -> str:
        near = nearest(table.name, names)
        shown = f"; did you mean {near}?" if near else f"; there are {listed(sorted(names)[:20])}" if names else ""
        return f"{self.name} has no table {table}{shown}"

    def _first(
        self, connection: Connection, relation: Relation, columns: Sequence[str] | None
    ) -> tuple[list[str], list[Any]]:
        result = self._selected(connection, relation, columns)
        rows = list(result.fetchmany(SEEN_ROWS))
        names = list(result.keys())
        result.close()
        return names, rows

    def _selected(self, connection: Connection, relation: Relation, columns: Sequence[str] | None) -> Any:
        streamed = connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS)
        if isinstance(relation, Query):
            return streamed.exec_driver_sql(ENDED.sub("", relation.text))
        declared = self._catalogue(connection, relation)
        chosen = [
            sa.column(name) if isinstance(declared[name], sa.Boolean) else sa.column(name, declared[name])
            for name in columns or declared
        ]  # a boolean as it is held: SQLAlchemy takes any number for true
        return streamed.execute(sa.select(*chosen).select_from(sa.table(relation.name, schema=relation.schema)))

    def _seen(self, name: str, values: Sequence[Any]) -> pa.Field:
        """The type of values as the driver gives them."""
        found = {type(each) for each in values if each is not None}
        if found <= {Decimal} and found:
            return text_field(name, self.kind, "numeric")
        try:
            kind = pa.array([_simple(each) for each in values]).type
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # of several types: as text
            kind = pa.string()
        return pa.field(name, pa.string() if pa.types.is_null(kind) or pa.types.is_nested(kind) else kind)

    def rows(self, relation: Relation) -> int | None:
        return None

    def batches(self, relation: Relation, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with contextlib.ExitStack() as stack:
            with self._reading(relation):
                connection = stack.enter_context(self._engine.connect())
                if self.kind != "sqlite":
                    self._isolate(connection)
                schema = self._schema(connection, relation)
                schema = pa.schema([schema.field(name) for name in columns])
                result = self._selected(connection, relation, columns)
                places = [list(result.keys()).index(name) for name in columns]
            before = 0
            while rows := self._some(result, relation):
                arrays = [
                    self._array(schema.field(at), [row[place] for row in rows], before, relation)
                    for at, place in enumerate(places)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
                before += len(rows)

    def _some(self, result: Any, relation: Relation) -> list[Any]:
        with self._reading(relation):
            return list(result.fetchmany(BATCH_ROWS))

    def _isolate(self, connection: Connection) -> None:
        """One view for all that is read."""
        with contextlib.suppress(NotImplementedError):  # a dialect without levels has its own
            known = self._dialect.get_isolation_level_values(connection.connection.dbapi_connection)  # type: ignore[arg-type]
            level = next((each for each in SNAPSHOTS if each in known), None)
            if level is not None:
                connection.execution_options(isolation_level=level)

    def _array(self, field: pa.Field, values: list[Any], before: int, relation: Relation) -> pa.Array:
        make = _text if pa.types.is_string(field.type) else _truth if pa.types.is_boolean(field.type) else _simple
        try:
            return pa.array([make(each) for each in values], field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            row = next(at for at, each in enumerate(values) if not _holds(field.type, make(each)))
        raise SourceError(
            f"row {before + row + 1}, column {field.name!r} of {relation}: the value is no {field.type}, as the "
            "column's type (or its first rows) say: choose a CAST by --query",
            row=before + row + 1,
            column=field.name,
        )

    @contextlib.contextmanager
    def _reading(self, relation: Relation) -> Iterator[None]:
        with self._failing(SourceError, "read", str(relation)):
            yield

    @contextlib.contextmanager
    def _failing(self, kind: type[SourceError | SinkError], what: str, place: str = "") -> Iterator[None]:
        """Errors of the driver, in one sentence without its words: they repeat data, or the connection's string."""
        try:
            yield
            return
        except (SQLAlchemyError, self._dialect.loaded_dbapi.Error, OSError, ValueError) as error:
            reason = told(error)
        where = f"{place} of {self.name}" if place else self.name
        raise kind(f"{where} cannot be {what}: {reason}") from None

    # -- writing ----------------------------------------------------------------------------------------------------

    def session(self) -> GeneralSession:
        with self._failing(SinkError, "reached"):
            return GeneralSession(self.name, self._engine.connect(), self.placeholder)

    def lock(self, target: TableName) -> Callable[[], None] | str:
        if self.path is not None:
            return hold(self.path, target)
        if self.kind not in WAITLESS:
            raise SinkError(f"no lock is known for {self.kind}, so that {self.name} can be read alone: write a file")
        return self._row_lock(target)

    def _row_lock(self, target: TableName) -> Callable[[], None] | str:
        """A row of our own, locked by a transaction that ends with the connection."""
        table = sa.Table(LOCKS, sa.MetaData(schema=target.schema), sa.Column("name", sa.String(200), primary_key=True))
        name = str(target)[:200]
        with self._failing(SinkError, "locked"):
            with self._engine.begin() as connection:
                table.create(connection, checkfirst=True)
            # the row is there: another run has made it
            with contextlib.suppress(sa.exc.IntegrityError), self._engine.begin() as connection:
                connection.execute(table.insert().values(name=name))
            connection = self._engine.connect()
        try:
            connection.execute(sa.select(table.c.name).where(table.c.name == name).with_for_update(nowait=True)).all()
        except DBAPIError:
            connection.close()
            return "another run"
        return connection.close

    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        inspector = sa.inspect(self._of(session))
        if not inspector.has_table(table.name, table.schema):
            return None
        return {each["name"]: self._spelled(each["type"]) for each in inspector.get_columns(table.name, table.schema)}

    @staticmethod
    def _of(session: Session) -> Connection:
        assert isinstance(session, GeneralSession)
        return session.connection

    def required(self, session: Session, table: TableName) -> tuple[str, ...]:
        inspector = sa.inspect(self._of(session))
        alone = inspector.get_pk_constraint(table.name, table.schema)["constrained_columns"]
        return tuple(
            each["name"]
            for each in inspector.get_columns(table.name, table.schema)
            if not each["nullable"] and each["default"] is None and not each.get("identity")
            and not (each["name"] in alone and len(alone) == 1 and isinstance(each["type"], sa.Integer))
        )  # fmt: skip

    def unique(self, session: Session, table: TableName, key: Sequence[str]) -> bool:
        inspector = sa.inspect(self._of(session))
        found = [inspector.get_pk_constraint(table.name, table.schema)["constrained_columns"]]
        found += [each["column_names"] for each in inspector.get_unique_constraints(table.name, table.schema)]
        return any(set(each) == set(key) for each in found)

    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        return self._refused(mode.word) if mode.word in ("replace", "upsert") else None

    def _refused(self, mode: str) -> str:
        return (
            f"--mode {mode} is not known to be safe in {self.kind}: --mode create and append are; or write to a "
            f"table of its own, and {mode} there"
        )

    def type_of(self, field: pa.Field) -> str:
        declared = declared_type(field, self.kind)
        if declared is not None and declared != "numeric":
            return declared
        found = SPECIAL.get((self.kind, _family(field.type)))
        return found or self._spelled(self._sa_type(field))

    def _sa_type(self, field: pa.Field) -> Any:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_decimal(kind) and not self._dialect.supports_native_decimal:
            raise SinkError(f"column {field.name!r} is of type {kind}, which {self.kind} would round: give it as text")
        found = next((make(kind) for matches, make in MADE if matches(kind)), None)
        if found is None:
            raise SinkError(
                f"column {field.name!r} is of type {kind}, which has no column type: leave it out by --keep"
            )
        return found

    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> Prepared:
        columns = []
        for field, column in zip(table.schema, table.columns, strict=True):
            values = column.to_pylist() if not pa.types.is_timestamp(field.type) else _moments(field, column)
            if pa.types.is_uint64(field.type):
                place = next((at for at, each in enumerate(values) if each is not None and each >= 1 << 63), None)
                if place is not None:
                    raise Unfit(field.name, place, f"{self.kind} holds whole numbers of 64 bits with a sign")
            columns.append(values)
        names = table.column_names
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return Prepared(rows, {field.name: self._sa_type(field) for field in table.schema})

    def differs(self, column: str, have: str, want: str) -> str | None:
        """Without IS DISTINCT FROM, which not all of them have: a null stays null either way."""
        if have.lower() == want.lower():
            return None
        return f"CAST(CAST({column} AS {want}) AS {have}) <> {column}"

    def upsert(self, target: TableName, staging: TableName, values: Mapping[str, str], key: Sequence[str]) -> list[str]:
        raise SinkError(f"{self.name} cannot be written: {self._refused('upsert')}")

    def replace(self, session: Session, target: TableName, staging: TableName) -> list[str]:
        raise SinkError(f"{self.name} cannot be written: {self._refused('replace')}")

    def quote(self, name: str) -> str:
        longest = self._dialect.max_identifier_length
        if not 0 < len(name) <= longest or "\0" in name:
            raise SinkError(f"{name[:80]!r} cannot be a name in {self.kind}: 1 to {longest} characters, no zero byte")
        return self._dialect.identifier_preparer.quote_identifier(name).replace("%%", "%")


@dataclass(frozen=True)
class Prepared:
    """Rows as the driver takes them, and the types that SQLAlchemy binds them by."""

    rows: list[dict[str, Any]]
    types: dict[str, Any]


class GeneralSession(Session):
    """A connection; each statement outside of `transaction` is one of its own."""

    def __init__(self, name: str, connection: Connection, placeholder: str) -> None:
        self._name, self.connection, self._placeholder = name, connection, placeholder
        self._within = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._settle()
        self._within = True
        try:
            yield
            with self._writing():
                self.connection.commit()
        except BaseException:
            with contextlib.suppress(SQLAlchemyError):  # a connection that is lost has rolled back
                self.connection.rollback()
            raise
        finally:
            self._within = False

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._writing():
            self._run(statement, values)
            self._settle()

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._writing():
            rows = [tuple(row) for row in self._run(statement, values)]
            self._settle()
        return rows

    def ingest(self, table: TableName, prepared: Prepared) -> None:
        into = sa.table(table.name, *(sa.column(*each) for each in prepared.types.items()), schema=table.schema)
        with self._writing():
            if prepared.rows:
                self.connection.execute(into.insert(), prepared.rows)

    def close(self) -> None:
        with contextlib.suppress(SQLAlchemyError):  # it may be lost, and then it is closed
            self.connection.close()

    def _settle(self) -> None:
        """Outside of a transaction: what was done is done, and a look holds nothing."""
        if not self._within and self.connection.in_transaction():
            self.connection.commit()

    def _run(self, statement: str, values: Sequence[Any]) -> Any:
        style = self.connection.dialect.paramstyle
        if values and style in ("named", "numeric"):
            numbers = iter(range(1, len(values) + 1))
            statement = HOLE.sub(lambda found: f":{next(numbers)}" if found[0] == "?" else found[0], statement)
        return self.connection.exec_driver_sql(statement, tuple(values) if values else None)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
            return
        except (SQLAlchemyError, OSError) as error:
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            reason = told(error)
            if not self._within and not lost:
                self.connection.rollback()
        if lost:
            raise CommitUnknown(f"the connection to {self._name} was lost") from None
        raise SinkError(f"{self._name} cannot be written: {reason}") from None


def told(error: BaseException) -> str:
    """The kind of an error and its number: the words repeat the statement, values, or the connection's string."""
    original = getattr(error, "orig", None) or error
    number = next((each for each in original.args if isinstance(each, int)), None)
    name = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    shown = ", ".join(str(each) for each in (name, number) if each)
    return f"{type(original).__name__}{f' ({shown})' if shown else ''}, says its driver"


def arrow_type(kind: Any) -> pa.DataType | None:
    """The exact type of a column by SQLAlchemy's; None where the values have to say."""
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        digits = kind.precision or 0
        make = pa.decimal128 if digits <= 38 else pa.decimal256
        return make(digits, kind.scale or 0) if 0 < digits <= 76 and kind.asdecimal else None
    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us", "UTC" if kind.timezone else None)
    return next((found for each, found in READ if isinstance(kind, each)), None)


def _family(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "moment" if kind.tz is None else "instant"
    return "time" if pa.types.is_time(kind) else ""


def _simple(value: Any) -> Any:
    """As Arrow takes it."""
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, UUID | dict | list):
        return _text(value)
    return value


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if isinstance(value, UUID | Decimal | int) and not isinstance(value, bool) else value


def _truth(value: Any) -> Any:
    return bool(value) if value in (0, 1) else value


def _holds(kind: pa.DataType, value: Any) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _moments(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    """In UTC, as Python's datetimes: microseconds."""
    zone = field.type.tz and "UTC"
    try:
        return list(column.cast(pa.timestamp("us", zone)).to_pylist())
    except pa.ArrowInvalid:
        values = column.to_pylist()
    raise Unfit(field.name, next((at for at, each in enumerate(values) if each is not None), 0), "it has nanoseconds")


READ: tuple[tuple[Any, pa.DataType], ...] = (  # a type before those that it is one of
    (sa.Boolean, pa.bool_()),
    (sa.SmallInteger, pa.int16()),
    (sa.Integer, pa.int64()),
    (sa.Float, pa.float64()),  # REAL too: some databases hold a double in it
    (sa.Date, pa.date32()),
    (sa.Time, pa.time64("us")),
    (sa.Interval, pa.duration("us")),
    (sa.LargeBinary, pa.binary()),
    (sa.types._Binary, pa.binary()),
    (sa.String, pa.string()),
    (sa.JSON, pa.string()),
    (sa.Uuid, pa.string()),
)
MADE: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Any]], ...] = (
    (pa.types.is_boolean, lambda kind: sa.Boolean()),
    (lambda kind: kind in (pa.int8(), pa.uint8(), pa.int16()), lambda kind: sa.SmallInteger()),
    (lambda kind: kind in (pa.uint16(), pa.int32()), lambda kind: sa.Integer()),
    (pa.types.is_integer, lambda kind: sa.BigInteger()),
    (pa.types.is_floating, lambda kind: sa.Double()),
    (pa.types.is_decimal, lambda kind: sa.Numeric(kind.precision, max(kind.scale, 0))),
    (pa.types.is_date, lambda kind: sa.Date()),
    (pa.types.is_timestamp, lambda kind: sa.DateTime(timezone=kind.tz is not None)),
    (pa.types.is_time, lambda kind: sa.Time()),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), lambda kind: sa.Text()),
    (pa.types.is_null, lambda kind: sa.Text()),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), lambda kind: sa.LargeBinary()),
    (pa.types.is_fixed_size_binary, lambda kind: sa.LargeBinary()),
)
SPECIAL = {  # what SQLAlchemy's own word would round
    ("mssql", "moment"): "DATETIME2(6)",
    ("mssql", "instant"): "DATETIMEOFFSET(6)",
    ("mssql", "time"): "TIME(6)",
    ("oracle", "moment"): "TIMESTAMP(6)",
    ("oracle", "instant"): "TIMESTAMP(6) WITH TIME ZONE",
}
