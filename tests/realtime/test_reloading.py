"""Reloads under an open load, for long: 100 of them, 20 of files that cannot be loaded."""

from __future__ import annotations

import pytest

from tests.realtime import reloading


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["python", "sklearn"])
def test_a_hundred_reloads_cost_no_request(kind: str) -> None:
    figures = reloading.run(kind, 100, 20)
    print(figures.told())
    assert figures.refused == 20
    assert figures.steady.failed + figures.reloading.failed == []
    assert figures.reloading.full <= figures.steady.full + 0.001 * len(figures.reloading.seconds)


def test_what_the_callers_saw_is_told() -> None:
    steady, under = reloading.Seen([0.001] * 99 + [0.1]), reloading.Seen([0.002] * 10, full=3, failed=["no"])
    told = reloading.Figures(70.0, steady, under, reloads=5, refused=1, seconds=2.0).told()
    assert "p50 1.00 p99 1.99 ms" in told
    assert "10 requests, 1 failed" in told
    assert "3 under reloads" in told
