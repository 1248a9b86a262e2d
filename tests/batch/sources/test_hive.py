"""Hive partitions: the columns that folders tell, beside those of the files in them."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as arrow_dataset
import pyarrow.parquet as arrow_parquet
import pytest

from bimodal.batch.sources.contract import Chunk, Reading
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import SourceError
from tests.batch.places import write

KINDS = ["csv", "jsonl", "parquet", "arrow"]


def part(folder: Path, where: str, *values: int, kind: str = "parquet") -> Path:
    """A file of one column in these folders."""
    place = folder / where
    place.mkdir(parents=True, exist_ok=True)
    return write(pa.table({"x": pa.array(values, pa.int64())}).to_pandas(), place / f"part.{kind}")


def shown(chunks: list[Chunk], names: list[str]) -> list[tuple[object, ...]]:
    """The rows of the carried columns."""
    table = pa.concat_tables([chunk.kept for chunk in chunks]).select(names)
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize("kind", KINDS)
def test_folders_tell_columns_of_every_format(kind: str, tmp_path: Path) -> None:
    part(tmp_path, "country=DE/day=2024-01-01", 1, 2, kind=kind)
    part(tmp_path, "country=DE/day=2024-01-02", 3, kind=kind)
    part(tmp_path, "country=FR/day=2024-01-01", 4, kind=kind)
    source = open_input(tmp_path)
    assert source.columns == ("x", "country", "day")
    assert "columns that the names of folders tell: country (text), day (text)" in source.notes
    reading = Reading({"x": pa.float64(), "country": pa.string()}, ("country", "day"))
    assert source.kept_schema(reading.kept).types == [pa.string(), pa.string()]
    chunks = list(source.chunks(reading))
    assert [chunk.source for chunk in chunks] == [
        f"country=DE/day=2024-01-01/part.{kind}",
        f"country=DE/day=2024-01-02/part.{kind}",
        f"country=FR/day=2024-01-01/part.{kind}",
    ]
    told = pa.concat_tables(
        [chunk.features.select(["country"]).cast(pa.schema([("country", pa.string())])) for chunk in chunks]
    )
    assert told.column(0).to_pylist() == ["DE", "DE", "DE", "FR"]
    assert shown(chunks, ["country", "day"])[2:] == [("DE", "2024-01-02"), ("FR", "2024-01-01")]


def test_the_same_as_other_readers_see(tmp_path: Path) -> None:
    """Integers where all are, missing values, names and values that are escaped: as DuckDB and Arrow read them."""
    for place, number in enumerate(["7", "-3", "12", "__HIVE_DEFAULT_PARTITION__"]):
        part(tmp_path, f"number={number}/text=a%20b%2F{place}", place)
    reading = Reading({"x": None}, ("number", "text"))
    chunks = list(open_input(tmp_path).chunks(reading))
    assert chunks[0].kept.schema.types == [pa.int64(), pa.string()]
    ours = {
        (x, *row)
        for x, row in zip(
            [x for chunk in chunks for x in chunk.features.column("x").to_pylist()],
            shown(chunks, ["number", "text"]),
            strict=True,
        )
    }
    query = f"select x, number, text from read_parquet('{tmp_path}/**/*.parquet', hive_partitioning = true)"
    theirs = {(x, None if number is None else int(number), text) for x, number, text in _rows(query)}
    assert ours == theirs
    schema = pa.schema([("number", pa.int64()), ("text", pa.string())])
    dataset = arrow_dataset.dataset(tmp_path, partitioning=arrow_dataset.partitioning(schema, flavor="hive"))
    assert {tuple(row.values()) for row in dataset.to_table(["x", "number", "text"]).to_pylist()} == ours


def _rows(query: str) -> list[tuple[object, int | str | None, object]]:
    return duckdb.connect().execute(query).fetchall()


def test_a_value_that_is_no_integer_makes_all_text(tmp_path: Path) -> None:
    part(tmp_path, "week=07", 1)
    part(tmp_path, "week=last", 2)
    chunks = list(open_input(tmp_path).chunks(Reading({"x": None}, ("week",))))
    assert shown(chunks, ["week"]) == [("07",), ("last",)]


def test_pieces_and_cursors_hold_them_too(tmp_path: Path) -> None:
    for number in range(4):
        part(tmp_path, f"shop={number}", *range(number * 10, number * 10 + 10))
    reading = Reading({"shop": None}, ("x", "shop"))
    source = open_input(tmp_path)
    pieces = list(source.pieces(reading))
    whole = [piece.load() for piece in pieces]
    rest = [piece.load() for piece in open_input(tmp_path).pieces(reading, pieces[1].cursor)]
    assert [(chunk.number, chunk.first_row, chunk.source) for chunk in rest] == [
        (2, 1, "shop=2/part.parquet"),
        (3, 1, "shop=3/part.parquet"),
    ]
    assert [chunk.kept for chunk in rest] == [chunk.kept for chunk in whole[2:]]
    assert [chunk.features for chunk in rest] == [chunk.features for chunk in whole[2:]]


def test_only_columns_of_folders_are_wanted(tmp_path: Path) -> None:
    part(tmp_path, "shop=1", 5, 6, 7)
    (chunk,) = open_input(tmp_path).chunks(Reading({"shop": None}))
    assert chunk.features.to_pydict() == {"shop": [1, 1, 1]}
    assert chunk.count == 3


def test_a_column_of_file_and_folder_is_the_files(tmp_path: Path) -> None:
    part(tmp_path, "x=9", 1, 2)
    source = open_input(tmp_path)
    assert source.columns == ("x",)
    assert "x stands in the files and in the names of their folders: the files' is read" in source.notes
    (chunk,) = source.chunks(Reading({"x": None}))
    assert chunk.features.column("x").to_pylist() == [1, 2]


def test_folders_that_tell_other_columns_are_refused(tmp_path: Path) -> None:
    part(tmp_path, "country=DE", 1)
    part(tmp_path, "land=FR", 1)
    with pytest.raises(SourceError, match=r"land=FR/part\.parquet lies in folders that tell land, .* tell country;"):
        open_input(tmp_path)


def test_a_pattern_tells_what_varies(tmp_path: Path) -> None:
    part(tmp_path, "country=DE/day=1", 1)
    part(tmp_path, "country=FR/day=1", 2)
    assert open_input(f"{tmp_path}/country=*/day=1/*.parquet").columns == ("x", "country", "day")
    assert open_input(f"{tmp_path}/country=DE/day=*/*.parquet").columns == ("x", "day")


def test_a_file_moved_to_another_partition_is_another_input(tmp_path: Path) -> None:
    part(tmp_path, "country=DE", 1)
    before = open_input(tmp_path).fingerprint()
    (tmp_path / "country=DE").rename(tmp_path / "country=FR")
    assert open_input(tmp_path).fingerprint() != before


@pytest.mark.parametrize("kind", KINDS)
def test_refused_rows_tell_them_so_that_they_run_again(kind: str, tmp_path: Path) -> None:
    part(tmp_path / "in", "country=D, E/day=7", 1, 2, kind=kind)
    reading = Reading({"x": pa.float64()}, ("country", "day"))
    (chunk,) = open_input(tmp_path / "in").chunks(reading)
    line = {
        "row": 2,
        "source": chunk.source,
        "column": "x",
        "code": "model_failed",
        "reason": "no",
        "raw": chunk.raw(1),
    }
    if chunk.form is not None:
        line["form"] = chunk.form
    (tmp_path / "out.csv.rejects.jsonl").write_text(json.dumps(line) + "\n")
    again = open_input(tmp_path / "out.csv.rejects.jsonl")
    assert again.columns == ("x", "country", "day")
    (chunk,) = again.chunks(reading)
    assert [str(value) for row in shown([chunk], ["country", "day"]) for value in row] == ["D, E", "7"]
    assert chunk.features.column("x").cast(pa.float64()).to_pylist() == [2.0]


def test_folders_that_tell_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "2024").mkdir()
    arrow_parquet.write_table(pa.table({"x": [1]}), tmp_path / "2024" / "a.parquet")
    with pytest.raises(
        SourceError, match=r"for the files of the folders in it name a pattern, as in '.*/\*\*/\*\.parquet'"
    ):
        open_input(tmp_path)
    assert open_input(f"{tmp_path}/**/*.parquet").columns == ("x",)
