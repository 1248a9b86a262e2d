"""Sums without a rounding, and numbers in ascending order from many packs."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bimodal.batch.ranks import Pack, area, ascending, keys_of, pack, values_of
from bimodal.batch.sums import exact_sum, mean, packed, square, unpacked

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCORES = st.lists(st.tuples(st.sampled_from([0.0, -0.0, 0.5, 1.0, 1e-300]) | FLOATS, st.booleans()), max_size=60)


def cut(values: list[float], firsts: list[bool], size: int) -> list[Pack]:
    scores, flags = np.array(values, float), np.array(firsts, bool)
    return [pack(scores[at : at + size], flags[at : at + size]) for at in range(0, len(values), size)]


def area_of(packs: list[Pack], stretch: int = 1 << 20) -> float | None:
    def again() -> Iterator[Pack]:
        return iter(packs)

    return area(ascending(again, stretch))


@given(st.lists(FLOATS, max_size=50))
def test_a_sum_is_that_of_fractions(values: list[float]) -> None:
    total = exact_sum(np.array(values, float))
    assert Fraction(total, 2**1074) == sum(map(Fraction, values), Fraction(0))
    assert unpacked(packed(total)) == total


@given(st.lists(FLOATS, min_size=1, max_size=50), st.integers(1, 20))
def test_a_mean_is_rounded_once_and_does_not_depend_on_pieces(values: list[float], size: int) -> None:
    parts = [exact_sum(np.array(values[at : at + size], float)) for at in range(0, len(values), size)]
    assert mean(sum(parts), len(values)) == float(sum(map(Fraction, values)) / len(values))


@given(st.floats(-1e100, 1e100).filter(lambda value: value == 0 or abs(value) > 1e-100))
def test_a_square_has_two_parts_that_are_exact(value: float) -> None:
    upper, lower = square(np.array([value]))
    assert Fraction(float(upper[0])) + Fraction(float(lower[0])) == Fraction(value) ** 2


@given(st.lists(FLOATS, min_size=2, max_size=50))
def test_keys_have_the_order_of_the_numbers(values: list[float]) -> None:
    numbers = np.array(values)
    keys = keys_of(numbers)
    np.testing.assert_array_equal(values_of(keys), numbers)
    np.testing.assert_array_equal(np.less.outer(keys, keys), np.less.outer(numbers, numbers))


@given(SCORES, st.integers(1, 30))
def test_the_area_counts_pairs_whatever_the_pieces(scores: list[tuple[float, bool]], size: int) -> None:
    values, flags = [value for value, _ in scores], [flag for _, flag in scores]
    ones = [value for value, flag in scores if flag]
    others = [value for value, flag in scores if not flag]
    pairs = [(one > other) + (one == other) / 2 for one in ones for other in others]
    expected = float(Fraction(sum(map(Fraction, pairs))) / len(pairs)) if pairs else None
    assert area_of(cut(values, flags, size)) == expected
    assert area_of(cut(values, flags, size), stretch=1) == expected


@pytest.mark.parametrize("digits", [1, 3, 17])
@pytest.mark.parametrize("size", [100, 4_000, 30_000])
def test_the_area_is_that_of_scikit_learn(digits: int, size: int) -> None:
    random = np.random.default_rng(digits)
    flags = random.random(30_000) < 0.2
    scores = np.round(random.normal(size=30_000) + flags, digits)
    packs = cut(scores.tolist(), flags.tolist(), size)
    expected = roc_auc_score(flags, scores)
    assert area_of(packs) == pytest.approx(expected, abs=1e-12)
    assert area_of(packs, stretch=8_192) == area_of(packs)


def test_a_stretch_holds_no_more_than_asked_for_and_no_number_twice() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(size=60_000), np.full(60_000, 0.25)])
    random.shuffle(values)
    packs = [pack(part, part > 0) for part in np.array_split(values, 8)]
    keys, counts = [], []
    for found, _, many in ascending(lambda: iter(packs), 16_384):
        assert len(found) <= 2 * 16_384
        keys.append(found)
        counts.append(many)
    unique, expected = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(values_of(np.concatenate(keys)), unique)
    np.testing.assert_array_equal(np.concatenate(counts), expected)
    assert len(keys) > 3


def test_a_pack_of_ties_is_small() -> None:
    random = np.random.default_rng(2)
    scores = np.round(random.random(65_536), 2)
    told = pack(scores, scores > 0.5)
    assert len(told.blocks) < 2_000
