"""What every source keeps: chunks that depend on the source alone, row numbers, kept columns of known types."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Reading, Source
from bimodal.batch.sources.csv import CsvSource
from bimodal.batch.sources.files import LocalFile
from bimodal.batch.sources.inputs import open_input
from bimodal.batch.sources.parquet import chunk_rows, gather
from bimodal.dialect import Overrides
from bimodal.errors import SourceError
from tests.batch.places import shop, write

KINDS = ["csv", "csv.gz", "tsv", "jsonl", "jsonl.zst", "parquet", "arrow", "arrows"]
READING = Reading({"age": pa.float64(), "spent": pa.float64(), "plan": pa.string()}, ("id", "note"))
ROWS = CHUNK_ROWS + 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows in every format."""
    place = tmp_path_factory.mktemp("sources")
    frame = pd.concat([shop(1000)] * 67, ignore_index=True)[:ROWS]
    for kind in KINDS:
        write(frame.assign(id=[f"{number:05}" for number in range(ROWS)]), place / f"in.{kind}")
    return place


@pytest.mark.parametrize("kind", KINDS)
class TestEverySource:
    """The contract, for each format."""

    def source(self, folder: Path, kind: str) -> Source:
        return open_input(str(folder / f"in.{kind}"))

    def chunks(self, folder: Path, kind: str) -> list[Chunk]:
        return list(self.source(folder, kind).chunks(READING))

    def test_columns_are_known_before_reading(self, kind: str, folder: Path) -> None:
        source = self.source(folder, kind)
        assert source.columns == ("id", "age", "spent", "day", "plan", "note")
        assert source.total_bytes == (folder / f"in.{kind}").stat().st_size

    def test_chunks_are_numbered_and_cover_every_row_once(self, kind: str, folder: Path) -> None:
        chunks = self.chunks(folder, kind)
        assert [(each.number, each.first_row, each.count) for each in chunks] == [
            (0, 1, CHUNK_ROWS),
            (1, CHUNK_ROWS + 1, 1000),
        ]
        ids = [value for each in chunks for value in each.kept.column("id").to_pylist()]
        assert ids == [f"{number:05}" for number in range(ROWS)]

    def test_features_and_kept_columns_are_those_that_were_asked_for(self, kind: str, folder: Path) -> None:
        source = self.source(folder, kind)
        for chunk in source.chunks(READING):
            assert chunk.features.column_names == ["age", "spent", "plan"]
            assert chunk.kept.schema.equals(source.kept_schema(READING.kept))
            assert chunk.features.num_rows == chunk.kept.num_rows

    def test_missing_values_are_null(self, kind: str, folder: Path) -> None:
        ages = self.chunks(folder, kind)[0].features.column("age").to_numpy()
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(ages))[:3], [0, 11, 22])

    def test_the_raw_row_can_be_told(self, kind: str, folder: Path) -> None:
        assert "00007" in str(self.chunks(folder, kind)[0].raw(7))

    def test_bytes_done_grow_to_the_whole(self, kind: str, folder: Path) -> None:
        done = [each.bytes_done for each in self.chunks(folder, kind)]
        assert done == sorted(done)
        assert 0.9 * (folder / f"in.{kind}").stat().st_size <= done[-1] <= (folder / f"in.{kind}").stat().st_size

    def test_reading_again_gives_the_same(self, kind: str, folder: Path) -> None:
        source = self.source(folder, kind)
        first, second = ([each.kept for each in source.chunks(READING)] for _ in range(2))
        assert all(one.equals(other) for one, other in zip(first, second, strict=True))

    def test_the_fingerprint_changes_with_the_content(self, kind: str, folder: Path, tmp_path: Path) -> None:
        path = write(shop(20), tmp_path / f"in.{kind}")
        before = open_input(path).fingerprint()
        assert open_input(path).fingerprint() == before
        os.rename(path, tmp_path / f"other.{kind}")
        assert open_input(tmp_path / f"other.{kind}").fingerprint() == before
        write(shop(20)[::-1], tmp_path / f"other.{kind}")
        assert open_input(tmp_path / f"other.{kind}").fingerprint() != before


def test_small_row_groups_are_read_together_and_large_ones_alone() -> None:
    assert gather([10, 20, 30, 0, 40], rows=60) == [[0, 1, 2], [4]]
    assert gather([100, 10, 100], rows=60) == [[0], [1], [2]]
    assert gather([]) == []


def test_wide_rows_make_shorter_chunks() -> None:
    assert chunk_rows(100 * 10**6, 10**6) == CHUNK_ROWS
    assert chunk_rows(8000 * 10**6, 10**6) == 8192
    assert chunk_rows(10**15, 10) == 1024
    assert chunk_rows(0, 0) == CHUNK_ROWS


def test_row_groups_set_the_chunks(tmp_path: Path) -> None:
    shop(300).to_parquet(tmp_path / "in.parquet", row_group_size=100)
    (chunk,) = open_input(tmp_path / "in.parquet").chunks(READING)
    assert chunk.count == 300


def test_files_of_several_formats_in_a_folder_are_refused(tmp_path: Path) -> None:
    write(shop(3), tmp_path / "a.csv")
    write(shop(3), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match="several formats"):
        open_input(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no file that is understood"):
        open_input(tmp_path / "empty")


def test_a_file_of_json_that_is_no_json_lines_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("id,age\n1,2\n")
    with pytest.raises(SourceError, match=r"a\.jsonl is no JSON Lines: in its first line, broken JSON at character 1"):
        open_input(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("1\n2\n")
    with pytest.raises(SourceError, match="every line must be an object"):
        open_input(tmp_path / "b.jsonl")


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    numbers=st.lists(st.one_of(st.none(), st.floats(-1e15, 1e15)), min_size=8, max_size=8),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from(["minimal", "all"]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_frame_comes_back_from_csv_as_it_was(
    cells: list[tuple[str, str]],
    numbers: list[float | None],
    separator: str,
    quoting: str,
    ending: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "in.csv"
    texts = [[*pair, "" if n is None else repr(n)] for pair, n in zip(cells, numbers, strict=False)]
    lines = [_written(row, separator, quoting) for row in [["one", "other", "x"], *texts]]
    path.write_bytes("".join(line + ending for line in lines).encode())
    source = CsvSource(LocalFile(path), Overrides(separator=separator, decimal=".", encoding="utf-8"))
    (chunk,) = source.chunks(Reading({"x": pa.float64()}, ("one", "other")))
    assert chunk.rejects == ()
    assert list(zip(*chunk.kept.to_pydict().values(), strict=True)) == cells
    assert chunk.features.column("x").to_pylist() == numbers[: len(cells)]
    assert [chunk.raw(place) for place in range(len(cells))] == lines[1:]


def _written(row: list[str], separator: str, quoting: str) -> str:
    """A row without its end; the ending of two characters makes the module quote both of them."""
    out = io.StringIO()
    if quoting == "all":
        csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(row)
    else:
        csv.writer(out, delimiter=separator, lineterminator="\r\n").writerow(row)
    return out.getvalue().removesuffix("\r\n")
