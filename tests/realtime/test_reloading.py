"""Reloads under an open load, for long: 100 of them, 20 of files that cannot be loaded."""

from __future__ import annotations

import pytest

from tests.fire.load import Outcome, Record
from tests.realtime import reloading, versions


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["python", "sklearn"])
def test_a_hundred_reloads_cost_no_request(kind: str) -> None:
    figures = reloading.run(kind, 100, 20, period=6.0 if kind == "sklearn" else 3.0)
    print(figures.told())
    assert figures.reloads == 100
    assert figures.refused == 20
    assert figures.failed == 0
    assert figures.ratio <= 2


def test_what_the_callers_saw_is_told() -> None:
    def seen(seconds: float, *statuses: int) -> Outcome:
        return Outcome(1.0, records=[Record(0.0, 0.0, seconds, status, 0) for status in statuses])

    figures = reloading.Figures(70.0, seen(0.001, *[200] * 99, 429), seen(0.003, *[200] * 10, 0), reloads=5, refused=1)
    assert figures.failed == 1
    assert "p50 1.00 p99 1.00 ms" in figures.told()
    assert "3.0 times" in figures.told()
    assert "1 undisturbed and 0 under" in figures.told()


def test_an_answer_of_no_version_is_wrong() -> None:
    assert versions.whole(0, b'{"prediction":[7.0]}')
    assert not versions.whole(0, b'{"prediction":[7.5]}')
    assert not versions.whole(0, b'{"prediction":[0.0]}')
