"""A folder of parts: readers of folders take it as it stands, whatever was rejected, however large or empty it is."""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as dataset
import pytest

from bimodal.batch.marks import Beside, Mark
from bimodal.batch.sinks import folder
from bimodal.batch.sinks.durable import exchange
from bimodal.batch.sinks.outputs import Output, output_of
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import UsageError
from tests.batch.sinks.runs import CHUNKS, PLAN, SCHEMA, chunk, go, opened

pytestmark = pytest.mark.usefixtures("unsynced")
ROWS = pa.concat_tables([chunk(number) for number in range(CHUNKS)])


def parts(place: Path) -> list[str]:
    return sorted(each.name for each in place.iterdir())


def test_a_part_has_the_number_of_its_chunk_and_a_chunk_without_rows_has_none(tmp_path: Path) -> None:
    go(opened(tmp_path, "parquet/"))
    assert parts(tmp_path / "out.parquet") == [f"part-0000{number}.parquet" for number in (0, 1, 3, 4, 5)]


def test_arrow_and_duckdb_read_the_folder(tmp_path: Path) -> None:
    go(opened(tmp_path, "parquet/"))
    assert dataset.dataset(tmp_path / "out.parquet").to_table() == ROWS
    with duckdb.connect() as connection:
        found = connection.execute(f"select id from '{tmp_path}/out.parquet/*.parquet' order by id").fetchall()
    assert [row[0] for row in found] == ROWS["id"].to_pylist()


def test_arrow_reads_a_folder_of_arrow_files(tmp_path: Path) -> None:
    go(opened(tmp_path, "arrow/"))
    assert dataset.dataset(tmp_path / "out.arrow", format="ipc").to_table() == ROWS


def test_every_part_of_text_has_its_header(tmp_path: Path) -> None:
    go(opened(tmp_path, "csv.gz/"))
    rows = []
    for part in sorted((tmp_path / "out.csv.gz").iterdir()):
        first, *more = csv.reader(io.StringIO(gzip.decompress(part.read_bytes()).decode(), newline=""))
        assert first == SCHEMA.names
        rows += more
    assert [row[1] for row in rows] == [note or "" for note in ROWS["note"].to_pylist()]


@pytest.mark.parametrize("chunks", [0, 2])
def test_an_output_without_rows_is_one_part_that_tells_the_columns(chunks: int, tmp_path: Path) -> None:
    sink = opened(tmp_path, "parquet/")
    sink.hold(0, print)
    sink.start(PLAN, "run")
    sink.settle(SCHEMA, {})
    for number in range(chunks):
        encoded = sink.encode(SCHEMA.empty_table())
        sink.append(Mark(number, {}, 1, 0, 1), encoded, Beside(rejects=b"{}\n"))
    sink.complete()
    sink.release()
    again = opened(tmp_path, "parquet/")
    again.hold(0, print)
    begun = again.begun()
    assert begun is not None
    assert begun.complete
    again.publish({"plan": PLAN})
    again.release()
    assert parts(tmp_path / "out.parquet") == ["part-00000.parquet"]
    assert dataset.dataset(tmp_path / "out.parquet").to_table() == SCHEMA.empty_table()
    assert opened(tmp_path, "parquet/").published() is not None


def test_more_parts_than_may_be_open_are_synced_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "OPEN", 3)
    before = len(os.listdir("/dev/fd"))
    most = [0]

    def count(step: str) -> None:
        most[0] = max(most[0], len(os.listdir("/dev/fd")) - before)

    go(opened(tmp_path, "csv/"), chunks=20, after=count)
    assert most[0] <= 8
    assert len(os.listdir("/dev/fd")) == before
    assert len(parts(tmp_path / "out.csv")) == 19


def test_exchanging_is_one_step_where_the_system_has_it(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if exchange(tmp_path / "one", tmp_path / "other"):
        assert (parts(tmp_path / "one"), parts(tmp_path / "other")) == (["other"], ["one"])
    else:
        assert (parts(tmp_path / "one"), parts(tmp_path / "other")) == (["one"], ["other"])
    if exchange(tmp_path / "one", tmp_path / "other"):
        with pytest.raises(FileNotFoundError):
            exchange(tmp_path / "one", tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "like", "output"),
    [
        ("scored/", "csv", ("csv", None)),
        ("scored/", "jsonl", ("jsonl", None)),
        ("scored/", "arrow", ("arrow", None)),
        ("scored/", "postgresql", ("parquet", None)),
        ("scored.parquet/", "csv", ("parquet", None)),
        ("scored.csv.gz/", "parquet", ("csv", "gzip")),
        ("there", "parquet", ("parquet", None)),
        ("there.jsonl", "parquet", ("jsonl", None)),
    ],
)
def test_a_slash_or_a_folder_that_is_there_means_a_folder(
    name: str, like: str, output: tuple[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.jsonl").mkdir()
    found = output_of(f"{tmp_path}/{name}", like=like)
    assert found == Output(tmp_path / name.rstrip("/"), *output, folder=True)
    assert found.described.endswith("/")
    assert found.described == found.sink(overwrite=False).kind


def test_a_name_without_format_or_slash_is_refused_naming_both_ways(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a folder of files is .*scored/"):
        output_of(tmp_path / "scored")


def test_a_source_knows_that_its_files_lie_in_the_outputs_folder(tmp_path: Path) -> None:
    go(opened(tmp_path, "parquet/"))
    (tmp_path / "empty").mkdir()
    for named in (tmp_path / "out.parquet", tmp_path / "out.parquet" / "part-00001.parquet"):
        source = open_input(named)
        assert source.reads(tmp_path / "out.parquet")
        assert source.reads(tmp_path / "out.parquet" / "part-00001.parquet")
        assert not source.reads(tmp_path / "empty")
        assert not source.reads(tmp_path / "nothing")
        source.close()
