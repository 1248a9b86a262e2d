"""MariaDB's types, both ways and exactly; what it cannot hold, what is lost, who may write, who holds the lock."""

from __future__ import annotations

import datetime
import re
import traceback
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bimodal.batch.databases import mysql
from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Mode, Query, TableName, Unfit, text_field
from bimodal.batch.databases.mysql import MySQL
from bimodal.batch.databases.mysql_types import convertible
from bimodal.batch.databases.opening import open_sink
from bimodal.batch.databases.sink import TableSink
from bimodal.batch.marks import Beside, Mark
from bimodal.errors import SinkError, SourceError
from tests.batch.databases.mariadb import Server, served

T = TableName("t")
UTC = datetime.UTC
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)  # noqa: DTZ001 - a DATETIME has no zone
SECONDS = datetime.timedelta(seconds=1)
LONGEST = datetime.timedelta(hours=838, minutes=59, seconds=59)

READ: list[tuple[str, list[str], pa.DataType, list[Any]]] = [  # a type, literals, as what it is read, the values
    ("TINYINT", ["-128", "127"], pa.int8(), [-128, 127]),
    ("TINYINT UNSIGNED", ["255"], pa.uint8(), [255]),
    ("SMALLINT", ["-32768"], pa.int16(), [-32768]),
    ("MEDIUMINT UNSIGNED", ["16777215"], pa.uint32(), [16777215]),
    ("INT", ["-2147483648"], pa.int32(), [-2147483648]),
    ("INT UNSIGNED ZEROFILL", ["7"], pa.uint32(), [7]),
    ("BIGINT", ["-9223372036854775808", "9223372036854775807"], pa.int64(), [-(2**63), 2**63 - 1]),
    ("BIGINT UNSIGNED", ["18446744073709551615"], pa.uint64(), [2**64 - 1]),
    ("BOOLEAN", ["0", "1"], pa.bool_(), [False, True]),
    ("BIT(1)", ["b'0'", "b'1'"], pa.bool_(), [False, True]),
    ("BIT(64)", ["b'1'", "18446744073709551615"], pa.uint64(), [1, 2**64 - 1]),
    ("BIT(9)", ["b'100000001'"], pa.uint64(), [257]),
    ("FLOAT", ["16777216", "0.1"], pa.float32(), [16777216.0, 0.10000000149011612]),
    ("DOUBLE", ["0.1e0", "1e300", "4.9e-324", "123456789.12345679e0"], pa.float64(),
     [0.1, 1e300, 5e-324, 123456789.12345679]),
    ("DECIMAL(9,2)", ["-1234567.89"], pa.decimal128(9, 2), [Decimal("-1234567.89")]),
    ("DECIMAL(5,0) UNSIGNED", ["99999"], pa.decimal128(5, 0), [Decimal("99999")]),
    ("DECIMAL(65,30)", ["1" * 35 + "." + "9" * 30], pa.decimal256(65, 30), [Decimal("1" * 35 + "." + "9" * 30)]),
    ("DATE", ["'1000-01-01'", "'9999-12-31'"], pa.date32(), [datetime.date(1000, 1, 1), datetime.date(9999, 12, 31)]),
    ("DATETIME(6)", ["'2024-02-29 23:59:59.123456'"], pa.timestamp("us"), [MOMENT]),
    ("DATETIME", ["'2024-02-29 23:59:59'"], pa.timestamp("us"), [MOMENT.replace(microsecond=0)]),
    ("TIMESTAMP(6) NULL", ["'2024-02-29 23:59:59.123456'"], pa.timestamp("us", "UTC"), [MOMENT.replace(tzinfo=UTC)]),
    ("TIME(3)", ["'-838:59:59.000'", "'00:00:00.25'"], pa.duration("us"), [-LONGEST, SECONDS / 4]),
    ("TIME", ["'-00:00:01'", "'838:59:59'"], pa.duration("us"), [-SECONDS, LONGEST]),
    ("YEAR", ["2155"], pa.int16(), [2155]),
    ("CHAR(3)", ["'é🦉'"], pa.string(), ["é🦉"]),
    ("VARCHAR(9) CHARACTER SET latin1", ["'é'"], pa.string(), ["é"]),
    ("LONGTEXT", ["''", "'naïve 🦉'", "REPEAT('x', 70000)"], pa.string(), ["", "naïve 🦉", "x" * 70000]),
    ("JSON", ["'{\"a\": [1, \"ü\"]}'"], pa.string(), ['{"a": [1, "ü"]}']),
    ("ENUM('a','ß')", ["'ß'"], pa.string(), ["ß"]),
    ("SET('a','b')", ["'a,b'"], pa.string(), ["a,b"]),
    ("UUID", ["'123e4567-e89b-12d3-a456-426655440000'"], pa.string(), ["123e4567-e89b-12d3-a456-426655440000"]),
    ("BINARY(3)", ["x'00ff'"], pa.binary(), [b"\x00\xff\x00"]),
    ("VARBINARY(3)", ["x'00ff'", "''"], pa.binary(), [b"\x00\xff", b""]),
    ("LONGBLOB", ["REPEAT(x'fc', 300)", "REPEAT('x', 17000000)"], pa.binary(), [b"\xfc" * 300, b"x" * 17000000]),
]  # fmt: skip

WRITTEN: list[tuple[pa.DataType, list[Any], str]] = [  # what is written, and the column's type in a new table
    (pa.int8(), [-128, None, 127], "tinyint(4)"),
    (pa.int64(), [-(2**63), None, 2**63 - 1], "bigint(20)"),
    (pa.uint64(), [0, None, 2**64 - 1], "bigint(20) unsigned"),
    (pa.bool_(), [True, None, False], "tinyint(1)"),
    (pa.float32(), [16777216.0, None, 0.10000000149011612], "float"),
    (pa.float64(), [0.1, None, 5e-324, 1.7976931348623157e308], "double"),
    (pa.decimal128(38, 10), [Decimal("1E-10"), None, Decimal("-1234567890123456789012345678.5")], "decimal(38,10)"),
    (pa.decimal128(5, -2), [Decimal("1.2E+4"), None], "decimal(7,0)"),
    (pa.string(), ["naïve 🦉'\"\\\0\n%s", None, ""], "longtext"),
    (pa.large_string(), ["x" * 2_000_000], "longtext"),
    (pa.binary(), [bytes(range(256)), None, b""], "longblob"),
    (pa.binary(2), [b"'\xff"], "longblob"),
    (pa.date32(), [datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)], "date"),
    (pa.timestamp("us"), [MOMENT, None], "datetime(6)"),
    (pa.timestamp("s"), [MOMENT.replace(microsecond=0)], "datetime(6)"),
    (pa.timestamp("us", "Asia/Tokyo"), [MOMENT.replace(tzinfo=UTC), None], "timestamp(6)"),
    (pa.duration("us"), [-LONGEST - SECONDS * 0.999999, None, SECONDS / 4], "time(6)"),
    (pa.dictionary(pa.int8(), pa.string()), ["x", None, "x"], "longtext"),
    (pa.null(), [None], "longtext"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def database(server: Server) -> MySQL:
    opened = Address.parse(server.address()).open()
    assert isinstance(opened, MySQL)
    return opened


@pytest.fixture(autouse=True)
def empty(server: Server) -> None:
    server.ask("DROP TABLE IF EXISTS t, `a% ``b`, bimodal_runs, bimodal_chunks, bimodal_rejects")


def all_of(database: MySQL, relation: TableName | Query) -> pa.Table:
    schema = database.schema(relation)
    return pa.Table.from_batches(database.batches(relation, schema.names), schema=schema)


def stored(database: MySQL, table: pa.Table) -> None:
    types = {field.name: database.type_of(field) for field in table.schema}
    session = database.session()
    session.execute(f"CREATE TABLE t ({', '.join(f'{database.quote(name)} {kind}' for name, kind in types.items())})")
    with session.transaction():
        session.ingest(T, database.prepare(table, types))
    session.close()


@pytest.mark.parametrize(("declared", "literals", "kind", "values"), READ, ids=[each[0] for each in READ])
def test_each_type_is_read_exactly(
    server: Server, database: MySQL, declared: str, literals: list[str], kind: pa.DataType, values: list[Any]
) -> None:
    rows = ", ".join(f"({number}, {literal})" for number, literal in enumerate([*literals, "NULL"]))
    server.ask(f"CREATE TABLE t (n INT PRIMARY KEY, v {declared})", "SET time_zone = '+00:00'")
    server.ask("SET SESSION time_zone = '+00:00'", f"INSERT INTO t VALUES {rows}")
    read = all_of(database, T)
    assert read.schema.field("v").type == kind
    assert read["v"].to_pylist() == [*values, None]
    if declared != "FLOAT":
        assert all_of(database, Query("SELECT n, v FROM t ORDER BY n;")) == read


@pytest.mark.parametrize(("kind", "values", "declared"), WRITTEN, ids=[str(each[0]) for each in WRITTEN])
def test_each_type_is_written_exactly(
    server: Server, database: MySQL, kind: pa.DataType, values: list[Any], declared: str
) -> None:
    column = pa.array(values, kind)
    stored(database, pa.table({"v": column}))
    assert server.ask("SELECT column_type FROM information_schema.columns WHERE table_name = 't'") == [(declared,)]
    assert all_of(database, T)["v"].to_pylist() == column.to_pylist()
    (told,) = zip(*server.ask("SET time_zone = '+00:00'", "SELECT v FROM t"), strict=True)
    if not pa.types.is_float32(kind):  # PyMySQL has its six digits
        assert [_plain(each) for each in told] == [_plain(each) for each in column.to_pylist()]


def _plain(value: Any) -> Any:
    """PyMySQL gives a moment without its zone."""
    return value.replace(tzinfo=None) + value.utcoffset() * -1 if getattr(value, "tzinfo", None) else value


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            st.none() | st.binary(),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=60,
    )
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_bytes_and_numbers_come_back(server: Server, database: MySQL, rows: list[tuple[Any, ...]]) -> None:
    server.ask("DROP TABLE IF EXISTS t")
    texts, blobs, numbers = zip(*rows, strict=True)
    table = pa.table(
        {"a": pa.array(texts, pa.string()), "b": pa.array(blobs, pa.binary()), "c": pa.array(numbers, pa.float64())}
    )
    stored(database, table)
    assert all_of(database, T).to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("column", "place", "reason"),
    [
        (pa.array([1.0, None, float("nan")]), 2, "neither NaN nor infinity"),
        (pa.array([0.0, float("-inf")], pa.float32()), 1, "neither NaN nor infinity"),
        (pa.array([None, 1], pa.timestamp("ns")), 1, "microseconds, and it has finer"),
        (pa.array([0, 838 * 3600 + 3600], pa.duration("s")), 1, "838:59:59"),
        (pa.array([0, 400_000_000_000], pa.timestamp("s")), 1, "the years 1 to 9999"),
        (pa.array([0, -800_000], pa.date32()), 1, "the years 1 to 9999"),
        (pa.array([b"x", b"x" * (64 << 20)]), 1, "larger than the server's max_allowed_packet"),
    ],
)
def test_what_cannot_be_held_is_told_by_its_place(database: MySQL, column: pa.Array, place: int, reason: str) -> None:
    with pytest.raises(Unfit, match=reason) as caught:
        database.prepare(pa.table({"v": column}), {"v": ""})
    assert (caught.value.column, caught.value.place) == ("v", place)


@pytest.mark.parametrize(
    ("declared", "literal", "said"),
    [
        ("DATE", "'0000-00-00'", r"row 3, column 'v' of t: the value is no date .* choose NULLIF\(v, 0\)"),
        ("DATETIME", "'2024-00-31 00:00:00'", "row 3, column 'v' of t: the value is no date"),
        ("TINYINT(1)", "2", r"row 3, column 'v' of t: the value is neither 0 nor 1"),
    ],
)
def test_values_that_are_none_are_told_by_row(
    server: Server, database: MySQL, declared: str, literal: str, said: str
) -> None:
    server.ask(
        f"CREATE TABLE t (v {declared})", "SET sql_mode = ''", f"INSERT INTO t VALUES (NULL), (NULL), ({literal})"
    )
    with pytest.raises(SourceError, match=said) as caught:
        all_of(database, T)
    assert (caught.value.row, caught.value.column) == (3, "v")


@pytest.mark.parametrize(
    ("relation", "said"),
    [
        (TableName("customer"), "has no table customer; did you mean t?|has no table customer; there are 't'"),
        (TableName("t", "nowhere"), "has no table nowhere.t|no such table"),
        (Query("DELETE FROM t"), "the server says"),
        (Query("SELECT nothing FROM t"), "the server says: Unknown column 'nothing'"),
        (Query("SELECT 1 AS a, 2 AS a"), "two columns called 'a'"),
        (Query("SELECT f FROM t"), r"FLOAT columns, which mysql tells in six digits: write f \+ 0e0 AS f"),
        (Query("SELECT p FROM t"), "column 'p' of the query is of a type that cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told(server: Server, database: MySQL, relation: Any, said: str) -> None:
    server.ask("CREATE TABLE t (f FLOAT, p POINT)", "INSERT INTO t (f) VALUES (1)")
    with pytest.raises(SourceError, match=said):
        database.schema(relation)
    assert len(server.ask("SELECT * FROM t")) == 1


def test_a_table_is_read_in_its_own_order_in_one_view(
    server: Server, database: MySQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "BATCH_ROWS", 1000)
    server.ask("CREATE TABLE t (id INT PRIMARY KEY, v INT, w INT, KEY (v, w))")
    server.ask("INSERT INTO t SELECT seq, 5000 - seq, 1 FROM seq_1_to_5000")
    read = database.batches(T, ["w", "v"])  # the index on these two would be another order
    first = next(read)
    server.ask("UPDATE t SET v = -1")
    rest = [first, *read]
    assert len(rest) > 1
    assert pa.Table.from_batches(rest)["v"].to_pylist() == list(range(4999, -1, -1))
    assert 2_500 < (database.rows(T) or 0) < 10_000


@pytest.mark.parametrize("behind", ["", ";", " ; -- so\n", "# so", "/* ; */;\n\n"])
def test_what_stands_behind_a_query_is_left_out(server: Server, database: MySQL, behind: str) -> None:
    server.ask("CREATE TABLE t (v VARCHAR(9))", "INSERT INTO t VALUES ('; -- x'), ('y')")
    query = Query(f"SELECT v FROM t WHERE v = '; -- x'{behind}")
    assert all_of(database, query).to_pylist() == [{"v": "; -- x"}]


def test_names_are_quoted(server: Server, database: MySQL) -> None:
    name, sink = "a% `b", open_sink(Address.parse(server.address()).text or "", into="%22a%25 `b%22")
    run(sink, pa.table({"c`%s d": [1, None]}))
    assert all_of(database, TableName(name)).to_pylist() == [{"c`%s d": 1}, {"c`%s d": None}]
    for wrong in ("", "x" * 65, "a ", "a\0b", "🦉"):
        with pytest.raises(SinkError, match="cannot be a name"):
            database.quote(wrong)


def run(sink: TableSink, *chunks: pa.Table) -> None:
    """A whole run of these chunks."""
    sink.hold(1, print)
    try:
        sink.check(chunks[0].schema)
        sink.start({"key": str(chunks)}, "0123456789ab")
        sink.settle(chunks[0].schema, {})
        for number, each in enumerate(chunks):
            mark = Mark(number, {"chunk": number}, each.num_rows, each.num_rows, 0)
            sink.append(mark, sink.encode(each), Beside())
        sink.complete()
        sink.publish({})
    finally:
        sink.release()


@pytest.mark.parametrize(
    ("declared", "values", "kept"),
    [
        ("INT", pa.array([1, 2**31 - 1, None]), True),
        ("INT", pa.array([2**31]), False),
        ("INT UNSIGNED", pa.array([-1]), False),
        ("INT", pa.array([1.0, 2.0]), True),
        ("INT", pa.array([1.5]), False),
        ("DECIMAL(9,2)", pa.array([0.25, 0.1]), True),
        ("DECIMAL(9,2)", pa.array([0.125]), False),
        ("DECIMAL(3,2)", pa.array([100]), False),
        ("FLOAT", pa.array([0.5]), True),
        ("FLOAT", pa.array([0.1]), False),
        ("FLOAT", pa.array([2**24 + 1]), False),
        ("DOUBLE", pa.array([2**53]), True),
        ("DOUBLE", pa.array([2**53 + 1]), False),
        ("DOUBLE(10,2)", pa.array([0.25]), True),
        ("DOUBLE(10,2)", pa.array([0.125]), False),
        ("VARCHAR(3)", pa.array(["🦉🦉🦉"]), True),
        ("VARCHAR(3)", pa.array(["abcd"]), False),
        ("CHAR(3)", pa.array(["a "]), False),
        ("TINYTEXT", pa.array(["x" * 256]), False),
        ("VARCHAR(20)", pa.array([12, None]), True),
        ("VARBINARY(2)", pa.array([b"abc"]), False),
        ("BINARY(2)", pa.array([b"a"]), False),
        ("DATETIME(3)", pa.array([1000], pa.timestamp("us")), True),
        ("DATETIME(3)", pa.array([1], pa.timestamp("us")), False),
        ("DATE", pa.array([86_400], pa.timestamp("s")), True),
        ("DATE", pa.array([1], pa.timestamp("s")), False),
        ("TIME", pa.array([1], pa.duration("us")), False),
        ("BOOLEAN", pa.array([True, None]), True),
        ("BIT(1)", pa.array([2], pa.int8()), False),
        ("ENUM('a')", pa.array(["a"]), True),
        ("ENUM('a')", pa.array(["b"]), False),
        ("VARCHAR(9) CHARACTER SET latin1", pa.array(["🦉"]), False),
        ("INT", pa.array(["1"]), False),
    ],
)
def test_a_value_that_would_change_in_the_target_is_refused(
    server: Server, database: MySQL, declared: str, values: pa.Array, kept: bool
) -> None:
    server.ask(f"CREATE TABLE t (v {declared})")
    sink = open_sink(server.address("t"), mode="append")
    if kept:
        run(sink, pa.table({"v": values}))
        assert [float(x) if isinstance(x, Decimal) else x for x in all_of(database, T)["v"].to_pylist()] == [
            str(x) if x and declared == "VARCHAR(20)" else x.date() if x and declared == "DATE" else x
            for x in values.to_pylist()
        ]
    else:
        with pytest.raises(SinkError):
            run(sink, pa.table({"v": values}))
        assert server.ask("SELECT * FROM t") == []


def test_keys_that_are_one_to_the_target_are_refused(server: Server) -> None:
    server.ask("CREATE TABLE t (k VARCHAR(9) COLLATE utf8mb4_general_ci UNIQUE, v INT, w INT UNIQUE)")
    server.ask("INSERT INTO t VALUES ('A', 1, 1), ('b', 2, 2)")
    with pytest.raises(SinkError, match="must be unique"):
        run(open_sink(server.address("t"), mode="upsert", key=("k",)), pa.table({"k": ["a", "A"], "v": [7, 8]}))
    assert server.ask("SELECT * FROM t") == [("A", 1, 1), ("b", 2, 2)]


def test_upsert_goes_by_the_key_alone(server: Server) -> None:
    server.ask("CREATE TABLE t (k INT UNIQUE, v INT, w INT UNIQUE)", "INSERT INTO t VALUES (1, 1, 10), (2, 2, 20)")
    with pytest.raises(SinkError, match="must be unique"):  # w = 10 is another row's
        run(open_sink(server.address("t"), mode="upsert", key=("k",)), pa.table({"k": [3], "w": [10]}))
    with pytest.raises(SinkError, match="unique index"):
        run(open_sink(server.address("t"), mode="upsert", key=("v",)), pa.table({"v": [3], "w": [10]}))
    assert server.ask("SELECT * FROM t ORDER BY k") == [(1, 1, 10), (2, 2, 20)]


def test_a_table_without_transactions_is_refused(server: Server) -> None:
    server.ask("CREATE TABLE t (a BIGINT) ENGINE = MyISAM")
    with pytest.raises(SinkError, match="a table of MyISAM, which knows no transactions"):
        run(open_sink(server.address("t"), mode="append"), pa.table({"a": [1]}))
    server.ask("DROP TABLE t", "CREATE VIEW t AS SELECT 1 AS a")
    with pytest.raises(SinkError, match="t is a view"):
        run(open_sink(server.address("t"), mode="append"), pa.table({"a": [1]}))
    server.ask("DROP VIEW t")


def test_what_a_replaced_table_loses_is_told(server: Server, database: MySQL) -> None:
    server.ask("DROP TABLE IF EXISTS other", "CREATE TABLE t (a BIGINT PRIMARY KEY, b INT, KEY (b))")
    server.ask("CREATE TRIGGER watch BEFORE INSERT ON t FOR EACH ROW SET NEW.b = 1")
    session = database.session()
    assert database.left_behind(session, T) == "2 indexes, 1 trigger"
    run(open_sink(server.address("t"), mode="replace"), pa.table({"a": [7]}))
    assert server.ask("SELECT * FROM t") == [(7,)]
    assert database.left_behind(session, T) is None
    server.ask("ALTER TABLE t ADD PRIMARY KEY (a)", "CREATE TABLE other (a BIGINT, FOREIGN KEY (a) REFERENCES t (a))")
    assert database.left_behind(session, TableName("other")) == "1 index, 1 foreign key"
    with pytest.raises(SinkError, match=r"a foreign key of the table other refers to shop\.t"):
        run(open_sink(server.address("t"), mode="replace"), pa.table({"a": [8]}))
    session.close()
    server.ask("DROP TABLE other")


def test_rights_that_are_missing_are_told_before_anything(server: Server, database: MySQL) -> None:
    server.ask("CREATE TABLE t (a BIGINT)", "CREATE OR REPLACE USER ann IDENTIFIED BY 'hunter2'")
    given = server.address().replace("root@", "ann:env:ANN@")
    steps = [
        ("GRANT SELECT ON shop.* TO ann", "lacks 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'DROP', 'ALTER'"),
        ("GRANT INSERT, UPDATE, DELETE, CREATE, DROP, ALTER ON `sh%`.* TO ann", None),
        ("GRANT CREATE TEMPORARY TABLES ON `shop`.* TO ann", None),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANN", "hunter2")
        for grant, said in steps:
            server.ask(grant)
            opened = Address.parse(given).open()
            session = opened.session()
            found = opened.rights(session, T, Mode("append"))
            session.close()
            assert (found is None) if said is None else (found is not None and said in found)
        patch.setenv("ANN", "wrong-geheim")
        with pytest.raises(SourceError, match="the user's name or password is refused") as caught:
            Address.parse(given).open()
        assert "geheim" not in "".join(traceback.format_exception(caught.value))
    server.ask("DROP USER ann")


def test_a_lock_belongs_to_one_and_ends_with_its_connection(server: Server, database: MySQL) -> None:
    free = database.lock(T)
    assert callable(free)
    other = database.lock(TableName("t", "shop"))
    assert isinstance(other, str)
    assert re.match(r"the process of connection \d+, user root on localhost, since 20", other)
    another = database.lock(TableName("s"))
    assert callable(another)
    another()
    ((number,),) = server.ask(
        "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' ORDER BY id LIMIT 1"
    )
    server.ask(f"KILL {number}")  # as if its process had died
    again = database.lock(T)
    assert callable(again)
    again()


def test_json_and_numbers_of_any_size_keep_their_type(database: MySQL) -> None:
    assert database.type_of(text_field("a", "mysql", "json")) == "json"
    assert database.type_of(text_field("a", "postgresql", "uuid")).startswith("LONGTEXT")
    assert database.type_of(text_field("a", "postgresql", "numeric")).startswith("LONGTEXT")
    with pytest.raises(SinkError, match="column 'a' is of type list<item: int64>"):
        database.type_of(pa.field("a", pa.list_(pa.int64())))
    assert not convertible("LONGTEXT", "int(11)")
    assert convertible("DOUBLE", "decimal(9,2)")


def test_pymysql_agrees_with_many_values_taken_apart_at_once(server: Server, database: MySQL) -> None:
    server.ask("CREATE TABLE t (a INT, b VARCHAR(400), c DOUBLE)")
    server.ask(
        "INSERT INTO t SELECT IF(seq % 5 = 0, NULL, seq), IF(seq % 7 = 0, NULL, REPEAT('ü', seq % 300)), SQRT(seq) "
        "FROM seq_1_to_20000"
    )
    connection = pymysql.connect(unix_socket=str(server.socket), user="root", database="shop")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM t")
        assert list(cursor.fetchall()) == [tuple(row.values()) for row in all_of(database, T).to_pylist()]
