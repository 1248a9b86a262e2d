"""Values come back from every text format as they were, and a name decides the format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.batch.sinks.csv import CsvEncoder
from bimodal.batch.sinks.jsonl import lines
from bimodal.batch.sinks.outputs import Output, output_of
from bimodal.errors import UsageError

TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=1, max_size=6)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), st.sampled_from([",", "\t"]))
def test_text_comes_back_from_csv_as_it_was(parts: list[tuple[list[str], list[str]]], separator: str) -> None:
    rows = [list(row) for one, other in parts for row in zip(one, other, strict=False)]
    encoder = CsvEncoder(separator)
    out = io.BytesIO(encoder.begin(pa.schema([("a b", pa.string()), ("c", pa.string())]), {}))
    out.seek(0, io.SEEK_END)
    for one, other in parts:
        pairs = list(zip(one, other, strict=False))
        out.write(encoder.encode(pa.table({"a b": [one for one, _ in pairs], "c": [two for _, two in pairs]})).data)
    found = list(csv.reader(io.StringIO(out.getvalue().decode(), newline=""), delimiter=separator))
    assert found == [["a b", "c"], *rows]


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=5))
def test_a_lone_column_loses_no_row_in_csv(values: list[str | None]) -> None:
    encoder = CsvEncoder()
    head = encoder.begin(pa.schema([("a", pa.string())]), {})
    out = head + encoder.encode(pa.table({"a": pa.array(values, pa.string())})).data
    found = list(csv.reader(io.StringIO(out.decode(), newline="")))
    assert found == [["a"], *([value or ""] for value in values)]


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=1, max_size=5),
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), min_size=5, max_size=5),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=5, max_size=5),
)
def test_values_come_back_from_json_as_they_were(
    texts: list[str | None], floats: list[float | None], integers: list[int | None]
) -> None:
    count = len(texts)
    table = pa.table(
        {
            'te"xt': pa.array(texts, pa.string()),
            "float": pa.array(floats[:count], pa.float64()),
            "integer": pa.array(integers[:count], pa.int64()),
        }
    )
    found = [json.loads(line) for line in lines(table).decode().removesuffix("\n").split("\n")]
    assert found == table.to_pylist()
    assert [type(row["float"]) for row in found] == [type(value) for value in floats[:count]]


def test_other_kinds_of_values_have_a_form_in_text() -> None:
    table = pa.table(
        {
            "nested": [{"a": [1, None]}, None],
            "bytes": [b"\x00\xff", None],
            "time": pa.array([0, None], pa.timestamp("s")),
            "yes": [True, None],
            "float": [float("nan"), float("inf")],
            "nothing": pa.nulls(2),
            "category": pa.array(["x", None]).dictionary_encode(),
        }
    )
    first, second = (json.loads(line) for line in lines(table).splitlines())
    assert first == {
        "nested": {"a": [1, None]},
        "bytes": "AP8=",
        "time": "1970-01-01 00:00:00",
        "yes": True,
        "float": None,
        "nothing": None,
        "category": "x",
    }
    assert set(second.values()) == {None}
    encoder = CsvEncoder()
    out = encoder.begin(table.schema, {}) + encoder.encode(table).data
    back = arrow_csv.read_csv(pa.BufferReader(out))
    assert back.column("nested").to_pylist() == ['{"a":[1,null]}', ""]
    assert back.column("category").to_pylist() == ["x", ""]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.csv", Output(Path("a.csv"), "csv")),
        ("a.CSV.GZ", Output(Path("a.CSV.GZ"), "csv", "gzip")),
        ("b.ndjson.zst", Output(Path("b.ndjson.zst"), "jsonl", "zstd")),
        ("-", Output(None, "csv")),
    ],
)
def test_the_name_decides_the_format(name: str, output: Output) -> None:
    assert output_of(name) == output


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.parquet.gz", "a.gz"])
def test_a_name_that_tells_no_format_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        output_of(name)
