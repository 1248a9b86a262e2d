"""Signature: one verdict and one message for the same bad row, whether it comes as Python values or as Arrow
columns.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bimodal.errors import InputError, UsageError
from bimodal.field import EXACT, Field
from bimodal.signature import Signature, require
from bimodal.table import Binding

FLIGHT = Signature(
    (
        Field("hour", "float64"),
        Field("delay", "float64", nullable=True),
        Field("carrier", "string", categories=("AA", "UA"), closed=True),
        Field("note", "string", nullable=True),
    ),
    (Field("prediction", "int64"),),
)
GOOD = {"hour": 5, "delay": 1.5, "carrier": "AA", "note": "x"}
IRIS = Signature((Field("input", "float64", (4,)),), (Field("prediction", "int64"),), named=False)


def verdict(signature: Signature, record: object) -> tuple[str, str | None, str] | None:
    _, _, problems = signature.check([GOOD, record] if signature is FLIGHT else [record])
    return (problems[0].code, problems[0].column, problems[0].message) if problems else None


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"hour": "late"}, "wrong_type", "text where a number is needed"),
        ({"hour": "5"}, "wrong_type", "text where a number is needed"),
        ({"hour": None}, "null", "null where a number is needed; the model takes no missing value here"),
        ({"hour": math.nan}, "null", "NaN where a number is needed; the model takes no missing value here"),
        ({"hour": math.inf}, "not_finite", "infinity where a number is needed; the model takes finite numbers only"),
        (
            {"hour": EXACT + 1},
            "inexact_integer",
            "an integer beyond 2**53, where float64 does not hold every one; as a float, with .0, it is rounded",
        ),
        ({"hour": [5]}, "wrong_type", "a list where a number is needed"),
        ({"hour": {"a": 5}}, "wrong_type", "an object where a number is needed"),
        ({"carrier": 7}, "wrong_type", "a number where text is needed"),
        ({"carrier": "ZZ"}, "unknown_category", "a value the model does not know; it knows 'AA', 'UA'"),
        ({"carrier": None}, "null", "null where text is needed; the model takes no missing value here"),
    ],
)
def test_a_bad_value_is_told_by_row_and_column(change: dict[str, Any], code: str, message: str) -> None:
    rows, good, problems = FLIGHT.check([GOOD, {**GOOD, **change}, GOOD])
    column = next(iter(change))
    assert [(p.code, p.row, p.column, p.message) for p in problems] == [(code, 2, column, message)]
    assert good.tolist() == [True, False, True]
    assert rows.count == 2


@pytest.mark.parametrize(
    "change", [{"hour": 5.5}, {"hour": True}, {"delay": None}, {"note": None}, {"hour": EXACT}, {"id": "x"}]
)
def test_a_good_value_is_taken(change: dict[str, Any]) -> None:
    assert verdict(FLIGHT, {**GOOD, **change}) is None


def test_a_message_never_repeats_the_value() -> None:
    _, _, problems = FLIGHT.check([{**GOOD, "hour": "secret-4711"}, {**GOOD, "carrier": "secret-4711"}])
    assert len(problems) == 2
    assert not any("4711" in str(problem) for problem in problems)


def test_a_missing_column_names_the_near_one() -> None:
    _, _, problems = FLIGHT.check([{"Hour": 5, "delay": 1, "carrier": "AA", "note": "x"}])
    assert str(problems[0]) == "column 'hour': the column is missing; 'Hour' is near: rename it (Hour=hour)"


def test_a_key_that_a_record_lacks_is_missing_whatever_its_neighbours_have() -> None:
    """A null is written: what is absent may be a slip in its name, and would be imputed without a word."""
    slip = {"hour": 1, "delya": 3.0, "carrier": "UA", "note": "x"}
    alone, among = FLIGHT.check([slip])[2], FLIGHT.check([GOOD, slip, GOOD])[2]
    assert [(p.code, p.row, p.column) for p in among] == [("missing_column", 2, "delay")]
    assert alone[0].message == among[0].message == "the column is missing; 'delya' is near: rename it (delya=delay)"


def test_rows_by_position() -> None:
    rows, _, problems = FLIGHT.check([[5, None, "AA", "x"]])
    assert problems == []
    assert rows.array("hour").tolist() == [5.0]
    assert FLIGHT.check([[5, 1]])[2][0].message == "4 features are needed, 2 were given"


def test_no_rows_are_told() -> None:
    assert FLIGHT.check([])[2][0].code == "empty"


def test_a_vector_of_the_wrong_width() -> None:
    assert verdict(IRIS, [1, 2, 3]) == ("wrong_width", None, "4 features are needed, 3 were given")
    assert verdict(IRIS, [1, 2, 3, None]) == (
        "null",
        "input[4]",
        "null where a number is needed; the model takes no missing value here",
    )


def test_objects_for_a_model_without_names_are_taken_by_position_as_columns_are() -> None:
    names = {"a": 1, "b": 2, "c": 3, "d": 4}
    by_record, by_column = (
        IRIS.check([names])[0],
        IRIS.check_columns({name: [value] for name, value in names.items()})[0],
    )
    assert by_record.array("input").tolist() == by_column.array("input").tolist() == [[1, 2, 3, 4]]
    assert verdict(IRIS, {"a": 1, "b": 2}) == ("wrong_width", None, "4 features are needed, 2 were given")
    assert [p.code for p in IRIS.check([names, {"d": 4, "c": 3, "b": 2, "z": 1}])[2]] == ["missing_column"]


@pytest.mark.parametrize("field", [Field("x", "float32"), Field("x", "float64", most=3.4028234663852886e38)])
def test_a_number_that_the_model_cannot_hold_is_refused_and_the_largest_one_is_not(field: Field) -> None:
    signature, values = Signature((field,), ()), [3.40282346e38, 1e39, -1e39]
    _, good, problems = signature.check([{"x": value} for value in values])
    arrow = Binding.bind(signature, ["x"]).rows(pa.table({"x": values}))
    assert good.tolist() == arrow[1].tolist() == [True, False, False]
    assert problems == arrow[2]
    assert {(p.code, p.message) for p in problems} == {
        ("out_of_range", "a number beyond 3.4028234663852886e+38, the largest that the model takes")
    }


def test_an_open_model_takes_one_width_at_a_time() -> None:
    open_model = Signature((Field("input", "float64", (-1,)),), (), named=False, open=True)
    rows, good, problems = open_model.check([[1, 2], [3, 4], [5]])
    assert rows.array("input").tolist() == [[1, 2], [3, 4]]
    assert good.tolist() == [True, True, False]
    assert problems[0].code == "wrong_width"


def test_columns_are_judged_like_records() -> None:
    rows, _, problems = FLIGHT.check_columns(
        {"hour": [1, "x"], "delay": [1, 2], "carrier": ["AA", "AA"], "note": ["", None]}
    )
    assert [(p.code, p.row, p.column) for p in problems] == [("wrong_type", 2, "hour")]
    assert rows.count == 1
    assert FLIGHT.check_columns({"hour": [1], "delay": [1, 2]})[2][0].code == "ragged"


def test_features_name_the_columns_of_an_array_model() -> None:
    named = IRIS.with_features(["a", "b", "c", "d"])
    assert [field.name for field in named.inputs] == ["a", "b", "c", "d"]
    assert named.named
    with pytest.raises(UsageError, match="4 features"):
        IRIS.with_features(["a"])


def test_a_signature_survives_the_wire() -> None:
    signature = replace(FLIGHT, classes=(("a", "b"), (0, 1)))
    assert Signature.retold(msgspec.msgpack.decode(msgspec.msgpack.encode(signature.told()))) == signature


def test_gathering_decoded_rows_gives_what_check_gives() -> None:
    records = [GOOD, {**GOOD, "hour": 7, "delay": None}]
    decoded = msgspec.json.decode(msgspec.json.encode(records), type=list[FLIGHT.row_type])  # type: ignore[name-defined]
    gathered, checked = FLIGHT.gather(decoded), FLIGHT.check(records)[0]
    assert gathered is not None
    for name in checked:
        np.testing.assert_array_equal(gathered.array(name), checked.array(name))


@pytest.mark.parametrize("change", [{"hour": EXACT + 1}, {"carrier": "ZZ"}])
def test_gathering_leaves_doubtful_values_to_check(change: dict[str, Any]) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode([{**GOOD, **change}]), type=list[FLIGHT.row_type])  # type: ignore[name-defined]
    assert FLIGHT.gather(decoded) is None


def test_a_time_with_a_zone_is_taken_as_utc() -> None:
    signature = Signature((Field("t", "timestamp"),), ())
    zoned = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    rows, _, problems = signature.check([{"t": "2026-01-01T02:00:00+02:00"}, {"t": zoned}, {"t": "2026-01-01"}])
    assert problems == []
    assert set(rows.array("t").tolist()) == {zoned.astimezone(datetime.UTC).replace(tzinfo=None)}
    assert (
        signature.check([{"t": "yesterday"}])[2][0].message
        == "text that is no ISO 8601 time where a timestamp is needed"
    )


BEYOND = ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"]  # in UTC, of the years 10000 and 0


@pytest.mark.parametrize("text", BEYOND)
def test_a_time_whose_offset_takes_it_out_of_the_calendar_is_out_of_range(text: str) -> None:
    signature = Signature((Field("t", "timestamp"),), ())
    for value in (text, datetime.datetime.fromisoformat(text), pd.Timestamp(text)):
        _, good, problems = signature.check([{"t": "2026-01-01"}, {"t": value}])
        assert good.tolist() == [True, False]
        assert [(each.code, each.row, each.column) for each in problems] == [("out_of_range", 2, "t")]


@pytest.mark.parametrize("unit", ["Y", "M", "D", "s", "ms", "us"])
def test_a_time_of_numpy_beyond_the_year_9999_is_out_of_range_and_wraps_around_in_no_unit(unit: str) -> None:
    field = Field("t", "timestamp")
    good, *beyond = [
        *np.array(["9999-12-31", "10000-01-01", "0000-12-01"], f"datetime64[{unit}]"),
        *np.array([2**62]).astype(f"datetime64[{unit}]"),
    ]
    assert field.judge(good) == (good.astype("datetime64[us]"), None)
    for each in beyond:
        problem = field.judge(each)[1]
        assert problem is not None
        assert problem.code == "out_of_range"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("1677-09-21T00:12:43", False),
        ("1677-09-21T00:12:44", True),
        ("2262-04-11T23:47:16.854775", True),
        ("2262-04-11T23:47:16.854776", False),
    ],
)
def test_a_time_that_the_trainings_frame_cannot_hold_is_out_of_range(text: str, *, fits: bool) -> None:
    field = Field("t", "timestamp", frame="datetime64[ns, UTC]")
    signature = Signature((field,), ())
    table = pa.table({"t": pa.array([datetime.datetime.fromisoformat(text)], pa.timestamp("us", "UTC"))})
    problems = [field.judge(text)[1], *Binding.bind(signature, ["t"]).rows(table)[2]]
    told = "a time out of range; those from 1677-09-21 to 2262-04-11 are taken"
    assert [each.message for each in problems if each is not None] == ([] if fits else [told, told])


def test_json_in_a_column_with_values_that_json_has_not_is_of_the_wrong_type() -> None:
    problem = Field("j", "string", nested=True).judge({"a": np.datetime64("2026")})[1]
    assert problem is not None
    assert (problem.code, problem.message) == (
        "wrong_type",
        "an object of values that are no JSON where JSON is needed",
    )


TYPES = st.sampled_from(["float64", "float32", "int64", "int8", "bool", "string", "any"])
NUMBERS = st.one_of(
    st.floats(width=32), st.integers(-(2**63), 2**63 - 1), st.sampled_from([EXACT, EXACT + 1, 127, 128, 0, 1])
)


@example(kind="any", nullable=False, values=[None, EXACT + 1])
@given(
    kind=TYPES,
    nullable=st.booleans(),
    values=st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5),
        st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=1, max_size=5),
        st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "5"])), min_size=1, max_size=5),
        st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=5),
    ),
)
def test_arrow_and_python_values_get_the_same_verdict(kind: str, nullable: bool, values: list[Any]) -> None:
    """Two implementations of the rules, one by value and one by column, judge alike."""
    signature = Signature((Field("x", kind, nullable=nullable, categories=("a", "b"), closed=kind == "string"),), ())
    rows, good, problems = signature.check([{"x": value} for value in values])
    table = pa.table({"x": pa.array(values)})
    arrow_rows, arrow_good, arrow_problems = Binding.bind(signature, ["x"]).rows(table)
    assert arrow_problems == problems
    assert arrow_good.tolist() == good.tolist()
    assert str(arrow_rows.array("x").tolist()) == str(rows.array("x").tolist()) or kind == "any"


def test_require_raises_the_first_problem() -> None:
    with pytest.raises(InputError) as caught:
        require(FLIGHT.check([{**GOOD, "hour": "x"}, {**GOOD, "hour": None}])[2])
    assert str(caught.value) == "row 1, column 'hour': text where a number is needed (and 1 more)"
    assert (caught.value.row, caught.value.column, caught.value.code) == (1, "hour", "wrong_type")
