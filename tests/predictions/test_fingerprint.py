"""The fingerprint of a row: one for batch and live, whatever the numbers were in JSON."""

from __future__ import annotations

import hashlib
import math
import struct
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.field import Field
from bimodal.predictions.fingerprint import FEW, fingerprint
from bimodal.rows import Dictionary, Rows
from bimodal.signature import Signature
from bimodal.table import Binding

INPUTS = (
    Field("number", "float64", nullable=True, finite=False),
    Field("small", "float32", nullable=True),
    Field("count", "int64"),
    Field("maybe", "int64", nullable=True),
    Field("word", "string", nullable=True),
    Field("flag", "bool", nullable=True),
    Field("when", "timestamp", nullable=True),
    Field("thing", "any", nullable=True),
)
SIGNATURE = Signature(INPUTS, (Field("prediction", "int64"),))
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SMALL = st.floats(width=32, allow_infinity=False)
TIMES = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - naive, as a column has them
ROW = st.fixed_dictionaries(
    {
        "number": st.none() | st.floats() | st.integers(-(2**53), 2**53),
        "small": st.none() | SMALL,
        "count": INTEGERS,
        "maybe": st.none() | INTEGERS,
        "word": st.none() | TEXT,
        "flag": st.none() | st.booleans(),
        "when": st.none() | TIMES,
        "thing": st.none() | TEXT,
    }
)


def slow(values: list[Any]) -> int:
    """The definition once more, a value after the other, without any table, cache or array."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            word = 0x7FF8 << 48
        elif isinstance(value, datetime):
            since = value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            micro = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
            word = (micro % 2**64) ^ 0x14057B7EF767814F
        elif isinstance(value, str):
            word = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
        elif isinstance(value, int) and abs(value) > 2**53:
            word = (value % 2**64) ^ 0x5851F42D4C957F2D
        else:
            number = float(value)
            word = int.from_bytes(struct.pack(">d", 0.0 if number == 0 else number), "big")
        state = (state ^ word) * 0xD6E8FEB86659FD93 % 2**64
        state ^= state >> 32
    state = state * 0xBF58476D1CE4E5B9 % 2**64
    state ^= state >> 29
    state = state or 1
    return state - 2**64 if state >= 2**63 else state


def slowly(row: dict[str, Any]) -> int:
    values = dict(row)
    if values["small"] is not None:
        values["small"] = float(np.float32(values["small"]))
    return slow([values[name] for name in TYPES])


def live(rows: list[Any], signature: Signature = SIGNATURE) -> list[int]:
    """As a request's rows are judged."""
    judged, good, problems = signature.check(rows)
    assert good.all(), problems
    marks: list[int] = fingerprint(judged, signature).tolist()
    return marks


TYPES = {
    "number": pa.float64(),
    "small": pa.float64(),
    "count": pa.int64(),
    "maybe": pa.int64(),
    "word": pa.string(),
    "flag": pa.bool_(),
    "when": pa.timestamp("us"),
    "thing": pa.string(),
}


def batch(rows: list[dict[str, Any]]) -> list[int]:
    """As a file's rows are judged."""
    columns = {
        name: pa.array([_number(row[name]) if name in ("number", "small") else row[name] for row in rows], kind)
        for name, kind in TYPES.items()
    }
    judged, good, problems = Binding.bind(SIGNATURE, list(columns)).rows(pa.table(columns))
    assert good.all(), problems
    marks: list[int] = fingerprint(judged, SIGNATURE).tolist()
    return marks


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=4))
def test_batch_live_and_the_slow_definition_agree(rows: list[dict[str, Any]]) -> None:
    expected = [slowly(row) for row in rows]
    assert live(rows) == expected
    assert batch(rows) == expected
    many = rows * (FEW // len(rows) + 1)  # beyond FEW another way is taken
    assert batch(many) == live(many) == expected * (FEW // len(rows) + 1)


@settings(max_examples=150, deadline=None)
@given(row=ROW, other=ROW, name=st.sampled_from(list(TYPES)))
def test_another_value_is_another_fingerprint(row: dict[str, Any], other: dict[str, Any], name: str) -> None:
    changed = {**row, name: other[name]}
    same = slowly(changed) == slowly(row)  # by the definition; here: as equal values are
    assert (live([changed]) == live([row])) == same


def test_numbers_count_by_their_value_whatever_they_were_in_json() -> None:
    whole = dict.fromkeys(TYPES) | {"number": 1, "small": 2, "count": 3.0, "maybe": 4.0, "thing": 5}
    broken = dict.fromkeys(TYPES) | {"number": 1.0, "small": 2.0, "count": 3, "maybe": 4, "thing": 5.0}
    assert live([whole]) == live([broken])
    assert live([whole | {"number": 0.0}]) == live([whole | {"number": -0.0}])
    assert live([whole | {"number": None}]) == live([whole | {"number": math.nan}])
    assert live([whole | {"count": 2**53 + 1}]) != live([whole | {"count": 2**53}])


def test_values_that_change_places_are_another_row() -> None:
    row = dict.fromkeys(TYPES) | {"number": 1.0, "small": 2.0, "count": 0}
    assert live([row]) != live([row | {"number": 2.0, "small": 1.0}])


def test_vectors_count_place_by_place() -> None:
    signature = Signature((Field("x", "float64", (3,)),), (Field("prediction", "int64"),), named=False)
    rows = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]
    marks = live(rows, signature)
    assert marks == [slow(row) for row in rows]
    assert live(rows * 20, signature) == marks * 20


def test_a_dictionary_counts_by_its_texts_not_by_its_codes() -> None:
    signature = Signature((Field("word", "string", nullable=True),), (Field("prediction", "int64"),))
    values = np.empty(3, object)
    values[:] = ["b", "a", "b"]
    codes = np.array([0, 1, 2, -1] * 20, np.int32)
    marks = fingerprint(Rows({"word": Dictionary(codes, values)}), signature).tolist()
    assert marks == [slow(["b"]), slow(["a"]), slow(["b"]), slow([None])] * 20


def test_no_two_of_a_million_rows_share_one() -> None:
    signature = Signature(tuple(Field(name, "float64") for name in "abc"), (Field("prediction", "int64"),))
    a, b, c = np.meshgrid(np.arange(100.0), np.arange(100.0), np.arange(100.0))
    marks = fingerprint(Rows({"a": a.ravel(), "b": b.ravel(), "c": c.ravel()}), signature)
    assert len(np.unique(marks)) == 1_000_000
    assert not (marks == 0).any()


def test_one_row_costs_microseconds() -> None:
    columns: dict[str, Any] = {f"n{place}": np.array([place * 1.5]) for place in range(6)}
    for place in range(3):
        columns[f"t{place}"] = np.array([f"word{place}"], object)
    signature = Signature(
        tuple(Field(name, "string" if name[0] == "t" else "float64") for name in columns), (Field("p", "int64"),)
    )
    rows = Rows(columns)
    took = []
    for _ in range(200):
        began = perf_counter()
        fingerprint(rows, signature)
        took.append(perf_counter() - began)
    print(f"one row of 9 features: {sorted(took)[100] * 1e6:.1f} µs")
    assert min(took) < 1e-3  # a twentieth of it, where nobody else has the core
