"""CSV: a value is quoted only where it must be, whatever else its chunk holds."""

from __future__ import annotations

import csv
import io
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.batch.sinks.csv import CsvEncoder
from bimodal.batch.sinks.jsonl import JsonlEncoder
from tests.batch.sinks.written import written

TEXTS = st.text(st.sampled_from("a\"',;\t \r\n#é1"), max_size=4)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6), st.sampled_from([",", "\t"]))
def test_texts_have_the_bytes_of_pythons_own_writer(rows: list[tuple[str, str]], separator: str) -> None:
    own = [_line(row, separator) for row in [("a", "b"), *rows]]
    table = pa.table(
        {"a": [row[0] for row in rows], "b": [row[1] for row in rows]}, pa.schema({"a": "str", "b": "str"})
    )
    assert written(CsvEncoder(separator), [table], {}) == "".join(own).encode()


def _line(row: tuple[str, str], separator: str) -> str:
    """It quotes what stands in its own line end, so that is to be both characters."""
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\r\n").writerow(row)
    return out.getvalue().removesuffix("\r\n") + "\n"


@given(st.lists(st.none() | TEXTS, min_size=1, max_size=6), st.integers(0, 6))
def test_a_value_is_written_alike_in_whatever_chunk_it_stands(values: list[str | None], cut: int) -> None:
    table = pa.table({"a": pa.array(values, pa.string()), "n": [1.5] * len(values)})
    assert written(CsvEncoder(), [table.slice(0, cut), table.slice(cut)], {}) == written(CsvEncoder(), [table], {})


@pytest.mark.parametrize("encoder", [CsvEncoder(codec="gzip"), JsonlEncoder("gzip")])
def test_each_chunk_is_a_gzip_member_without_a_time(encoder: CsvEncoder | JsonlEncoder) -> None:
    table = pa.table({"a": ["x", "y"]})
    data, members = written(encoder, [table, table], {}), []
    while data:
        assert data[4:8] == bytes(4), "the time of a gzip member"
        member = zlib.decompressobj(31)
        members.append(member.decompress(data))
        data = member.unused_data
    assert members[-2:] == ([b"x\ny\n"] * 2 if encoder.kind == "csv.gzip" else [b'{"a":"x"}\n{"a":"y"}\n'] * 2)
