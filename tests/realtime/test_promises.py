"""Whatever comes, in whatever order: the sentences of the batcher, as properties of whole days in a model's life.

A day is drawn by hypothesis or, for the long form, from seeds. Its clock is the loop's own, which jumps to the next
moment at which anything happens, so that seconds of waiting take no time.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimodal.errors import BimodalError, DeadlineExceeded, ModelCrashed, ModelFailed, Overloaded, Unavailable
from bimodal.realtime.admission import Cost
from bimodal.realtime.batcher import Batch, Batcher, Work
from bimodal.rows import Rows
from tests.realtime.fakes import Fake, Window
from tests.realtime.timeless import Clock, timeless

KEYS = ((("prediction",), None), (("prediction",), 0.3), (("prediction",), 0.7))
DAYS = 20_000  # of the long form


class Busy(Fake):
    """A model that takes its time, fails and crashes on rows, and notes for whom it began.

    A row's value is the number of its request and its place in it: it tells whose it is.
    """

    def __init__(self, clock: Clock, works: dict[int, Work], chance: random.Random, *, inline: bool) -> None:
        self.row, self.call = chance.choice([0.0001, 0.002, 0.01]), chance.choice([0.0, 0.001, 0.02])
        super().__init__(inline=inline, costs={1: self.call + self.row, 64: self.call + 64 * self.row})
        self.clock, self.works = clock, works
        self.crashes: set[float] = set()
        self.begun_late: list[int] = []
        self.mixed = 0

    def _look(self, rows: Rows, key: Any) -> None:
        numbers = {int(value) for value in rows.array("x")[:, 0]}
        self.begun_late += [n for n in numbers if self.works[n].deadline < self.clock.now or _gone(self.works[n])]
        self.mixed += len({self.works[number].key for number in numbers} | {key}) != 1

    def run(self, rows: Rows, outputs: Any = (), *, threshold: float | None = None) -> Rows:
        if self.inline:
            self._look(rows, (outputs, threshold))
        if self.crashes & set(rows.array("x")[:, 0].tolist()):
            self.calls.append(rows.array("x")[:, 0].tolist())
            raise ModelCrashed("the process that ran the model was killed by SIGSEGV")
        return super().run(rows, outputs, threshold=threshold)

    async def run_async(
        self, rows: Rows, outputs: Any = (), *, threshold: float | None = None, aside: bool = False
    ) -> Rows:
        self._look(rows, (outputs, threshold))
        await asyncio.sleep(self.call + self.row * rows.count)
        inline, self.inline = self.inline, False
        try:
            return self.run(rows, outputs, threshold=threshold)
        finally:
            self.inline = inline

    def interrupt(self, *, again: bool) -> bool:
        return False


def _gone(work: Work) -> bool:
    return work.settled


class Counter(Window):
    """Who was answered what, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, int] = {}

    def fail(self, work: Work, error: BaseException) -> None:
        super().fail(work, error)
        self.times[work.request] = self.times.get(work.request, 0) + 1

    def settle(self, batch: Batch) -> None:
        assert batch.answer.count == batch.given.count == sum(work.count for work in batch.works)
        for work in batch.works:
            if not work.settled:
                self.times[work.request] = self.times.get(work.request, 0) + 1
        super().settle(batch)


def day(seed: int, requests: int, *, inline: bool) -> None:
    """A day of a model: requests of any size, key, rank and deadline, callers who leave, rows that fail and that crash,
    and a stop at some time; then what must hold.
    """
    chance = random.Random(seed)
    with timeless() as (clock, runner):
        works: dict[int, Work] = {}
        window, cancelled, refused = Counter(), set[str](), set[str]()
        fake = Busy(clock, works, chance, inline=inline)
        cost = Cost({}) if not inline and chance.random() < 0.2 else None
        queue = Batcher(fake.model, window.settle, target=chance.choice([0.02, 0.1, 1.0]), cost=cost, most=20)

        async def run() -> None:
            for number in range(requests):
                count = chance.choice([1, 1, 1, 2, 5, 30])
                values = [number + place / 64 for place in range(count)]
                deadline = clock.now + chance.choice([0.0, 0.003, 0.05, 0.5, 10.0])
                key, rank = chance.choice(KEYS), chance.choice([1, 5, 5, 9])
                work = window.work(str(number), *values, deadline=deadline, key=key, rank=rank)
                work.alone = chance.random() < 0.1
                works[number] = work
                fate = chance.random()
                if fate < 0.05:
                    fake.bad.add(values[-1])
                elif fate < 0.08:
                    fake.crashes.add(values[0])
                elif fate < 0.12:
                    work.values[0] = ["no number"]
                try:
                    queue.submit(work)
                except (DeadlineExceeded, Overloaded, Unavailable):
                    refused.add(work.request)
                if chance.random() < 0.15:
                    left = works[chance.randrange(len(works))]
                    if not left.settled and left.request not in refused:
                        cancelled.add(left.request)
                        left.cancel()
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01, 0.2]))
                if chance.random() < 0.3 / requests:
                    await queue.stop()
            await queue.stop()

        runner.run(run())
        check(fake, works, window, cancelled, refused)
        assert queue.waiting_rows == 0
        assert queue.in_flight == 0


def check(fake: Busy, works: dict[int, Work], window: Counter, cancelled: set[str], refused: set[str]) -> None:
    guilty = {int(value) for value in (*fake.bad, *fake.crashes)}
    for number, work in works.items():
        name = work.request
        if name in cancelled or name in refused:
            assert name not in window.answers, "answered though it had left, or was refused"
            continue
        assert window.times.get(name) == 1, f"{name} was answered {window.times.get(name)} times"
        answer = window.answers[name]
        if isinstance(answer, list):
            assert answer == [10 * (number + place / 64) for place in range(work.count)]
            assert number not in guilty
        elif isinstance(answer, DeadlineExceeded | Overloaded):
            pass
        elif isinstance(answer, ModelFailed | ModelCrashed):
            assert number in guilty, "an innocent one was told that the model failed on it"
        else:
            assert isinstance(answer, ValueError)
            assert not isinstance(answer, BimodalError)
            assert work.values[0] == ["no number"]
    assert fake.begun_late == []
    assert fake.mixed == 0


@settings(max_examples=120)
@given(seed=st.integers(0, 2**32), requests=st.integers(1, 60), inline=st.booleans())
def test_every_waiter_has_its_own_answer_once_and_nothing_begins_too_late(
    seed: int, requests: int, inline: bool
) -> None:
    day(seed, requests, inline=inline)


@pytest.mark.soak
def test_the_same_on_many_days() -> None:
    for seed in range(DAYS):
        day(seed, 80, inline=bool(seed % 2))
