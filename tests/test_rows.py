"""Rows: named columns of one length."""

from __future__ import annotations

import numpy as np
import pytest

from bimodal.rows import Dictionary, Rows


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Rows({"a": np.zeros(2), "b": np.zeros(3)})


def test_rows_without_columns_keep_their_count() -> None:
    assert Rows({}, 4).count == 4


def test_a_dictionary_gives_back_the_values_it_was_made_of() -> None:
    values = ["b", None, "a", "b"]
    column = Dictionary.encode(values)
    assert column.decode().tolist() == values
    assert column.values.tolist() == ["b", "a"]
    assert column[1:3].decode().tolist() == [None, "a"]


def test_an_empty_dictionary_decodes_nulls() -> None:
    assert Dictionary(np.array([-1, -1], np.int32), np.empty(0, object)).decode().tolist() == [None, None]


def test_parts_are_joined_in_their_order() -> None:
    first = Rows({"n": np.array([1.0, 2.0]), "t": Dictionary.encode(["x", None])})
    second = Rows({"n": np.array([3.0]), "t": Dictionary.encode(["y"])})
    joined = Rows.concat([first, second])
    assert joined.array("n").tolist() == [1.0, 2.0, 3.0]
    assert joined.array("t").tolist() == ["x", None, "y"]
    assert joined.slice(1, 3).array("t").tolist() == [None, "y"]
    assert joined.take(np.array([True, False, True])).array("n").tolist() == [1.0, 3.0]
