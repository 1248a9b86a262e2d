"""The general adapter, by SQLAlchemy's own SQLite dialect: what is the same everywhere, and what is refused."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Mode, Query, TableName, Unfit
from bimodal.batch.databases.general import General, arrow_type
from bimodal.errors import OutputExists, SinkError, SourceError, UsageError
from tests.batch.databases.contract_source import SourceContract
from tests.batch.databases.mariadb import expected, write
from tests.batch.databases.place import Place

T = TableName("t")
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "big": (pa.int64(), [-(2**63), None, 2**63 - 1]),
    "small": (pa.int8(), [-128, None, 127]),
    "unsigned": (pa.uint64(), [0, None, 2**63 - 1]),
    "double": (pa.float64(), [0.1, None, 5e-324]),
    "single": (pa.float32(), [0.10000000149011612, None, 1.5]),
    "yes": (pa.bool_(), [True, None, False]),
    "text": (pa.string(), ["naïve 🦉'\";--\\%s:x", None, ""]),
    "bytes": (pa.binary(), [bytes(range(256)), None, b""]),
    "day": (pa.date32(), [datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)]),
    "moment": (pa.timestamp("us"), [datetime.datetime(2024, 2, 29, 23, 59, 59, 123456), None, None]),  # noqa: DTZ001
    "clock": (pa.time64("us"), [datetime.time(23, 59, 59, 999999), None, datetime.time(0)]),
    'a "b".%s?:c': (pa.string(), ["x", None, "y"]),
}


class FilePlace(Place):
    """A file behind SQLAlchemy's dialect."""

    def __init__(self, path: Path) -> None:
        self._path, self.folder = path, str(path.parent)
        self.url = f"sqlite+pysqlite:///{path}"

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(statement.replace("%s", "?") if values else statement, values).fetchall()

    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        asked = statement.replace("%s", "?").replace("%%", "%") if rows[0] else statement
        asked = asked.replace("é%?", "é%s").replace("é?", "é%s")
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executemany(asked, rows)


class TestSource(SourceContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> FilePlace:
        return FilePlace(tmp_path / "contract.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def database(path: Path) -> General:
    opened = Address.parse(f"sqlite+pysqlite:///{path}").open()
    assert isinstance(opened, General)
    return opened


def ask(path: Path, *statements: str) -> list[Any]:
    """The driver's own values."""
    with closing(sqlite3.connect(path)) as connection:
        rows: list[Any] = []
        for each in statements:
            rows = connection.execute(each).fetchall()
        connection.commit()
        return rows


def all_of(database: General, relation: TableName | Query) -> pa.Table:
    schema = database.schema(relation)
    return pa.Table.from_batches(database.batches(relation, schema.names), schema=schema)


def stored(database: General, table: pa.Table) -> None:
    types = {field.name: database.type_of(field) for field in table.schema}
    session = database.session()
    session.execute(f"CREATE TABLE t ({', '.join(f'{database.quote(name)} {kind}' for name, kind in types.items())})")
    with session.transaction():
        session.ingest(T, database.prepare(table, types))
    session.close()


def test_values_come_back_as_they_were(database: General, path: Path) -> None:
    table = pa.table({name: pa.array(values, kind) for name, (kind, values) in VALUES.items()})
    stored(database, table)
    back = all_of(database, T)
    assert back.column_names == table.column_names
    for name in table.column_names:
        assert back[name].to_pylist() == table[name].to_pylist(), name
    held = ask(path, "SELECT big, double, text, bytes FROM t")
    assert held == list(zip(*(VALUES[name][1] for name in ("big", "double", "text", "bytes")), strict=True))


def test_some_columns_in_another_order(database: General, path: Path) -> None:
    ask(path, "CREATE TABLE t (a BIGINT, b TEXT, c BIGINT)", "INSERT INTO t VALUES (1, 'x', 2)")
    (batch,) = database.batches(T, ["c", "b"])
    assert batch.to_pylist() == [{"c": 2, "b": "x"}]
    (batch,) = database.batches(Query("SELECT c, a FROM t;"), ["a"])
    assert batch.to_pylist() == [{"a": 1}]


def test_a_query_has_the_types_of_its_first_rows(database: General, path: Path) -> None:
    ask(path, "CREATE TABLE t (a)", "INSERT INTO t VALUES (NULL), (1), (2)")
    query = Query("WITH q AS (SELECT a FROM t) SELECT a, a / 2.0 AS half, 'x' AS word, NULL AS none FROM q -- all")
    assert database.schema(query).types == [pa.int64(), pa.float64(), pa.string(), pa.string()]
    assert all_of(database, query)["half"].to_pylist() == [None, 0.5, 1.0]


def test_a_later_value_of_another_type_is_told_by_its_row(database: General, path: Path) -> None:
    ask(path, "CREATE TABLE t (a)")
    ask(
        path,
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 12000) SELECT i FROM n",
    )
    ask(path, "UPDATE t SET a = 'secret' WHERE a = 11001")
    with pytest.raises(SourceError, match="row 11001, column 'a' of the query: the value is no int64") as caught:
        all_of(database, Query("SELECT a FROM t"))
    assert caught.value.row == 11001
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("relation", "said"),
    [
        (TableName("customer"), "has no table customer; did you mean customers"),
        (Query("DELETE FROM customers"), "no statement that reads"),
        (Query("SELECT nothing FROM customers"), r"the query of .* cannot be read: OperationalError"),
        (Query("SELECT 1 AS a, 2 AS a"), "two columns called 'a'"),
    ],
)
def test_what_cannot_be_read_is_told(database: General, path: Path, relation: Any, said: str) -> None:
    ask(path, "CREATE TABLE customers (a BIGINT)", "INSERT INTO customers VALUES (1)")
    with pytest.raises(SourceError, match=said):
        database.schema(relation)
    assert ask(path, "SELECT * FROM customers") == [(1,)]


@pytest.mark.parametrize("mode", ["create", "append"])
def test_a_run_into_a_table(path: Path, mode: str) -> None:
    address = f"sqlite+pysqlite:///{path}#scores"
    kept = []
    if mode == "append":
        ask(path, "CREATE TABLE scores (id INTEGER, word TEXT, score DOUBLE)", "INSERT INTO scores VALUES (-1, 'o', 1)")
        kept = [(-1, "o", 1.0)]
    for _ in range(2):  # the second one has nothing left to do
        write(address, mode)
        assert ask(path, "SELECT * FROM scores ORDER BY id") == kept + expected()


def test_a_table_that_is_there_is_not_created(path: Path) -> None:
    ask(path, "CREATE TABLE scores (id INTEGER)")
    with pytest.raises(OutputExists):
        write(f"sqlite+pysqlite:///{path}#scores", "create")
    assert ask(path, "SELECT * FROM scores") == []


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_modes_without_a_known_way_are_refused(database: General, mode: str) -> None:
    said = database.rights(database.session(), T, Mode(mode, ("id",)))
    assert said is not None
    assert f"--mode {mode} is not known to be safe in sqlite" in said
    with pytest.raises(SinkError, match=f"--mode {mode} is not known"):
        database.replace(database.session(), T, T) if mode == "replace" else database.upsert(T, T, {}, ["id"])


def test_what_the_dialect_would_round_is_refused(database: General) -> None:
    with pytest.raises(SinkError, match=r"column 'd' is of type decimal128\(9, 2\), which sqlite would round"):
        database.type_of(pa.field("d", pa.decimal128(9, 2)))
    with pytest.raises(SinkError, match="column 'l' is of type list"):
        database.type_of(pa.field("l", pa.list_(pa.int64())))
    with pytest.raises(Unfit, match="64 bits with a sign") as caught:
        database.prepare(pa.table({"u": pa.array([1, 2**63], pa.uint64())}), {"u": "BIGINT"})
    assert (caught.value.column, caught.value.place) == ("u", 1)


def test_what_a_table_needs(database: General, path: Path) -> None:
    ask(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT NOT NULL DEFAULT 'x', UNIQUE (a, b))")
    session = database.session()
    assert database.required(session, T) == ("a",)
    assert database.unique(session, T, ["b", "a"])
    assert not database.unique(session, T, ["a"])
    assert database.columns(session, TableName("nothing")) is None
    session.close()


def test_exact_types_of_catalogues() -> None:
    assert arrow_type(sa.Numeric(38, 4)) == pa.decimal128(38, 4)
    assert arrow_type(sa.Numeric(50, 4)) == pa.decimal256(50, 4)
    assert arrow_type(sa.Numeric()) is None  # a number of any size: the values say
    assert arrow_type(sa.DateTime(timezone=True)) == pa.timestamp("us", "UTC")
    assert arrow_type(sa.types.NullType()) is None


def test_a_dialect_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"SQLAlchemy has no dialect made\+up; install the package"):
        Address.parse("made+up://ann:env:HOME@host/db").open()
