"""DuckDB: each type both ways, what Arrow cannot hold, snapshots, one process at a time, and memory."""

from __future__ import annotations

import datetime
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Mode, Query, Relation, Session, TableName, Unfit, declared_type, text_field
from bimodal.batch.databases.duckdb import DuckDB
from bimodal.batch.databases.source import DatabaseSource
from bimodal.batch.sources.contract import Reading
from bimodal.errors import OutputHeld, SinkError, SourceError, UsageError
from tests.batch.databases.contract_sink import MODES, SinkContract
from tests.batch.databases.contract_source import SourceContract
from tests.batch.databases.place import Place
from tests.batch.databases.zygote import Zygote

TABLE = TableName("t")


class DuckDBPlace(Place):
    """A file, and another connection to it, which must be set up as ours is."""

    stored = "VIRTUAL"

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, str(path.parent)
        self.url = f"duckdb:///{path}"

    def connect(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.path), config=opened(self.path).settings)

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(self.marked(statement) if values else statement, list(values)).fetchall()

    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        with self.connect() as connection:
            connection.begin()
            connection.executemany(self.marked(statement), rows) if rows[0] else connection.execute(statement)
            connection.commit()


@pytest.fixture
def place() -> Iterator[DuckDBPlace]:
    """In memory where there is such a folder: what is tested is a process that dies, and no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield DuckDBPlace(Path(folder) / "contract.duckdb")


class TestSource(SourceContract):
    @pytest.fixture
    def place(self, place: DuckDBPlace) -> DuckDBPlace:
        return place


class TestSink(SinkContract):
    @pytest.fixture
    def place(self, place: DuckDBPlace) -> DuckDBPlace:
        return place

    @pytest.mark.soak  # the checks have those of tests/crash, through the command
    @pytest.mark.parametrize("mode", MODES)
    def test_killed_before_each_of_its_acts(self, place: Place, zygote: Zygote, mode: str, tmp_path: Path) -> None:
        super().test_killed_before_each_of_its_acts(place, zygote, mode, tmp_path)


NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)  # noqa: DTZ001 - a moment without a zone is meant
ID = "f06c2e2d-311b-473e-83f9-37b4c079462d"
READ = [  # a DuckDB type, literals, the Arrow type, what Arrow holds
    ("TINYINT", ["-128", "NULL"], pa.int8(), [-128, None]),
    ("UBIGINT", ["18446744073709551615", "NULL"], pa.uint64(), [2**64 - 1, None]),
    ("BIGINT", ["-9223372036854775808", "NULL"], pa.int64(), [-(2**63), None]),
    ("HUGEINT", ["9" * 38, "-1"], pa.decimal128(38, 0), [Decimal("9" * 38), Decimal(-1)]),
    ("UHUGEINT", ["7", "NULL"], pa.decimal128(38, 0), [Decimal(7), None]),
    ("DECIMAL(38,10)", ["1234567890123456789012345678.0123456789"], pa.decimal128(38, 10),
     [Decimal("1234567890123456789012345678.0123456789")]),
    ("DECIMAL(4,1)", ["-99.9", "NULL"], pa.decimal128(4, 1), [Decimal("-99.9"), None]),
    ("FLOAT", ["0.1", "'nan'"], pa.float32(), [0.10000000149011612, "nan"]),
    ("DOUBLE", ["0.1", "'-inf'", "NULL"], pa.float64(), [0.1, float("-inf"), None]),
    ("BOOLEAN", ["true", "NULL"], pa.bool_(), [True, None]),
    ("VARCHAR", ["'ü🦉'", "''", "NULL", "'a' || chr(0) || 'b'"], pa.string(), ["ü🦉", "", None, "a\0b"]),
    ("BLOB", ["'\\x00\\xFF'::BLOB", "NULL"], pa.binary(), [b"\x00\xff", None]),
    ("DATE", ["'0044-03-15 (BC)'", "'9999-12-31'"], None, None),
    ("DATE", ["'9999-12-31'", "NULL"], pa.date32(), [datetime.date(9999, 12, 31), None]),
    ("TIME", ["'23:59:59.999999'"], pa.time64("us"), [datetime.time(23, 59, 59, 999999)]),
    ("TIMESTAMP", ["'2024-02-29 12:00:00.123456'", "NULL"], pa.timestamp("us"), [NOON, None]),
    ("TIMESTAMP_S", ["'2024-02-29 12:00:00'"], pa.timestamp("s"), [NOON.replace(microsecond=0)]),
    ("TIMESTAMP_MS", ["'2024-02-29 12:00:00.123'"], pa.timestamp("ms"), [NOON.replace(microsecond=123000)]),
    ("TIMESTAMPTZ", ["'2024-02-29 14:00:00.123456+02'", "NULL"], pa.timestamp("us", "UTC"),
     [NOON.replace(tzinfo=datetime.UTC), None]),
    ("TIME WITH TIME ZONE", ["'10:00:00+02'", "NULL"], pa.string(), ["10:00:00+02", None]),
    ("INTERVAL", ["'3 months 2 days 1 second'", "NULL"], pa.string(), ["3 months 2 days 00:00:01", None]),
    ("UUID", [f"'{ID}'", "NULL"], pa.string(), [ID, None]),
    ("ENUM('a', 'it''s')", ["'it''s'", "NULL"], pa.string(), ["it's", None]),
    ("BIT", ["'0101'", "NULL"], pa.string(), ["0101", None]),
    ("BIGNUM", ["'1" + "0" * 60 + "'", "NULL"], pa.string(), ["1" + "0" * 60, None]),
    ("JSON", ["'{\"a\": 1}'", "NULL"], pa.string(), ['{"a": 1}', None]),
    ("INTEGER[]", ["[1, NULL]", "[]", "NULL"], None, [[1, None], [], None]),
    ("INTEGER[2]", ["[1, 2]", "NULL"], pa.list_(pa.int32(), 2), [[1, 2], None]),
    ("STRUCT(a INTEGER, b VARCHAR[])", ["{'a': 1, 'b': ['x']}"], None, [{"a": 1, "b": ["x"]}]),
    ("MAP(VARCHAR, INTEGER)", ["MAP {'k': 1}"], pa.map_(pa.string(), pa.int32()), [[("k", 1)]]),
]  # fmt: skip
WRITTEN = [  # an Arrow type, values, the type DuckDB gives the column, what DuckDB then says as text
    (pa.int8(), [-128, None], "TINYINT", ["-128", None]),
    (pa.uint64(), [2**64 - 1, None], "UBIGINT", ["18446744073709551615", None]),
    (pa.float16(), [1.5], "FLOAT", ["1.5"]),
    (pa.float64(), [0.1, float("nan"), None], "DOUBLE", ["0.1", "nan", None]),
    (pa.bool_(), [True, None], "BOOLEAN", ["true", None]),
    (pa.large_string(), ["a\0ü", None, ""], "VARCHAR", ["a\0ü", None, ""]),
    (pa.string_view(), ["x", None], "VARCHAR", ["x", None]),
    (pa.binary(2), [b"\x00\xff", None], "BLOB", ["\\x00\\xFF", None]),
    (pa.large_binary(), [b"", None], "BLOB", ["", None]),
    (pa.decimal128(38, 10), [Decimal("-1.5"), None], "DECIMAL(38,10)", ["-1.5000000000", None]),
    (pa.decimal256(38, 0), [Decimal("9" * 38)], "DECIMAL(38,0)", ["9" * 38]),
    (pa.date64(), [datetime.date(2024, 2, 29), None], "DATE", ["2024-02-29", None]),
    (pa.time32("ms"), [datetime.time(1, 2, 3, 4000)], "TIME", ["01:02:03.004"]),
    (pa.time64("ns"), [1, None], "TIME_NS", ["00:00:00.000000001", None]),
    (pa.timestamp("s"), [0, None], "TIMESTAMP_S", ["1970-01-01 00:00:00", None]),
    (pa.timestamp("ns"), [1], "TIMESTAMP_NS", ["1970-01-01 00:00:00.000000001"]),
    (pa.timestamp("ms", "Asia/Tokyo"), [0, None], "TIMESTAMP WITH TIME ZONE", ["1970-01-01 00:00:00+00", None]),
    (pa.duration("ms"), [1500, None], "INTERVAL", ["00:00:01.5", None]),
    (pa.month_day_nano_interval(), [(1, 2, 3000)], "INTERVAL", ["1 month 2 days 00:00:00.000003"]),
    (pa.dictionary(pa.int8(), pa.string()), ["x", None], "VARCHAR", ["x", None]),
    (pa.null(), [None], "VARCHAR", [None]),
    (pa.list_(pa.timestamp("us")), [[0, None], None], "TIMESTAMP[]", ["['1970-01-01 00:00:00', NULL]", None]),
    (pa.struct([("a b", pa.int64())]), [{"a b": 1}], 'STRUCT("a b" BIGINT)', ["{'a b': 1}"]),
    (pa.map_(pa.string(), pa.int8()), [[("k", 1)]], "MAP(VARCHAR, TINYINT)", ["{k=1}"]),
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.duckdb"


def opened(path: Path) -> DuckDB:
    database = Address.parse(f"duckdb:///{path}#t").open()
    assert isinstance(database, DuckDB)
    database.wait = 0.3
    return database


def run(path: Path, *statements: str) -> None:
    """By the driver alone."""
    with duckdb.connect(str(path)) as connection:
        for each in statements:
            connection.execute(each)


def held(path: Path, statement: str = "SELECT * FROM t") -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
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


@pytest.mark.parametrize(("word", "literals", "kind", "values"), READ, ids=lambda value: str(value)[:24])
def test_a_type_is_read_and_written_back_the_same(
    path: Path, word: str, literals: list[str], kind: pa.DataType | None, values: list[Any] | None
) -> None:
    run(path, f"CREATE TABLE t (x {word})", *(f"INSERT INTO t VALUES ({each})" for each in literals))
    found = read(path)
    assert kind is None or found.schema.field("x").type == kind
    if values is not None:
        got = ["nan" if value != value else value for value in found.column("x").to_pylist()]
        assert got == values
    again = path.with_name("again.duckdb")
    write(again, found)
    asked = "SELECT typeof(x), CAST(x AS VARCHAR) FROM t"
    assert held(again, asked) == held(path, asked)


@pytest.mark.parametrize(("kind", "values", "word", "texts"), WRITTEN, ids=lambda value: str(value)[:24])
def test_a_type_is_written(
    path: Path, kind: pa.DataType, values: list[Any], word: str, texts: list[str | None]
) -> None:
    column = pa.array(values, kind)
    write(path, pa.table({"x": column}))
    assert held(path, "SELECT DISTINCT typeof(x) FROM t") == [(word,)]
    assert [text for (text,) in held(path, "SELECT CAST(x AS VARCHAR) FROM t")] == texts


@pytest.mark.parametrize(
    "literal",
    [
        "union_value(a := 1)",
        "CAST(1 AS VARIANT)",
        "[CAST(1 AS HUGEINT)]",
        "{'a': CAST('1' AS BIT)}",
        "[INTERVAL 1 DAY]",
    ],
)
def test_what_arrow_cannot_hold_is_refused_with_a_cast_that_works(path: Path, literal: str) -> None:
    run(path, f"CREATE TABLE t AS SELECT {literal} AS x")
    with pytest.raises(SourceError, match=r"column 'x' .* CAST\(\"x\" AS VARCHAR\)"):
        read(path)
    assert read(path, Query('SELECT CAST("x" AS VARCHAR) AS "x" FROM t')).schema.field("x").type == pa.string()


@pytest.mark.parametrize(
    "literal", ["'infinity'::TIMESTAMP", "'-infinity'::DATE", "'infinity'::TIMESTAMPTZ", "'24:00'::TIME"]
)
def test_infinity_is_refused_naming_the_column(path: Path, literal: str) -> None:
    run(path, f"CREATE TABLE t AS SELECT {literal} AS x")
    with pytest.raises(SourceError, match=r"column 'x' holds (infinity|24:00:00)"):
        read(path)


def test_a_number_of_39_digits_is_refused_and_not_shown(path: Path) -> None:
    run(path, "CREATE TABLE t AS SELECT 170141183460469231731687303715884105727::HUGEINT AS x")
    with pytest.raises(SourceError, match="cannot be converted") as caught:
        read(path)
    assert "1701" not in str(caught.value)


def test_what_duckdb_cannot_hold_is_refused(path: Path) -> None:
    database = opened(path)
    for kind in (pa.decimal256(60, 1), pa.list_(pa.decimal256(60, 1)), pa.struct([])):
        with pytest.raises(SinkError, match="column 'x' is of type"):
            database.type_of(pa.field("x", kind))
    refused: list[tuple[list[Any], pa.DataType]] = [
        ([0, 2**63 - 1], pa.timestamp("us")),
        ([0, -(2**31)], pa.date32()),
        ([0, 2**60], pa.timestamp("s", "UTC")),
        ([0, 1], pa.duration("ns")),
        ([0, 2**60], pa.duration("s")),
        ([(0, 0, 0), (0, 0, 1)], pa.month_day_nano_interval()),
    ]
    for values, kind in refused:
        table = pa.table({"x": pa.array(values, kind)})
        with pytest.raises(Unfit) as caught:
            database.prepare(table, {"x": database.type_of(table.schema.field("x"))})
        assert (caught.value.column, caught.value.place) == ("x", 1)


def test_a_type_of_another_database_is_text_here(path: Path) -> None:
    assert opened(path).type_of(text_field("x", "postgresql", "numeric")) == "VARCHAR"
    assert opened(path).type_of(text_field("x", "postgresql", "cidr")) == "VARCHAR"
    run(path, "CREATE TABLE t (x UUID)")
    assert declared_type(opened(path).schema(TABLE).field("x"), "duckdb") == "UUID"


# -- reading -----------------------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_in_which_they_were_written(path: Path) -> None:
    count = 400_000
    run(
        path,
        f"CREATE TABLE t AS SELECT range AS a, CASE WHEN range % 3 = 0 THEN 'w' || range END AS b FROM range({count})",
    )
    found = read(path)
    assert found.column("a").equals(pa.chunked_array([pa.array(range(count), pa.int64())]))
    assert opened(path).rows(TABLE) == count
    batches = list(opened(path).batches(TABLE, ["b"]))
    assert max(batch.num_rows for batch in batches) <= 131_072
    assert batches[0].schema.names == ["b"]
    assert sum(batch.num_rows for batch in opened(path).batches(TABLE, [])) == count


def test_a_query_has_its_own_order_each_time(path: Path) -> None:
    run(path, "CREATE TABLE t AS SELECT hash(range) % 5000 AS g, range AS a FROM range(200000)")
    ordered = read(path, Query("SELECT a, g, 'é;' AS c FROM t ORDER BY g, a DESC -- as it is;\n; -- é;"))
    assert ordered.sort_by([("g", "ascending"), ("a", "descending")]).equals(ordered)
    grouped = Query("SELECT g, sum(a) AS s FROM t GROUP BY g")
    assert read(path, grouped).equals(read(path, grouped))
    assert read(path, grouped).schema.field("s").type == pa.decimal128(38, 0)


def test_a_map_is_a_column_as_others_are(path: Path) -> None:
    run(path, "CREATE TABLE t AS SELECT 1 AS id")
    query = Query("SELECT MAP {'a': 1} AS m UNION ALL SELECT NULL UNION ALL SELECT MAP {}")
    source = DatabaseSource(opened(path), query)
    (piece,) = source.pieces(Reading({}, ("m",)))
    assert piece.load().kept.column("m").to_pylist() == [[("a", 1)], None, []]
    assert source.unchanged(piece.cursor)


def test_a_query_may_read_files(path: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,x\n")
    run(path, "CREATE TABLE t (x INTEGER)")
    assert read(path, Query(f"FROM '{tmp_path}/x.csv'")).to_pydict() == {"a": [1], "b": ["x"]}


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM t",
        "SELECT 1; DROP TABLE t",
        "COPY t TO 'x.csv'",
        "",
        "SELEC",
        "PRAGMA version",
        "SELECT nope FROM t",
    ],
)
def test_what_is_no_query_that_reads_is_refused_and_does_nothing(
    path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    run(path, "CREATE TABLE t AS SELECT 1 AS x")
    with pytest.raises(SourceError):
        list(opened(path).batches(Query(text), []))
    assert held(path) == [(1,)]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_absent_table_is_told_with_the_nearest(path: Path) -> None:
    run(path, "CREATE TABLE customers (a INTEGER)", "CREATE SCHEMA s", "CREATE TABLE s.t (a INTEGER)")
    with pytest.raises(SourceError, match="there is no table customer; did you mean customers"):
        opened(path).schema(TableName("customer"))
    assert opened(path).schema(TableName("T", "S")).names == ["a"]


def test_a_schema_may_be_called_as_the_database(path: Path) -> None:
    run(path, "CREATE SCHEMA shop", "CREATE TABLE shop.shop.t (x INTEGER)", "INSERT INTO shop.shop.t VALUES (1)")
    assert read(path, TableName("t", "shop")).to_pydict() == {"x": [1]}


def test_a_missing_or_another_file_is_told(path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        opened(path).schema(TABLE)
    assert not path.exists()
    path.write_text("id,name\n" * 1000)
    with pytest.raises(SourceError, match="the file is no DuckDB database"):
        opened(path).schema(TABLE)
    with pytest.raises(SinkError, match="the file is no DuckDB database"):
        opened(path).session()
    with pytest.raises(SinkError, match="there is no folder"):
        opened(path.parent / "nowhere" / "x.duckdb").session()


def test_a_file_of_sqlite_is_told(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(84))
    with pytest.raises(SourceError, match="write sqlite:///"):
        opened(path).schema(TABLE)
    with pytest.raises(SinkError, match="write sqlite:///"):
        opened(path).session()


@pytest.mark.parametrize("url", ["duckdb://", "duckdb:///:memory:", "duckdb:///x.duckdb?threads=3"])
def test_an_address_that_is_no_file_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(url).open()


def test_a_query_that_needs_more_than_its_memory_goes_to_files(path: Path) -> None:
    run(path, "CREATE TABLE t AS SELECT range AS a, hash(range)::VARCHAR AS b FROM range(1_000_000)")
    database = opened(path)
    database.memory = 64 << 20
    count = sum(batch.num_rows for batch in database.batches(Query("SELECT b, a FROM t ORDER BY b"), ["b"]))
    assert count == 1_000_000


# -- one file, several connections -------------------------------------------------------------------------------------


def test_a_reader_sees_what_was_there_when_it_began(path: Path) -> None:
    run(path, "CREATE TABLE t AS SELECT range AS a FROM range(300_000)")
    database = opened(path)
    with closing(database.session()) as session:
        batches = database.batches(TABLE, ["a"])
        count = next(batches).num_rows
        with session.transaction():
            session.execute("INSERT INTO t SELECT * FROM range(1000)")
        with session.transaction():
            session.execute("CREATE TABLE s (a BIGINT)")
            for statement in database.replace(session, TABLE, TableName("s")):
                session.execute(statement)
        assert count + sum(batch.num_rows for batch in batches) == 300_000
    assert held(path) == []


def test_two_names_of_one_file_are_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    (path.parent / "link.duckdb").symlink_to(path)
    here = Address.parse("duckdb:///shop.duckdb").open()
    assert here.same(opened(path.parent / "link.duckdb"))  # not made yet
    run(path, "CREATE TABLE t (x INTEGER)")
    assert here.same(opened(path.parent / "link.duckdb"))
    assert not here.same(opened(path.parent / "other.duckdb"))


def test_a_connection_of_the_same_process_is_shared(path: Path) -> None:
    with duckdb.connect(str(path)) as mine:
        mine.execute("CREATE TABLE t AS SELECT 1 AS x")
        assert read(path).to_pydict() == {"x": [1]}
        with closing(opened(path).session()) as session:
            session.execute("INSERT INTO t VALUES (2)")
        assert mine.execute("SELECT x FROM t").fetchall() == [(1,), (2,)]
    with duckdb.connect(str(path), read_only=True):
        assert read(path).to_pydict() == {"x": [1, 2]}
        with closing(opened(path).session()) as session, pytest.raises(SinkError, match="read-only"):
            session.execute("INSERT INTO t VALUES (3)")


@pytest.fixture
def other(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the file open."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_file_that_another_process_has_open_is_told_with_its_number(path: Path, other: subprocess.Popen[str]) -> None:
    for work in (lambda: opened(path).session(), lambda: opened(path).schema(TABLE)):
        with pytest.raises(OutputHeld, match=f"is open in process {other.pid}, and DuckDB lets one process"):
            work()
    other.kill()
    other.wait()
    opened(path).session().close()


def test_a_lock_is_one_tables_own(path: Path) -> None:
    database = opened(path)
    release = database.lock(TABLE)
    assert callable(release)
    assert str(database.lock(TABLE)).startswith("process ")
    other = database.lock(TableName("t", "s"))
    assert callable(other)
    release()
    other()
    assert list(path.parent.iterdir()) == []


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_failed_transaction_leaves_nothing_and_the_next_one_works(path: Path) -> None:
    with closing(opened(path).session()) as session:
        with pytest.raises(SinkError, match=r"syntax error"):
            together(session, "CREATE TABLE t (x INTEGER)", "no statement")
        together(session, "CREATE TABLE u (x INTEGER PRIMARY KEY)", "INSERT INTO u VALUES (1)")
        with pytest.raises(SinkError, match="a row breaks a PRIMARY KEY constraint") as caught:
            together(session, "INSERT INTO u VALUES (12345), (12345)")
        assert "12345" not in str(caught.value)
    assert held(path, "SELECT table_name FROM duckdb_tables()") == [("u",)]


def together(session: Session, *statements: str) -> None:
    with session.transaction():
        for each in statements:
            session.execute(each)


def test_a_table_is_known_by_its_columns_keys_and_rules(path: Path) -> None:
    name = TableName('odd "name"', "s")
    run(
        path,
        "CREATE SCHEMA s",
        'CREATE TABLE s."odd ""name""" (a INTEGER PRIMARY KEY, "b, \'c\'" VARCHAR NOT NULL, d DATE)',
    )
    run(path, 'CREATE UNIQUE INDEX i ON s."odd ""name""" (a, "b, \'c\'")', "CREATE VIEW v AS SELECT 1 AS x")
    database = opened(path)
    with closing(database.session()) as session:
        assert database.columns(session, name) == {"a": "INTEGER", "b, 'c'": "VARCHAR", "d": "DATE"}
        assert database.columns(session, TableName('odd "name"')) is None
        assert database.required(session, name) == ("a", "b, 'c'")
        assert database.unique(session, name, ["A"])
        assert database.unique(session, name, ["b, 'c'", "a"])
        assert not database.unique(session, name, ["b, 'c'"])
        assert database.left_behind(session, name) == "1 index and 3 constraints"
        assert database.rights(session, name, Mode()) is None
        assert "is a view" in str(database.rights(session, TableName("v"), Mode()))
        session.execute(database.index(name, ["d"]))
        assert database.unique(session, name, ["d"])
    for bad in ("", "a\0b"):
        with pytest.raises(SinkError, match="a name in DuckDB"):
            database.quote(bad)


def test_a_table_that_another_refers_to_is_not_replaced(path: Path) -> None:
    run(path, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE other (id INTEGER REFERENCES t (id))")
    with closing(opened(path).session()) as session:
        assert "the table other refers to t" in str(opened(path).rights(session, TABLE, Mode("replace")))
        assert opened(path).rights(session, TABLE, Mode("append")) is None


def test_upsert_changes_what_is_there(path: Path) -> None:
    run(path, "CREATE TABLE t (a INTEGER UNIQUE, b VARCHAR, c INTEGER DEFAULT 7)", "INSERT INTO t VALUES (1, 'x', 1)")
    run(path, "CREATE TABLE s (a INTEGER, b VARCHAR)", "INSERT INTO s VALUES (1, 'y'), (2, 'z')")
    database = opened(path)
    with closing(database.session()) as session:
        for values in ({"a": '"a"', "b": '"b"'}, {"a": '"a"'}):
            for statement in database.upsert(TABLE, TableName("s"), values, ["a"]):
                session.execute(statement)
    assert held(path, "SELECT * FROM t ORDER BY a") == [(1, "y", 1), (2, "z", 7)]


@pytest.mark.parametrize(
    ("have", "want", "good", "bad"),
    [
        ("BIGINT", "DOUBLE", ["9007199254740992"], ["9007199254740993"]),
        ("DOUBLE", "INTEGER", ["2.0"], ["2.5", "1e300"]),
        ("VARCHAR", "INTEGER", ["5"], ["007", "x"]),
        ("VARCHAR", "DATE", ["2024-01-31"], ["31/01/2024"]),
        ("DOUBLE", "FLOAT", ["0.5"], ["0.1"]),
        ("TIMESTAMP", "DATE", ["2024-01-31 00:00:00"], ["2024-01-31 10:00:00"]),
        ("DECIMAL(10,2)", "DECIMAL(10,1)", ["1.50"], ["1.55"]),
    ],
)
def test_what_another_type_would_change_is_found(
    path: Path, have: str, want: str, good: list[str], bad: list[str]
) -> None:
    database = opened(path)
    run(path, f"CREATE TABLE t (x {have})", *(f"INSERT INTO t VALUES ('{each}')" for each in [*good, *bad]))
    run(path, "INSERT INTO t VALUES (NULL)")
    condition = database.differs('"x"', have, want)
    assert len(held(path, f"SELECT x FROM t WHERE {condition}")) == len(bad)
    assert (
        len(held(path, f"SELECT {database.converted('x', have, want)} FROM t WHERE NOT ({condition})")) == len(good) + 1
    )
    with closing(database.session()) as session:
        assert database.convertible(session, have, want)
        assert not database.convertible(session, have, "NOPE")
