"""Columns out of arrays: the quick looks and the look at each value have one verdict, whatever the number's size."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.field import EXACT, Field, plainly_good
from bimodal.realtime.protocols.columns import column
from bimodal.rows import Array
from bimodal.signature import Signature
from bimodal.table import Binding

FLOATS = ("float16", "float32", "float64")
EDGES = (0.0, -1.5, 65504.0, -65504.0, 65536.0, 1e6, float(EXACT), -float(EXACT), 1e30, 1e39, math.inf, math.nan)


def held(values: list[float], dtype: str) -> Array:
    """What an array of the type holds: infinity beyond its largest number."""
    with np.errstate(over="ignore"):
        return np.array(values).astype(dtype)


@settings(deadline=None)  # the first call of a library takes longer
@given(
    st.lists(st.sampled_from(EDGES) | st.floats(width=16), min_size=1, max_size=5),
    st.sampled_from(FLOATS),
    st.sampled_from([*FLOATS, "int32"]),
    st.booleans(),
    st.booleans(),
)
def test_an_array_has_the_verdict_of_its_values(
    values: list[float], sent: str, wanted: str, nullable: bool, finite: bool
) -> None:
    field = Field("x", wanted, nullable=nullable, finite=finite)
    array = held(values, sent)
    verdicts = [field.judge(value) for value in array.tolist()]
    told, problems = column(field, array)
    assert [each.row for each in problems] == [row for row, (_, wrong) in enumerate(verdicts, 1) if wrong is not None]
    if told is not None:
        right = np.array([math.nan if value is None else value for value, _ in verdicts])
        np.testing.assert_array_equal(told.astype(float), held(list(right), wanted) if wanted in FLOATS else right)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_quick_look_at_a_decoded_column_warns_of_nothing(dtype: str) -> None:
    field = Field("x", dtype)
    assert plainly_good(field, np.array([1.5, -6e4], dtype))
    for odd in (math.nan, math.inf, -math.inf):
        assert not plainly_good(field, np.array([1.5, odd], dtype))
    assert plainly_good(Field("x", dtype, nullable=True), np.array([1.5, math.nan], dtype))


@settings(deadline=None)  # the first call of a library takes longer
@given(
    st.lists(st.lists(st.sampled_from(EDGES) | st.floats(width=16), min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from([*FLOATS, "int64", "uint64"]),
    st.sampled_from([*FLOATS, "int64"]),
    st.sampled_from(FLOATS),
    st.booleans(),
)
def test_a_table_judged_as_one_array_is_judged_as_its_columns(
    values: list[list[float]], left: str, right: str, wanted: str, named: bool
) -> None:
    """In two chunks a table is looked at column by column."""
    if named:
        signature = Signature((Field("a", wanted), Field("b", wanted)), (Field("prediction", "int64"),))
    else:
        signature = Signature((Field("input", wanted, (2,)),), (Field("prediction", "int64"),), named=False)
    arrays = []
    for place, kind in enumerate((left, right)):
        drawn = [row[place] for row in values]
        if kind in FLOATS:
            arrays.append(pa.array(held(drawn, kind)))
        else:
            large = 2**63 if kind == "uint64" else -(2**63)
            whole = [int(each) if abs(each) <= EXACT else large for each in np.nan_to_num(drawn)]
            arrays.append(pa.array([abs(each) if kind == "uint64" else each for each in whole], kind))
    once = pa.table(arrays, ["a", "b"])
    twice = pa.concat_tables([once, once])
    binding = Binding.bind(signature, ["a", "b"])
    rows, good, problems = binding.rows(once)
    rows_twice, good_twice, problems_twice = binding.rows(twice)
    assert good_twice.tolist() == 2 * good.tolist()
    assert problems_twice[: len(problems)] == problems
    for name in rows:
        told = rows.array(name)
        assert told.dtype == wanted
        np.testing.assert_array_equal(rows_twice.array(name), np.concatenate([told, told]))


def test_a_table_in_another_order_is_taken_by_name() -> None:
    fields = (Field("a", "float64"), Field("b", "float32"), Field("c", "float64"))
    for inputs in (fields, (fields[0], fields[2])):
        binding = Binding.bind(Signature(inputs, (Field("prediction", "int64"),)), ["c", "x", "b", "a"])
        rows, _, problems = binding.rows(pa.table({"c": [3.5], "x": ["?"], "b": [2.5], "a": [1.5]}))
        assert not problems
        given = {"a": 1.5, "b": 2.5, "c": 3.5}
        assert {name: rows.array(name).tolist() for name in rows} == {each.name: [given[each.name]] for each in inputs}
