"""The batcher's ten sentences, and how long a model is believed to take."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest

from bimodal.errors import DeadlineExceeded, ModelCrashed, ModelFailed, ModelHung, Overloaded, Unavailable
from bimodal.realtime.admission import Admission, Cost
from bimodal.realtime.batcher import Batcher
from bimodal.rows import Rows
from tests.realtime.fakes import Fake, Window, batcher
from tests.realtime.timeless import Clock, timeless

SLOW = {1: 0.010, 100: 0.109}  # 9 ms a call and 1 ms a row


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def timed(scenario: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    """Run where time passes only as it says."""
    with timeless() as (clock, runner):
        runner.run(scenario(clock))


@pytest.mark.parametrize("inline", [True, False])
def test_requests_of_one_turn_are_predicted_in_one_call(inline: bool) -> None:
    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        queue = batcher(fake, window)
        for name, values in {"a": (1.0,), "b": (2.0, 3.0), "c": (4.0,)}.items():
            queue.submit(window.work(name, *values))
        await turns()
        assert fake.calls == [[1, 2, 3, 4]]
        assert window.answers == {"a": [10], "b": [20, 30], "c": [40]}

    asyncio.run(run())


def test_a_full_batch_goes_at_once() -> None:
    async def run() -> None:
        fake, window = Fake(), Window()
        queue = batcher(fake, window, most=3)
        for number in range(7):
            queue.submit(window.work(str(number), float(number)))
        assert fake.calls == [[0, 1, 2], [3, 4, 5]]  # before the turn has ended
        await turns()
        assert fake.calls[2:] == [[6]]

    asyncio.run(run())


@pytest.mark.parametrize("inline", [True, False])
def test_a_lone_request_never_waits_for_company(inline: bool) -> None:
    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        batcher(fake, window).submit(window.work("a", 1.0))
        await turns(5)  # no timer has run: only turns of the loop
        assert window.answers == {"a": [10]}

    asyncio.run(run())


def test_a_request_that_is_known_to_be_alone_is_answered_at_once() -> None:
    async def run() -> None:
        fake, window = Fake(), Window()
        queue = batcher(fake, window)
        queue.submit(window.work("a", 1.0))
        alone = window.work("b", 2.0)
        alone.alone = True
        queue.submit(alone)
        assert fake.calls == [[1, 2]]  # before the turn has ended, and with who came earlier in it
        assert window.answers == {"a": [10], "b": [20]}
        await turns()
        assert fake.calls == [[1, 2]]

    asyncio.run(run())


@pytest.mark.parametrize("inline", [True, False])
def test_every_waiter_gets_an_error_when_rows_are_lost(inline: bool) -> None:
    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        fake.lose = 1
        queue = batcher(fake, window)
        for name in "abc":
            queue.submit(window.work(name, 1.0, 2.0))
        await turns(40)
        assert set(window.answers) == {"a", "b", "c"}
        assert all("answers for 2 rows" in str(error) for error in window.answers.values())

    asyncio.run(run())


@pytest.mark.parametrize("inline", [True, False])
def test_a_failing_batch_is_split_until_only_the_guilty_request_fails(inline: bool) -> None:
    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        fake.bad = {5.0}
        queue = batcher(fake, window)
        for number in range(16):
            queue.submit(window.work(str(number), float(number)))
        await turns(60)
        assert isinstance(window.answers.pop("5"), ModelFailed)
        assert window.answers == {str(n): [10.0 * n] for n in range(16) if n != 5}
        assert len(fake.calls) == 9  # 16, 8 8, 4 4, 2 2, 1 1

    asyncio.run(run())


def test_after_a_crash_each_request_is_tried_alone() -> None:
    async def run() -> None:
        fake, window = Fake(inline=False), Window()
        fake.bad, fake.error = {2.0}, lambda: ModelCrashed("the process that ran the model was killed by SIGSEGV")
        queue = batcher(fake, window)
        for number in range(4):
            queue.submit(window.work(str(number), float(number)))
        await turns(60)
        assert isinstance(window.answers.pop("2"), ModelCrashed)
        assert window.answers == {"0": [0], "1": [10], "3": [30]}
        assert fake.calls == [[0, 1, 2, 3], [0], [1], [2], [3]]  # two crashes, not one for each half

    asyncio.run(run())


def test_a_cancelled_or_timed_out_waiter_harms_nobody() -> None:
    async def run(clock: Clock) -> None:
        fake, window = Fake(inline=False), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        cancelled = window.work("cancelled", 1.0)
        queue.submit(cancelled)
        queue.submit(window.work("late", 2.0, deadline=clock.now + 0.02))
        queue.submit(window.work("stays", 3.0))
        await turns()
        cancelled.cancel()
        await asyncio.sleep(0.08)
        assert isinstance(window.answers.pop("late"), DeadlineExceeded)  # told at its deadline, not after the call
        fake.hold.set()
        await turns()
        assert window.answers == {"stays": [30]}
        assert fake.calls == [[1, 2, 3]]

    timed(run)


@pytest.mark.parametrize("inline", [True, False])
def test_a_cancelled_request_not_yet_sent_is_left_out(inline: bool) -> None:
    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        queue = batcher(fake, window)
        works = [window.work(name, value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))]
        for work in works:
            queue.submit(work)
        works[1].cancel()
        await turns()
        assert fake.calls == [[1, 3]]
        assert set(window.answers) == {"a", "c"}

    asyncio.run(run())


def test_requests_that_wait_are_dropped_when_cancelled_or_expired() -> None:
    async def run(clock: Clock) -> None:
        fake, window = Fake(inline=False), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window, target=10.0)
        queue.submit(window.work("first", 1.0))
        await turns()
        gone = window.work("gone", 2.0)
        for work in (gone, window.work("late", 3.0, deadline=clock.now + 0.02), window.work("stays", 4.0)):
            queue.submit(work)
        await turns()
        assert queue.waiting_rows == 3
        gone.cancel()
        await asyncio.sleep(0.05)
        assert queue.waiting_rows == 1
        fake.hold.set()
        await turns()
        assert fake.calls == [[1], [4]]
        assert isinstance(window.answers["late"], DeadlineExceeded)

    timed(run)


@pytest.mark.parametrize("inline", [True, False])
def test_unlike_requests_never_share_a_batch(inline: bool) -> None:
    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        queue = batcher(fake, window)
        plain, strict = (("prediction",), None), (("prediction",), 0.3)
        for name, value, key in (("a", 1.0, plain), ("b", 2.0, strict), ("c", 3.0, plain), ("d", 4.0, strict)):
            queue.submit(window.work(name, value, key=key))
        await turns()
        assert sorted(fake.calls) == [[1, 3], [2, 4]]
        assert sorted(fake.keys, key=str) == sorted([plain, strict], key=str)
        assert window.answers == {"a": [10], "b": [20], "c": [30], "d": [40]}

    asyncio.run(run())


def test_order_within_a_request_is_kept() -> None:
    async def run() -> None:
        fake, window = Fake(), Window()
        values = [float(n) for n in (9, 1, 8, 2, 7, 3)]
        queue = batcher(fake, window)
        queue.submit(window.work("other", 5.0))
        queue.submit(window.work("a", *values))
        await turns()
        assert window.answers["a"] == [10 * value for value in values]

    asyncio.run(run())


def test_a_full_queue_refuses_at_once() -> None:
    async def run(clock: Clock) -> None:
        fake, window = Fake(inline=False, costs=SLOW), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        queue.submit(window.work("runs", 0.0))
        await turns()
        taken = 0
        refused: Overloaded | None = None
        while refused is None:
            try:
                queue.submit(window.work(f"waits {taken}", float(taken)))
            except Overloaded as error:
                refused = error
            else:
                taken += 1
            await turns(2)
        assert 1 <= taken <= 100  # what 100 ms are enough for, at 1 ms a row
        assert refused.retry_after >= 1
        fake.hold.set()
        await turns(200)
        assert len(window.answers) == taken + 1  # those that were taken are answered

    timed(run)


def test_an_empty_queue_admits_whatever_the_model_takes() -> None:
    async def run(clock: Clock) -> None:
        fake, window = Fake(inline=False, costs={1: 5.0, 64: 5.0}), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        queue.submit(window.work("runs", 0.0))
        await turns()
        with pytest.raises(Overloaded):  # the call that runs ends too late for it
            queue.submit(window.work("in vain", 1.0, deadline=clock.now + 8.0))
        queue.submit(window.work("waits", 1.0, deadline=clock.now + 12.0))
        await turns()
        queue.submit(window.work("shares its call", 2.0))
        with pytest.raises(Overloaded):  # it could not be answered in time
            queue.submit(window.work("refused", 2.0, deadline=clock.now + 8.0))
        fake.hold.set()
        await turns()
        assert set(window.answers) == {"runs", "waits", "shares its call"}

    timed(run)


def test_stop_drains_then_refuses() -> None:
    async def run() -> None:
        fake, window = Fake(inline=False), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        queue.submit(window.work("runs", 1.0))
        await turns()
        queue.submit(window.work("waits", 2.0))
        stopping = asyncio.ensure_future(queue.stop())
        await turns()
        with pytest.raises(Unavailable):
            queue.submit(window.work("late", 3.0))
        assert not stopping.done()
        fake.hold.set()
        await stopping
        assert window.answers == {"runs": [10], "waits": [20]}

    asyncio.run(run())


def test_while_the_model_is_busy_requests_gather() -> None:
    async def run() -> None:
        fake, window = Fake(inline=False), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        for number in range(6):
            queue.submit(window.work(str(number), float(number)))
            await turns(5)
        fake.hold.set()
        await turns(40)
        assert fake.calls == [[0], [1, 2, 3, 4, 5]]

    asyncio.run(run())


def test_the_next_batch_takes_what_fits_the_goal() -> None:
    async def run(clock: Clock) -> None:
        fake, window = Fake(inline=False, costs=SLOW), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window, target=0.05)  # 9 ms a call and 1 ms a row: 41 rows
        queue.submit(window.work("0", 0.0))
        await turns()
        queue.admission.target = 10.0
        for number in range(1, 101):
            queue.submit(window.work(str(number), float(number)))
        await turns()
        assert len(queue._waiting) == 1
        await asyncio.sleep(0.01)
        fake.hold.set()
        await turns(3)
        assert 25 <= len(fake.calls[1]) <= 60

    timed(run)


def test_a_model_slower_than_the_goal_batches_all_the_same() -> None:
    async def run(clock: Clock) -> None:
        fake, window = Fake(inline=False, costs={1: 0.5, 64: 0.5}), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        for number in range(20):
            queue.submit(window.work(str(number), float(number)))
            await turns(3)
        fake.hold.set()
        await turns(40)
        assert len(fake.calls) == 2

    timed(run)


def test_a_model_of_unknown_cost_begins_with_few_rows_and_refuses_what_it_cannot_do() -> None:
    """0.02 s a row, 60 callers and a deadline of 0.5 s: in one call they would take 1.2 s, and nobody had an answer."""

    class Slow(Fake):
        async def run_async(self, rows: Rows, *args: Any, **options: Any) -> Rows:
            await asyncio.sleep(0.02 * rows.count)
            return await super().run_async(rows, *args, **options)

    async def scenario(clock: Clock) -> None:
        fake, window = Slow(inline=False), Window()
        queue = Batcher(fake.model, window.settle, target=0.1, cost=Cost({}))
        took: dict[str, float] = {}

        async def ask(name: str, later: float) -> None:
            await asyncio.sleep(later)
            began = clock.now
            work = window.work(name, 1.0, deadline=began + 0.5)
            try:
                queue.submit(work)
            except Overloaded as error:
                window.answers[name] = error
            while name not in window.answers:  # noqa: ASYNC110 - an answer is looked for, as a caller would
                await asyncio.sleep(0.002)
            took[name] = clock.now - began

        for burst in range(3):
            await asyncio.gather(*[ask(f"{burst}.{number}", number / 2000) for number in range(60)])
            mine = {name: answer for name, answer in window.answers.items() if name.startswith(f"{burst}.")}
            refused = [name for name, answer in mine.items() if isinstance(answer, Overloaded)]
            answered = [name for name, answer in mine.items() if isinstance(answer, list)]
            assert len(answered) >= 3
            assert len(answered) + len(refused) == 60  # nobody waits in vain
            assert all(answer.retry_after >= 1 for answer in mine.values() if isinstance(answer, Overloaded))
            assert max(took[name] for name in refused) < 0.3  # in the first burst after two calls
            if burst == 2:
                assert float(np.median([took[name] for name in refused])) < 0.15
        sizes = [len(call) for call in fake.calls]
        assert sizes[:2] == [1, 2]
        assert max(sizes) <= 8

    timed(scenario)


def test_a_quick_model_of_unknown_cost_takes_twice_as_many_rows_each_time() -> None:
    async def scenario(clock: Clock) -> None:
        fake, window = Fake(inline=False), Window()
        queue = Batcher(fake.model, window.settle, cost=Cost({}))
        for number in range(200):
            queue.submit(window.work(str(number), 1.0))
        await turns(200)
        assert all(window.answers[str(number)] == [10.0] for number in range(200))
        assert [len(call) for call in fake.calls] == [1, 2, 4, 8, 16, 32, 64, 73]

    timed(scenario)


def test_the_first_call_of_a_model_of_unknown_cost_may_load_something() -> None:
    cost = Cost({})
    assert cost.most == 1
    assert not cost.learn(1, 3.0)
    assert cost.learn(2, 0.002)
    assert cost.seconds(1) < 0.01
    assert cost.most == 4
    assert Cost({1: 0.1}).most > 1000


def test_a_call_that_is_ended_is_learned_from() -> None:
    async def scenario(clock: Clock) -> None:
        fake, window = Fake(inline=False, costs={1: 0.001, 64: 0.001}), Window()
        fake.bad, fake.error, fake.hold = {13.0}, lambda: ModelHung("it was killed"), asyncio.Event()
        queue = Batcher(fake.model, window.settle)
        before = queue.cost.seconds(1)
        queue.submit(window.work("hung", 13.0))
        await asyncio.sleep(0.03)
        fake.hold.set()
        await turns()
        assert isinstance(window.answers["hung"], ModelCrashed)
        assert queue.cost.seconds(1) > before

    timed(scenario)


def test_an_inline_model_leaves_the_loop_for_a_large_request() -> None:
    async def run() -> None:
        fake, window = Fake(inline=True, costs={1: 0.0001, 1000: 0.1}), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        queue.submit(window.work("large", *[float(n) for n in range(500)]))
        queue.submit(window.work("small", 1.0))
        await turns()
        assert window.answers == {"small": [10]} or window.answers == {}
        fake.hold.set()
        await turns()
        assert set(window.answers) == {"large", "small"}

    asyncio.run(run())


def test_values_that_need_a_second_look_affect_their_own_request_only() -> None:
    async def run() -> None:
        fake, window = Fake(), Window()
        queue = batcher(fake, window)
        for name, value in (("a", 1.0), ("nan", math.nan), ("b", 2.0), ("large", 2.0**60)):
            queue.submit(window.work(name, value))
        await turns()
        assert fake.calls == [[1, 2, 2.0**60]]
        assert isinstance(window.answers.pop("nan"), ValueError)
        assert window.answers == {"a": [10], "b": [20], "large": [10 * 2.0**60]}

    asyncio.run(run())


def test_a_wire_that_fails_to_answer_harms_nobody_else() -> None:
    async def run() -> None:
        fake, window = Fake(), Window()
        queue = batcher(fake, window)
        bad = window.work("bad", math.nan)
        bad.door = Deaf()
        queue.submit(bad)
        queue.submit(window.work("good", 1.0))
        await turns()
        assert window.answers == {"good": [10]}

    asyncio.run(run())


class Deaf(Window):
    """A door whose `fail` fails."""

    def fail(self, work: object, error: BaseException) -> None:
        raise RuntimeError("no way to tell")


def test_a_cost_is_a_line_through_what_was_measured() -> None:
    cost = Cost(SLOW)
    assert cost.seconds(50) == pytest.approx(0.059)
    assert cost.rows_within(0.059) in (49, 50)
    assert cost.rows_within(0.001) == 1


def test_a_cost_follows_the_model() -> None:
    cost = Cost({1: 0.001, 64: 0.001})
    for _ in range(200):
        cost.learn(32, 0.050)
    assert cost.seconds(32) == pytest.approx(0.050, rel=0.05)
    for _ in range(200):
        cost.learn(1, 0.002)
        cost.learn(101, 0.102)
    assert cost.seconds(51) == pytest.approx(0.052, rel=0.1)


def test_a_cost_is_never_negative() -> None:
    cost = Cost({1: 0.010, 64: 0.001})
    assert cost.seconds(1) > 0
    assert cost.rows_within(10.0) >= 1


def test_admission_looks_at_the_queue_and_the_remaining_deadline() -> None:
    admission = Admission(Cost(SLOW), target=0.1)
    admission.admit(90, 0.0, 10.0, fits=1000)  # 90 ms
    admission.admit(90, 5.0, 10.0, fits=1000)  # the current call is not the queue's fault
    for waiting, running, remaining in ((110, 0.0, 10.0), (20, 0.0, 0.03), (10, 0.09, 0.1)):
        with pytest.raises(Overloaded):
            admission.admit(waiting, running, remaining, fits=1000)
    with pytest.raises(Overloaded):
        admission.admit(60, 0.0, 10.0, fits=10)  # 60 ms of rows in six calls of 9 ms
    admission.admit(0, 0.0, 0.001, fits=1)  # nothing runs, nothing waits: it is tried, and its cost learned
    with pytest.raises(Overloaded):
        admission.admit(0, 0.09, 0.1, fits=1, rows=5)  # 90 ms of the current call and 14 ms of its own
    with pytest.raises(DeadlineExceeded):
        admission.admit(0, 0.09, 0.005, fits=1)  # 10 ms of its own


def test_a_stall_of_the_machine_refuses_nobody_and_a_lasting_change_is_learned() -> None:
    cost = Cost({1: 0.006, 64: 0.007})
    for rows in (16, 32, 24, 32):
        cost.learn(rows, 0.0065)
    cost.learn(32, 2.0)  # the machine stood still
    Admission(cost, target=0.1).admit(64, 0.0, 10.0, 64)
    for rows in (16, 32, 24, 40) * 25:
        cost.learn(rows, 0.3)
    with pytest.raises(Overloaded):
        Admission(cost, target=0.1).admit(64, 0.0, 10.0, 32)


def test_a_switch_to_another_runtime_brings_its_costs_along() -> None:
    async def run() -> None:
        fake, window = Fake(inline=True, costs=SLOW), Window()
        queue = batcher(fake, window)
        slow = queue.cost.seconds(1)
        fake.costs, fake.runtime = {1: 1e-5, 64: 1e-5}, object()
        queue.submit(window.work("a", 1.0))
        await turns()
        assert queue.cost.seconds(1) < slow / 10

    asyncio.run(run())


@pytest.mark.parametrize("inline", [True, False])
def test_a_gather_that_fails_leaves_nobody_without_an_answer(inline: bool) -> None:
    def fails(parts: Sequence[list[Any]]) -> Rows | None:
        raise RuntimeWarning("invalid value encountered in cast")

    async def run() -> None:
        fake, window = Fake(inline=inline), Window()
        queue = batcher(fake, window)
        for name in "ab":
            work = window.work(name, 1.0)
            work.gather = fails
            queue.submit(work)
        queue.submit(window.work("c", 2.0))
        await turns()
        assert window.answers == {"a": [10], "b": [10], "c": [20]}

    asyncio.run(run())


def test_a_model_on_the_loop_has_its_part_of_a_turn_and_then_a_queue_with_a_bound() -> None:
    class Dear(Fake):
        def run(self, rows: Rows, *args: Any, **options: Any) -> Rows:
            if self.hold is not None and not self.hold.is_set():  # on the loop; beside it `run_async` waits
                busy = time.thread_time() + 0.004
                while time.thread_time() < busy:
                    pass
            return super().run(rows, *args, **options)

    async def run() -> None:
        fake, window = Dear(inline=True, costs={1: 0.004, 64: 0.004 * 64}), Window()
        fake.hold = asyncio.Event()
        queue = batcher(fake, window)
        refused = 0
        for number in range(100):
            try:
                queue.submit(window.work(str(number), float(number)))
            except Overloaded:
                refused += 1
        assert len(fake.calls) == 1  # of 100 that came in one turn; 4 ms, not 400
        assert 60 <= refused <= 90  # 100 ms are enough for 25
        fake.hold.set()
        await turns(300)
        assert len(window.answers) == 100 - refused

    asyncio.run(run())


def test_a_model_that_is_cheaper_than_a_refusal_refuses_nobody_on_a_busy_machine() -> None:
    class Interrupted(Fake):
        def run(self, rows: Rows, *args: Any, **options: Any) -> Rows:
            time.sleep(0.003)  # as if another program had the processor
            return super().run(rows, *args, **options)

    async def run() -> None:
        fake, window = Interrupted(inline=True, costs={1: 1e-5, 64: 1e-5}), Window()
        queue = batcher(fake, window)
        for turn in range(20):
            for number in range(50):
                queue.submit(window.work(f"{turn} {number}", float(number)))
            await turns(1)
        assert len(window.answers) == 1000
        assert all(isinstance(answer, list) for answer in window.answers.values())
        assert queue.cost.seconds(1) < 0.001

    asyncio.run(run())
