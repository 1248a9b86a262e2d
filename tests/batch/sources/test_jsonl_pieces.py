"""JSON Lines in pieces: the same rows wherever one goes on; what is carried is neither lost nor a reason to refuse."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bimodal
from bimodal.batch.sources import jsonl as module
from bimodal.batch.sources.contract import Reading
from bimodal.batch.sources.cutter import cut
from bimodal.batch.sources.files import LocalFile
from bimodal.batch.sources.jsonl import JsonlSource
from bimodal.errors import SourceChanged, SourceError
from tests.batch.sources.test_csv_pieces import resumed

READING = Reading({"x": pa.float64()}, ("id", "more"))
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=4), st.just("5"),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=3,
)  # fmt: skip


def values_of(source: JsonlSource, reading: Reading = READING) -> tuple[list[dict[str, Any]], list[int]]:
    """What is carried, as JSON where it is, and which rows are refused."""
    found: list[dict[str, Any]] = []
    refused: list[int] = []
    for piece in source.pieces(reading):
        chunk = piece.load()
        assert chunk.kept.schema.equals(source.kept_schema(reading.kept), check_metadata=True)
        refused += [bad.row for bad in chunk.rejects]
        for row in chunk.kept.to_pylist():
            found.append({name: _value(value, chunk.kept.schema.field(name)) for name, value in row.items()})
    return found, refused


def _value(value: Any, field: pa.Field) -> Any:
    return json.loads(value) if value is not None and field.metadata else value


def alike(one: Any, other: Any) -> bool:
    """Equal, and of one kind; but 5 and 5.0 are one number."""
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))
    return bool(one == other) and (numbers or type(one) is type(other))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.lists(VALUES, min_size=1, max_size=4),
    late=st.lists(VALUES, max_size=8),
    count=st.integers(1, 4),
    piece=st.integers(1, 90),
)
def test_what_is_carried_as_text_is_never_lost_and_never_refused(
    first: list[Any], late: list[Any], count: int, piece: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [{"x": 0.5, "id": number, "more": value} for number, value in enumerate([*first, *late])]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    (tmp_path / "in.jsonl").write_bytes(b"".join(lines))
    monkeypatch.setattr(module, "HEAD", sum(map(len, lines[: len(first)])) + 1)
    monkeypatch.setattr(module, "cut", partial(cut, rows=count, piece=piece))
    source = JsonlSource(LocalFile(tmp_path / "in.jsonl"))
    typed = source.kept_schema(("more",)).field("more")
    source.carry_as_text()
    found, refused = values_of(source)
    assert refused == []
    text = pa.types.is_string(typed.type) and not typed.metadata
    for one, row in zip(found, rows, strict=True):
        value = row["more"]
        if text and value is not None and not isinstance(value, str):  # in a column of text, JSON is text
            value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert alike(one["more"], value)
        assert one["id"] == row["id"]
    resumed(source, Reading({}, ("id", "more")))


def test_a_typed_output_refuses_only_what_has_no_place_in_it(tmp_path: Path) -> None:
    late = ["5.0", "5.5", '"many"', "true", "null", "9223372036854775808", "1e999"]
    path = tmp_path / "in.jsonl"
    path.write_text('{"x":1,"id":1,"more":1}\n' * 9 + "".join(f'{{"x":1,"id":2,"more":{value}}}\n' for value in late))
    source = JsonlSource(LocalFile(path))
    source._read["more"] = source._types["more"] = pa.field("more", pa.int64())
    found, refused = values_of(source)
    assert [row["more"] for row in found] == [1] * 9 + [5, None]
    assert refused == [11, 12, 13, 15, 16]


def test_types_are_those_of_the_whole_file_where_its_places_tell(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with open(path, "w") as file:
        file.writelines(f'{{"x":1,"id":{number},"more":1,"price":2}}\n' for number in range(60_000))
        file.writelines(f'{{"x":1,"id":{number},"more":"{number}","price":2.5,"new":1}}\n' for number in range(3_000))
    source = JsonlSource(LocalFile(path))
    schema = source.kept_schema(("id", "more", "price", "new"))
    assert schema.types == [pa.int64(), pa.string(), pa.float64(), pa.int64()]
    found, refused = values_of(source, Reading({"x": pa.float64()}, tuple(schema.names)))
    assert refused == []
    assert [found[0]["more"], found[-1]["more"]] == [1, "2999"]


def test_a_number_that_a_float_would_change_is_not_carried_as_one(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"x":1,"id":1,"more":1.5}\n{"x":1,"id":1,"more":9007199254740993}\n')
    assert [row["more"] for row in values_of(JsonlSource(LocalFile(path)))[0]] == [1.5, 9007199254740993]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_going_on_behind_any_chunk_gives_the_same(ending: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "cut", partial(cut, rows=3, piece=17))
    lines = [f'{{"x":{number}.5,"id":{number},"more":"a"}}' for number in range(20)]
    lines[4], lines[5], lines[9] = "", '{"x":1', '{"x":null,"id":1}'
    data = "\r\n".join(lines).encode()
    path = tmp_path / f"in{ending}"
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    path.write_bytes(pa.Codec(codec).compress(data, asbytes=True) if codec else data)
    chunks = resumed(JsonlSource(LocalFile(path)), READING)
    assert [row[1] for chunk in chunks for row in chunk[2]] == [0, 1, 2, 3, 6, 7, 8, 1, *range(10, 20)]
    assert [(bad.row, bad.code, bad.raw) for chunk in chunks for bad in chunk[5]] == [(5, "malformed", '{"x":1')]


def test_a_file_that_has_no_line_end_there_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"x":1,"id":1,"more":1}\n' * 3)
    with pytest.raises(SourceChanged, match=r"in\.jsonl is no longer what it was"):
        list(JsonlSource(LocalFile(path)).pieces(READING, {"chunk": 0, "row": 2, "offset": 20}))


def test_a_late_value_of_another_kind_comes_through_a_run(
    model: bimodal.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEAD", 200)
    monkeypatch.setattr(module, "SPOTS", 0)
    good = '{"age":30,"spent":50.5,"plan":"pro","visits":1}\n'
    late = ['"many"', "1.5", "true", "[1]", "123456789012345678901"]
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(good * 5 + "".join(good.replace("1}", f"{value}}}") for value in late))
    report = bimodal.predict_file(model, [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out.jsonl")
    assert report.rejected == 0
    visits = [json.loads(line)["visits"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert visits == [*[1] * 5, *map(json.loads, late)] * 2


def test_files_that_carry_text_and_json_under_one_name_are_told_apart(model: bimodal.Model, tmp_path: Path) -> None:
    good = '{"age":30,"spent":50.5,"plan":"pro","visits":1}\n'
    (tmp_path / "a.jsonl").write_text(good)
    (tmp_path / "b.jsonl").write_text(good.replace(":1}", ':"x"}'))
    with pytest.raises(SourceError, match=r"b\.jsonl: column 'visits' is string, in a\.jsonl it is JSON"):
        bimodal.predict_file(model, tmp_path / "*.jsonl", tmp_path / "out.jsonl")
