"""Of requests that wait for the model the lower rank goes first, and none waits for ever."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.realtime.batcher import PATIENCE, RANK
from tests.realtime.fakes import Fake, Window, batcher
from tests.realtime.timeless import Clock, timeless

A, B = (("prediction",), None), (("prediction",), 0.3)


def calls(works: list[tuple[int, bool, float]], most: int) -> list[list[float]]:
    """The calls that answer works that wait together: each (rank, whether of another key, its age in seconds). The
    value of a work's row is its number.
    """

    async def run(clock: Clock) -> list[list[float]]:
        fake, window = Fake(inline=False), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window, target=1e6, most=most)
        queue.submit(window.work("first", -1.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number, (rank, other, age) in enumerate(works):
            name = str(number)
            queue.submit(window.work(name, float(number), key=B if other else A, rank=rank, queued=clock.now - age))
            await asyncio.sleep(0)
        fake.hold.set()
        await queue.stop()
        assert len(window.answers) == len(works) + 1
        assert queue.waiting_rows == 0
        return fake.calls[1:]

    with timeless() as (clock, runner):
        return runner.run(run(clock))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.just(0.0)), max_size=14), st.integers(1, 4))
def test_no_call_begins_with_a_request_while_one_of_a_lower_rank_waits(
    works: list[tuple[int, bool, float]], most: int
) -> None:
    waiting = set(range(len(works)))
    for call in calls(works, most):
        taken = [int(value) for value in call]
        assert len(taken) <= most
        ranks = [works[number][0] for number in taken]
        assert ranks[0] == min(works[number][0] for number in waiting)
        assert len({works[number][1] for number in taken}) == 1  # one key a call
        same = [number for number in waiting if works[number][1] == works[taken[0]][1]]
        assert taken == sorted(same, key=lambda number: (works[number][0], number))[: len(taken)]
        waiting -= set(taken)
    assert not waiting


def test_who_has_waited_long_enough_goes_before_every_rank() -> None:
    works = [(1, False, 0.0), (9, False, PATIENCE + 0.1), (1, True, 0.0), (RANK, False, 0.0)]
    assert calls(works, 1) == [[1], [0], [2], [3]]


def test_kinds_of_one_rank_take_turns() -> None:
    works = [(RANK, other, 0.0) for other in (False, False, True, True)]
    assert calls(works, 1) == [[0], [2], [1], [3]]
