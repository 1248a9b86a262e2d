"""Asked for more than it can do, the server does what it can, refuses the rest at once, and begins nothing in vain.

The short form counts, with wide margins: the machine may have other work. The figures: python tasks.py bench overload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fire import overload
from tests.fire.overload import Place

RATE = 150.0  # rows a second: less than a model of 5 ms a row can do


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overload")


@pytest.fixture(scope="module")
def place(folder: Path) -> Iterator[Place]:
    with overload.served(folder, "Waits") as served:
        yield replace(served, seconds=1.5)


@pytest.mark.parametrize("grpc", [False, True])
def test_useful_work_goes_on_and_what_is_too_much_is_refused(place: Place, grpc: bool) -> None:
    seen = overload.step(replace(place, grpc=grpc), 3, RATE)
    statuses = seen.seen.statuses
    assert set(statuses) <= {200, 429, 504}
    assert statuses[200] > 0.1 * RATE * place.seconds
    assert statuses[429] > 0.2 * RATE * place.seconds
    assert seen.seen.wrong == seen.seen.bare == 0  # every refusal says when to come again
    assert seen.missed == 0


def test_nothing_is_begun_after_its_deadline(place: Place, folder: Path) -> None:
    seen, early = overload.expired(place, folder, RATE)
    assert set(seen.statuses) <= {200, 429, 504}
    assert len(early) >= seen.statuses[200] > 0.1 * RATE * place.seconds
    # Counted from when the caller sent it; a machine may leave a request in the socket, or the model's process aside,
    # for as long. That the server itself lets nothing begin late: tests/realtime/test_promises.py.
    assert sum(1 for each in early if each < 0) < 0.1 * len(early)


def test_what_comes_after_an_overload_is_answered_as_ever(place: Place) -> None:
    _, seen = overload.recovery(replace(place, seconds=1.0), RATE)
    last = seen.between(2.5, 3.0)
    assert last.statuses[200] > 0.5 * last.sent > 0
