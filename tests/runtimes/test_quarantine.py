"""Rows that killed a process are known again, for a while, and nothing else is taken for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.errors import ModelCrashed
from bimodal.rows import Dictionary, Rows
from bimodal.runtimes import quarantine
from bimodal.runtimes.quarantine import Quarantine, digest

KEY = (("prediction",), None)
CRASH = ModelCrashed("the process that ran the model was killed by SIGSEGV")


def rows(*values: float) -> Rows:
    return Rows({"x": np.array(values)})


@dataclass
class Work:
    count: int


def test_it_holds_nothing_until_something_is_remembered_and_nothing_when_that_is_long_ago() -> None:
    now = [0.0]
    kept = Quarantine(lambda: now[0])
    held = [kept.holds]
    kept.remember(KEY, rows(13), CRASH)
    held.append(kept.holds)
    now[0] = quarantine.SPAN - 1
    assert str(kept.fate(KEY, rows(13))) == str(CRASH)
    assert kept.fate(KEY, rows(12)) is None
    assert kept.fate((("probability",), None), rows(13)) is None
    now[0] = quarantine.SPAN
    assert kept.fate(KEY, rows(13)) is None
    assert [*held, kept.holds] == [False, True, False]


def test_of_a_batch_the_known_works_are_left_out_and_the_rows_of_the_others_stay_theirs() -> None:
    kept = Quarantine()
    kept.remember(KEY, rows(13, 14), CRASH)
    works = [Work(1), Work(2), Work(2), Work(1)]
    stay, left, known = kept.sift(KEY, works, rows(13, 13, 14, 1, 2, 14))
    assert [id(work) for work in stay] == [id(works[each]) for each in (0, 2, 3)]
    assert left.array("x").tolist() == [13, 1, 2, 14]
    ((guilty, error),) = known
    assert guilty is works[1]
    assert error.code == "model_crashed"


def test_the_oldest_are_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MOST", 3)
    kept = Quarantine()
    for value in range(5):
        kept.remember(KEY, rows(value), CRASH)
    assert len(kept) == 3
    assert [kept.fate(KEY, rows(value)) is not None for value in range(5)] == [False, False, True, True, True]


def test_texts_are_the_same_however_they_are_stored() -> None:
    values = ["a", None, "b", "a"]
    plain = Rows({"city": np.array(values, object)})
    assert digest(KEY, plain) == digest(KEY, Rows({"city": Dictionary.encode(values)}))
    more = Rows({"city": Dictionary.encode(["b", "c", *values])}).slice(2, 6)
    assert digest(KEY, plain) == digest(KEY, more)


VALUES = st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=4)


@given(VALUES, VALUES)
def test_other_texts_are_others(one: list[Any], other: list[Any]) -> None:
    same = digest(KEY, Rows({"t": np.array(one, object)})) == digest(KEY, Rows({"t": np.array(other, object)}))
    assert same == (one == other)


@given(st.lists(st.floats(), min_size=1, max_size=3), st.lists(st.floats(), min_size=1, max_size=3))
def test_other_numbers_are_others(one: list[float], other: list[float]) -> None:
    first, second = rows(*one), rows(*other)
    same = first.array("x").tobytes() == second.array("x").tobytes()
    assert (digest(KEY, first) == digest(KEY, second)) == same
