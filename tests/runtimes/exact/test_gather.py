"""Gather in C: the same columns, and the same refusal to judge, as Signature.gather."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.field import Field
from bimodal.rows import Dictionary
from bimodal.runtimes.exact.gather import gather, vectors
from bimodal.signature import Signature

CITIES = ("Lima", "Oslo")
SIGNATURE = Signature(
    (
        Field("x", "float64", nullable=True),
        Field("y", "float64"),
        Field("n", "int64"),
        Field("b", "bool"),
        Field("city", "string", nullable=True, categories=CITIES),
        Field("plan", "string", categories=("free", "pro"), closed=True),
        Field("note", "string", nullable=True),
    ),
    (Field("prediction", "float64"),),
)
ROW = {"x": 1.5, "y": -2.0, "n": 3, "b": True, "city": "Oslo", "plan": "pro", "note": "tea"}


def decoded(*rows: dict[str, Any]) -> list[msgspec.Struct]:
    return [msgspec.convert({**ROW, **row}, SIGNATURE.row_type) for row in rows]


def agree(rows: list[msgspec.Struct]) -> None:
    made = gather(SIGNATURE)
    assert made is not None
    ours, theirs = made(rows), SIGNATURE.gather(rows)
    if ours is None or theirs is None:
        assert ours is None
        assert theirs is None
        return
    assert list(ours) == list(theirs)
    for name in theirs:
        mine, other = ours.array(name), theirs.array(name)
        assert mine.dtype == other.dtype
        if other.dtype.kind == "f":
            assert np.array_equal(mine, other, equal_nan=True)
        else:
            assert mine.tolist() == other.tolist()


values = st.fixed_dictionaries(
    {},
    optional={
        "x": st.none() | st.floats() | st.integers(-(2**53), 2**53).map(float),
        "y": st.floats(),
        "n": st.integers(-(2**63), 2**63 - 1),
        "b": st.booleans(),
        "city": st.sampled_from([*CITIES, "Rome", "", None]),
        "plan": st.sampled_from(["free", "pro", "gold"]),
        "note": st.none() | st.text(max_size=3),
    },
)


@settings(max_examples=200, deadline=None)
@given(st.lists(values, min_size=1, max_size=5))
def test_columns_and_refusals_are_those_of_the_signature(rows: list[dict[str, Any]]) -> None:
    agree(decoded(*rows))


@pytest.mark.parametrize(
    "odd",
    [{"x": 2.0**53}, {"y": float("inf")}, {"y": float("nan")}, {"n": 2**63}, {"plan": "gold"}, {"x": -(2.0**53)}],
)
def test_what_needs_the_full_verdict_is_left_to_it(odd: dict[str, Any]) -> None:
    made = gather(SIGNATURE)
    assert made is not None
    rows = decoded({}, {}, {})
    rows[1] = SIGNATURE.row_type(*[odd.get(name, value) for name, value in ROW.items()])
    assert made(rows) is None


@pytest.mark.parametrize("odd", [{"y": None}, {"n": None}, {"b": None}, {"b": 1}, {"n": True}, {"city": 3}, {"y": "4"}])
def test_a_value_of_another_type_is_left_to_it(odd: dict[str, Any]) -> None:
    """msgspec lets none of them through; a Struct made by hand may hold them."""
    made = gather(SIGNATURE)
    assert made is not None
    assert made([SIGNATURE.row_type(*[odd.get(name, value) for name, value in ROW.items()])]) is None


def test_known_texts_come_with_the_same_values_array_every_time() -> None:
    made = gather(SIGNATURE)
    assert made is not None
    first, second = made(decoded({})), made(decoded({"city": None}, {"city": "Lima"}))
    assert first is not None
    assert second is not None
    one, other = first["city"], second["city"]
    assert isinstance(one, Dictionary)
    assert isinstance(other, Dictionary)
    assert one.values is other.values
    assert other.codes.tolist() == [-1, 0]


def test_inputs_of_other_kinds_are_left_to_the_signature() -> None:
    for field in (
        Field("v", "float64", (3,)),
        Field("t", "timestamp"),
        Field("a", "any"),
        Field("i", "int32"),
        Field("f", "float64", categories=(1.0, 2.0), closed=True),
    ):
        assert gather(Signature((field,), ())) is None


def test_rows_that_are_no_rows_are_an_error() -> None:
    made = gather(SIGNATURE)
    assert made is not None
    with pytest.raises(AttributeError):
        made([object()])  # type: ignore[list-item]  # no Struct


NUMBERS = st.one_of(
    st.floats(-1e6, 1e6), st.integers(-(10**6), 10**6), st.floats(), st.integers(), st.booleans(), st.none(), st.text()
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.lists(NUMBERS, min_size=2, max_size=3), max_size=3), max_size=4))
def test_vectors_are_those_of_numpy_where_all_are_plain_numbers(parts: list[list[list[Any]]]) -> None:
    array_of = vectors()
    assert array_of is not None
    found = array_of(parts, np.empty, 2, 1e6)
    rows = [row for part in parts for row in part]
    plain = rows and all(
        len(row) == 2 and all(type(value) in (float, int) and abs(value) < 1e6 for value in row) for row in rows
    )
    assert (found is not None) == bool(plain)
    if found is not None:
        wanted = np.array(rows, np.float64)
        assert found.dtype == np.float64
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    "parts", [[], [[]], [[(1.0, 2.0)]], [((1.0, 2.0),)], [[[1.0, 2.0], [1.0]]], [[[1.0, float("nan")]]]]
)
def test_what_is_no_list_of_rows_is_left_to_others(parts: list[Any]) -> None:
    array_of = vectors()
    assert array_of is not None
    assert array_of(parts, np.empty, 2, 1e6) is None
