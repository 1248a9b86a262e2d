"""Parquet put together from chunks: what other libraries read is what was written, types, values and statistics."""

from __future__ import annotations

import datetime
import decimal
import io
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as arrow_parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.batch.sinks import parquet, thrift
from bimodal.batch.sinks.parquet import ParquetEncoder, repeating
from bimodal.batch.sinks.thrift import Value
from tests.batch.sinks.written import written

NOW = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, datetime.UTC)
COLUMNS: dict[str, pa.Array] = {
    "int8": pa.array([1, None, -128], pa.int8()),
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "int64": pa.array([2**63 - 1, -(2**63), None]),
    "float16": pa.array(np.array([1.5, np.nan, 0], np.float16)),
    "float32": pa.array([1.5, float("nan"), None], pa.float32()),
    "float64": pa.array([0.1, float("inf"), None]),
    "boolean": pa.array([True, None, False]),
    "text": pa.array(["ä\n", "", None]),
    "large text": pa.array(["x", "", None], pa.large_string()),
    "binary": pa.array([b"\0\xff", None, b""]),
    "fixed": pa.array([b"abc", None, b"\0\0\0"], pa.binary(3)),
    "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-99999.99")], pa.decimal128(38, 2)),
    "decimal256": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal(10**40)], pa.decimal256(50, 2)),
    "date": pa.array([NOW.date(), None, NOW.date()]),
    "time": pa.array([NOW.time(), None, datetime.time(0)]),
    "seconds": pa.array([NOW, None, NOW], pa.timestamp("ms")),
    "zone": pa.array([NOW, None, NOW], pa.timestamp("us", "Europe/Berlin")),
    "nanoseconds": pa.array([1, None, 2**62], pa.timestamp("ns", "UTC")),
    "duration": pa.array([1, None, 5], pa.duration("us")),
    "nothing": pa.nulls(3),
    "category": pa.array(["x", None, "x"]).dictionary_encode(),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
    "fixed list": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float64(), 2)),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "a.b": pa.array([1, 1, 1]),
    'q"uote': pa.array([1, 1, 1]),
}
TABLE = pa.table(COLUMNS)
PLAIN = TABLE.set_column(TABLE.column_names.index("category"), "category", COLUMNS["category"].cast(pa.string()))
META = {"bimodal.plan": "abc", "bimodal.model": "churn"}


def queried(statement: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers."""
    with duckdb.connect() as connection:
        rows: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
        return rows


def test_every_type_comes_back_exactly() -> None:
    data = written(ParquetEncoder(), [TABLE, TABLE.slice(1), TABLE.slice(0, 0), TABLE], META)
    opened = arrow_parquet.ParquetFile(pa.BufferReader(data))
    found = opened.read()
    found.validate(full=True)
    expected = pa.concat_tables([PLAIN, PLAIN.slice(1), PLAIN])
    assert found.schema.remove_metadata() == expected.schema
    assert found.cast(expected.schema).to_pylist()[0]["text"] == "ä\n"
    for name in found.column_names:
        assert str(found[name].to_pylist()) == str(expected[name].to_pylist()), name
    assert found.schema.metadata == {name.encode(): value.encode() for name, value in META.items()}
    assert opened.metadata.num_row_groups == 3


def test_the_file_is_as_arrow_would_have_written_it() -> None:
    """To the byte, where Arrow is told the same choice of dictionaries."""
    table = pa.table({"id": np.arange(5000), "kind": ["a", "b"] * 2500, "score": np.arange(5000) / 7})
    chunks = [table.slice(0, 2000), table.slice(2000, 4), table.slice(2004)]
    assert [repeating(column) for column in chunks[0].columns] == [False, True, False]
    out = io.BytesIO()
    with arrow_parquet.ParquetWriter(out, table.schema.with_metadata(META), use_dictionary=["kind"]) as writer:
        for chunk in chunks:
            writer.write_table(chunk, row_group_size=chunk.num_rows)
    assert written(ParquetEncoder(), chunks, META) == out.getvalue()


@pytest.mark.parametrize("name", [name for name in PLAIN.column_names if name not in {"float16", "nothing", "map"}])
def test_duckdb_and_pandas_read_it(name: str, tmp_path: Path) -> None:
    table = TABLE.select([name])
    path = tmp_path / "out.parquet"
    path.write_bytes(written(ParquetEncoder(), [table, table], {}))
    own = tmp_path / "own.parquet"
    arrow_parquet.write_table(pa.concat_tables([PLAIN.select([name])] * 2), own)
    rows = [queried(f"select columns(*)::varchar from read_parquet('{each}')") for each in (path, own)]
    assert str(rows[0]) == str(rows[1])
    assert len(rows[0]) == 6
    frames = [pd.read_parquet(each) for each in (path, own)]
    assert str(frames[0].to_dict("list")) == str(frames[1].to_dict("list"))
    assert list(frames[0].dtypes) == list(frames[1].dtypes)


def test_a_reader_skips_row_groups_by_their_statistics(tmp_path: Path) -> None:
    chunks = [pa.table({"id": range(start, start + 1000), "x": [start / 3] * 1000}) for start in range(0, 9000, 1000)]
    path = tmp_path / "out.parquet"
    path.write_bytes(written(ParquetEncoder(), chunks, {}))
    group = arrow_parquet.ParquetFile(path).metadata.row_group(4).column(0).statistics
    assert (group.min, group.max, group.null_count) == (4000, 4999, 0)
    assert arrow_parquet.read_table(path, filters=[("id", "==", 4321)])["x"].to_pylist() == [4000 / 3]
    assert queried(f"select count(*), sum(id) from '{path}' where id >= 7500") == [(1500, 12374250)]
    assert queried(f"select row_group_id from parquet_metadata('{path}') where column_id = 0") == [
        (number,) for number in range(9)
    ]


VALUES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.string(), st.text(st.characters(codec="utf-8"), max_size=9)),
    (pa.bool_(), st.booleans()),
    (pa.binary(), st.binary(max_size=5)),
    (pa.list_(pa.string()), st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=3), max_size=3)),
    (pa.decimal128(12, 3), st.decimals(-(10**8), 10**8, places=3)),
    (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(datetime.UTC))),
]


@st.composite
def many_tables(draw: st.DrawFn) -> list[pa.Table]:
    """Chunks of one schema, some of them empty."""
    kinds = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=4))
    schema = pa.schema([(f"c{place}", kind) for place, (kind, _) in enumerate(kinds)])
    tables = []
    for count in draw(st.lists(st.integers(0, 6), max_size=4)):
        columns = [draw(st.lists(st.none() | values, min_size=count, max_size=count)) for _, values in kinds]
        tables.append(
            pa.table([pa.array(each, f.type) for each, f in zip(columns, schema, strict=True)], schema=schema)
        )
    return tables or [schema.empty_table()]


@settings(max_examples=60, deadline=None)
@given(many_tables())
def test_any_tables_come_back(tables: list[pa.Table]) -> None:
    data = written(ParquetEncoder(), tables, META)
    found = arrow_parquet.read_table(pa.BufferReader(data))
    found.validate(full=True)
    assert found.to_pylist() == pa.concat_tables(tables).to_pylist()
    assert written(ParquetEncoder(), tables, META) == data


def test_categories_with_other_words_in_each_chunk_are_written_as_values() -> None:
    chunks = [pa.table({"c": pa.array([word, "both", None]).dictionary_encode()}) for word in ("one", "two")]
    found = arrow_parquet.read_table(pa.BufferReader(written(ParquetEncoder(), chunks, {})))
    assert found["c"].to_pylist() == ["one", "both", None, "two", "both", None]
    assert found.schema.field("c").type == pa.string()


@pytest.mark.parametrize("name", TABLE.column_names)
def test_the_choice_of_a_dictionary_hangs_on_the_values_alone(name: str) -> None:
    column = PLAIN[name]
    assert repeating(column) == repeating(pa.chunked_array([pa.concat_arrays(column.chunks)]))


def test_a_dictionary_is_chosen_where_values_repeat() -> None:
    count = 65_536
    assert not repeating(pa.chunked_array([np.arange(count)]))
    assert repeating(pa.chunked_array([np.arange(count) % 50]))
    assert repeating(pa.chunked_array([pa.array(["yes", "no"] * (count // 2))]))
    assert not repeating(pa.chunked_array([pc.cast(pa.array(np.arange(count)), pa.string())]))
    assert not repeating(pa.chunked_array([pa.array([True, False] * 8)]))


def test_every_place_in_a_description_is_moved() -> None:
    """Arrow writes few of them: a tree with all that the format knows, 0 where there is none."""

    def tree(at: int, nothing: int = 0) -> thrift.Tree:
        meta = {number: Value(thrift.I64, at + number) for number in (9, 10, 11, 14)}
        column = {number: Value(thrift.I64, at + number) for number in (2, 4, 6)}
        column |= {3: Value(thrift.STRUCT, meta | {7: Value(thrift.I64, 5)}), 5: Value(thrift.I32, 5)}
        without = {2: Value(thrift.I64, nothing), 3: Value(thrift.STRUCT, {11: Value(thrift.I64, nothing)})}
        return {
            1: Value(thrift.LIST, thrift.Sequence(thrift.STRUCT, [column, without])),
            3: Value(thrift.I64, 77),
            5: Value(thrift.I64, at),
        }

    group = tree(4) | {7: Value(thrift.I16, 0)}
    parquet.shift(group, 1000, 3)
    assert group == tree(1004) | {7: Value(thrift.I16, 3)}
    parquet.shift(group, 1000, 1 << 15)
    assert group == tree(2004), "a number that is no short is left out"
