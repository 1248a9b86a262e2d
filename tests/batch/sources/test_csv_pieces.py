"""CSV in pieces: the same rows wherever one goes on and however the bytes arrive; what the parser refuses is told."""

from __future__ import annotations

import codecs
import csv
import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bimodal.batch.sources import csv as module
from bimodal.batch.sources.contract import MISSING, Chunk, Reading, Source
from bimodal.batch.sources.csv import CsvSource
from bimodal.batch.sources.cutter import cut
from bimodal.batch.sources.files import LocalFile
from bimodal.dialect import Overrides
from bimodal.errors import SourceChanged

READING = Reading({"b": pa.string()}, ("a", "b", "c"))
ODD = "\N{LATIN SMALL LETTER A WITH OGONEK}"


def told(chunk: Chunk) -> tuple[Any, ...]:
    """All that a chunk holds, to be compared; how many bytes were read when it was complete is the reader's affair."""
    good = [(chunk.row(place), *row.values()) for place, row in enumerate(chunk.kept.to_pylist())]
    features = chunk.features.to_pydict()
    raw = [chunk.raw(place) for place in range(chunk.kept.num_rows)]
    return chunk.number, chunk.first_row, good, features, raw, chunk.rejects


def resumed(source: Source, reading: Reading = READING) -> list[tuple[Any, ...]]:
    """The chunks, after it was seen that they are the same behind each cursor."""
    pieces = list(source.pieces(reading))
    whole = [told(piece.load()) for piece in pieces]
    for at, piece in enumerate(pieces):
        behind = list(source.pieces(reading, piece.cursor))
        assert [told(each.load()) for each in behind] == whole[at + 1 :]
        assert [each.cursor for each in behind] == [each.cursor for each in pieces[at + 1 :]]
    assert [piece.first_row for piece in pieces] == [chunk[1] for chunk in whole]
    return whole


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(module, "cut", partial(cut, rows=3, size=60, piece=11))
    return monkeypatch


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "iso8859-2", "utf-16", "shift_jis", "cp500"])
@pytest.mark.parametrize(
    ("compression", "ending"), [("", "\n"), ("", "\r\n"), ("", "\r"), (".gz", "\n"), (".zst", "\r\n")]
)
def test_going_on_behind_any_chunk_gives_the_same(
    encoding: str, compression: str, ending: str, small: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    letter = {"iso8859-2": ODD, "shift_jis": "\N{HIRAGANA LETTER A}"}.get(
        encoding, "\N{LATIN SMALL LETTER U WITH DIAERESIS}"
    )
    rows = [
        [f"{number}", f"{letter}{number}", ["x", "y, z", 'q"r', f"two{ending}lines"][number % 4]]
        for number in range(40)
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator=ending).writerows([["a", "b", "c"], *rows])
    text = out.getvalue().replace(f"{ending}7,", f"{ending}{ending}{ending}7,")
    data = text.encode(encoding)
    path = tmp_path / f"in.csv{compression}"
    path.write_bytes(
        pa.Codec({".gz": "gzip", ".zst": "zstd"}[compression]).compress(data, asbytes=True) if compression else data
    )
    said = None if encoding in ("utf-8-sig", "utf-16", "cp1252") else encoding
    chunks = resumed(CsvSource(LocalFile(path), Overrides(separator=",", encoding=said)))
    assert [list(row[1:]) for chunk in chunks for row in chunk[2]] == rows
    assert [row[0] for chunk in chunks for row in chunk[2]] == list(range(1, 41))
    assert len(chunks) > 10


# -- faults -----------------------------------------------------------------------------------------------------------

WORDS = st.text(alphabet='ab ,"\n\r;\N{LATIN SMALL LETTER E WITH ACUTE}', max_size=5)
PLAIN = st.sampled_from(["", "a", "NA", '5" pipe', 'b""', "x y", "1.5"])


def quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


CELLS = st.one_of(PLAIN, WORDS.map(quoted))
GOOD = st.tuples(st.lists(CELLS, min_size=3, max_size=3).map(",".join), st.none())
FAULTS = st.one_of(
    st.tuples(st.lists(CELLS, min_size=2, max_size=2).map(",".join), st.just("short_row")),
    st.tuples(st.lists(CELLS, min_size=4, max_size=5).map(",".join), st.just("long_row")),
    st.tuples(CELLS.map(lambda cell: f'{cell},"x"y,z'), st.just("bad_quotes")),
    st.tuples(CELLS.map(lambda cell: f"{cell},\udcff,z"), st.just("bad_encoding")),
    st.tuples(CELLS.map(lambda cell: f"{cell},z,\udce9 "), st.just("bad_encoding")),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.one_of(GOOD, GOOD, FAULTS), max_size=14),
    blank=st.sets(st.integers(0, 14)),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    closed=st.booleans(),
    unclosed=st.booleans(),
    count=st.integers(1, 5),
    size=st.integers(1, 80),
    piece=st.integers(1, 150),
)
def test_rows_are_good_or_rejected_whatever_the_faults(
    rows: list[tuple[str, str | None]],
    blank: set[int],
    ending: str,
    closed: bool,
    unclosed: bool,
    count: int,
    size: int,
    piece: int,
    small: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if unclosed:
        rows = [*rows, (f'a,b,"c{ending}d', "unclosed_quote")]
    lines = [ending * (number in blank) + line for number, (line, _) in enumerate(rows)]
    text = ending.join(["a,b,c", *lines]) + ending * (closed or not rows)
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    small.setattr(module, "cut", partial(cut, rows=count, size=size, piece=piece))
    chunks = resumed(CsvSource(LocalFile(path), Overrides(separator=",", encoding="utf-8", header=True)))
    read = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    assert len(read) == len(rows)
    good = [(place, *row) for place, (row, (_, fault)) in enumerate(zip(read, rows, strict=True), 1) if not fault]
    assert [row for chunk in chunks for row in chunk[2]] == good
    texts = [None if row[2] in MISSING else row[2] for row in good]
    assert [each for chunk in chunks for each in chunk[3]["b"]] == texts
    bad = [(place, fault) for place, (_, fault) in enumerate(rows, 1) if fault]
    rejects = [reject for chunk in chunks for reject in chunk[5]]
    assert [(reject.row, reject.code) for reject in rejects] == bad
    written = [line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for line, fault in rows if fault]
    assert [str(reject.raw).rstrip("\r\n") for reject in rejects] == [line.rstrip("\r\n") for line in written]
    assert {reject.column for reject in rejects if reject.code == "bad_encoding"} <= {"b", "c"}


def test_threads_and_the_size_of_reads_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    with open(path, "w") as file:
        file.write("a,b,c\n")
        file.writelines(f'{number},"t{number % 7}, u",{"x" * (number % 90)}\n' for number in range(150_000))
    source = CsvSource(LocalFile(path))
    alone = [piece.load() for piece in source.pieces(READING)]
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(lambda piece: piece.load(), source.pieces(READING)))
    assert [each.count for each in alone] == [65_536, 65_536, 150_000 - 2 * 65_536]
    for one, other in zip(alone, beside, strict=True):
        assert (one.number, one.first_row, one.bytes_done) == (other.number, other.first_row, other.bytes_done)
        assert one.kept.equals(other.kept)
        assert one.features.equals(other.features)
    assert alone[-1].bytes_done == path.stat().st_size


def test_going_on_far_behind_reads_nothing_that_is_done(tmp_path: Path) -> None:
    """A file of which only the end is there: the rest is a hole."""
    path = tmp_path / "in.csv"
    place = 1 << 40
    with open(path, "wb") as file:
        file.write(b"a,b,c\n1,2,3\n")
        file.seek(place - 1)
        file.write(b"\n4,5,6\n")
    started = time.monotonic()
    (piece,) = CsvSource(LocalFile(path)).pieces(READING, {"chunk": 9, "row": 700_000, "offset": place})
    chunk = piece.load()
    assert time.monotonic() - started < 60  # to read it all takes many minutes
    assert (chunk.number, chunk.first_row, chunk.kept.to_pylist()) == (10, 700_000, [{"a": "4", "b": "5", "c": "6"}])


def test_a_file_that_has_no_row_end_there_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b,c\n1,2,3\n4,5,6\n")
    source = CsvSource(LocalFile(path))
    for offset in (8, 14, 1000):
        with pytest.raises(SourceChanged, match=r"in\.csv is no longer what it was .*--fresh"):
            list(source.pieces(READING, {"chunk": 0, "row": 2, "offset": offset}))
    assert list(source.pieces(READING, {"chunk": 0, "row": 3, "offset": 18})) == []


def test_an_encoding_of_single_bytes_is_known_as_such() -> None:
    for name in ("cp1252", "iso8859-2", "cp1251", "koi8-r", "mac-roman"):
        letters = module.letters_of(name)
        assert letters is not None
        assert codecs.charmap_decode(b"\xe4,\n", "replace", letters)[0] == b"\xe4,\n".decode(name)
    assert [module.letters_of(name) for name in ("utf-8", "utf-16", "shift_jis", "cp500", "gb18030")] == [None] * 5
