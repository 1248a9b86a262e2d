"""MySQL and MariaDB, through PyMySQL. Rows are read as the server's packets and become Arrow column by column; they are
written by INSERT statements of many rows, made of Arrow's columns.
"""
# ruff: noqa: S608 - identifiers are quoted, values are escaped or bound; a query is the user's own

from __future__ import annotations

import configparser
import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
from pymysql.constants import CLIENT
from pymysql.optionfile import Parser

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import (
    CommitUnknown,
    Database,
    Mode,
    Query,
    Relation,
    Session,
    TableName,
    declared_type,
)
from bimodal.batch.databases.mysql_literals import rows_of
from bimodal.batch.databases.mysql_packets import Column, Packet, column_of, decoded
from bimodal.batch.databases.mysql_types import TEXT, convertible, differs, type_of
from bimodal.errors import SinkError, SourceError, UsageError
from bimodal.field import listed, nearest

TEXTS = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password", "read_default_file", "bind_address")
FLAGS = ("ssl_verify_cert", "ssl_verify_identity", "ssl_disabled")
NUMBERS = ("connect_timeout",)
IGNORED = ("charset", "read_default_group")  # always utf8mb4
BATCH_ROWS = 65_536
BATCH_BYTES = 8 << 20
STATEMENT_BYTES = 1 << 20  # of one INSERT; larger ones were not faster
HEAD = 65_536  # kept free for an INSERT's beginning: it names the columns
PATIENT = 2_147_483  # seconds that a connection may rest: while a model thinks, or a lock is held
SESSION = f"SET SESSION time_zone = '+00:00', wait_timeout = {PATIENT}, net_write_timeout = {PATIENT}"
ENGINE = "SET SESSION default_storage_engine = InnoDB"
STRICT = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,NO_ZERO_DATE,"
    "NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
)
LOST = (2006, 2013, 2014, 2055, 1053, 1927)
REASONS = {
    1021: "the server's disk is full",
    1036: "the table is read-only",
    1040: "it has too many connections",
    1044: "the user may not use that database",
    1045: "the user's name or password is refused",
    1048: "a null stands where the table's column refuses it",
    1049: "there is no such database",
    1050: "there is a table of that name",
    1062: "a value that must be unique stands there already",
    1114: "the table is full (or the server's disk)",
    1142: "the user has not the right to do that",
    1143: "the user has not the right to do that",
    1146: "there is no such table",
    1153: "a row is larger than the server's max_allowed_packet",
    1205: "another transaction held the rows for too long",
    1213: "it was in a deadlock with another transaction",
    1216: "a foreign key refuses it",
    1217: "a foreign key refuses it",
    1226: "the user's limit is used up",
    1264: "a number is out of its column's range",
    1265: "a value does not fit its column",
    1290: "the server is read-only",
    1292: "a value is no date or number that its column can hold",
    1364: "a column of the table needs a value and has no default",
    1366: "a text has characters that its column cannot hold, or is no number",
    1406: "a value is too long for its column",
    1451: "a foreign key refuses it",
    1452: "a foreign key refuses it",
    1698: "the user's name or password is refused",
    1792: "it would write, and only reading is allowed here",
    4025: "a constraint of the table refuses it",
    3819: "a constraint of the table refuses it",
}
TOLD = (
    1054,
    1064,
    1052,
    1060,
    1109,
    1305,
    1055,
    1140,
    1222,
    1248,
    1318,
)  # the server's words hold no data: the query's
COLUMN = re.compile(r"(?:column|Column|Field) (?:`[^`]+`\.)*['`]([^'`]+)['`]")
TOKEN = re.compile(  # of a query; the group is what may stand behind its end
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`[^`]*`|(--(?=\s|\Z)[^\n]*|#[^\n]*|/\*.*?\*/|[;\s])|.""", re.DOTALL
)


class MySQL(Database):
    """MySQL 5.7 and later, MariaDB 10.3 and later. Tables of InnoDB alone are written: others know no transaction."""

    placeholder = "%s"
    ddl_commits, folds = True, True
    word = "VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    text = TEXT
    blob = "LONGBLOB"

    def __init__(self, address: Address) -> None:
        if address.driver not in (None, "pymysql"):
            raise UsageError(f"{address.name} is reached by PyMySQL: leave +{address.driver} away")
        self.kind = address.kind
        self.name = address.at(None).name
        self.identity = address.identity
        self._address = address
        self._given = _connecting(address)
        self._packet: int | None = None
        self._connect(SourceError, SESSION).close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def schema(self, relation: Relation) -> pa.Schema:
        with contextlib.closing(self._connect(SourceError, SESSION)) as connection:
            columns = self._columns(connection, relation)
        return pa.schema([each.field for each in columns])

    def rows(self, relation: Relation) -> int | None:
        if isinstance(relation, Query):
            return None
        with contextlib.closing(self._connect(SourceError, SESSION)) as connection, self._reading(relation):
            found = _all(connection, f"SELECT table_rows FROM information_schema.tables WHERE {_is(relation)}")
        return int(found[0][0]) if found and found[0][0] is not None else None

    def batches(self, relation: Relation, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with contextlib.closing(self._connect(SourceError, SESSION)) as connection:
            found = {each.name: each for each in self._columns(connection, relation)}
            wanted = [found[name] for name in columns]
            with self._reading(relation):
                _run(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                _run(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                if isinstance(relation, Query):
                    places = [list(found).index(name) for name in columns]
                    statement = relation.text
                else:
                    places = list(range(len(wanted)))
                    statement = self._select(connection, relation, wanted)
                connection.query(statement, unbuffered=True)
            yield from self._decoded(connection, relation, wanted, places)

    def _select(self, connection: Any, table: TableName, columns: Sequence[Column]) -> str:
        """FLOAT is told in six digits as it is, and exactly as DOUBLE. By the primary key: another index that holds
        all columns would be another order, and which one is taken can change.
        """
        told = ", ".join(
            f"{self.quote(each.name)} + 0e0 AS {self.quote(each.name)}" if each.single else self.quote(each.name)
            for each in columns
        )
        keyed = f"SELECT 1 FROM information_schema.statistics WHERE {_is(table)} AND index_name = 'PRIMARY' LIMIT 1"
        forced = " FORCE INDEX (PRIMARY)" if _all(connection, keyed) else ""
        return f"SELECT {told} FROM {self.spell(table)}{forced}"

    def _decoded(
        self, connection: Any, relation: Relation, columns: Sequence[Column], places: Sequence[int]
    ) -> Iterator[pa.RecordBatch]:
        """The running SELECT's rows as batches."""
        before = 0
        schema = pa.schema([each.field for each in columns])
        try:
            while packets := self._packets(connection, relation):
                arrays = decoded(packets, columns, places, before, str(relation))
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
                before += len(packets)
        finally:
            connection._force_close()  # what is not read yet would be read to its end otherwise

    def _packets(self, connection: Any, relation: Relation) -> list[bytes]:
        """The next rows as the server sends them; none at the end."""
        packets: list[bytes] = []
        if not connection._result.unbuffered_active:
            return packets
        size = 0
        read, add = connection._read_packet, packets.append
        with self._reading(relation):
            while len(packets) < BATCH_ROWS and size < BATCH_BYTES:
                packet = read(Packet).data
                if packet[0] == 0xFE and len(packet) < 9:
                    connection._result.unbuffered_active = False
                    break
                add(packet)
                size += len(packet)
        return packets

    def _columns(self, connection: Any, relation: Relation) -> list[Column]:
        """What the server says of the columns of a table or a query."""
        inner = self.spell(relation) if isinstance(relation, TableName) else f"({_whole(relation.text)}\n) AS q"
        with self._reading(relation, connection):
            connection.query(f"SELECT * FROM {inner} LIMIT 0")
        columns = [column_of(each, str(relation), self.kind) for each in connection._result.fields]
        names = [each.name for each in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SourceError(
                f"{relation} of {self.name} has two columns called {listed(twice)}: name them apart by AS"
            )
        loose = [each.name for each in columns if each.single] if isinstance(relation, Query) else []
        if loose:
            raise SourceError(
                f"{relation} of {self.name} has FLOAT columns, which {self.kind} tells in six digits: write "
                f"{loose[0]} + 0e0 AS {loose[0]} for {listed(loose)}"
            )
        return columns

    @contextlib.contextmanager
    def _reading(self, relation: Relation, connection: Any = None) -> Iterator[None]:
        """Errors of reading, in one sentence."""
        try:
            yield
            return
        except (pymysql.MySQLError, OSError) as error:
            number, reason, words = _number(error), _reason(error), str(error.args[-1:])
        if number == 1060:
            twice = re.search("'(.*)'", words)
            called = f" called {twice[1]!r}" if twice else " of one name"
            raise SourceError(f"{relation} of {self.name} has two columns{called}: name them apart by AS") from None
        if number == 1146 and connection is not None and isinstance(relation, TableName):
            raise SourceError(self._absent(connection, relation)) from None
        raise SourceError(f"{relation} of {self.name} cannot be read: {reason}") from None

    def _absent(self, connection: Any, table: TableName) -> str:
        """That there is no such table, and the nearest."""
        schema = _hexed(table.schema) if table.schema else "DATABASE()"
        found = _all(connection, f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}")
        names = sorted(str(name) for (name,) in found)
        near = nearest(table.name, names)
        shown = f"; did you mean {near}?" if near else f"; there are {listed(names[:20])}" if names else "; it has none"
        return f"{self.name} has no table {table}{shown}"

    # -- writing ----------------------------------------------------------------------------------------------------

    def session(self) -> MySQLSession:
        connection = self._connect(SinkError, SESSION, STRICT, ENGINE)
        self._packet = int(_all(connection, "SELECT @@max_allowed_packet")[0][0])
        return MySQLSession(self.name, connection)

    def lock(self, target: TableName) -> Callable[[], None] | str:
        connection = self._connect(SinkError, SESSION)
        name = f"'{self._locked(target)}'"
        try:
            if _all(connection, f"SELECT GET_LOCK({name}, 0)")[0][0] == 1:
                return connection.close  # type: ignore[no-any-return]
            holder = self._holder(connection, name)
        except (pymysql.MySQLError, OSError) as error:
            connection._force_close()
            holder = None
            reason = _reason(error)
        if holder is None:
            raise SinkError(f"{self.name} gives no lock on {target}: {reason}")
        connection.close()
        return holder

    def _locked(self, target: TableName) -> str:
        """The lock's name: one for the server, however it is addressed; 64 characters are allowed."""
        place = f"{target.schema or self._address.database}.{target.name}".casefold()
        return f"bimodal:{hashlib.sha256(place.encode()).hexdigest()[:40]}"

    def _holder(self, connection: Any, name: str) -> str:
        """Who holds a lock, in words: its process where the server tells it, else its connection."""
        number = _all(connection, f"SELECT IS_USED_LOCK({name})")[0][0]
        if number is None:
            return "a run that has just ended"
        found = _all(
            connection,
            "SELECT user, host, DATE_FORMAT(NOW() - INTERVAL time SECOND, '%Y-%m-%dT%H:%i:%sZ') "
            f"FROM information_schema.processlist WHERE id = {int(number)}",
        )
        user, host, since = found[0] if found else ("another user", "", "")
        with contextlib.suppress(pymysql.MySQLError):  # performance_schema may be off, or forbidden
            told = _all(
                connection,
                "SELECT attr_value FROM performance_schema.session_connect_attrs "
                f"WHERE processlist_id = {int(number)} AND attr_name = '_pid'",
            )
            if told:
                return f"process {told[0][0]} on {str(host).partition(':')[0]}, since {since}"
        where = f" on {str(host).partition(':')[0]}, since {since}" if since else ""
        return f"the process of connection {number}, user {user}{where}"

    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        found = session.query(
            "SELECT column_name, column_type FROM information_schema.columns "
            f"WHERE {_is(table)} ORDER BY ordinal_position"
        )
        return {str(name): str(kind) for name, kind in found} or None

    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        return (
            self._unfit(session, target)
            or self._referred(session, target, mode)
            or self._forbidden(session, target, mode)
        )

    def _referred(self, session: Session, target: TableName, mode: Mode) -> str | None:
        """A foreign key on the table would go along with the old one when they change places, and keep it there."""
        where = _is(target).replace("table_", "referenced_table_")
        query = f"SELECT table_name FROM information_schema.key_column_usage WHERE {where} LIMIT 1"
        found = session.query(query) if mode.word == "replace" else []
        if not found:
            return None
        return f"a foreign key of the table {found[0][0]} refers to {target}, which cannot be replaced: --mode upsert"

    def left_behind(self, session: Session, table: TableName) -> str | None:
        counted = {
            "index": "SELECT COUNT(DISTINCT index_name) FROM information_schema.statistics WHERE " + _is(table),
            "foreign key": "SELECT COUNT(DISTINCT constraint_name) FROM information_schema.key_column_usage WHERE "
            f"{_is(table)} AND referenced_table_name IS NOT NULL",
            "trigger": "SELECT COUNT(*) FROM information_schema.triggers WHERE "
            + _is(table).replace("table_schema", "event_object_schema").replace("table_name", "event_object_table"),
        }
        found = {word: int(session.query(query)[0][0]) for word, query in counted.items()}
        plural = {"index": "indexes", "foreign key": "foreign keys", "trigger": "triggers"}
        told = [f"{count} {plural[word] if count > 1 else word}" for word, count in found.items() if count]
        return ", ".join(told) or None

    def _unfit(self, session: Session, target: TableName) -> str | None:
        """What is wrong with the table there."""
        found = session.query(f"SELECT table_type, engine FROM information_schema.tables WHERE {_is(target)}")
        if not found:
            return None
        kind, engine = found[0]
        if kind != "BASE TABLE":
            return f"{target} is a view, and predictions go into tables"
        if str(engine).lower() != "innodb":
            return (
                f"{target} is a table of {engine}, which knows no transactions, so that a run that is killed would "
                "leave half of its rows: ALTER TABLE … ENGINE = InnoDB"
            )
        return None

    def unique(self, session: Session, table: TableName, key: Sequence[str]) -> bool:
        found = session.query(
            "SELECT index_name, column_name, sub_part FROM information_schema.statistics "
            f"WHERE {_is(table)} AND non_unique = 0"
        )
        indexes: dict[str, set[str]] = {}
        for name, column, part in found:  # one on the first letters of a text (part) says nothing of the whole
            indexes.setdefault(str(name), set()).add(str(column).casefold() if part is None else "")
        return {name.casefold() for name in key} in indexes.values()

    def required(self, session: Session, table: TableName) -> tuple[str, ...]:
        found = session.query(
            "SELECT column_name FROM information_schema.columns "
            f"WHERE {_is(table)} AND is_nullable = 'NO' AND column_default IS NULL "
            "AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%' ORDER BY ordinal_position"
        )
        return tuple(str(name) for (name,) in found)

    def computed(self, session: Session, table: TableName) -> tuple[str, ...]:
        query = f"SELECT column_name FROM information_schema.columns WHERE {_is(table)} AND extra LIKE '%GENERATED'"
        return tuple(str(name) for (name,) in session.query(query))

    def resolve(self, session: Session, table: TableName) -> TableName:
        return table if table.schema else TableName(table.name, self._address.database)

    def server(self, session: Session) -> str:
        return str(session.query("SELECT CONCAT_WS('/', @@hostname, @@port, @@datadir)")[0][0])

    def _forbidden(self, session: Session, target: TableName, mode: Mode) -> str | None:
        """Rights that none of the user's grants gives. What cannot be told (roles) is left to the server."""
        lines = [str(line) for (line,) in session.query("SHOW GRANTS")]
        if any(" ON " not in line for line in lines):
            return None
        schema = target.schema or self._address.database
        have = {right for line in lines for right in _granted(line, schema, None)}
        there = have | {right for line in lines for right in _granted(line, schema, target.name)}
        needed = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER"]
        needed += ["CREATE TEMPORARY TABLES"] if mode.word == "upsert" else []
        missing = [right for right in needed if right not in have and "ALL PRIVILEGES" not in have]
        if missing:
            return f"the user lacks {listed(missing)} on the database {schema}, where staging and journal stand"
        wanted = {"append": ["INSERT"], "upsert": ["INSERT", "UPDATE"], "replace": ["ALTER", "DROP", "CREATE"]}
        lacking = [right for right in wanted.get(mode.word, []) if right not in there and "ALL PRIVILEGES" not in there]
        return f"the user lacks {listed(lacking)} on {target}" if lacking else None

    def type_of(self, field: pa.Field) -> str:
        declared = declared_type(field, self.kind)
        found = TEXT if declared == "numeric" else declared or type_of(field.type)
        if found is None:
            raise SinkError(
                f"column {field.name!r} is of type {field.type}, which {self.kind} has no column type for: leave it "
                "out by --keep, or give it as text"
            )
        return found

    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> Prepared:
        if self._packet is None:
            self.session().close()
        allowed = (self._packet or STATEMENT_BYTES) - HEAD
        bodies = list(rows_of(table, min(STATEMENT_BYTES, allowed), allowed))
        return Prepared(", ".join(self.quote(name) for name in table.column_names), bodies)

    def converted(self, column: str, have: str, want: str) -> str:
        """As it is: strict mode refuses what does not fit, and `differs` tells what it would only round."""
        return column

    def differs(self, column: str, have: str, want: str) -> str | None:
        return differs(column, have, want)

    def convertible(self, session: Session, have: str, want: str) -> bool:
        return convertible(have, want)

    def upsert(self, target: TableName, staging: TableName, values: Mapping[str, str], key: Sequence[str]) -> list[str]:
        """By a temporary table of the target's own types, whose unique key refuses rows that are one to the target
        (`A` and `a`, say). No ON DUPLICATE KEY UPDATE: that goes by any unique index, not by the key.
        """
        columns = [self.quote(name) for name in values]
        keys = [self.quote(name) for name in key]
        others = [each for each in columns if each not in keys]
        passing = self.spell(TableName(f"{staging.name}_u", staging.schema))
        there, made = self.spell(target), ", ".join(columns)
        on = " AND ".join(f"t.{each} = u.{each}" for each in keys)
        settings = ", ".join(f"t.{each} = u.{each}" for each in others)
        absent = f"LEFT JOIN {there} AS t ON {on} WHERE t.{keys[0]} IS NULL"
        fresh = ", ".join(f"u.{each}" for each in columns)
        return [
            f"DROP TEMPORARY TABLE IF EXISTS {passing}",
            f"CREATE TEMPORARY TABLE {passing} (UNIQUE KEY ({', '.join(keys)})) SELECT {made} FROM {there} LIMIT 0",
            f"INSERT INTO {passing} ({made}) SELECT {', '.join(values.values())} FROM {self.spell(staging)}",
            *([f"UPDATE {there} AS t JOIN {passing} AS u ON {on} SET {settings}"] if others else []),
            f"INSERT INTO {there} ({made}) SELECT {fresh} FROM {passing} AS u {absent}",
            f"DROP TEMPORARY TABLE {passing}",
        ]

    def rename(self, table: TableName, name: str) -> str:
        return f"RENAME TABLE {self.spell(table)} TO {self.spell(TableName(name, table.schema))}"

    def replace(self, session: Session, target: TableName, staging: TableName) -> list[str]:
        old = self.spell(TableName(f"{staging.name}_old", staging.schema))
        away = f"{self.spell(target)} TO {old}, " if self.columns(session, target) is not None else ""
        return [
            f"RENAME TABLE {away}{self.spell(staging)} TO {self.spell(target)}",
            f"DROP TABLE IF EXISTS {old}",
        ]

    def index(self, table: TableName, key: Sequence[str]) -> str:
        columns = ", ".join(self.quote(name) for name in key)
        name = self.quote("_".join(("by", *key))[:60].strip())
        return f"CREATE UNIQUE INDEX {name} ON {self.spell(table)} ({columns})"

    def written(self, value: Any) -> str:
        return super().written(value.replace("\\", "\\\\") if isinstance(value, str) else value)

    def quote(self, name: str) -> str:
        if not 0 < len(name) <= 64 or name.endswith(" ") or "\0" in name or any(ord(each) > 0xFFFF for each in name):
            raise SinkError(
                f"{name[:80]!r} cannot be a name in {self.kind}: 1 to 64 characters, without a space at the end, "
                "a zero byte or an emoji"
            )
        return "`" + name.replace("`", "``") + "`"

    # -- connecting -------------------------------------------------------------------------------------------------

    def _connect(self, kind: type[SourceError | SinkError], *statements: str) -> Any:
        """A new connection, in autocommit."""
        secret = {"password": self._password()} | _connecting(self._address)
        try:
            connection = pymysql.connect(**secret, charset="utf8mb4", autocommit=True, client_flag=CLIENT.FOUND_ROWS)
            for each in statements:
                _run(connection, each)
            return connection
        except (pymysql.MySQLError, OSError, RuntimeError, ValueError) as error:
            reason = _reason(error)
        raise kind(f"{self.name} cannot be reached: {reason}")

    def _password(self) -> str:
        """The URL's, or the one of ~/.my.cnf."""
        password = self._address.password()
        if password is not None:
            return password
        return _own(self._address, "password") or ""


@dataclass(frozen=True)
class Prepared:
    """Rows as SQL: the columns, and lists of rows `(…),(…)`, each for one statement."""

    columns: str
    bodies: list[bytes]


class MySQLSession(Session):
    """A connection in strict mode."""

    def __init__(self, name: str, connection: Any) -> None:
        self._name = name
        self._connection = connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._writing():
            self._connection.begin()
        try:
            yield
            with self._writing():
                self._connection.commit()
        except BaseException:
            with contextlib.suppress(pymysql.MySQLError, OSError):  # a connection that is lost has rolled back
                self._connection.rollback()
            raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._writing():
            _run(self._connection, self._filled(statement, values))

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._writing():
            return _all(self._connection, self._filled(statement, values))

    def ingest(self, table: TableName, prepared: Prepared) -> None:
        there = ".".join("`" + part.replace("`", "``") + "`" for part in (table.schema, table.name) if part is not None)
        head = f"INSERT INTO {there} ({prepared.columns}) VALUES ".encode()
        with self._writing():
            for body in prepared.bodies:
                self._connection.query(head + body)

    def close(self) -> None:
        with contextlib.suppress(pymysql.MySQLError, OSError):  # it may be closed, or lost
            self._connection.close()

    def _filled(self, statement: str, values: Sequence[Any]) -> str:
        """The values in their places; a % beside them is written twice."""
        return statement % tuple(self._connection.escape(each) for each in values) if values else statement

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of writing, in one sentence."""
        try:
            yield
            return
        except (pymysql.MySQLError, OSError) as error:
            number, reason = _number(error), _reason(error)
        if number is None or number in LOST:
            raise CommitUnknown(f"the connection to {self._name} was lost") from None
        raise SinkError(f"{self._name} cannot be written: {reason}") from None


def _connecting(address: Address) -> dict[str, Any]:
    """What PyMySQL is told of an address, without the password."""
    given: dict[str, Any] = {"host": address.host or "localhost", "port": address.port or 3306}
    given["user"] = address.user or _own(address, "user")
    given["database"] = address.database
    for name, value in address.settings().items():
        if name in TEXTS:
            given[name] = value
        elif name in FLAGS:
            given[name] = value.lower() in ("1", "true", "yes", "on")
        elif name in NUMBERS and value.isdecimal():
            given[name] = int(value)
        elif name not in IGNORED:
            known = (*TEXTS, *FLAGS, *NUMBERS)
            near = nearest(name, known)
            meant = f" (did you mean {near}?)" if near else ""
            raise UsageError(f"{address.name}: the option {name} is not known{meant}: there are {listed(known)}")
    given.pop("read_default_file", None)
    return given


def _own(address: Address, name: str) -> str | None:
    """A value of the user's own option file, ~/.my.cnf."""
    path = Path(address.options.get("read_default_file", "~/.my.cnf")).expanduser()
    if not path.is_file():
        return None
    parser = Parser(strict=False, interpolation=None)
    try:
        parser.read(path)
        return str(parser.get("client", name)) if parser.has_option("client", name) else None
    except (configparser.Error, OSError, UnicodeDecodeError):
        pass  # what they say repeats the line, which may be the password's
    raise UsageError(f"{path} cannot be read as an option file of {address.kind}")


def _run(connection: Any, statement: str) -> None:
    connection.query(statement)


def _all(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    connection.query(statement)
    return list(connection._result.rows or ())


def _is(table: TableName) -> str:
    """The condition that a row of information_schema tells of this table. In hexadecimal: whatever the session takes
    a backslash for.
    """
    schema = _hexed(table.schema) if table.schema else "DATABASE()"
    return f"table_schema = {schema} AND table_name = {_hexed(table.name)}"


def _hexed(text: str) -> str:
    return f"CONVERT(X'{text.encode().hex()}' USING utf8mb4)"


def _whole(query: str) -> str:
    """A query without what stands behind its end: semicolons, comments."""
    return query[: max((found.end() for found in TOKEN.finditer(query) if found[1] is None), default=0)]


def _number(error: BaseException) -> int | None:
    """The server's (or the driver's) number of an error; None where the connection is gone."""
    number = error.args[0] if error.args else None
    return number if isinstance(error, pymysql.MySQLError) and isinstance(number, int) and number else None


def _reason(error: BaseException) -> str:
    """What went wrong, in words without data: the server's own repeat values."""
    number = _number(error)
    words = str(error.args[1]) if number is not None and len(error.args) > 1 else ""
    if number in LOST or (number is None and isinstance(error, OSError | pymysql.InterfaceError)):
        return "the connection was lost"
    if number == 2003:
        return words.partition(" (")[0] + " (is the server running there?)"
    if number in TOLD:
        return f"the server says: {words}"
    if isinstance(error, RuntimeError):
        return str(error)
    column = COLUMN.search(words)
    where = f" (column {column[1]!r})" if column else ""
    return REASONS.get(number or 0, f"{type(error).__name__}, the server's error {number}") + where


def _granted(line: str, schema: str, table: str | None) -> set[str]:
    """The rights that a line of SHOW GRANTS gives on a database, or on a table of it."""
    found = re.match(r"GRANT (.+?) ON (?:TABLE )?(\*|`(?:[^`]|``)*`)\.(\*|`(?:[^`]|``)*`) TO ", line)
    if found is None:
        return set()
    rights = set(re.split(r", (?![^(]*\))", found[1]))
    database, name = (part.strip("`").replace("``", "`") for part in (found[2], found[3]))
    if database != "*" and not _like(database, schema):
        return set()
    return rights if name == "*" or name == table else set()


def _like(pattern: str, text: str) -> bool:
    """As a grant names databases: % and _ stand for others, unless a backslash is before them."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    made = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(made, text) is not None
