"""Refused rows are run again: as they stand, mended, without the file they came from, and with their first numbers."""

from __future__ import annotations

import datetime
import decimal
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bimodal
from bimodal.batch.sources import rejects
from bimodal.batch.sources.contract import LONGEST_RAW, Chunk, Reading, Source
from bimodal.batch.sources.csv import CsvSource
from bimodal.batch.sources.cutter import cut
from bimodal.batch.sources.files import LocalFile
from bimodal.batch.sources.jsonl import JsonlSource
from bimodal.batch.sources.parquet import ParquetSource
from bimodal.batch.sources.rejects import RejectsSource, is_rejects
from bimodal.dialect import Overrides
from bimodal.errors import SourceError
from tests.batch.sources.test_csv_pieces import resumed

READING = Reading({"x": pa.float64()}, ("id", "note"))


def record(row: int, raw: object, form: Any = None, *, source: str = "in", code: str = "short_row") -> dict[str, Any]:
    return {"row": row, "source": source, "column": None, "code": code, "reason": "", "raw": raw, "form": form}


def of_chunk(chunk: Chunk, *, good: bool = False) -> list[dict[str, Any]]:
    """The records of a chunk's refused rows, as a run writes them; with good those of the others, too."""
    found = [record(bad.row, bad.raw, chunk.form, source=chunk.source, code=bad.code) for bad in chunk.rejects]
    for place in range(chunk.features.num_rows if chunk.records is None else len(chunk.records)) if good else ():
        found.append(record(chunk.row(place), chunk.raw(place), chunk.form, source=chunk.source, code="wrong_type"))
    return sorted(found, key=lambda each: each["row"])


def file(folder: Path, records: list[dict[str, Any]]) -> RejectsSource:
    path = folder / "out.csv.rejects.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    assert is_rejects(LocalFile(path))
    return RejectsSource(LocalFile(path))


def read(source: Source, reading: Reading = READING) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The good rows with their numbers, and the refused ones."""
    good: list[tuple[Any, ...]] = []
    bad: list[tuple[Any, ...]] = []
    for chunk in source.chunks(reading):
        kept = chunk.kept.to_pylist()
        values = (
            [row[0] for row in chunk.records] if chunk.records is not None else chunk.features.column(0).to_pylist()
        )
        assert chunk.kept.schema.equals(source.kept_schema(reading.kept))
        good += [
            (chunk.source, chunk.row(place), value, *row.values())
            for place, (value, row) in enumerate(zip(values, kept, strict=True))
        ]
        bad += [(chunk.source, each.row, each.code, each.raw) for each in chunk.rejects]
    return good, bad


def test_rows_of_csv_are_mended_and_run_without_their_file(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rows = ["id;x;note", "1;1,5;a", "2;2,5", '3;3,5;"b"c', "4;4,5;d;e", "5;5,5;f\xff", '6;6,5;"g\nh']
    path.write_bytes("\n".join(rows).encode("latin-1"))
    (chunk,) = CsvSource(LocalFile(path), Overrides(";", ",", "utf-8")).chunks(READING)
    path.unlink()
    records = of_chunk(chunk)
    assert [each["row"] for each in records] == [2, 3, 4, 5, 6]
    source = file(tmp_path, records)
    assert (source.kind, source.columns) == ("csv", ("id", "x", "note"))
    good, bad = read(source)
    assert good == []
    assert [each[:3] for each in bad] == [
        ("in.csv", 2, "short_row"),
        ("in.csv", 3, "bad_quotes"),
        ("in.csv", 4, "long_row"),
        ("in.csv", 5, "bad_encoding"),
        ("in.csv", 6, "malformed"),
    ]
    assert [each[3] for each in bad] == [each["raw"] for each in records]
    mended = ["2;2,5;x", '3;3,5;"b""c"', "4;4,5;d", "5;5,5;f\xff", '6;6,5;"g\nh"']
    for each, raw in zip(records, mended, strict=True):
        each["raw"] = raw
    good, bad = read(file(tmp_path, records))
    assert bad == []
    notes = ["x", 'b"c', "d", "f\xff", "g\nh"]
    assert good == [("in.csv", row, row + 0.5, str(row), note) for row, note in enumerate(notes, 2)]


CELLS = st.text(alphabet='ab,"\n\r \N{LATIN SMALL LETTER E WITH ACUTE}', max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=9),
    moved=st.lists(st.integers(0, 8), max_size=3),
    count=st.integers(1, 4),
    piece=st.integers(50, 500),
)
def test_any_row_comes_back_as_it_was(
    cells: list[tuple[str, str]],
    moved: list[int],
    count: int,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    lines = [f'"{one.replace(chr(34), chr(34) * 2)}",1,"{other.replace(chr(34), chr(34) * 2)}"' for one, other in cells]
    (tmp_path / "in.csv").write_bytes("\n".join(["id,x,note", *lines]).encode())
    (chunk,) = CsvSource(LocalFile(tmp_path / "in.csv"), Overrides(",", ".", "utf-8")).chunks(READING)
    right = [("in.csv", row, 1.0, *pair) for row, pair in enumerate(cells, 1)]
    records = of_chunk(chunk, good=True)
    for place in moved:  # lines of another file between them
        records.insert(place, record(77, "i,1,n", chunk.form, source="other.csv"))
        right.insert(place, ("other.csv", 77, 1.0, "i", "n"))
    monkeypatch.setattr(rejects, "cut", partial(cut, rows=2, piece=piece))
    monkeypatch.setattr(rejects, "CHUNK_ROWS", count)
    source = file(tmp_path, records)
    assert read(source) == (right, [])
    resumed(source, READING)


def test_rows_of_json_come_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"x":1,"id":"a","note":[1]}\n{"x":2,"id":"b"\n{"x":3,"id":"c","note":null}\n')
    (chunk,) = JsonlSource(LocalFile(tmp_path / "in.jsonl")).chunks(READING)
    records = of_chunk(chunk, good=True)
    assert [each["form"] for each in records] == [None] * 3
    good, bad = read(file(tmp_path, records))
    assert good == [("in.jsonl", 1, 1, "a", "[1]"), ("in.jsonl", 3, 3, "c", None)]
    assert bad == [("in.jsonl", 2, "malformed", '{"x":2,"id":"b"')]
    records[1]["raw"] += "}"
    assert read(file(tmp_path, records))[0][1] == ("in.jsonl", 2, 2, "b", None)


VALUES: dict[str, tuple[pa.DataType, Any]] = {
    "id": (pa.int64(), 2**62 + 1),
    "x": (pa.float64(), 0.1),
    "endless": (pa.float32(), float("inf")),
    "price": (pa.decimal128(12, 2), decimal.Decimal("12345678.90")),
    "note": (pa.string(), '"\N{SNOWMAN}\n'),
    "data": (pa.binary(), b"\x00\xff"),
    "five": (pa.binary(5), b"\x00\xff\x01ab"),
    "at": (pa.timestamp("us", "Europe/Berlin"), datetime.datetime(2024, 7, 1, 12, 0, 0, 123456, datetime.UTC)),
    "naive": (pa.timestamp("ms"), datetime.datetime(1969, 1, 1)),  # noqa: DTZ001 - without a zone
    "day": (pa.date32(), datetime.date(2024, 2, 29)),
    "clock": (pa.time64("us"), datetime.time(23, 59, 59, 999999)),
    "flag": (pa.bool_(), False),
    "vector": (pa.list_(pa.float64()), [1.0, 2.5]),
    "words": (pa.list_(pa.string()), ["a", None]),
    "days": (pa.list_(pa.date32()), [datetime.date(2024, 2, 29)]),
    "none": (pa.int8(), None),
}


def test_rows_of_tables_come_back_as_their_types(tmp_path: Path) -> None:
    table = pa.table({name: pa.array([value], kind) for name, (kind, value) in VALUES.items()})
    arrow_parquet.write_table(table, tmp_path / "in.parquet")
    reading = Reading({"x": None}, tuple(VALUES))
    (chunk,) = ParquetSource(LocalFile(tmp_path / "in.parquet")).chunks(reading)
    (line,) = of_chunk(chunk, good=True)
    source = file(tmp_path, [line])
    assert source.kept_schema(reading.kept).types == chunk.kept.schema.types
    (again,) = source.chunks(reading)
    assert again.kept.equals(chunk.kept)
    assert again.features.equals(chunk.features)
    assert again.raw(0) == chunk.raw(0)
    wrong = {
        "price": "12,5",
        "data": "\N{SNOWMAN}",
        "at": "noon",
        "id": "5",
        "flag": 1,
        "note": 5,
        "x": True,
        "vector": [1, "a"],
        "words": "a",
    }
    for name, value in wrong.items():
        broken = {**line, "raw": {**line["raw"], name: value}}
        (found,) = file(tmp_path, [broken, line]).chunks(reading)
        (bad,) = found.rejects
        assert (bad.column, bad.code, bad.row) == (name, "wrong_type", 1)
        assert "cannot be read back as" in bad.reason
        assert found.kept.num_rows == 1


def test_what_cannot_be_run_again_is_told(tmp_path: Path) -> None:
    form = {"columns": ["id", "x", "note"], "separator": ",", "decimal": "."}
    records = [
        record(1, "1,1,a", form),
        record(2, "x" * LONGEST_RAW, form),
        record(3, None, form),
        record(4, "1,1,\N{REPLACEMENT CHARACTER}", form, code="bad_encoding"),
        record(5, "1,1,\N{REPLACEMENT CHARACTER}", form, code="wrong_type"),
        record(6, "", form),
        record(7, "1,1,a\n2,2,b", form),
        record(8, {"id": 1}, form),
        record(9, "1,1,a", {"columns": ["a", "b", "c"], "separator": ",", "decimal": "."}),
        record(10, "1,1,a", {}),
    ]
    source = file(tmp_path, records)
    with open(tmp_path / "out.csv.rejects.jsonl", "a") as lines:
        lines.write('{"row": 11,\n\n{"row": "12", "source": "", "code": "", "reason": "", "raw": ""}\n')
    source = RejectsSource(LocalFile(tmp_path / "out.csv.rejects.jsonl"))
    good, bad = read(source)
    assert [each[1] for each in good] == [1, 5]
    assert sorted(each[1] for each in bad) == [2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    reasons = {each.row: each.reason for chunk in source.chunks(READING) for each in chunk.rejects}
    assert "was cut at 1,000,000 characters" in reasons[2]
    assert "was not kept" in reasons[3]
    assert "mend them" in reasons[4]
    assert "must be one row" in reasons[7]
    assert "its columns are others" in reasons[9]
    assert "no refused row" in reasons[11]


def test_only_a_file_of_refused_rows_is_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.rejects.jsonl"
    for text in ("", "{", '{"x": 1}\n', "[1]\n"):
        path.write_text(text)
        assert not is_rejects(LocalFile(path))
    line = json.dumps(record(1, "{"))
    path.write_text(line)
    assert is_rejects(LocalFile(path))
    (tmp_path / "in.jsonl").write_text(line)
    assert is_rejects(LocalFile(tmp_path / "in.jsonl"))  # by its content alone
    (tmp_path / "in.jsonl").write_text(line.replace('"column"', '"columns"'))
    assert not is_rejects(LocalFile(tmp_path / "in.jsonl"))
    with pytest.raises(SourceError, match="mend them first"):
        RejectsSource(LocalFile(path))


def test_a_long_row_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,x,note\n1,1," + "y" * 50_000 + ",z\n")
    (chunk,) = CsvSource(LocalFile(path)).chunks(READING)
    (bad,) = chunk.rejects
    assert isinstance(bad.raw, str)
    assert len(bad.raw) == 50_006


def test_a_run_writes_what_it_takes_to_run_again(model: bimodal.Model, tmp_path: Path) -> None:
    rows = ["id;age;spent;plan;note", "1;30;5,5;pro;a", "2;30;x;pro;b", "3;30;5,5", "4;30;5,5;gold;d"]
    (tmp_path / "in.csv").write_text("\n".join(rows))
    bimodal.predict_file(model, tmp_path / "in.csv", tmp_path / "out.csv", max_rejects=3, decimal=",")
    (tmp_path / "in.csv").unlink()
    path = tmp_path / "out.csv.rejects.jsonl"
    again = bimodal.predict_file(model, path, tmp_path / "again.csv", max_rejects=3)
    assert (again.read, again.rejected) == (3, 3)
    second = tmp_path / "again.csv.rejects.jsonl"
    assert second.read_text() == path.read_text()
    second.write_text(second.read_text().replace("2;30;x;", "2;30;5,5;").replace('3;30;5,5"', '3;30;5,5;pro;c"'))
    last = bimodal.predict_file(model, second, tmp_path / "last.csv", max_rejects=1)
    assert (last.read, last.rejected) == (3, 1)
    assert [line.split(",")[:2] for line in (tmp_path / "last.csv").read_text().splitlines()[1:]] == [
        ["2", "b"],
        ["3", "c"],
    ]
    (left,) = [json.loads(line) for line in (tmp_path / "last.csv.rejects.jsonl").read_text().splitlines()]
    assert (left["row"], left["source"], left["column"]) == (4, "in.csv", "plan")
