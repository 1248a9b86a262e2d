"""The pipeline keeps the order and the bound, whatever takes how long; errors come out at their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.batch.pipeline import Bound, Pipeline

PATIENCE = 60.0  # seconds after which something hangs


class Watched:
    """Work that takes a while, and items that are drawn; sees how many are under way."""

    def __init__(self, delays: list[float]) -> None:
        self.delays = delays
        self.most = self._now = 0
        self.closed = False
        self._lock = threading.Lock()

    def items(self) -> Iterator[int]:
        try:
            for number in range(len(self.delays)):
                with self._lock:
                    self._now += 1
                    self.most = max(self.most, self._now)
                yield number
        finally:
            self.closed = True

    def work(self, number: int) -> int:
        time.sleep(self.delays[number])
        return number

    def taken(self) -> None:
        with self._lock:
            self._now -= 1


def take_out(pipeline: Pipeline[int, int], done: list[int]) -> None:
    with pipeline as out:
        for number in out:
            done.append(number)


def at_work() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith("bimodal")}


delays = st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.004]), max_size=25)


@given(delays, st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_what_comes_out_has_the_order_of_what_went_in(times: list[float], threads: int, limit: int) -> None:
    watched = Watched(times)
    done = []
    with Pipeline(watched.items(), watched.work, threads=threads, bound=Bound(limit)) as out:
        for number in out:
            done.append(number)
            watched.taken()
    assert done == list(range(len(times)))
    assert watched.most <= limit
    assert watched.closed


def test_a_bound_that_is_changed_on_the_way_holds_at_once() -> None:
    watched, bound = Watched([0.001] * 60), Bound(8)
    with Pipeline(watched.items(), watched.work, threads=4, bound=bound) as out:
        for number in out:
            watched.taken()
            if number == 20:
                bound.limit = 2
            if number == 30:  # what was under way by then is through
                watched.most = 0
    assert 1 <= watched.most <= 2
    bound.limit = 0
    assert bound.limit == 1


def test_several_are_under_way_at_once() -> None:
    together = threading.Barrier(3)

    def work(number: int) -> int:
        together.wait(PATIENCE)
        return number

    with Pipeline(iter(range(6)), work, threads=3, bound=Bound(3)) as out:
        assert list(out) == list(range(6))


@given(st.integers(0, 12), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_an_error_of_the_work_comes_out_at_its_place(place: int, threads: int, limit: int) -> None:
    def work(number: int) -> int:
        if number == place:
            raise ValueError(f"item {number}")
        time.sleep(0.001)
        return number

    done: list[int] = []
    with pytest.raises(ValueError, match=f"item {place}$"):
        take_out(Pipeline(iter(range(15)), work, threads=threads, bound=Bound(limit)), done)
    assert done == list(range(place))


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyboardInterrupt])
def test_an_error_of_the_items_comes_out_behind_those_before_it(kind: type[BaseException]) -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise kind("the file ended early")

    done: list[int] = []
    with pytest.raises(kind, match="ended early"):
        take_out(Pipeline(items(), lambda number: number, threads=2, bound=Bound(2)), done)
    assert done == [0, 1]


def test_ctrl_c_does_not_wait_for_what_is_under_way() -> None:
    free = threading.Event()

    def work(number: int) -> int:
        if number:
            free.wait(PATIENCE)
        return number

    def impatient() -> None:
        with Pipeline(iter(range(9)), work, threads=2, bound=Bound(4)) as out:
            next(out)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        impatient()
    spent = time.monotonic() - started
    free.set()
    assert spent < PATIENCE / 2


def test_items_that_may_never_come_are_not_waited_for() -> None:
    free = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        free.wait(PATIENCE)  # a pipe that stays open

    started = time.monotonic()
    with Pipeline(items(), lambda number: number, threads=1, bound=Bound(2), abandon=True) as out:
        assert next(out) == 0
    spent = time.monotonic() - started
    free.set()
    assert spent < PATIENCE / 2


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_who_leaves_early_leaves_nothing_running(taken: int) -> None:
    watched, before = Watched([0.002] * 50), at_work()
    started = time.monotonic()
    with Pipeline(watched.items(), watched.work, threads=3, bound=Bound(3)) as out:
        for _ in range(taken):
            next(out)
    assert time.monotonic() - started < PATIENCE / 2
    assert watched.closed
    assert at_work() <= before
