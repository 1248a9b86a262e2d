"""PostgreSQL: the contracts, each type both ways, a COMMIT of unknown fate, readers during a replacement."""

from __future__ import annotations

import datetime
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from bimodal.batch.databases.contract import TableName
from bimodal.batch.databases.opening import open_sink, open_source
from bimodal.batch.databases.sink import TableSink
from bimodal.batch.databases.source import DatabaseSource
from bimodal.batch.marks import Beside
from bimodal.batch.rejects import Reject, lines_of
from bimodal.batch.sources.contract import Reading
from bimodal.batch.sources.files import LocalFile
from bimodal.batch.sources.rejects import RejectsSource
from bimodal.errors import SinkError, SourceError
from tests.batch.databases.contract_sink import SinkContract, cleared, left_over, prepared
from tests.batch.databases.contract_source import SourceContract
from tests.batch.databases.cutting import Proxy
from tests.batch.databases.place import Place
from tests.batch.databases.writing import SCHEMA, expected, mark, run_all


class PostgresPlace(Place):
    """A schema of its own on the test server."""

    def __init__(self, folder: str) -> None:
        self.schema = f"t{secrets.token_hex(4)}"
        self.settings = {"host": folder, "user": "postgres", "dbname": "postgres"}
        self.do(f"CREATE SCHEMA {self.schema}")
        self.settings["options"] = f"-csearch_path={self.schema}"
        options = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in self.settings.items() if name != "dbname"
        )
        self.url = f"postgresql:///postgres?{options}"

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(**self.settings, autocommit=True)  # type: ignore[arg-type] # names of text options alone

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(statement.encode(), values or None).fetchall()

    def do(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            if rows and rows[0]:
                cursor.executemany(statement.encode(), rows)
            else:
                cursor.execute(statement.encode())


@pytest.fixture
def place(postgres_server: str) -> Iterator[PostgresPlace]:
    made = PostgresPlace(postgres_server)
    yield made
    made.do(f"DROP SCHEMA {made.schema} CASCADE")


class TestSource(SourceContract):
    @pytest.fixture
    def place(self, place: PostgresPlace) -> PostgresPlace:
        return place


class TestSink(SinkContract):
    @pytest.fixture
    def place(self, place: PostgresPlace) -> PostgresPlace:
        return place


# -- types -----------------------------------------------------------------------------------------------------------

NAIVE, ZONED = "timestamp without time zone", "timestamp with time zone"
TYPES: list[tuple[str, list[str], pa.DataType, str]] = [  # declared, values as SQL, in Arrow, declared when written
    ("smallint", ["-32768", "NULL", "32767"], pa.int16(), "smallint"),
    ("integer", ["-2147483648", "NULL", "2147483647"], pa.int32(), "integer"),
    ("bigint", ["-9223372036854775808", "NULL", "9223372036854775807", "9007199254740993"], pa.int64(), "bigint"),
    ("oid", ["0", "4294967295"], pa.int64(), "bigint"),
    (
        "numeric",
        ["'NaN'", "'Infinity'", "NULL", "1.50", "0.1", repr(10**80), "1e-60", "-0.000"],
        pa.string(),
        "numeric",
    ),
    ("numeric(10,2)", ["99999999.99", "NULL", "-0.01", "0"], pa.decimal128(10, 2), "numeric(10,2)"),
    ("numeric(38,0)", ["9" * 38, "NULL"], pa.decimal128(38, 0), "numeric(38,0)"),
    ("numeric(76,38)", ["1." + "3" * 38, "NULL"], pa.decimal256(76, 38), "numeric(76,38)"),
    ("numeric(90,3)", ["9" * 80 + ".125", "NULL"], pa.string(), "numeric"),
    ("numeric(4,-2)", ["12300", "NULL"], pa.string(), "numeric"),
    (
        "real",
        ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1e-45", "3.4028235e38", "0.1", "NULL"],
        pa.float32(),
        "real",
    ),
    (
        "double precision",
        ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "0.1", "NULL"],
        pa.float64(),
        "double precision",
    ),
    ("boolean", ["true", "false", "NULL"], pa.bool_(), "boolean"),
    (
        "text",
        ["''", "NULL", "E'q\"\\'\\n\\r\\t\\\\.'", "E'\\n\\\\.\\n'", "'🦉é'", "'NULL'", "'\\N'", "' a '"],
        pa.string(),
        "text",
    ),
    ("varchar(9)", ["''", "NULL", "'123456789'"], pa.string(), "text"),
    ("character(4)", ["'ab'", "NULL"], pa.string(), "text"),
    ("name", ["'ab'", "NULL"], pa.string(), "text"),
    ("bytea", ["'\\x00ff5c78'", "''", "NULL"], pa.binary(), "bytea"),
    ("date", ["'0001-01-01'", "'9999-12-31'", "NULL"], pa.date32(), "date"),
    ("time", ["'00:00'", "'23:59:59.999999'", "NULL"], pa.time64("us"), "time without time zone"),
    ("timestamp", ["'0001-01-01'", "'9999-12-31 23:59:59.999999'", "NULL"], pa.timestamp("us"), NAIVE),
    (
        "timestamptz",
        ["'0001-01-01 00:00+00'", "'2024-07-01 12:00:00.000001+02'", "'9999-12-31 23:59:59.999999+00'", "NULL"],
        pa.timestamp("us", "UTC"),
        ZONED,
    ),
    ("timetz", ["'12:00:00.000001+02'", "NULL"], pa.string(), "time with time zone"),
    ("interval", ["'1 mon -2 days 03:04:05.000006'", "'-1 year'", "'0'", "NULL"], pa.string(), "interval"),
    ("uuid", ["'a9f5b3a4-0000-4000-8000-00000000000f'", "NULL"], pa.string(), "uuid"),
    ("json", ['\'{"a":  [1, null, "é\\n"]}\'', "'null'", "NULL"], pa.string(), "json"),
    ("jsonb", ['\'{"b": 1.10, "a": "\\\\u00e9"}\'', "NULL"], pa.string(), "jsonb"),
    ("inet", ["'10.0.0.1/8'", "NULL"], pa.string(), "inet"),
    ("money", ["'-12.34'", "NULL"], pa.string(), "money"),
    ("bit(3)", ["B'101'", "NULL"], pa.string(), "bit varying"),
    ("int4range", ["'[1,5)'", "'empty'", "NULL"], pa.string(), "int4range"),
    ("mood", ["'glad'", "NULL"], pa.string(), "text"),
    ("whole", ["7", "NULL"], pa.int32(), "integer"),
    ("cents", ["7.25", "NULL"], pa.decimal128(9, 2), "numeric(9,2)"),
    ("integer[]", ["'{1,NULL,-3}'", "'{}'", "NULL"], pa.list_(pa.int32()), "integer[]"),
    ("bigint[]", ["'{9223372036854775807}'", "NULL"], pa.list_(pa.int64()), "bigint[]"),
    ("real[]", ["'{0.1,NaN,-Infinity}'", "NULL"], pa.list_(pa.float32()), "real[]"),
    ("double precision[]", ["'{0.1,NaN,5e-324,-0}'", "NULL"], pa.list_(pa.float64()), "double precision[]"),
    ("boolean[]", ["'{t,f,NULL}'", "NULL"], pa.list_(pa.bool_()), "boolean[]"),
    ("text[]", ["ARRAY['a', '', NULL, 'NULL', E'q\"\\\\,{}\\n']", "'{}'", "NULL"], pa.list_(pa.string()), "text[]"),
    ("date[]", ["'{2024-02-29,infinity}'", "NULL"], pa.string(), "date[]"),
    ("uuid[]", ["'{a9f5b3a4-0000-4000-8000-00000000000f}'", "NULL"], pa.string(), "uuid[]"),
    ("numeric[]", ["'{1.50,NaN}'", "NULL"], pa.string(), "numeric[]"),
]


@pytest.mark.parametrize(("declared", "written", "kind", "again"), TYPES, ids=[each[0] for each in TYPES])
def test_a_type_is_read_and_written_exactly(
    place: PostgresPlace, declared: str, written: list[str], kind: pa.DataType, again: str
) -> None:
    """Read it, write what was read, and let the server compare both tables."""
    place.do("CREATE TYPE mood AS ENUM ('glad', 'sad')")
    place.do("CREATE DOMAIN whole AS integer CHECK (VALUE > 0)")
    place.do("CREATE DOMAIN cents AS numeric(9,2)")
    place.do(f"CREATE TABLE other (n integer, v {declared})")
    place.do(f"INSERT INTO other VALUES {', '.join(f'({n}, {value})' for n, value in enumerate(written))}")
    source = DatabaseSource(place.database(), TableName("other"))
    assert source.kept_schema(("v",)).field("v").type == kind
    copy(source, place)
    ((same, declared_again),) = place.ask(
        "SELECT bool_and((a.v IS NULL) = (b.v IS NULL) AND format('%%s', a.v) = format('%%s', b.v)) "
        "AND count(*) = %s, max(format_type(atttypid, atttypmod)) "
        "FROM other a FULL JOIN made b ON a.n = b.n, pg_attribute WHERE attrelid = 'made'::regclass AND attname = 'v'",
        (len(written),),
    )
    assert same
    assert declared_again == again


def test_what_is_read_is_what_the_driver_reads(place: PostgresPlace) -> None:
    plain = [each for each in TYPES if not pa.types.is_string(each[2]) or each[0] in ("text", "varchar(9)")]
    plain = [each for each in plain if each[0] not in ("oid", "whole", "cents", "real[]")]
    columns = ", ".join(f"c{n} {declared}" for n, (declared, _, _, _) in enumerate(plain))
    place.do(f"CREATE TABLE other ({columns})")
    for at in range(3):
        place.do(f"INSERT INTO other VALUES ({', '.join(values[at % len(values)] for _, values, _, _ in plain)})")
    source = DatabaseSource(place.database(), TableName("other"))
    (chunk,) = source.chunks(Reading({}, source.columns))
    with place.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        told = connection.execute("SELECT * FROM other").fetchall()
    for mine, theirs in zip(chunk.kept.to_pylist(), told, strict=True):
        for (name, value), other in zip(mine.items(), theirs, strict=True):
            assert repr(value) == repr(other).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc") or (
                value == other
            ), name


def test_every_bit_of_a_float_comes_back(place: PostgresPlace) -> None:
    random = np.random.default_rng(7)
    wide = random.integers(0, 2**64, 5000, np.uint64).view(np.float64)
    narrow = random.integers(0, 2**32, 5000, np.uint32).view(np.float32)
    table = pa.table({"n": np.arange(5000), "wide": wide, "narrow": narrow})
    put(place, table)
    rows = place.ask("SELECT float8send(wide), float4send(narrow) FROM made ORDER BY n")
    back = DatabaseSource(place.database(), TableName("made"))
    kept = pa.concat_tables([chunk.kept for chunk in back.chunks(Reading({}, ("wide", "narrow")))])
    floats: dict[str, np.ndarray[Any, Any]] = {"wide": wide, "narrow": narrow}
    for place_, (name, values) in enumerate(floats.items()):
        real = ~np.isnan(values)
        stored = np.frombuffer(b"".join(row[place_] for row in rows), values.dtype.newbyteorder(">"))
        for other in (stored.astype(values.dtype), kept.column(name).to_numpy()):
            assert np.array_equal(np.isnan(other), ~real)
            assert values[real].tobytes() == other[real].tobytes()


MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)  # noqa: DTZ001 - without a zone is meant
ARROW: list[tuple[pa.Array, str, list[Any]]] = [
    (pa.array([-128, None], pa.int8()), "smallint", [-128, None]),
    (pa.array([255, None], pa.uint8()), "smallint", [255, None]),
    (pa.array([65535], pa.uint16()), "integer", [65535]),
    (pa.array([2**32 - 1], pa.uint32()), "bigint", [2**32 - 1]),
    (pa.array([2**64 - 1, None], pa.uint64()), "numeric(20,0)", [Decimal(2**64 - 1), None]),
    (pa.array(np.array([0.5, 65504], np.float16)), "real", [0.5, 65504.0]),
    (pa.array(["a", None, ""], pa.large_string()), "text", ["a", None, ""]),
    (pa.array(["a", None, ""], pa.string_view()), "text", ["a", None, ""]),
    (pa.array(["x", None, "x"]).dictionary_encode(), "text", ["x", None, "x"]),
    (pa.nulls(2), "text", [None, None]),
    (pa.array([b"\0\xff", None, b""], pa.large_binary()), "bytea", [b"\0\xff", None, b""]),
    (pa.array([b"\0\xff", None], pa.binary(2)), "bytea", [b"\0\xff", None]),
    (pa.array([datetime.date(2024, 2, 29)], pa.date64()), "date", [datetime.date(2024, 2, 29)]),
    (pa.array([MOMENT.replace(microsecond=0)], pa.timestamp("s")), NAIVE, [MOMENT.replace(microsecond=0)]),
    (pa.array([MOMENT, None], pa.timestamp("ns")), NAIVE, [MOMENT, None]),
    (pa.array([MOMENT], pa.timestamp("us", "Asia/Tokyo")), ZONED, [MOMENT.replace(tzinfo=datetime.UTC)]),
    (pa.array([datetime.time(1, 2, 3)], pa.time32("s")), "time without time zone", [datetime.time(1, 2, 3)]),
    (pa.array([-1, None, 10**15], pa.duration("us")), "interval",
     [datetime.timedelta(microseconds=-1), None, datetime.timedelta(microseconds=10**15)]),
    (pa.array([Decimal("12300")], pa.decimal128(5, -2)), "numeric", [Decimal(12300)]),
    (pa.array([[1, None], None, []], pa.large_list(pa.int64())), "bigint[]", [[1, None], None, []]),
    (pa.array([[1.5, 2], None], pa.list_(pa.float64(), 2)), "double precision[]", [[1.5, 2.0], None]),
    (pa.array([[1], [2], [3, 4]], pa.list_(pa.int32())).slice(1), "integer[]", [[2], [3, 4]]),
]  # fmt: skip


@pytest.mark.parametrize(("array", "declared", "values"), ARROW, ids=[str(each[0].type) for each in ARROW])
def test_arrow_types_have_a_place(place: PostgresPlace, array: pa.Array, declared: str, values: list[Any]) -> None:
    put(place, pa.table({"n": np.arange(len(array)), "v": array}))
    with place.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        assert [row[0] for row in connection.execute("SELECT v FROM made ORDER BY n")] == values
    ((kind,),) = place.ask(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'made'::regclass AND attname = 'v'"
    )
    assert kind == declared


def test_a_type_without_a_place_is_told(place: PostgresPlace) -> None:
    with pytest.raises(SinkError, match=r"'v'.*--keep"):
        put(place, pa.table({"v": [{"a": 1}]}))
    with pytest.raises(SinkError, match="63"):
        put(place, pa.table({"é" * 32: [1]}))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (pa.array(["a", None, "secret\0"]), "zero byte"),
        (pa.array([["a"], None, ["b", "secret\0"]]), "zero byte"),
        (pa.array([1000, None, 1001], pa.timestamp("ns")), "finer than a microsecond"),
        (pa.array([1000, None, 1001], pa.time64("ns")), "finer than a microsecond"),
        (pa.array([0, None, 2_932_897], pa.date32()), "years 1 to 9999"),
        (pa.array([0, None, -(2**62)], pa.timestamp("us")), "years 1 to 9999"),
    ],
)
def test_a_value_without_a_place_is_told_with_its_row(place: PostgresPlace, array: pa.Array, said: str) -> None:
    good = pa.nulls(5, array.type)
    with pytest.raises(SinkError, match=rf"row 8 of the output, column 'v'.*{said}") as raised:
        put(place, pa.table({"v": good}), pa.table({"v": array}))
    assert "secret" not in str(raised.value)
    assert raised.value.row == 8


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("date", "'infinity'"),
        ("date", "'0001-12-31 BC'"),
        ("timestamp", "'infinity'"),
        ("timestamptz", "'-infinity'"),
        ("timestamp", "'10000-01-01'"),
        ("time", "'24:00'"),
        ("numeric(5,2)", "'NaN'"),
        ("integer[]", "'{{1,2},{3,4}}'"),
        ("text[]", "'[5:6]={a,b}'"),
    ],
)
def test_a_value_that_arrow_has_not_is_refused(place: PostgresPlace, declared: str, value: str) -> None:
    place.do(f'CREATE TABLE other ("v w" {declared})')
    place.do(f"INSERT INTO other VALUES (NULL), ({value})")
    with pytest.raises(SourceError, match="--query"):
        list(DatabaseSource(place.database(), TableName("other")).chunks(Reading({}, ("v w",))))


def copy(source: DatabaseSource, place: PostgresPlace) -> None:
    """Everything that the source gives, into the table `made`."""
    chunks = [chunk.kept for chunk in source.chunks(Reading({}, source.columns))]
    put(place, *chunks)


def put(place: PostgresPlace, *tables: pa.Table) -> None:
    """Into the table `made`, a chunk each."""
    put_into(TableSink(place.database(), TableName("made")), *tables)


def put_into(sink: TableSink, *tables: pa.Table) -> None:
    sink.hold(1, lambda told: None)
    try:
        sink.start({"key": "k"}, "0f" * 16)
        sink.settle(tables[0].schema, {})
        for number, table in enumerate(tables):
            sink.append(mark(number, table.num_rows), sink.encode(table), Beside())
        sink.complete()
        sink.publish({})
    finally:
        sink.release()


def test_refused_rows_come_back_as_they_were(place: PostgresPlace, tmp_path: Path) -> None:
    """As a run writes them; `x` feeds the model."""
    columns = {"b": "bytea", "n": "numeric(6,2)", "x": "numeric", "u": "uuid", "a": "integer[]", "w": "text[]"}
    place.do(f"CREATE TABLE other ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    literals = "'\\x00ff', 1.50, 0.10, 'a9f5b3a4-0000-4000-8000-00000000000f', '{1,NULL}', '{a,NULL}'"
    place.do(f"INSERT INTO other VALUES ({literals})")
    source = DatabaseSource(place.database(), TableName("other"))
    (chunk,) = source.chunks(Reading({"x": None}, source.columns))
    path = tmp_path / "made.rejects.jsonl"
    path.write_bytes(lines_of([Reject(1, "other", None, "wrong_type", "", chunk.raw(0), chunk.form)]))
    (again,) = RejectsSource(LocalFile(path)).chunks(Reading({"x": None}, source.columns))
    assert again.kept.equals(chunk.kept, check_metadata=True)
    assert again.features.equals(chunk.features)


# -- tables ----------------------------------------------------------------------------------------------------------


def test_views_and_schemas_are_read(place: PostgresPlace) -> None:
    place.do("CREATE TABLE other AS SELECT 1 AS id")
    place.do('CREATE VIEW "se.en" AS SELECT * FROM other')
    for table in (TableName("se.en"), TableName("other", place.schema), TableName("pg_class", "pg_catalog")):
        assert DatabaseSource(place.database(), table).columns
    assert open_source(f"{place.url}#{quote(place.schema + '.' + chr(34) + 'se.en' + chr(34))}").columns == ("id",)
    assert open_source(place.url, "SELECT 2 AS n").columns == ("n",)


@pytest.mark.parametrize("text", ["SELECT nextval('s') AS id", "SELECT writes() AS id"])
def test_a_query_that_writes_is_refused_and_does_nothing(place: PostgresPlace, text: str) -> None:
    place.do("CREATE SEQUENCE s")
    place.do("CREATE TABLE other (id int)")
    place.do("CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO other VALUES (1) RETURNING id'")
    with pytest.raises(SourceError, match="read-only transaction"):
        list(open_source(place.url, text).chunks(Reading({}, ("id",))))
    assert place.ask("SELECT last_value, is_called, (SELECT count(*) FROM other) FROM s") == [(1, False, 0)]


def test_a_password_that_is_wrong_or_a_server_that_is_not_there(postgres_server: str) -> None:
    with pytest.raises(SourceError, match="cannot be reached") as raised:
        open_source("postgresql://ann:pass-word@127.0.0.1:1/shop#t")
    assert "pass-word" not in str(raised.value)
    with pytest.raises(SourceError, match="does not exist"):
        open_source(f"postgresql:///nowhere?host={postgres_server}&user=postgres#t")


def test_rights_that_lack_are_told_before(place: PostgresPlace) -> None:
    user = f"u{secrets.token_hex(4)}"
    place.do("CREATE TABLE made (id bigint, label text, score double precision)")
    place.do(f"CREATE ROLE {user} LOGIN")
    url = place.url.replace("user=postgres", f"user={user}")
    said = [
        ("create", f"GRANT USAGE, CREATE ON SCHEMA {place.schema} TO {user}", "GRANT USAGE, CREATE ON SCHEMA"),
        ("append", f"GRANT INSERT ON made TO {user}", "GRANT INSERT ON"),
        ("replace", f"ALTER TABLE made OWNER TO {user}", "OWNER TO"),
    ]
    for mode, remedy, words in said:
        sink = open_sink(f"{url}#{place.schema}.made", mode=mode)
        with pytest.raises(SinkError, match=words):
            sink.check(SCHEMA)
        place.do(remedy)
        sink.check(SCHEMA)
        sink.release()
    place.do(f"DROP OWNED BY {user} CASCADE")
    place.do(f"DROP ROLE {user}")


def test_what_is_granted_on_a_table_stays_when_it_is_replaced(place: PostgresPlace) -> None:
    user = f'u "{secrets.token_hex(4)}'
    place.do(f"CREATE ROLE {place.quote(user)}")
    place.do("CREATE TABLE made (id bigint)")
    place.do(f"GRANT SELECT, INSERT ON made TO {place.quote(user)} WITH GRANT OPTION")
    place.do("GRANT SELECT ON made TO PUBLIC")
    place.do("COMMENT ON TABLE made IS 'Ann''s 100 %s'")
    granted = (
        "SELECT grantee, privilege_type, is_grantable FROM information_schema.table_privileges "
        f"WHERE table_name = 'made' AND table_schema = '{place.schema}' ORDER BY 1, 2"
    )
    before = place.ask(granted)
    run_all(open_sink(f"{place.url}#made", mode="replace"))
    assert place.ask(granted) == before
    assert place.ask("SELECT obj_description('made'::regclass)") == [("Ann's 100 %s",)]
    place.do(f"DROP OWNED BY {place.quote(user)}")
    place.do(f"DROP ROLE {place.quote(user)}")


def test_what_another_table_would_not_have_is_told(place: PostgresPlace) -> None:
    place.do("CREATE TABLE other (id bigint PRIMARY KEY)")
    place.do("CREATE TABLE made (id bigint PRIMARY KEY REFERENCES other, d int NOT NULL DEFAULT 1, CHECK (d > 0))")
    place.do("CREATE INDEX ON made (d)")
    place.do("ALTER TABLE made ENABLE ROW LEVEL SECURITY")
    place.do("CREATE POLICY p ON made")
    place.do("GRANT SELECT (id) ON made TO PUBLIC")
    (note,) = checked(open_sinks(place, "replace"))
    told = "2 indexes, 3 constraints, 1 default, 1 column that is NOT NULL, 1 policy, 1 column with rights"
    assert f"{told}, row level security" in note


def test_a_number_that_does_not_fit_is_told_with_its_place(place: PostgresPlace) -> None:
    place.do("CREATE TABLE made (v integer)")
    with pytest.raises(SinkError, match=r"row 902 of the output, column 'v'.* value out of range") as raised:
        put_into(open_sinks(place, "append"), pa.table({"v": np.arange(900.0)}), pa.table({"v": [0.0, 3e9, 1e10]}))
    assert raised.value.row == 902


def test_what_depends_on_a_table_keeps_it_and_is_told_before(place: PostgresPlace) -> None:
    place.do("CREATE TABLE made (id bigint PRIMARY KEY, parent bigint REFERENCES made)")
    checked(open_sinks(place, "replace"))
    place.do("CREATE VIEW seen AS SELECT * FROM made")
    place.do("CREATE TABLE other (id bigint CONSTRAINT known REFERENCES made)")
    with pytest.raises(SinkError, match=r"constraint known on table other, view seen; drop that"):
        checked(open_sinks(place, "replace"))


def checked(sink: TableSink) -> tuple[str, ...]:
    try:
        return sink.check()
    finally:
        sink.release()


def test_books_of_another_user_are_told_with_the_right(place: PostgresPlace) -> None:
    user = f"u{secrets.token_hex(4)}"
    run_all(open_sinks(place, "create"))
    place.do(f"CREATE ROLE {user} LOGIN")
    url = place.url.replace("user=postgres", f"user={user}")
    with pytest.raises(SinkError, match="GRANT USAGE, CREATE ON SCHEMA"):
        checked(open_sink(f"{url}#{place.schema}.more"))
    place.do(f"GRANT USAGE, CREATE ON SCHEMA {place.schema} TO {user}")
    with pytest.raises(SinkError, match=r"GRANT SELECT, INSERT, UPDATE, DELETE ON .*bimodal_runs") as raised:
        checked(open_sink(f"{url}#{place.schema}.more"))
    place.do(str(raised.value)[str(raised.value).index("GRANT ") :])
    sink = open_sink(f"{url}#{place.schema}.more")
    run_all(sink, run="1e" * 16)
    place.do(f"DROP OWNED BY {user} CASCADE")
    place.do(f"DROP ROLE {user}")


def test_a_column_that_needs_a_value_is_told_before(place: PostgresPlace) -> None:
    place.do("CREATE TABLE made (id bigint, label text, score float8, k int NOT NULL, d int NOT NULL DEFAULT 1)")
    sink = open_sinks(place, "append")
    with pytest.raises(SinkError, match="'k'"):
        sink.check(SCHEMA)
    place.do("ALTER TABLE made ALTER k SET DEFAULT 3")
    run_all(sink)
    assert place.ask("SELECT DISTINCT k, d FROM made") == [(3, 1)]


@pytest.mark.parametrize(
    ("declared", "fits"),
    [
        ("varchar(3)", False),
        ("varchar(30)", True),
        ("char(60)", True),
        ("mood", False),
        ("integer", False),
        ("bytea", False),
        ("boolean", False),
        ('"char"', False),
    ],
)
def test_text_into_narrower_columns(place: PostgresPlace, declared: str, fits: bool) -> None:
    place.do("CREATE TYPE mood AS ENUM ('glad', 'sad')")
    place.do(f"CREATE TABLE made (id bigint, label {declared}, score float8)")
    if fits:
        run_all(open_sinks(place, "append"))
        assert place.ask("SELECT count(*) FROM made") == [(120,)]
    else:
        with pytest.raises(SinkError, match=r"label|representation"):
            run_all(open_sinks(place, "append"))
        assert place.ask("SELECT count(*) FROM made") == [(0,)]


@pytest.mark.parametrize(
    ("declared", "texts", "row"),
    [
        ("integer", ["1", "2147483648", "3"], 44),
        ("date", ["2024-02-29", None, "2024-02-30"], 45),
        ("numeric(4,1)", ["1.5", "1.55"], None),  # it would be rounded
        ("date", ["2024-02-29 12:00"], None),
    ],
)
def test_a_text_that_does_not_fit_is_told_with_its_place(
    place: PostgresPlace, declared: str, texts: list[str | None], row: int | None
) -> None:
    place.do(f"CREATE TABLE made (v {declared})")
    good = next(text for text in texts if text is not None)[:10]
    sink = open_sinks(place, "append")
    with pytest.raises(SinkError, match="'v'") as raised:
        put_into(sink, pa.table({"v": [good] * 42}), pa.table({"v": texts}))
    assert raised.value.column == "v"
    assert raised.value.row == row
    assert place.ask("SELECT count(*) FROM made") == [(0,)]


def open_sinks(place: PostgresPlace, mode: str, *key: str) -> TableSink:
    return open_sink(f"{place.url}#made", mode=mode, key=key)


# -- readers during a replacement ------------------------------------------------------------------------------------


def test_readers_never_see_a_gap_or_a_mixture(place: PostgresPlace) -> None:
    """Somebody counts all the time, while the table is replaced again and again by another number of rows."""
    run_all(open_sinks(place, "replace"), 1, rows=1, plan={"key": "k0"})
    seen: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        with place.connect() as connection:
            while not stop.is_set():
                row = connection.execute("SELECT count(*), min(id), max(id), count(DISTINCT id) FROM made").fetchone()
                assert row is not None
                assert row == (row[0], 0, row[0] - 1, row[0])
                seen.add(row[0])

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for rows in range(2, 17):
                run_all(open_sinks(place, "replace"), 2, rows=rows, plan={"key": f"k{rows}"}, run=f"{rows:032x}")
        finally:
            stop.set()
        for each in looking:
            each.result()
    assert seen <= {1, *range(4, 33, 2)}
    assert len(seen) > 3


# -- a COMMIT of unknown fate ----------------------------------------------------------------------------------------


@pytest.fixture
def proxy(place: PostgresPlace, postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    def end() -> None:
        place.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'bimodal%' AND query = 'COMMIT'"
        )

    monkeypatch.setattr("bimodal.batch.databases.sink.PAUSE", 0.01)
    made = Proxy(postgres_server, end)
    yield made
    made.close()


def cut_everywhere(place: PostgresPlace, proxy: Proxy, modes: Sequence[str], ways: Sequence[str], at_least: int) -> int:
    """Each COMMIT of a run is cut, in each way, in each mode; gives how many were."""
    options = f"options={quote(f'-csearch_path={place.schema}', safe='')}"
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?{options}&sslmode=disable&gssencmode=disable#made"
    cuts = 0
    while cuts < at_least:
        for mode in modes:
            for way in ways:
                at, cut = 0, True
                while cut:
                    kept = prepared(place, mode)
                    proxy.cut(at, way)
                    run_all(open_sink(url, None, mode, ("id",) if mode == "upsert" else ()), 2)
                    cut = proxy.done
                    proxy.cut(-2, "")
                    assert place.all("made") == [*kept, *expected(2)], (mode, way, at)
                    assert left_over(place) == (0, 0)
                    cleared(place)
                    at, cuts = at + 1, cuts + cut
    return cuts


def test_a_commit_without_an_answer_loses_and_doubles_nothing(place: PostgresPlace, proxy: Proxy) -> None:
    assert cut_everywhere(place, proxy, ("append", "replace"), ("before", "after", "killed"), 30) >= 30


@pytest.mark.soak
def test_five_hundred_commits_without_an_answer(place: PostgresPlace, proxy: Proxy) -> None:
    modes = ("create", "append", "replace", "upsert")
    assert cut_everywhere(place, proxy, modes, ("before", "after", "killed"), 500) >= 500
