"""Parquet and Arrow in pieces: the chunks of one after another, from any threads, and from any place on."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest

from bimodal.batch.sources.contract import CHUNK_ROWS, Chunk, Cursor, Reading, Source
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import SourceChanged, SourceError

READING = Reading({"x": None, "plan": None}, ("id",))
LARGE = 5 * CHUNK_ROWS + 77


def table(rows: int) -> pa.Table:
    """An id that tells the row, a number, and a text of few values."""
    number = np.arange(rows)
    plans = np.array(["free", "pro", "team"])[number % 3]
    return pa.table({"id": number, "x": number * 0.5, "unused": number, "plan": plans})


def _parquet(rows: int, group: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        arrow_parquet.write_table(table(rows), folder / "in.parquet", row_group_size=group)
        return folder / "in.parquet"

    return make


def _files(folder: Path) -> Path:
    for number in range(3):
        part = table(LARGE).slice(number * 2 * CHUNK_ROWS, 2 * CHUNK_ROWS)
        arrow_parquet.write_table(part, folder / f"part-{number}.parquet", row_group_size=90_000)
    return folder


def _arrow(*, stream: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        whole = table(LARGE)
        with new(folder / "in.arrow", whole.schema) as writer:
            writer.write_table(whole, max_chunksize=50_000)
        return folder / "in.arrow"

    return make


INPUTS = {
    "one large group": _parquet(LARGE, LARGE),
    "two groups of several chunks": _parquet(LARGE, 3 * CHUNK_ROWS + 5),
    "a group a chunk": _parquet(LARGE, CHUNK_ROWS),
    "groups that are gathered": _parquet(LARGE, 10_000),
    "several files": _files,
    "an arrow file": _arrow(stream=False),
    "an arrow stream": _arrow(stream=True),
}


@pytest.fixture(scope="module", params=INPUTS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return INPUTS[request.param](tmp_path_factory.mktemp("pieces"))


def told(chunk: Chunk) -> tuple[object, ...]:
    """All that a chunk holds, but for what stands for nothing."""
    plans = chunk.features.column("plan").cast(pa.string())
    columns = (chunk.features.column("x"), plans, chunk.kept.column("id"))
    return (chunk.number, chunk.source, chunk.first_row, chunk.bytes_done, *columns)


def loaded(source: Source, after: Cursor | None = None, *, threads: int = 1) -> list[Chunk]:
    """The pieces' chunks, loaded by so many threads in a shuffled order."""
    pieces = list(source.pieces(READING, after))
    shuffled = list(range(len(pieces)))
    if threads > 1:
        random.Random(1).shuffle(shuffled)
    with ThreadPoolExecutor(threads) as pool:
        waiting = {at: pool.submit(pieces[at].load) for at in shuffled}
        chunks = [waiting[at].result(timeout=60) for at in range(len(pieces))]
    for piece, chunk in zip(pieces, chunks, strict=True):
        assert (piece.number, piece.first_row) == (chunk.number, chunk.first_row)
    return chunks


class TestPieces:
    def test_they_hold_every_row_once_and_in_order(self, place: Path) -> None:
        chunks = loaded(open_input(place))
        ids = pa.concat_tables([chunk.kept for chunk in chunks]).column("id").to_numpy()
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
        assert all(chunk.features.column_names == ["x", "plan"] for chunk in chunks)
        if place.suffix == ".parquet":
            assert duckdb.connect().execute(f"select count(*) from '{place}'").fetchone() == (len(ids),)

    def test_any_threads_in_any_order_give_the_same(self, place: Path) -> None:
        source = open_input(place)
        one, many = loaded(source), loaded(source, threads=4)
        assert [told(chunk) for chunk in one] == [told(chunk) for chunk in many]
        assert [told(chunk) for chunk in source.chunks(READING)] == [told(chunk) for chunk in one]

    def test_behind_any_cursor_come_the_others_alike(self, place: Path) -> None:
        source = open_input(place)
        pieces = list(source.pieces(READING))
        whole = [told(chunk) for chunk in loaded(source)]
        for done, piece in enumerate(pieces, 1):
            rest = loaded(open_input(place), piece.cursor, threads=2)
            assert [told(chunk) for chunk in rest] == whole[done:]

    def test_pieces_that_are_left_are_not_read(self, place: Path) -> None:
        source = open_input(place)
        pieces = list(source.pieces(READING))
        last = pieces[-1].load()
        assert told(last) == told(loaded(source)[-1])

    def test_the_cursor_of_another_kind_of_input_is_refused(self, place: Path) -> None:
        with pytest.raises(SourceChanged, match="--fresh"):
            list(open_input(place).pieces(READING, {"chain": "abc"}))


def test_a_broken_row_group_is_told_to_all_who_wait_for_it(tmp_path: Path) -> None:
    path = _parquet(LARGE, LARGE)(tmp_path)
    column = arrow_parquet.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 200_000] = bytes(200_000)
    path.write_bytes(data)
    pieces = list(open_input(path).pieces(READING))
    with pytest.raises(SourceError, match="is broken"):
        pieces[-1].load()
    with pytest.raises(SourceError, match="is broken"):
        pieces[-2].load()


def test_what_is_decoded_ahead_is_bounded(tmp_path: Path) -> None:
    """A file far larger than the chunks on their way takes the memory of a few chunks."""
    path = tmp_path / "in.parquet"
    arrow_parquet.write_table(
        pa.table({"id": np.random.default_rng(0).random(40 * CHUNK_ROWS)}), path, row_group_size=40 * CHUNK_ROWS
    )
    before, most = pa.total_allocated_bytes(), 0
    for piece in open_input(path).pieces(Reading({"id": None})):
        chunk = piece.load()
        most = max(most, pa.total_allocated_bytes() - before)
        del chunk
    assert most < 8 * CHUNK_ROWS * 8
