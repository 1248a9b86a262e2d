"""Arrow tables as Rows: binding columns to features, cells of text files, flat results."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bimodal.errors import InputError, UsageError
from bimodal.field import Field
from bimodal.rows import Rows
from bimodal.signature import Signature
from bimodal.table import Binding, flat, flat_schema, from_stream, suggested, to_stream

NAMED = Signature(
    (Field("hour", "float64", nullable=True), Field("carrier", "string")),
    (Field("prediction", "string"), Field("probability", "float64", (2,)), Field("vector", "float64", (2,))),
    classes=("no", "yes"),
)
BY_POSITION = Signature((Field("input", "float64", (2,)),), (Field("prediction", "int64"),), named=False)


def test_columns_that_are_no_features_are_kept_in_their_order() -> None:
    binding = Binding.bind(NAMED, ["id", "carrier", "city", "hour"])
    assert binding.features == ("hour", "carrier")
    assert binding.kept == ("id", "city")


def test_a_missing_column_names_the_near_one() -> None:
    with pytest.raises(InputError, match=r"column 'carrier': the column is missing; 'Carrier ' is near"):
        Binding.bind(NAMED, ["hour", "Carrier "])


def test_rename_and_target() -> None:
    binding = Binding.bind(NAMED, ["h", "carrier", "hour"], rename={"h": "hour"}, target="hour")
    assert binding.features == ("h", "carrier")
    assert binding.kept == ("hour",)


def test_an_unknown_name_in_an_option_is_told() -> None:
    with pytest.raises(UsageError, match="no column 'hours'; did you mean 'hour'"):
        Binding.bind(NAMED, ["hour", "carrier"], target="hours")


def test_columns_by_position_are_told_and_counted() -> None:
    binding = Binding.bind(BY_POSITION, ["a", "b"])
    assert binding.mapping == "columns are taken by position: a, b"
    with pytest.raises(InputError, match=r"2 features are needed, 3 were given .* of training$"):
        Binding.bind(BY_POSITION, ["id", "a", "b"])
    assert suggested(["id", "a", "b"], 2) == "a,b"
    assert Binding.bind(BY_POSITION, ["id", "a", "b"], features=["b", "a"]).features == ("b", "a")


def test_a_column_that_stands_twice_is_refused() -> None:
    with pytest.raises(InputError, match="two columns are called 'hour'"):
        Binding.bind(NAMED, ["hour", "carrier", "hour"])


def test_by_position_the_columns_become_one_matrix() -> None:
    rows, good, problems = Binding.bind(BY_POSITION, ["a", "b"]).rows(pa.table({"a": [1, 2], "b": [3.5, None]}), 11)
    assert rows.array("input").tolist() == [[1.0, 3.5]]
    assert good.tolist() == [True, False]
    assert [(p.row, p.column, p.code) for p in problems] == [(12, "b", "null")]


def test_a_list_column_is_a_vector() -> None:
    table = pa.table({"v": [[1.0, 2.0], [3.0, 4.0], [5.0]]})
    rows, _, problems = Binding.bind(BY_POSITION, ["v"]).rows(table)
    assert rows.array("input").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert [(p.row, p.code) for p in problems] == [(3, "wrong_width")]


def test_cells_of_a_text_file_are_read_before_they_are_judged() -> None:
    cells = pa.table({"hour": ["1", " 2.5 ", "true", "x", None, "9007199254740993", "1e400"], "carrier": ["a"] * 7})
    rows, _, problems = Binding.bind(NAMED, ["hour", "carrier"]).rows(cells, text=True)
    np.testing.assert_array_equal(rows.array("hour"), [1.0, 2.5, 1.0, np.nan])
    assert [(p.row, p.code) for p in problems] == [(4, "wrong_type"), (6, "inexact_integer"), (7, "not_finite")]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()])
def test_text_in_any_of_arrows_kinds_is_text(kind: pa.DataType) -> None:
    table = pa.table({"hour": [1, None], "carrier": pa.array(["x", "y"]).cast(kind)})
    rows, _, problems = Binding.bind(NAMED, table.column_names).rows(table)
    assert problems == []
    assert rows.array("carrier").tolist() == ["x", "y"]


@pytest.mark.parametrize("zone", [None, "UTC", "+01:00", "Europe/Oslo"])
@pytest.mark.parametrize(("unit", "parts"), [("s", 1), ("ms", 10**3), ("us", 10**6)])
def test_times_beyond_the_year_9999_in_utc_are_out_of_range(unit: str, parts: int, zone: str | None) -> None:
    end = 253_402_300_800 * parts  # where the year 10000 begins
    moments = pa.array([end - 1, end, None, 2**62], pa.int64()).cast(pa.timestamp(unit, zone))
    signature = Signature((Field("t", "timestamp", nullable=True),), ())
    rows, good, problems = Binding.bind(signature, ["t"]).rows(pa.table({"t": moments}))
    assert good.tolist() == [True, False, True, False]
    assert [(each.code, each.row) for each in problems] == [("out_of_range", 2), ("out_of_range", 4)]
    assert str(rows.array("t")[0]).startswith("9999-12-31T23:59:59")


@pytest.mark.parametrize("kind", ["int64", "bool", "timestamp", "string"])
def test_times_that_python_cannot_hold_are_judged_in_every_column(kind: str) -> None:
    beyond = pa.array([2**62], pa.int64()).cast(pa.timestamp("s"))
    lists = pa.array([[0, None]], pa.list_(pa.timestamp("s")))
    lists = pa.ListArray.from_arrays(lists.offsets, pa.concat_arrays([lists.flatten()[:1], beyond]))
    for column, field in (
        (beyond, Field("x", kind)),
        (lists, Field("x", kind, (2,) if kind != "string" else (), nested=kind == "string")),
    ):
        problems = Binding.bind(Signature((field,), ()), ["x"]).rows(pa.table({"x": column}))[2]
        assert [each.code for each in problems] == ["out_of_range" if kind == "timestamp" else "wrong_type"]


def test_results_are_flat_columns_named_by_class() -> None:
    answer = Rows(
        {"prediction": np.array(["no"], object), "probability": np.array([[0.75, 0.25]]), "vector": np.ones((1, 2))}
    )
    table = flat(answer, NAMED)
    assert table.column_names == ["prediction", "probability_no", "probability_yes", "vector_0", "vector_1"]
    assert table.schema == flat_schema(["prediction", "probability", "vector"], NAMED)


def test_a_table_survives_the_stream() -> None:
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    assert from_stream(to_stream(table)).equals(table)
