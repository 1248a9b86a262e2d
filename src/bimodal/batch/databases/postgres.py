"""PostgreSQL: read by ADBC (binary COPY into Arrow), written by COPY of CSV that Arrow makes, all else by psycopg.

Measured on 1 million rows of 10 columns: ADBC reads them in 0.4 to 0.6 of the time of COPY through psycopg, which takes
a message a row. Arrow's CSV, made in other threads, is taken in by the server as quickly as binary COPY.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import Error as AdbcError
from psycopg import pq

from bimodal.batch.databases import copied
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
    text_field,
)
from bimodal.batch.databases.copied import Copied
from bimodal.batch.databases.source import refuse_twice
from bimodal.errors import BimodalError, SinkError, SourceError
from bimodal.field import nearest

LONGEST = 63  # bytes of an identifier: the server would cut it off silently
BATCH = 4 << 20  # bytes that ADBC gathers in one batch
CONNECT = 10  # seconds to wait for a connection, where the URL says nothing
LOST = ("08", "57P")  # SQLSTATEs (their beginnings) after which the connection is gone
DATA = ("22", "23")  # of which the server's words may hold the data
SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO'",
    "SET IntervalStyle = 'iso_8601'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 1",
    "SET synchronize_seqscans = off",  # the natural order, whoever else reads the table
)
ONE_READER = ("SET max_parallel_workers_per_gather = 0",)
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"

# What the server's types are in Arrow, by their names in pg_catalog; all others are text.
NATIVE: dict[str, pa.DataType] = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(),
    "float4": pa.float32(), "float8": pa.float64(),
    "text": pa.string(), "varchar": pa.string(), "bpchar": pa.string(), "name": pa.string(), "bytea": pa.binary(),
    "date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}  # fmt: skip
LISTS = ("bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar")
SEVERAL = "bimodal: a list of several dimensions"  # what the server cannot make an array of, to find it in its words
AGAIN = {"bit": "varbit", "char": "text"}  # of which the plain name is another type, or one of another length
LOOSE = ("boolean", '"char"', "bytea")
WIDER = {r"numeric\(": "numeric", "date$": "timestamp", r"timestamp\(\d\) without": "timestamp"}  # of a text's types
TABLES, INSERTABLE = ("r", "p"), ("r", "p", "v", "f")  # kinds of relations
KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
WRITING = ("SELECT", "INSERT", "UPDATE", "DELETE")
LEFT = {  # what a table t has that another one in its place has not, and where it is counted
    "index": "pg_index WHERE indrelid = t.oid",
    "constraint": "pg_constraint WHERE conrelid = t.oid AND contype IN ('p', 'u', 'x', 'f', 'c')",
    "default": "pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND (atthasdef OR attidentity <> '')",
    "column that is NOT NULL": "pg_attribute a WHERE attrelid = t.oid AND attnum > 0 AND attnotnull AND NOT EXISTS "
    "(SELECT 1 FROM pg_index WHERE indrelid = t.oid AND indisprimary AND a.attnum = ANY(indkey))",
    "trigger": "pg_trigger WHERE tgrelid = t.oid AND NOT tgisinternal",
    "policy": "pg_policy WHERE polrelid = t.oid",
    "rule": "pg_rewrite WHERE ev_class = t.oid",
    "partition": "pg_inherits WHERE inhparent = t.oid",
    "column with rights": "pg_attribute WHERE attrelid = t.oid AND attacl IS NOT NULL",
    "publication": "pg_publication_rel WHERE prrelid = t.oid",
}
PLURAL = {
    "index": "indexes", "policy": "policies", "column that is NOT NULL": "columns that are NOT NULL",
    "column with rights": "columns with rights",
}  # fmt: skip
MOST_ROWS = 2048  # of a page, more than there can be
FIRST, LAST = -719_162, 2_932_896  # days: years 1 to 9999
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Column:
    """A column of a relation. sql: how it is asked for, with {} for its name. digits: a decimal that comes as text."""

    name: str
    field: pa.Field
    sql: str = "{}"

    @property
    def comes_as_text(self) -> bool:
        return bool(pa.types.is_decimal(self.field.type))


class PostgreSQL(Database):
    """A PostgreSQL database, version 12 or later."""

    kind = "postgresql"
    integer, word, text, blob = "bigint", "varchar(200)", "text", "bytea"

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = address.at(None).name
        self.identity = address.identity
        self._known: dict[Relation, tuple[str, list[Column]]] = {}

    # -- connections ------------------------------------------------------------------------------------------------

    def _told(self) -> str:
        """The connection string, with the password in it: for the drivers alone."""
        address, options = self.address, self.address.settings()
        options.setdefault("connect_timeout", str(CONNECT))
        options.setdefault("application_name", f"bimodal {os.getpid()}@{socket.gethostname()}"[:LONGEST])
        place = {"host": address.host, "port": address.port, "user": address.user, "dbname": address.database}
        given = {name: value for name, value in place.items() if value not in (None, "")}
        password = address.password()
        if password is not None:
            given["password"] = password
        return psycopg.conninfo.make_conninfo("", **{**options, **given})

    def connect(self, failed: type[BimodalError]) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of psycopg's, each statement a transaction of its own."""
        try:
            connection = psycopg.connect(self._told(), autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise failed(f"{self.name} cannot be reached: {_first_line(error)}") from None
        try:
            for statement in (*SETTINGS, DURABLE):
                connection.execute(statement.encode())
        except psycopg.Error as error:
            connection.close()
            raise failed(f"{self.name} cannot be used: {_reason(error)}") from None
        return connection

    # -- reading ----------------------------------------------------------------------------------------------------

    def schema(self, relation: Relation) -> pa.Schema:
        _, columns = self._described(relation)
        return pa.schema([each.field for each in columns])

    def rows(self, relation: Relation) -> int | None:
        place, _ = self._described(relation)
        if isinstance(relation, Query):
            return None
        with self.connect(SourceError) as connection:
            row = connection.execute(
                "SELECT c.reltuples, pg_stat_get_live_tuples(c.oid) FROM pg_class c WHERE c.oid = to_regclass(%s)",
                (place,),
            ).fetchone()
        known = max(row[0] or 0, row[1] or 0) if row else 0
        return int(known) if known > 0 else None

    def batches(self, relation: Relation, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        place, known = self._described(relation)
        by_name = {each.name: each for each in known}
        wanted = [by_name[name] for name in columns]
        chosen = ", ".join(f"{each.sql.format(self._asked(each.name))} AS {self._asked(each.name)}" for each in wanted)
        with self._reading(relation):
            yield from self._read(f"SELECT {chosen} FROM {place} AS bimodal_rows", wanted, relation)  # noqa: S608 - names quoted

    def _asked(self, name: str) -> str:
        """The name of a column that is there; a query may give it any name up to the server's limit."""
        return '"' + name.replace('"', '""') + '"'

    def _read(self, statement: str, wanted: Sequence[Column], relation: Relation) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([each.field for each in wanted])
        with adbc.connect(self._told()) as connection, connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for each in (*SETTINGS, *ONE_READER):
                cursor.execute(each)
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH)})
            cursor.execute(statement)
            row = 1
            for batch in cursor.fetch_record_batch():
                arrays = [_arrow(each, array, relation, row) for each, array in zip(wanted, batch.columns, strict=True)]
                row += batch.num_rows
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    @contextlib.contextmanager
    def _reading(self, relation: Relation) -> Iterator[None]:
        """Errors of reading, in one sentence."""
        try:
            yield
        except AdbcError as error:
            raise SourceError(f"{relation} in {self.name} cannot be read: {_adbc_reason(error)}") from None
        except psycopg.Error as error:
            raise SourceError(f"{relation} in {self.name} cannot be read: {_reason(error)}") from None
        except (OSError, pa.ArrowException) as error:  # of Arrow's stream, while the rows come
            raise SourceError(f"{relation} in {self.name} cannot be read: {_streamed_reason(error)}") from None

    def _described(self, relation: Relation) -> tuple[str, list[Column]]:
        """What stands behind FROM, and its columns as the server describes them, without running anything."""
        if relation not in self._known:
            with self.connect(SourceError) as connection, self._reading(relation):
                if isinstance(relation, Query):
                    place, described = _nested(connection, relation)
                else:
                    place = self.spell(self._found(connection, relation))
                    described = _describe(connection, f"SELECT * FROM {place}")  # noqa: S608 - names quoted
                refuse_twice([name for name, _, _ in described], relation)
                if not described:
                    raise SourceError(f"{relation} gives no columns: it has to be a SELECT")
                self._known[relation] = place, _columns(connection, described)
        return self._known[relation]

    def _found(self, connection: psycopg.Connection[Any], table: TableName) -> TableName:
        """The table, view or foreign table with its schema; else a SourceError with the nearest name."""
        try:
            spelled = self.spell(table)
        except SinkError as error:
            raise SourceError(str(error)) from None
        row = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
            (spelled,),
        ).fetchone()
        if row is not None:
            return TableName(row[1], row[0])
        named = connection.execute(
            "SELECT c.relname, n.nspname, pg_table_is_visible(c.oid) FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') "
            "AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        ).fetchall()
        known = [name if visible and table.schema is None else f"{schema}.{name}" for name, schema, visible in named]
        near = nearest(str(table), sorted(known))
        hint = f"; did you mean {near}?" if near else ""
        raise SourceError(f"{self.name} has no table {table}{hint}")

    # -- writing ----------------------------------------------------------------------------------------------------

    def session(self) -> Session:
        return PostgreSQLSession(self)

    def lock(self, target: TableName) -> Callable[[], None] | str:
        connection = self.connect(SinkError)
        digest = hashlib.sha256(f"bimodal\0{target.schema}\0{target.name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        try:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            if row and row[0]:
                return connection.close
            holder = connection.execute(
                "SELECT a.application_name, a.backend_start FROM pg_locks l "
                "LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
                "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
                "AND l.classid::bigint = %s AND l.objid::bigint = %s "
                "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF),
            ).fetchone()
        except psycopg.Error as error:
            connection.close()
            raise SinkError(f"{self.name} cannot be written: {_reason(error)}") from None
        connection.close()
        return _holder(holder)

    def resolve(self, session: Session, table: TableName) -> TableName:
        if table.schema is not None:
            self._see_schema(session, table.schema)
            return table
        ((schema,),) = session.query(
            "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = to_regclass(%s)), current_schema())",
            (self.spell(table),),
        )
        if schema is None:
            raise SinkError(f"{self.name} has no schema that a table could be made in: name one, as in #sales.{table}")
        return TableName(table.name, str(schema))

    def server(self, session: Session) -> str:
        ((started, name),) = session.query("SELECT pg_postmaster_start_time()::text, current_database()::text")
        return f"{started}/{name}"

    def is_one(self, one: TableName, other: TableName) -> bool:
        return one == other

    def _see_schema(self, session: Session, schema: str) -> None:
        """Without the right to use it nothing in it can be looked at, and no table's rights."""
        for may, user in session.query(
            "SELECT has_schema_privilege(oid, 'USAGE'), current_user FROM pg_namespace WHERE nspname = %s", (schema,)
        ):
            if not may:
                grant = f"GRANT USAGE, CREATE ON SCHEMA {self.quote(schema)} TO {self.quote(user)}"
                raise SinkError(f"{self.name} cannot be written: the user lacks a right: {grant}")

    def columns(self, session: Session, table: TableName) -> dict[str, str] | None:
        found = session.query(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c LEFT JOIN pg_attribute a "
            "ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.oid = to_regclass(%s) "
            "ORDER BY a.attnum",
            (self.spell(table),),
        )
        return {str(name): str(kind) for name, kind in found if name is not None} if found else None

    def required(self, session: Session, table: TableName) -> tuple[str, ...]:
        found = session.query(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped "
            "AND attnotnull AND NOT atthasdef AND attidentity = ''",
            (self.spell(table),),
        )
        return tuple(str(row[0]) for row in found)

    def computed(self, session: Session, table: TableName) -> tuple[str, ...]:
        found = session.query(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped "
            "AND (attgenerated <> '' OR attidentity = 'a')",
            (self.spell(table),),
        )
        return tuple(str(row[0]) for row in found)

    def unique(self, session: Session, table: TableName, key: Sequence[str]) -> bool:
        found = session.query(
            "SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
            "AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1]) WHERE i.indrelid = to_regclass(%s) AND i.indisunique "
            "AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid",
            (self.spell(table),),
        )
        return any(set(row[0]) == set(key) for row in found)

    def rights(self, session: Session, target: TableName, mode: Mode) -> str | None:
        schema, spelled = target.schema or "public", self.spell(target)
        ((there, may_create, user),) = session.query(
            "SELECT to_regnamespace(%s) IS NOT NULL, "
            "CASE WHEN to_regnamespace(%s) IS NOT NULL THEN has_schema_privilege(%s, 'CREATE') END, current_user",
            (self.quote(schema), self.quote(schema), schema),
        )
        if not there:
            return f"there is no schema {schema}; make it with: CREATE SCHEMA {self.quote(schema)}"
        grantee = self.quote(user)
        if not may_create:
            return f"the user lacks a right: GRANT CREATE ON SCHEMA {self.quote(schema)} TO {grantee}"
        found = session.query(
            "SELECT relkind::text, pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)", (spelled,)
        )
        if not found or mode.word == "create":
            return None
        ((kind, owns),) = found
        if kind not in (TABLES if mode.word == "replace" else INSERTABLE):
            return f"{target} is {KINDS.get(kind, 'no table')}; name a table"
        if mode.word == "replace":
            if not owns:
                return f"only its owner may replace a table: ALTER TABLE {spelled} OWNER TO {grantee}"
            return self._depended(session, target)
        for right in {"append": ("INSERT",), "upsert": ("INSERT", "UPDATE", "SELECT")}.get(mode.word, ()):
            ((may,),) = session.query("SELECT has_table_privilege(to_regclass(%s)::oid, %s)", (spelled, right))
            if not may:
                return f"the user lacks a right: GRANT {right} ON {spelled} TO {grantee}"
        return None

    def _depended(self, session: Session, target: TableName) -> str | None:
        """What keeps the table from being dropped. What belongs to the table itself goes with it."""
        found = session.query(
            "SELECT DISTINCT coalesce('view ' || v.oid::regclass::text, pg_describe_object(d.classid, d.objid, 0)) "
            "FROM pg_class t JOIN pg_depend d ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid) "
            "OR (d.refclassid = 'pg_type'::regclass AND d.refobjid = t.reltype) "
            "LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid "
            "LEFT JOIN pg_class v ON v.oid = r.ev_class WHERE t.oid = to_regclass(%s) AND d.deptype = 'n' "
            "AND NOT EXISTS (SELECT 1 FROM pg_depend o WHERE o.classid = d.classid AND o.objid = d.objid "
            "AND o.refobjid = t.oid AND o.deptype IN ('a', 'i', 'P', 'S')) ORDER BY 1",
            (self.spell(target),),
        )
        if not found:
            return None
        named = ", ".join(str(row[0]) for row in found)
        return (
            f"the table {target} cannot be replaced while there is what depends on it: {named}; drop that and make it "
            "again behind the run, or empty the table and use --mode append"
        )

    def unwritable(self, session: Session, tables: Sequence[TableName]) -> str | None:
        """By names in the catalogue, which may be read without a right."""
        missing = " OR ".join(f"NOT has_table_privilege(c.oid, '{right}')" for right in WRITING)
        query = (
            "SELECT c.relname, current_user FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "  # noqa: S608 - our own words
            f"WHERE n.nspname = %s AND c.relname = ANY(%s) AND ({missing}) ORDER BY 1"
        )
        found = session.query(query, (tables[0].schema, [each.name for each in tables]))
        if not found:
            return None
        named = ", ".join(self.spell(TableName(name, tables[0].schema)) for name, _ in found)
        grant = f"GRANT {', '.join(WRITING)} ON {named} TO {self.quote(found[0][1])}"
        return f"runs are recorded in tables of another user, who gives the right with: {grant}"

    def left_behind(self, session: Session, table: TableName) -> str | None:
        counts = ", ".join(f"(SELECT count(*) FROM {what})" for what in LEFT.values())  # noqa: S608 - our own words
        (numbers,) = session.query(f"SELECT {counts} FROM pg_class t WHERE oid = to_regclass(%s)", (self.spell(table),))  # noqa: S608 - our own words
        found = zip(LEFT, numbers, strict=True)
        told = [f"{count} {word if count == 1 else PLURAL.get(word, word + 's')}" for word, count in found if count]
        whole = session.query(
            "SELECT CASE WHEN relrowsecurity THEN 'row level security' END, CASE WHEN relowner <> (SELECT oid FROM "
            "pg_roles WHERE rolname = current_user) THEN 'the owner ' || pg_get_userbyid(relowner) END FROM pg_class "
            "WHERE oid = to_regclass(%s)",
            (self.spell(table),),
        )
        told += [str(word) for row in whole for word in row if word is not None]
        return ", ".join(told) or None

    def convertible(self, session: Session, have: str, want: str) -> bool:
        """A text becomes one of these whatever it is, another one than the text says."""
        return not (have == "text" and want in LOOSE) and super().convertible(session, have, want)

    def failing(self, session: Session, table: TableName, expression: str) -> int | None:
        """By halving the table's pages, then one page's rows."""
        spelled = self.spell(table)

        def fails(low: str, high: str) -> bool:
            try:
                session.query(f"SELECT count({expression}) FROM {spelled} WHERE ctid >= '{low}' AND ctid < '{high}'")  # noqa: S608 - names quoted
            except SinkError:  # that is what is looked for
                return True
            return False

        ((pages,),) = session.query(
            "SELECT pg_relation_size(to_regclass(%s)) / current_setting('block_size')::int", (spelled,)
        )
        if not fails("(0,0)", f"({pages},0)"):
            return None
        page = _first(0, int(pages), lambda low, high: fails(f"({low},0)", f"({high},0)"))
        place = _first(0, MOST_ROWS, lambda low, high: fails(f"({page},{low})", f"({page},{high})"))
        ((row,),) = session.query(f"SELECT count(*) FROM {spelled} WHERE ctid <= '({page},{place})'")  # noqa: S608 - names quoted
        return int(row)

    def type_of(self, field: pa.Field) -> str:
        return declared_type(field, self.kind) or copied.type_of(field)

    def prepare(self, table: pa.Table, types: Mapping[str, str]) -> Copied:
        return copied.csv(table, types)

    def differs(self, column: str, have: str, want: str) -> str | None:
        """Text takes any form that the target's type writes, so it is compared with what the wider type makes of it; a
        text that is none is an error.
        """
        wider = next((wide for narrow, wide in WIDER.items() if re.match(narrow, want)), None)
        if have == "text" and wider is not None:
            return f"CAST({column} AS {want}) IS DISTINCT FROM CAST({column} AS {wider})"
        if have.lower() == want.lower() or (have == "text" and not re.match(r"character|varchar|name$", want)):
            return None
        return super().differs(column, have, want)

    def upsert(self, target: TableName, staging: TableName, values: Mapping[str, str], key: Sequence[str]) -> list[str]:
        others = [self.quote(name) for name in values if name not in key]
        update = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        action = f"DO UPDATE SET {update}" if others else "DO NOTHING"
        columns = ", ".join(self.quote(name) for name in key)
        return [f"{self.insert(target, staging, values)} ON CONFLICT ({columns}) {action}"]

    def replace(self, session: Session, target: TableName, staging: TableName) -> list[str]:
        """The rights of others on the table, and its comment, go over to the new one."""
        spelled = self.spell(target)
        granted = session.query(
            "SELECT format('GRANT %%s ON %%s TO %%s%%s', a.privilege_type, %s::text, "
            "CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, "
            "CASE WHEN a.is_grantable AND a.grantee <> 0 THEN ' WITH GRANT OPTION' ELSE '' END) "
            "FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner",
            (spelled, spelled),
        )
        told = session.query(
            "SELECT format('COMMENT ON TABLE %%s IS %%L', %s::text, d) "
            "FROM obj_description(to_regclass(%s), 'pg_class') d WHERE d IS NOT NULL",
            (spelled, spelled),
        )
        return [*super().replace(session, target, staging), *(str(row[0]) for row in [*granted, *told])]

    def literal(self, expression: str) -> str:
        return f"quote_literal(({expression})::text) || '::' || pg_typeof({expression})::text"

    def quote(self, name: str) -> str:
        if not name or "\0" in name:
            raise SinkError("a name of a table or column is empty or has a zero byte in it")
        size = len(name.encode())
        if size > LONGEST:
            raise SinkError(
                f"the name {name!r} has {size} bytes; PostgreSQL would cut it off at {LONGEST}: choose a shorter one",
                column=name,
            )
        return super().quote(name)


class PostgreSQLSession(Session):
    """A connection of psycopg's."""

    def __init__(self, database: PostgreSQL) -> None:
        self._name = database.name
        self._database = database
        self._connection = database.connect(SinkError)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            with contextlib.suppress(psycopg.Error):  # a connection that is gone has rolled back, or will
                self._connection.execute("ROLLBACK")
            raise
        with self._failing():
            if self._connection.execute("COMMIT").statusmessage != "COMMIT":
                raise SinkError(f"{self._name} rolled a transaction back; run the same command again")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._failing():
            self._connection.execute(statement.encode(), values or None)

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._failing():
            return self._connection.execute(statement.encode(), values or None).fetchall()

    def ingest(self, table: TableName, prepared: Copied) -> None:
        names = ", ".join(self._database.quote(name) for name in prepared.names)
        statement = f"COPY {self._database.spell(table)} ({names}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')"
        with self._failing(), self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(prepared.data)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if self._connection.closed or state.startswith(LOST):
                raise CommitUnknown from error
            raise SinkError(f"{self._name} cannot be written: {_reason(error)}") from error

    def close(self) -> None:
        self._connection.close()


# -- columns ---------------------------------------------------------------------------------------------------------


def _describe(connection: psycopg.Connection[Any], statement: str) -> list[tuple[str, int, int]]:
    """Name, type and type modifier of each column."""
    plain = connection.pgconn
    for result in (plain.prepare(b"", statement.encode()), plain.describe_prepared(b"")):
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return [((result.fname(i) or b"").decode(), result.ftype(i), result.fmod(i)) for i in range(result.nfields)]


def _nested(connection: psycopg.Connection[Any], query: Query) -> tuple[str, list[tuple[str, int, int]]]:
    """The query in parentheses, without the semicolon that ends it (a comment may stand behind it)."""
    described = _describe(connection, query.text)
    if not described:
        raise SourceError("the query gives no columns: it has to be a SELECT")
    text = query.text.rstrip().rstrip(";")
    shorter = re.sub(r";\s*(--[^\n]*\s*)*$", "", text)
    try:
        _describe(connection, f"SELECT * FROM (\n{text}\n) AS bimodal_rows")  # noqa: S608 - it is the user's own
    except psycopg.Error:  # a semicolon within it, with a comment behind: else it is refused here
        _describe(connection, f"SELECT * FROM (\n{shorter}\n) AS bimodal_rows")  # noqa: S608 - it is the user's own
        text = shorter
    return f"(\n{text}\n)", described


def _columns(connection: psycopg.Connection[Any], described: Sequence[tuple[str, int, int]]) -> list[Column]:
    found = connection.execute(
        "SELECT t.oid, t.typname, n.nspname = 'pg_catalog', e.typname, t.typcategory FROM pg_type t "
        "JOIN pg_namespace n ON n.oid = t.typnamespace "
        "LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' WHERE t.oid = ANY(%s)",
        ([kind for _, kind, _ in described],),
    ).fetchall()
    types = {row[0]: row[1:] for row in found}
    return [_column(name, types[kind], modifier) for name, kind, modifier in described]


def _column(name: str, kind: tuple[str, bool, str | None, str], modifier: int) -> Column:
    type_, builtin, element, category = kind
    if not builtin:
        return Column(name, pa.field(name, pa.string()), "{}::text")
    if type_ in NATIVE:
        return Column(name, pa.field(name, NATIVE[type_]), "{}::text" if type_ == "name" else "{}")
    if type_ == "numeric":
        return _numeric(name, modifier)
    if category == "A" and element in LISTS:
        problem = f"'{{{{{SEVERAL}' || array_ndims({{0}})"
        plain = "coalesce(array_ndims({0}), 1) = 1 AND coalesce(array_lower({0}, 1), 1) = 1"
        guarded = f"CASE WHEN {plain} THEN {{0}} ELSE ({problem})::{element}[] END"
        return Column(name, pa.field(name, pa.list_(NATIVE[element])), guarded)
    if type_ == "oid":
        return Column(name, pa.field(name, pa.int64()), "{}::bigint")
    text = "{}::numeric::text" if type_ == "money" else "{}::text"
    listed = category == "A" and element is not None
    plain = element if listed and element is not None else type_
    declared = AGAIN.get(plain, plain) + ("[]" if listed else "")
    return Column(name, text_field(name, PostgreSQL.kind, declared), text)


def _numeric(name: str, modifier: int) -> Column:
    """numeric(p, s) is a decimal, if Arrow has one as wide; without bounds it is carried as text."""
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, ((modifier - 4 & 0x7FF) ^ 1024) - 1024
    if modifier < 4 or precision > 76 or not 0 <= scale <= precision:
        return Column(name, text_field(name, PostgreSQL.kind, "numeric"), "{}::text")
    kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    return Column(name, pa.field(name, kind), "{}::text")


def _arrow(column: Column, array: pa.Array, relation: Relation, row: int) -> pa.Array:
    """The values as they came, checked: what Arrow (or a model) has no value for is refused."""
    kind = column.field.type
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if column.comes_as_text:
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            raise _unfit(column, relation, row, "a number that is none (NaN)", "NULLIF(column, 'NaN')") from None
    if pa.types.is_date(kind):
        _within(column, array.cast(pa.int32()), FIRST, LAST, relation, row)
    elif pa.types.is_timestamp(kind):
        _within(column, array.cast(pa.int64()), FIRST * DAY, (LAST + 1) * DAY - 1, relation, row)
    elif pa.types.is_time(kind):
        _within(column, array.cast(pa.int64()), 0, DAY - 1, relation, row)
    return array if array.type == kind else array.cast(kind)


def _within(column: Column, numbers: pa.Array, low: int, high: int, relation: Relation, row: int) -> None:
    ends = pc.min_max(numbers)
    if ends["min"].as_py() is None or (ends["min"].as_py() >= low and ends["max"].as_py() <= high):
        return
    bad = pc.or_kleene(pc.less(numbers, low), pc.greater(numbers, high)).fill_null(False)
    what = "the time 24:00" if pa.types.is_time(column.field.type) else "infinity, or outside of the years 1 to 9999,"
    raise _unfit(column, relation, row + int(bad.index(True).as_py()), what, "column::text")


def _unfit(column: Column, relation: Relation, row: int, what: str, instead: str) -> SourceError:
    return SourceError(
        f"{relation}, from row {row} on, column {column.name!r}: a value is {what} which is not supported; read it "
        f"otherwise, with --query and {instead}",
        row=row,
        column=column.name,
    )


def _first(low: int, high: int, fails: Callable[[int, int], bool]) -> int:
    """The first number of a range that fails, of which it is known that one does."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(low, middle) else (middle, high)
    return low


# -- words -----------------------------------------------------------------------------------------------------------


def _holder(row: tuple[Any, ...] | None) -> str:
    if row is None or row[0] is None:
        return "another process"
    name, since = row
    process, _, host = str(name).removeprefix("bimodal ").partition("@")
    when = f", since {since.isoformat(timespec='seconds')}" if since else ""
    return f"process {process} on {host}{when}" if host else f"another process ({name}){when}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reason(error: psycopg.Error) -> str:
    """Why, in the server's words where they hold no data."""
    told = error.diag
    if told.sqlstate is None:
        return _first_line(error)
    if not told.sqlstate.startswith(DATA):
        return str(told.message_primary)
    place = "".join(
        f", {what} {name!r}"
        for what, name in (("column", told.column_name), ("constraint", told.constraint_name))
        if name
    )
    return f"{_words(told.sqlstate)}{place}"


def _adbc_reason(error: AdbcError) -> str:
    state = error.sqlstate or ""
    return _words(state) if state.startswith(DATA) else _streamed_reason(error)


def _streamed_reason(error: Exception) -> str:
    """The server's first line, without what it quotes: that may be data."""
    text = str(error)
    if SEVERAL in text:
        return (
            "a column of lists has a list of several dimensions, or one that does not begin at 1; read it with --query "
            "and column::text"
        )
    found = re.search(r"(?:ERROR|FATAL|PANIC):\s*(.*)", text)
    return re.sub(r'"[^"]*"', "…", found[1] if found else _first_line(error))


def _words(state: str) -> str:
    """A SQLSTATE in words: NumericValueOutOfRange is `numeric value out of range`."""
    try:
        name = psycopg.errors.lookup(state).__name__
    except KeyError:
        return f"the server's error {state}"
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
