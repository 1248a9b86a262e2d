"""The cutter finds the rows that Python's csv module finds, whatever the quoting and however the bytes arrive."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bimodal.batch.sources import lines
from bimodal.batch.sources.cutter import Block, cut
from bimodal.errors import SourceError

LETTERS = st.text(alphabet='ab",;\n\r \N{LATIN SMALL LETTER E WITH ACUTE}', max_size=6)


class Pieces:
    """A stream that gives its bytes in pieces of one size."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def read(self, size: int = 1) -> bytes:
        return self._stream.read(size)

    def ready(self) -> bool:
        return True


def rows_of(pieces: list[Block]) -> list[list[str]]:
    """The rows of the pieces, each row parsed by itself."""
    rows: list[list[str]] = []
    for piece in pieces:
        start = 0
        for end in piece.ends().tolist():
            rows += csv.reader(io.StringIO(piece.data[start:end].decode(), newline=""))
            start = end
    return [row for row in rows if row]


def parsed(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


@given(
    st.lists(st.lists(LETTERS, min_size=1, max_size=4), max_size=12), st.integers(1, 40), st.integers(1, 5), st.data()
)
def test_written_rows_come_out_as_they_went_in(
    rows: list[list[str]], piece: int, count: int, data: st.DataObject
) -> None:
    out = io.StringIO()
    ending = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    if data.draw(st.booleans()):
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator=ending).writerows(rows)
    else:
        csv.writer(out, lineterminator=ending).writerows(rows)
    pieces = list(cut(Pieces(out.getvalue().encode()), ord(","), rows=count, piece=piece))
    assert b"".join(each.data for each in pieces) == out.getvalue().encode()
    assert rows_of(pieces) == parsed(out.getvalue())


@given(st.text(alphabet='a",\n\r', max_size=40), st.integers(1, 12), st.integers(1, 4), st.integers(1, 30))
@example('"a\nb', 1, 1, 1)
@example('a"b\nc"d\n', 3, 1, 100)
@example('"x"y"\n"z\n"', 2, 2, 5)
@example("a\r\nb\r\n", 2, 1, 3)
def test_any_text_is_cut_where_the_csv_module_ends_rows(text: str, piece: int, count: int, size: int) -> None:
    pieces = list(cut(Pieces(text.encode()), ord(","), rows=count, size=size, piece=piece))
    assert b"".join(each.data for each in pieces).decode() == text
    assert rows_of(pieces) == parsed(text)


def strictly(text: str) -> str | None:
    """What the csv module says of the text where it is strict."""
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return str(error)
    return None


LONG = st.lists(
    st.sampled_from(
        ['"a,b"', '"x\ny"', '""', '"a""b"', '5" p', "", "word", ",", ",", "\n", "\r\n", "\r", "x" * 61, '"' * 66]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=300)
@given(LONG, st.integers(1, 300), st.integers(1, 9), st.integers(1, 400))
def test_a_block_knows_its_rows_and_its_quotes(text: str, piece: int, count: int, size: int) -> None:
    """Over many words of 64 bytes, and reads that end anywhere."""
    data = text.encode()
    blocks = list(cut(Pieces(data), ord(","), rows=count, size=size, piece=piece))
    assert b"".join(each.data for each in blocks) == data
    assert rows_of(blocks) == parsed(text)
    assert sum(each.rows for each in blocks) == len(parsed(text))
    end = 0
    for block in blocks:
        end += len(block.data)
        assert block.end == end
        ends = block.ends().tolist()
        assert len(ends) <= count
        assert len(block.data) <= size or len(ends) == 1
        assert len(block.starts()) == block.rows
        lines = [block.data[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]
        inner = [re.sub(rb"(\r\n|\n|\r)$", b"", line) if not block.open else line for line in lines]
        assert block.open or block.multiline == any(b"\n" in line or b"\r" in line for line in inner)
        said = strictly(block.data.decode())
        assert block.loose == bool(len(block.loose_quotes()))
        assert block.loose == (said is not None and "expected after" in said)
        assert block.open == (block is blocks[-1] and is_open(text))
    if len(blocks) > 1:
        whole = list(cut(Pieces(data[blocks[0].end :]), ord(","), rows=count, size=size, start=blocks[0].end))
        assert whole == blocks[1:]


def is_open(text: str) -> bool:
    """Whether the csv module goes on with the last field when a line is added."""
    return len(parsed(text + "\nx")) == len(parsed(text)) and bool(text)


def test_bits_are_counted_alike_by_any_numpy() -> None:
    words = np.random.default_rng(1).integers(0, 1 << 63, 1000, np.uint64)
    right = [int(word).bit_count() for word in words]
    assert lines._counted(words).tolist() == lines._ones(words).tolist() == right


@given(st.text(alphabet='a",\n\r', max_size=60), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_the_pieces_do_not_depend_on_how_the_bytes_arrive(text: str, count: int, one: int, other: int) -> None:
    first = [each.data for each in cut(Pieces(text.encode()), ord(","), rows=count, size=20, piece=one)]
    assert first == [each.data for each in cut(Pieces(text.encode()), ord(","), rows=count, size=20, piece=other)]


def test_a_field_that_is_never_closed_is_known_as_open() -> None:
    (piece,) = cut(Pieces(b'a,b\n1,"x\ny\n'), ord(","))
    assert piece.open
    assert len(piece.ends()) == 2


def test_the_header_is_left_out_and_blank_lines_are_no_rows() -> None:
    (piece,) = cut(Pieces(b"\n\na,b\n\n1,2\n\n3,4"), ord(","), header=True)
    assert piece.data == b"\n1,2\n\n3,4"
    assert piece.starts().tolist() == [1, 6]


def test_a_row_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bimodal.batch.sources.cutter.LONGEST_ROW", 1000)
    with pytest.raises(SourceError, match="never closed"):
        list(cut(Pieces(b'a,"' + b"x\n" * 5000), ord(","), rows=10, size=100, piece=100))
