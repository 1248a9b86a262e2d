"""Inputs of many files, and values of every type that come out as they went in."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest

from bimodal.batch.sinks.arrow import ArrowEncoder
from bimodal.batch.sinks.contract import Encoder
from bimodal.batch.sinks.csv import CsvEncoder
from bimodal.batch.sinks.jsonl import JsonlEncoder
from bimodal.batch.sinks.parquet import ParquetEncoder
from bimodal.batch.sources import series
from bimodal.batch.sources.contract import Reading, Source
from bimodal.batch.sources.find import find
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import SourceChanged, SourceError, UsageError
from tests.batch.places import shop, write

READING = Reading({"x": None}, ("id",))


def files(folder: Path, count: int, **columns: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    table = pa.table({"id": [1, 2, 3], "x": [0.5, 1.5, 2.5], **columns})
    paths = [folder / f"part-{number:03}.parquet" for number in range(count)]
    for path in paths:
        arrow_parquet.write_table(table, path)
    return paths


def kept_and_read(source: Source) -> None:
    """As a run does it."""
    source.kept_schema(READING.kept)
    list(source.pieces(READING))


class TestManyFiles:
    def test_each_is_opened_when_its_turn_comes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(series, "OPENED", 3)
        paths = files(tmp_path, 6)
        source = open_input(tmp_path)
        assert source.total_rows is None
        paths[4].write_bytes(b"no parquet")
        pieces = source.pieces(READING)
        assert [next(pieces).load().source for _ in range(4)] == [path.name for path in paths[:4]]
        with pytest.raises(SourceError, match=r"part-004\.parquet is no Parquet file"):
            next(pieces)

    @pytest.mark.parametrize("opened", [1, 3])
    def test_a_file_that_differs_is_named(self, opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(series, "OPENED", opened)
        files(tmp_path / "more", 2)
        arrow_parquet.write_table(pa.table({"id": [1], "y": [2.0]}), tmp_path / "more" / "part-002.parquet")
        with pytest.raises(SourceError, match=r"part-002\.parquet has no column 'x', unlike part-000\.parquet"):
            list(open_input(tmp_path / "more").pieces(READING))
        files(tmp_path / "types", 2)
        odd = pa.table({"id": ["one"], "x": [2.0]})
        arrow_parquet.write_table(odd, tmp_path / "types" / "part-002.parquet")
        with pytest.raises(
            SourceError, match=r"part-002\.parquet: column 'id' is string, in part-000\.parquet it is in"
        ):
            kept_and_read(open_input(tmp_path / "types"))

    def test_the_fingerprint_sees_those_that_are_not_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(series, "OPENED", 1)
        paths = files(tmp_path, 3)
        before = open_input(tmp_path).fingerprint()
        assert open_input(tmp_path).fingerprint() == before
        arrow_parquet.write_table(pa.table({"id": [1, 2], "x": [0.5, 1.5]}), paths[2])
        assert open_input(tmp_path).fingerprint() != before

    def test_ten_thousand_are_found_quickly(self, tmp_path: Path) -> None:
        for number in range(10_000):
            (tmp_path / f"{number:05}.csv").touch()
        started = time.monotonic()
        found = find(tmp_path)
        assert time.monotonic() - started < 60
        assert [file.name for file in found] == [f"{number:05}.csv" for number in range(10_000)]

    def test_files_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        for folder in ("a", "b"):
            files(tmp_path / folder, 1)
        chunks = list(open_input(f"{tmp_path}/*/part-000.parquet").chunks(READING))
        assert [chunk.source for chunk in chunks] == ["a/part-000.parquet", "b/part-000.parquet"]

    def test_the_order_is_plain(self, tmp_path: Path) -> None:
        for name in ("10.csv", "9.csv", "B.csv", "a.csv"):
            write(shop(2), tmp_path / name)
        assert [file.name for file in find(tmp_path)] == ["10.csv", "9.csv", "B.csv", "a.csv"]

    def test_a_cursor_of_something_else_is_refused(self, tmp_path: Path) -> None:
        files(tmp_path, 2)
        with pytest.raises(SourceChanged, match="--fresh"):
            list(open_input(tmp_path).pieces(READING, {"chunk": 0, "row": 3}))


def test_a_query_without_a_database_is_refused(tmp_path: Path) -> None:
    write(shop(2), tmp_path / "a.csv")
    with pytest.raises(UsageError, match="--query"):
        open_input(tmp_path / "a.csv", query="select 1")


LONGEST = decimal.Decimal("12345678901234567890.123456789")
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)  # noqa: DTZ001 - a timestamp without a zone is meant
LONG = 'größer, "quoted"\n日本 🎈'


def every_type(*, stored: str) -> pa.Table:
    """Columns of every type that the format holds, with a missing value in each."""
    columns = {
        "id": pa.array([2**63 - 1, None, -(2**63)], pa.int64()),
        "unsigned": pa.array([2**64 - 1, None, 0], pa.uint64()),
        "small": pa.array([127, None, -128], pa.int8()),
        "single": pa.array([0.1, None, -0.0], pa.float32()),
        "double": pa.array([0.1, None, 1e300], pa.float64()),
        "half": pa.array([0.5, None, 2.0], pa.float16()),
        "decimal": pa.array([LONGEST, None, decimal.Decimal("-0.1")], pa.decimal128(38, 9)),
        "wide": pa.array([decimal.Decimal(10**50), None, decimal.Decimal(-1)], pa.decimal256(60, 0)),
        "flag": pa.array([True, None, False]),
        "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1)], pa.date32()),
        "moment": pa.array([MOMENT, None, MOMENT], pa.timestamp("us")),
        "zoned": pa.array([MOMENT, None, MOMENT], pa.timestamp("us", "Europe/Berlin")),
        "nano": pa.array([1, None, 2**60], pa.timestamp("ns", "UTC")),
        "clock": pa.array([datetime.time(23, 59, 59, 1), None, datetime.time(0)], pa.time64("us")),
        "span": pa.array([1_000_001, None, -5], pa.duration("us")),
        "binary": pa.array([b"\0\xff", None, b""], pa.binary()),
        "fixed": pa.array([b"abc", None, b"\0\0\0"], pa.binary(3)),
        "text": pa.array([LONG, None, ""], pa.string()),
        "large": pa.array([LONG, None, ""], pa.large_string()),
        "view": pa.array([LONG, None, "a text that is longer than twelve bytes"], pa.string_view()),
        "category": pa.array(["free", None, "pro"]).dictionary_encode(),
        "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
        "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": LONG}]),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(3),
    }  # fmt: skip
    return pa.table({"x": [0.5, 1.5, 2.5], **columns})


def kept(table: pa.Table, path: Path) -> pa.Table:
    """The table carried through a source of that format."""
    if path.suffix == ".parquet":
        arrow_parquet.write_table(table, path, row_group_size=2)
    else:
        new = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)
    names = tuple(name for name in table.column_names if name != "x")
    source = open_input(path)
    chunks = list(source.chunks(Reading({"x": None}, names)))
    carried = pa.concat_tables([chunk.kept for chunk in chunks])
    assert carried.schema.equals(source.kept_schema(names))
    return carried


def encoded(table: pa.Table, encoder: Encoder) -> bytes:
    """The table as a file of one chunk."""
    head = encoder.begin(table.schema, {})
    chunk = encoder.encode(table)
    return head + bytes(chunk.data) + encoder.tail(iter([(len(head), chunk.note)]))


@pytest.mark.parametrize("stored", ["parquet", "arrow", "arrows"])
class TestEveryType:
    def test_what_is_carried_is_what_another_reader_sees(self, stored: str, tmp_path: Path) -> None:
        carried = kept(every_type(stored=stored), tmp_path / f"in.{stored}")
        if stored == "parquet":
            theirs = arrow_parquet.read_table(tmp_path / "in.parquet").drop_columns(["x"])
        else:
            opened = pa.ipc.open_stream if stored == "arrows" else pa.ipc.open_file
            theirs = opened(tmp_path / f"in.{stored}").read_all().drop_columns(["x"])
        assert carried.schema.types == theirs.schema.types
        assert carried.to_pylist() == theirs.to_pylist() == every_type(stored=stored).drop_columns(["x"]).to_pylist()

    def test_parquet_and_arrow_hold_it_exactly(self, stored: str, tmp_path: Path) -> None:
        carried = kept(every_type(stored=stored), tmp_path / f"in.{stored}")
        written = arrow_parquet.read_table(pa.BufferReader(encoded(carried, ParquetEncoder())))
        assert written.to_pylist() == carried.to_pylist()
        written = pa.ipc.open_file(encoded(carried, ArrowEncoder())).read_all()
        assert written.to_pylist() == carried.to_pylist()
        for mine, theirs in zip(carried.schema, written.schema, strict=True):
            assert theirs.type == (mine.type.value_type if pa.types.is_dictionary(mine.type) else mine.type)

    def test_duckdb_reads_the_same_values_from_parquet(self, stored: str, tmp_path: Path) -> None:
        plain = [
            "id",
            "unsigned",
            "small",
            "double",
            "decimal",
            "flag",
            "day",
            "moment",
            "text",
            "large",
            "view",
            "category",
        ]
        carried = kept(every_type(stored=stored), tmp_path / f"in.{stored}").select(plain)
        (tmp_path / "out.parquet").write_bytes(encoded(carried, ParquetEncoder()))
        rows = duckdb.connect().execute(f"select * from '{tmp_path}/out.parquet'").fetchall()
        assert rows == [tuple(row.values()) for row in carried.to_pylist()]

    def test_csv_and_json_lines_spell_it_without_loss(self, stored: str, tmp_path: Path) -> None:
        carried = kept(every_type(stored=stored), tmp_path / f"in.{stored}")
        frame = pd.read_csv(io.BytesIO(encoded(carried, CsvEncoder())), dtype=str, keep_default_na=False)
        lines = [
            json.loads(line, parse_float=decimal.Decimal)
            for line in encoded(carried, JsonlEncoder()).decode().splitlines()
        ]
        for name, word in {
            "id": "9223372036854775807",
            "unsigned": "18446744073709551615",
            "decimal": "12345678901234567890.123456789",
            "wide": "1" + 50 * "0",
            "flag": "true",
            "day": "2024-02-29",
            "moment": "2024-02-29 23:59:59.123456",
            "zoned": "2024-03-01 00:59:59.123456+0100",
            "clock": "23:59:59.000001",
            "text": LONG,
            "view": LONG,
            "category": "free",
            "binary": "AP8=",
        }.items():
            assert frame[name][0] == word, name
            told = lines[0][name]
            assert (json.dumps(told) if isinstance(told, bool) else str(told)) == word, name
        assert lines[0]["id"] == 2**63 - 1
        assert lines[0]["list"] == [1, None]
        assert lines[0]["struct"] == {"a": 1, "b": "x"}
        assert all(value is None for value in lines[1].values())
        assert set(frame.loc[1]) == {""}
