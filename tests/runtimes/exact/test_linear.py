"""Linear models: weighted sums from left to right, as scikit-learn makes them over sparse columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from bimodal.errors import ModelError, ModelFailed
from bimodal.rows import Array, Dictionary, Rows
from bimodal.runtimes.exact.finish import Finish
from bimodal.runtimes.exact.linear import Linear
from bimodal.runtimes.exact.prepare import Input, Lookup, Number, OneHot, Prepare
from bimodal.runtimes.exact.program import Program

CITIES = tuple(f"city {n}" for n in range(12))


def columns(count: int, seed: int = 0) -> tuple[Prepare, Rows]:
    """Numbers, looked-up numbers and one-hot columns, some rows without a known city."""
    random = np.random.default_rng(seed)
    prepare = Prepare(
        (Input("v", 0), Input("v", 1), Input("city")),
        (
            Number(0, (("fill", 1.5), ("subtract", 0.3), ("divide", 7.0))),
            OneHot(2, CITIES, np.append(np.arange(12), [-1, -1]).astype(np.int32), 12),
            Lookup(2, CITIES, random.normal(size=(14, 3))),
            Number(1, (("multiply", 1 / 3),)),
        ),
    )
    block = random.normal(size=(count, 2)) * 10.0 ** random.integers(-6, 7, (count, 2))
    block[::5, 0] = np.nan
    names = np.array([*CITIES, "elsewhere", None], object)
    values = names[random.integers(0, 14, count)]
    return prepare, Rows({"v": block, "city": Dictionary.encode(values.tolist())})


def of_weights(k: int, width: int, seed: int = 1) -> Linear:
    random = np.random.default_rng(seed)
    return Linear(random.normal(size=(k, width)), random.normal(size=k))


@pytest.mark.parametrize("k", [1, 2, 4, 5, 11])
@pytest.mark.parametrize("count", [1, 7, 64, 129, 1000])
def test_sums_have_the_bits_of_a_sparse_product(k: int, count: int) -> None:
    prepare, rows = columns(count)
    linear = of_weights(k, prepare.width)
    expected = sparse.csr_matrix(prepare.matrix(rows)) @ linear.weights.T + linear.intercept
    assert np.array_equal(linear.score(prepare, rows), expected)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    prepare, rows = columns(1000)
    linear = of_weights(3, prepare.width)
    whole = linear.score(prepare, rows)
    for size in (1, 2, 7, 64, 999):
        parts = [linear.score(prepare, rows.slice(at, at + size)) for at in range(0, 1000, size)]
        assert np.array_equal(whole, np.concatenate(parts))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1))
def test_every_number_is_summed_as_ieee_says(values: list[list[float]]) -> None:
    block = np.array(values)
    linear = of_weights(1, 3)
    prepare = Prepare(tuple(Input("v", place) for place in range(3)), tuple(Number(place) for place in range(3)))
    with np.errstate(all="ignore"):
        expected = 0.0 + block[:, 0] * linear.weights[0, 0]
        expected = expected + block[:, 1] * linear.weights[0, 1]
        expected = expected + block[:, 2] * linear.weights[0, 2]
        expected = expected + linear.intercept[0]
    assert np.array_equal(linear.score(prepare, Rows({"v": block}))[:, 0], expected, equal_nan=True)


def test_infinity_is_refused_where_it_arises_in_preparing_not_in_the_sum() -> None:
    linear = of_weights(1, 1)
    scaled = Prepare((Input("x"),), (Number(0, (("divide", 0.5),)),))
    large = np.array([1.0, 1.7e308])
    with pytest.raises(ModelFailed, match="row 2: a number becomes infinite"):
        linear.score(scaled, Rows({"x": large}))
    plain, heavy = Prepare((Input("x"),), (Number(0),)), Linear(np.array([[1e10]]), np.zeros(1))
    assert heavy.score(plain, Rows({"x": large}))[:, 0].tolist() == [1e10, np.inf]


def test_dense_sums_stay_within_the_error_of_any_order() -> None:
    random = np.random.default_rng(3)
    block, linear = random.normal(size=(500, 200)), of_weights(2, 200)
    prepare = Prepare(tuple(Input("v", place) for place in range(200)), tuple(Number(place) for place in range(200)))
    ours, theirs = linear.score(prepare, Rows({"v": block})), block @ linear.weights.T + linear.intercept
    most = 200 * np.finfo(float).eps * (np.abs(block) @ np.abs(linear.weights.T) + np.abs(linear.intercept))
    assert (np.abs(ours - theirs) <= most).all()


@pytest.mark.parametrize("arrays", [{}, {"weights": np.ones(3), "intercept": np.ones(1)}])
def test_damaged_weights_are_refused(arrays: dict[str, Array]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Linear.retold({}, arrays)


def test_weights_are_told_and_told_again() -> None:
    linear = of_weights(2, 5)
    values, arrays = linear.told()
    again: Any = Linear.retold(values, arrays)
    assert np.array_equal(again.weights, linear.weights)
    assert np.array_equal(again.intercept, linear.intercept)
    assert linear.thresholds() == {}


def test_a_file_of_another_layout_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = Prepare((Input("x"),), (Number(0),))
    made = Program(prepare, of_weights(1, 1), Finish("value", {"prediction": "float64"}))
    monkeypatch.setattr("bimodal.runtimes.exact.program.LAYOUT", 99)
    made.save(tmp_path / "exact.npz")
    monkeypatch.undo()
    with pytest.raises(ModelError, match="another version of Bimodal; pack or compile the model again"):
        Program.load(tmp_path / "exact.npz")
