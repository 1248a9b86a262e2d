"""SQLite: each type both ways, what does not fit, files as they lie, locks, and tables that change places."""

from __future__ import annotations

import datetime
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bimodal.batch.databases.sqlite as adapter
from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Database, Mode, Query, Relation, Session, TableName, Unfit, text_field
from bimodal.batch.databases.sqlite import SQLite
from bimodal.errors import SinkError, SourceError, UsageError
from tests.batch.databases.contract_sink import SinkContract
from tests.batch.databases.contract_source import SourceContract
from tests.batch.databases.place import Place

TABLE = TableName("t")


class SQLitePlace(Place):
    """A file."""

    numeric = "DECIMAL(10, 2)"

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, str(path.parent)
        self.url = f"sqlite:///{path}"

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(self.marked(statement) if values else statement, values).fetchall()

    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(self.marked(statement), rows) if rows[0] else connection.execute(statement)


@pytest.fixture
def place() -> Iterator[SQLitePlace]:
    """In memory where there is such a folder: what is tested is a process that dies, and no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield SQLitePlace(Path(folder) / "contract.db")


class TestSource(SourceContract):
    @pytest.fixture
    def place(self, place: SQLitePlace) -> SQLitePlace:
        return place


class TestSink(SinkContract):
    @pytest.fixture
    def place(self, place: SQLitePlace) -> SQLitePlace:
        return place


MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=datetime.UTC)
WRITTEN = [  # a type, values, what SQLite then holds (its own words for them), the type it is read back as
    (pa.int8(), [-128, None, 127], [-128, None, 127], pa.int64()),
    (pa.int64(), [-(2**63), None, 2**63 - 1], [-(2**63), None, 2**63 - 1], pa.int64()),
    (pa.uint64(), [0, 2**63 - 1], [0, 2**63 - 1], pa.int64()),
    (pa.float64(), [0.1, None, 5e-324, float("inf"), -1e308], [0.1, None, 5e-324, float("inf"), -1e308], None),
    (pa.float64(), [3.0, 0.0, 2.0**70], [3.0, 0.0, 2.0**70], None),
    (pa.float32(), [0.1, None], [0.10000000149011612, None], pa.float64()),
    (pa.bool_(), [True, None, False], [1, None, 0], None),
    (pa.string(), ["a", None, "", "a\0b", "naïve 🦉", "'\";--"], ["a", None, "", "a\0b", "naïve 🦉", "'\";--"], None),
    (pa.large_string(), ["007"], ["007"], pa.string()),
    (pa.binary(), [b"\x00\xff", None, b""], [b"\x00\xff", None, b""], None),
    (pa.binary(2), [b"\x00\xff", None], [b"\x00\xff", None], pa.binary()),
    (pa.date32(), [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)], ["0001-01-01", "9999-12-31"], None),
    (pa.date64(), [datetime.date(2024, 2, 29)], ["2024-02-29"], pa.date32()),
    (pa.timestamp("s"), [-1, None], ["1969-12-31 23:59:59", None], None),
    (pa.timestamp("ms"), [-1], ["1969-12-31 23:59:59.999"], None),
    (pa.timestamp("us"), [-1, None, 0], ["1969-12-31 23:59:59.999999", None, "1970-01-01 00:00:00.000000"], None),
    (pa.timestamp("ns"), [1, None], ["1970-01-01 00:00:00.000000001", None], None),
    (pa.timestamp("ns"), [-9223372036 * 10**9], ["1677-09-21 00:12:44.000000000"], None),
    (pa.timestamp("us", "UTC"), [MOMENT, None], ["2024-02-29 23:59:59.123456Z", None], None),
    (pa.timestamp("us", "Asia/Tokyo"), [MOMENT], ["2024-02-29 23:59:59.123456Z"], pa.timestamp("us", "UTC")),
    (pa.time32("s"), [datetime.time(10, 0, 1), None], ["10:00:01", None], None),
    (pa.time64("us"), [datetime.time(23, 59, 59, 999999)], ["23:59:59.999999"], None),
    (pa.time64("ns"), [1, None], ["00:00:00.000000001", None], None),
    (pa.duration("ns"), [-1, None], [-1, None], None),
    (pa.decimal128(38, 10), [Decimal("1234567890123456789012345678.0123456789"), None, Decimal("-1.5")],
     ["1234567890123456789012345678.0123456789", None, "-1.5000000000"], None),
    (pa.decimal256(60, 1), [Decimal("9" * 59 + ".5")], ["9" * 59 + ".5"], None),
    (pa.dictionary(pa.int8(), pa.string()), ["x", None, "x"], ["x", None, "x"], pa.string()),
    (pa.null(), [None], [None], pa.string()),
    (pa.list_(pa.int64()), [[1, None], None, []], ["[1, null]", None, "[]"], pa.string()),
    (pa.struct([("a", pa.string())]), [{"a": "ü"}], ['{"a": "ü"}'], pa.string()),
]  # fmt: skip
READ = [  # a declared type, values of the driver, the type they are read as, the values
    ("INTEGER", [1, None, 2**63 - 1], pa.int64(), [1, None, 2**63 - 1]),
    ("bigint", [None, 2**53 + 1], pa.int64(), [None, 2**53 + 1]),
    ("INTEGER", [1, 2.5], pa.float64(), [1.0, 2.5]),
    ("INTEGER", ["a", None], pa.string(), ["a", None]),
    ("REAL", [1, 0.1, None], pa.float64(), [1.0, 0.1, None]),
    ("DOUBLE PRECISION", [None], pa.float64(), [None]),
    ("VARCHAR(20)", ["a", 1], pa.string(), ["a", "1"]),
    ("BLOB", [b"\0", None], pa.binary(), [b"\0", None]),
    ("BLOB", ["text"], pa.string(), ["text"]),
    ("BOOLEAN", [1, 0, None], pa.bool_(), [True, False, None]),
    ("BOOLEAN", [2, 0], pa.int64(), [2, 0]),
    ("DATE", ["2024-02-29", None], pa.date32(), [datetime.date(2024, 2, 29), None]),
    ("DATE", ["31/12/2024"], pa.string(), ["31/12/2024"]),
    ("DATETIME", ["2024-02-29 23:59:59.123456", "2024-02-29"], pa.timestamp("us"),
     [MOMENT.replace(tzinfo=None), datetime.datetime(2024, 2, 29)]),  # noqa: DTZ001 - a moment without a zone is meant
    ("TIMESTAMP", ["2024-03-01T01:59:59.123456+02:00"], pa.timestamp("us", "UTC"), [MOMENT]),
    ("TIMESTAMP", [1709251199], pa.int64(), [1709251199]),
    ("NUMERIC", [1, 2], pa.float64(), [1.0, 2.0]),
    ("DECIMAL(10,2)", [1, 0.1, None], pa.float64(), [1.0, 0.1, None]),
    ("DECIMAL(18,0)", [2**60 + 1], pa.int64(), [2**60 + 1]),
    ("NUMERIC", [2**60 + 1], pa.int64(), [2**60 + 1]),
    ("DECIMAL TEXT", ["1e400"], pa.string(), ["1e400"]),
    ("STRING", ["7", "x"], None, None),
    ("", [1, None], pa.int64(), [1, None]),
    ("", [None, 1.5, 1], pa.float64(), [None, 1.5, 1.0]),
    ("", ["a"], pa.string(), ["a"]),
    ("", [None], pa.null(), [None]),
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


def opened(path: Path) -> SQLite:
    database = Address.parse(f"sqlite:///{path}#t").open()
    assert isinstance(database, SQLite)
    return database


def run(path: Path, *statements: str) -> None:
    """By the driver alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for each in statements:
            connection.execute(each)


def make(path: Path, declared: str, values: list[Any]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE t (x {declared})")
        connection.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        connection.commit()


def held(path: Path, statement: str = "SELECT * FROM t") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def write(path: Path, table: pa.Table) -> None:
    database = opened(path)
    types = {field.name: database.type_of(field) for field in table.schema}
    with closing(database.session()) as session, session.transaction():
        columns = ", ".join(f"{database.quote(name)} {kind}" for name, kind in types.items())
        session.execute(f"CREATE TABLE t ({columns})")
        session.ingest(TABLE, database.prepare(table, types))


def read(path: Path, relation: Relation = TABLE) -> pa.Table:
    database = opened(path)
    schema = database.schema(relation)
    return pa.Table.from_batches(database.batches(relation, schema.names), schema)


@pytest.mark.parametrize(("kind", "values", "kept", "back"), WRITTEN, ids=lambda value: str(value)[:24])
def test_a_type_is_kept_and_comes_back(
    path: Path, kind: pa.DataType, values: list[Any], kept: list[Any], back: pa.DataType | None
) -> None:
    table = pa.table({"x": pa.array(values, kind)})
    write(path, table)
    assert held(path) == [(value,) for value in kept]
    assert [type(value) for (value,) in held(path)] == [type(value) for value in kept]
    found = read(path)
    assert found.schema.field("x").type == (back or kind)
    if not pa.types.is_nested(kind) and not pa.types.is_null(kind):
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        assert found.column("x").cast(plain).equals(table.column("x").cast(plain))


@pytest.mark.parametrize(("declared", "values", "kind", "back"), READ, ids=lambda value: str(value)[:24])
def test_a_declared_type_is_read(
    path: Path, declared: str, values: list[Any], kind: pa.DataType | None, back: list[Any] | None
) -> None:
    make(path, declared, values)
    if kind is None:  # 7 became a number, as SQLite does with a type it does not know
        with pytest.raises(SourceError, match="row 2, column 'x' holds TEXT"):
            read(path)
        return
    found = read(path)
    assert found.schema.field("x").type == kind
    assert found.column("x").to_pylist() == back


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            st.none() | st.binary(),
        ),
        min_size=1,
    )
)
def test_values_of_any_kind_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]) -> None:
    kinds = (pa.int64(), pa.float64(), pa.string(), pa.binary())
    columns = zip("abcd", zip(*rows, strict=True), kinds, strict=True)
    table = pa.table({name: pa.array(values, kind) for name, values, kind in columns})
    path = tmp_path_factory.mktemp("any") / "x.db"
    write(path, table)
    assert held(path) == rows
    assert read(path).equals(table)


def test_a_nan_is_null_as_sqlite_has_it(path: Path) -> None:
    write(path, pa.table({"x": [float("nan"), 1.5]}))
    assert read(path).column("x").to_pylist() == [None, 1.5]


def test_many_batches_and_a_rest_keep_their_order(path: Path) -> None:
    count = 3 * adapter.BATCH_ROWS + 17
    table = pa.table({"a": range(count), "b": [None if i % 3 else f"w{i}" for i in range(count)]})
    write(path, table)
    assert read(path).equals(table)
    assert opened(path).rows(TABLE) == count


def test_wide_rows_come_in_small_batches(path: Path) -> None:
    make(path, "BLOB", [b"x" * 200_000] * 300)
    sizes = [batch.nbytes for batch in opened(path).batches(TABLE, ["x"])]
    assert len(sizes) > 2
    assert max(sizes[1:]) <= 2 * adapter.BATCH_BYTES


@pytest.mark.parametrize(
    ("declared", "late", "words"),
    [
        ("INTEGER", "n/a", "holds TEXT, .* CAST"),
        ("INTEGER", "", "holds an empty text, .* NULLIF"),
        ("INTEGER", 1.5, "holds REAL, .* CAST"),
        ("REAL", b"\0", "holds a BLOB, .* hex"),
        ("BOOLEAN", 2, "holds INTEGER that is no BOOLEAN"),
        ("DATE", "1", "holds INTEGER, "),
        ("NUMERIC(9,2)", 2**60 + 1, "holds INTEGER that is no number that a double holds"),
    ],
)
def test_a_late_value_of_another_kind_is_told_with_its_row(path: Path, declared: str, late: Any, words: str) -> None:
    first = "2024-01-01" if declared == "DATE" else 1
    make(path, declared, [first] * 5000 + [late] + [first] * 10)
    with pytest.raises(SourceError, match=rf"row 5001, column 'x' {words}") as caught:
        read(path)
    assert (caught.value.row, caught.value.column) == (5001, "x")
    assert "n/a" not in str(caught.value)


def test_the_remedy_of_an_empty_text_reads_the_table(path: Path) -> None:
    make(path, "INTEGER", [1, "", 3])
    found = read(path, Query('SELECT NULLIF("x", \'\') AS "x" FROM t'))
    assert found.to_pydict() == {"x": [1, None, 3]}


@pytest.mark.parametrize("before", [0, 5000])
def test_text_that_is_not_utf8_is_told_with_its_row(path: Path, before: int) -> None:
    make(path, "TEXT", ["ä"] * before)
    run(path, "INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))")
    with pytest.raises(SourceError, match=rf"row {before + 1}, column 'x' holds TEXT that is not UTF-8") as caught:
        read(path)
    assert "A" not in str(caught.value).replace("UTF", "").replace("CAST(", "").partition(" in a --query")[0]
    assert read(path, Query("SELECT CAST(x AS BLOB) AS x FROM t")).column("x")[-1].as_py() == b"\xffA"


# -- queries -----------------------------------------------------------------------------------------------------------


def test_a_query_keeps_declared_types_and_its_own_order(path: Path) -> None:
    run(path, "CREATE TABLE t (a INTEGER, d DATE, b BOOLEAN)")
    run(path, "INSERT INTO t VALUES (1, '2024-01-01', 1), (3, NULL, 0), (2, NULL, NULL)")
    query = Query("SELECT d, a, b, a * 0.5 AS half, NULL AS none FROM t ORDER BY a DESC; ")
    found = read(path, query)
    kinds = [pa.date32(), pa.int64(), pa.bool_(), pa.float64(), pa.null()]
    assert found.schema.types == kinds
    assert found.column("a").to_pylist() == [3, 2, 1]
    batches = opened(path).batches(query, ["half", "d"])
    assert next(batches).to_pydict() == {"half": [1.5, 1.0, 0.5], "d": [None, None, datetime.date(2024, 1, 1)]}


def test_a_query_whose_column_begins_with_nulls_is_looked_at_further(path: Path) -> None:
    make(path, "INTEGER", [None] * 3000 + [7])
    assert read(path, Query("SELECT x + 1 AS y FROM t")).column("y")[-1].as_py() == 8


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM t",
        "SELECT nope FROM t",
        "SELECT 1; DROP TABLE t",
        "PRAGMA user_version = 3",
        "",
        "SELECT ?",
        "a\0b",
    ],
)
def test_what_is_no_query_that_reads_is_refused_and_does_nothing(path: Path, text: str) -> None:
    make(path, "INTEGER", [1])
    with pytest.raises(SourceError, match="the query is none that only reads"):
        list(opened(path).batches(Query(text), []))
    assert held(path) == [(1,)]


def test_rows_without_columns_are_counted(path: Path) -> None:
    make(path, "INTEGER", [1, 2, 3])
    assert sum(batch.num_rows for batch in opened(path).batches(TABLE, [])) == 3


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_no_source_and_is_not_made(path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        opened(path).schema(TABLE)
    assert not path.exists()


def test_a_missing_file_becomes_a_sink(path: Path) -> None:
    opened(path).session().close()
    with pytest.raises(SinkError, match="there is no folder"):
        opened(path.parent / "nowhere" / "x.db").session()


def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.write_bytes(b"id,name\n1,Ann\n" * 100)
    with pytest.raises(SourceError, match="the file is no SQLite database"):
        opened(path).schema(TABLE)
    with pytest.raises(SinkError, match="the file is no SQLite database"):
        opened(path).session()


def test_an_absent_table_is_told_with_the_nearest(path: Path) -> None:
    run(path, "CREATE TABLE customers (a)")
    with pytest.raises(SourceError, match="there is no table customer; did you mean customers"):
        opened(path).schema(TableName("customer"))


def test_a_name_of_any_characters_is_quoted(path: Path) -> None:
    name = 'a "b"; DROP TABLE t --'
    run(path, 'CREATE TABLE "a ""b""; DROP TABLE t --" ("x ""y""" INTEGER)')
    assert opened(path).schema(TableName(name)).names == ['x "y"']
    for bad in ("", "a\0b"):
        with pytest.raises(SinkError, match="a name in SQLite"):
            opened(path).quote(bad)


def test_a_schema_is_told(path: Path) -> None:
    with pytest.raises(SinkError, match=r'no schema sub; write #t, or, .*#"sub\.t"'):
        opened(path).resolve(opened(path).session(), TableName("t", "sub"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///x.db?timeout=3"])
def test_an_address_that_is_no_file_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(url).open()


def test_a_table_of_write_ahead_kind_is_read_with_what_is_in_its_log(path: Path) -> None:
    make(path, "INTEGER", [1])
    run(path, "PRAGMA journal_mode = WAL")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO t VALUES (2)")
        assert read(path).column("x").to_pylist() == [1, 2]
    assert held(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("kind", ["delete", "wal"])
def test_a_read_only_folder_is_read_in_both_kinds_of_journal_and_not_written(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # one that another user may look into
        path = Path(folder) / "shop.db"
        make(path, "INTEGER", [1])
        run(path, f"PRAGMA journal_mode = {kind}")
        first, second = unprivileged(path)
    assert first == "[1]"
    assert "read-only" in second


def unprivileged(path: Path) -> tuple[str, str]:
    """What a user reads who may write nothing here, and what he is told when he tries."""
    path.chmod(0o444)
    path.parent.chmod(0o555)
    code = (
        "import difflib, os, sys, numpy.ma, pyarrow.compute\n"  # now: the other user may not look into the environment
        "from bimodal.batch.databases.address import Address\n"
        "from bimodal.batch.databases.contract import TableName\n"
        "from bimodal.errors import SinkError\n"
        "database = Address.parse(sys.argv[1]).open()\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print([value for batch in database.batches(TableName('t'), ['x']) for value in batch.column(0).to_pylist()])\n"
        "try:\n"
        "    session = database.session()\n"
        "    with session.transaction(): session.execute('CREATE TABLE u (a)')\n"
        "except SinkError as error: print(error)\n"
    )
    try:
        told = subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], capture_output=True, text=True)
    finally:
        path.parent.chmod(0o755)
    assert told.stderr == ""
    first, second = told.stdout.splitlines()
    return first, second


def test_two_names_of_one_file_are_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    (path.parent / "link.db").symlink_to(path)
    here = Address.parse("sqlite:///shop.db").open()
    assert here.same(opened(path.parent / "link.db"))  # not made yet
    make(path, "INTEGER", [1])
    assert here.same(opened(path))
    assert here.same(opened(path.parent / "link.db"))
    assert not here.same(opened(path.parent / "other.db"))


# -- writing -----------------------------------------------------------------------------------------------------------


def test_what_fits_no_column_is_refused_naming_it(path: Path) -> None:
    database = opened(path)
    for kind in (pa.month_day_nano_interval(), pa.list_(pa.date32()), pa.map_(pa.string(), pa.int64())):
        with pytest.raises(SinkError, match="column 'x' is of type"):
            database.type_of(pa.field("x", kind))
    for values, kind in (
        ([1, 2**63], pa.uint64()),
        ([0, 300_000_000_000], pa.timestamp("s")),
        ([0, 3_000_000], pa.date32()),
    ):
        table = pa.table({"x": pa.array(values, kind)})
        with pytest.raises(Unfit) as caught:
            database.prepare(table, {"x": database.type_of(table.schema.field("x"))})
        assert (caught.value.column, caught.value.place) == ("x", 1)


def test_a_number_without_bounds_is_kept_as_text(path: Path) -> None:
    field = text_field("x", "postgresql", "numeric")
    assert opened(path).type_of(field) == "DECIMAL TEXT"
    write(path, pa.table([pa.array(["1" * 60])], schema=pa.schema([field])))
    found = opened(path).schema(TABLE).field("x")
    assert found.equals(text_field("x", "sqlite", "numeric"), check_metadata=True)


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    with closing(opened(path).session()) as session:
        with pytest.raises(SinkError, match="near"):
            twice(session, "CREATE TABLE t (x)", "no statement")
        assert session.query("SELECT name FROM sqlite_master") == []


def twice(session: Session, *statements: str) -> None:
    with session.transaction():
        for each in statements:
            session.execute(each)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_commit_is_durable_and_the_journal_stays_as_it_is(path: Path, journal: str) -> None:
    run(path, f"PRAGMA journal_mode = {journal}")
    with closing(opened(path).session()) as session:
        assert session.query("PRAGMA synchronous") == [(3,)]
        assert session.query("PRAGMA journal_mode") == [(journal,)]


def test_a_locked_database_is_waited_for(path: Path) -> None:
    make(path, "INTEGER", [1])
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        threading.Timer(0.3, other.execute, ["COMMIT"]).start()
        with closing(opened(path).session()) as session, session.transaction():
            session.execute("INSERT INTO t VALUES (2)")
        assert 0.2 < time.monotonic() - begun < 60
    assert held(path) == [(1,), (2,)]


def test_a_database_that_stays_locked_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "WAIT", 0.1)
    make(path, "INTEGER", [1])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match="another program has it locked"):
            read(path)
        with (
            pytest.raises(SinkError, match="another program has it locked"),
            closing(opened(path).session()) as session,
        ):
            session.execute("INSERT INTO t VALUES (2)")


def test_a_view_on_the_table_does_not_keep_another_from_its_place(path: Path) -> None:
    run(
        path,
        "CREATE TABLE t (x)",
        "INSERT INTO t VALUES (1)",
        "CREATE INDEX i ON t (x)",
        "CREATE VIEW v AS SELECT x FROM t",
    )
    run(
        path, "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE TABLE s (x)", "INSERT INTO s VALUES (2)"
    )
    database = opened(path)
    with closing(database.session()) as session:
        assert database.left_behind(session, TABLE) == "1 index and 1 trigger"
        with session.transaction():
            for statement in database.replace(session, TABLE, TableName("s")):
                session.execute(statement)
        assert database.left_behind(session, TABLE) is None
        assert database.columns(session, TableName("s")) is None
    assert held(path, "SELECT * FROM v") == [(2,)]


def test_upsert_needs_a_unique_index_and_changes_what_is_there(path: Path) -> None:
    run(path, "CREATE TABLE t (a INTEGER NOT NULL, b TEXT, c NOT NULL DEFAULT 7, UNIQUE (a))")
    run(
        path,
        "INSERT INTO t VALUES (1, 'x', 1)",
        "CREATE TABLE s (a INTEGER, b TEXT)",
        "INSERT INTO s VALUES (1, 'y'), (2, 'z')",
    )
    database = opened(path)
    with closing(database.session()) as session:
        assert database.unique(session, TABLE, ["A"])
        assert not database.unique(session, TABLE, ["a", "b"])
        assert database.required(session, TABLE) == ("a",)
        for statement in database.upsert(TABLE, TableName("s"), {"a": '"a"', "b": '"b"'}, ["a"]):
            session.execute(statement)
        session.execute(database.index(TABLE, ["a", "b"]))
        assert database.unique(session, TABLE, ["b", "a"])
        assert database.rights(session, TABLE, Mode("upsert", ("a",))) is None
        session.execute("CREATE VIEW v AS SELECT 1")
        assert "is a view" in str(database.rights(session, TableName("v"), Mode("append")))
    assert held(path) == [(1, "y", 1), (2, "z", 7)]


@pytest.mark.parametrize(
    ("have", "want", "good", "bad"),
    [
        ("INTEGER", "bigint", [2**62], []),
        ("INTEGER", "REAL", [2**53], [2**53 + 1, -(2**63)]),
        ("INTEGER", "BOOLEAN", [0, 1], [2]),
        ("INTEGER", "VARCHAR(9)", [5], []),
        ("INTEGER", "DECIMAL(10,2)", [2**60 + 1], []),
        ("REAL", "INTEGER", [2.0, -(2.0**60)], [2.5, 1e300]),
        ("REAL", "TEXT", [0.5], [0.1 + 0.2]),
        ("TEXT", "INTEGER", ["5"], ["007", "x"]),
        ("TEXT", "REAL", ["2.5"], ["x"]),
        ("TEXT", "DATE", ["2024-01-31", "x"], ["007", "1.50"]),
        ("TEXT", "BLOB", [], ["x"]),
        ("BLOB", "TEXT", [], [b"x"]),
        ("DECIMAL TEXT(10,2)", "REAL", ["1.50", "-0.10"], []),
        ("DECIMAL TEXT(30,2)", "NUMERIC", ["1.50"], ["1234567890123456789012345.67"]),
        ("TIMESTAMP(6)", "DATETIME", ["2024-01-31 00:00:00.000000"], []),
        ("TIMESTAMP(6)", "INTEGER", [], ["2024-01-31 00:00:00.000000"]),
    ],
)
def test_what_another_type_would_change_is_found(
    path: Path, have: str, want: str, good: list[Any], bad: list[Any]
) -> None:
    database = opened(path)
    condition = database.differs('"x"', have, want)
    make(path, have, [None, *good, *bad])
    found = [row[0] for row in held(path, f"SELECT x FROM t WHERE {condition}")] if condition else []
    assert found == bad
    run(path, f"CREATE TABLE u (x {want})")
    with closing(database.session()) as session:
        values = {"x": database.converted('"x"', have, want)}
        session.execute(database.insert(TableName("u"), TABLE, values) + f" WHERE ({condition or 'false'}) IS NOT true")
    kept = [row[0] for row in held(path, "SELECT x FROM u")]
    assert [
        None if value is None else type(first)(value) for first, value in zip([None, *good], kept, strict=True)
    ] == [
        None,
        *good,
    ] or [float(value) for value in kept[1:]] == [float(value) for value in good]


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock on t."""
    code = (
        "import sys; from pathlib import Path; from bimodal.batch.databases.contract import TableName\n"
        "from bimodal.batch.databases.filelock import hold\n"
        "release = hold(Path(sys.argv[1]), TableName('t')); print(callable(release), flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_lock_is_told_and_ends_with_its_process(path: Path, other: subprocess.Popen[str]) -> None:
    database: Database = opened(path)
    told = database.lock(TABLE)
    assert isinstance(told, str)
    assert told.startswith(f"process {other.pid} on ")
    free(database.lock(TableName("u")))
    other.kill()
    other.wait()
    release = database.lock(TABLE)
    assert isinstance(database.lock(TableName("T")), str)  # names in SQLite do not tell a from A
    free(release)
    assert list(path.parent.iterdir()) == []


def free(release: Callable[[], None] | str) -> None:
    assert callable(release)
    release()
