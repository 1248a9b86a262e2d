"""Requests predicted together: natural batching, without a timer.

What arrives in one turn of the event loop for the same model, outputs and parameters is predicted in one call at the
end of that turn, or at once where the wire knows that nothing else can come in it. A model that must not run on the
loop is called beside it, one call at a time; while it is busy requests gather, and the next call takes all that fit the
largest batch within the latency goal. A model that answers in pieces is asked for each request on its own, as many side
by side as it answers; at the deadline, or when the caller leaves, it is stopped.

1. A full batch goes at once. 2. A lone request never waits for company. 3. Output rows equal input rows, or every
waiter gets an error. 4. A failing batch is split until only the guilty request fails. 5. A cancelled or timed-out
waiter harms nobody. 6. A cancelled request not yet sent is left out. 7. Unlike requests never share a batch. 8. Order
within a request is kept. 9. A full queue refuses at once. 10. Stop drains, then refuses. 11. Of those that wait, the
lower rank goes first; who has waited for `PATIENCE` comes before all ranks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from time import monotonic
from typing import Any, Protocol

import msgspec

from bimodal.errors import BimodalError, DeadlineExceeded, ModelCrashed, Overloaded, Unavailable
from bimodal.model import Model
from bimodal.realtime import faults, gather
from bimodal.realtime.admission import TARGET, Admission, Cost
from bimodal.realtime.answer import Answer
from bimodal.rows import Rows
from bimodal.runtimes.contract import Runtime

log = logging.getLogger("bimodal.realtime")

PROMPT = 0.005  # seconds: a call expected to take longer does not run on the event loop
MOST = 10_000  # rows of one call, but for a single request with more
RANK = 5  # of a request that names none; 1 goes first
HUNG = 1.0  # seconds after the last deadline of a call until its process is replaced
PATIENCE = 1.0  # seconds: how long a request waits for those of a lower rank

Key = tuple[Any, ...]  # (outputs, threshold, …): requests share a batch only where it is equal


class Door(Protocol):
    """What a Work came in through: it knows the wire's words, the batcher does not.

    route (for the ledger) and content_type (of its answers) are the same for all works of a door.
    """

    route: str
    content_type: bytes

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        """The body of the answer to a work, which has the rows from `start` to `stop` of the batch's answer.

        Raises ModelFailed where it cannot be told.
        """

    def recheck(self, work: Work) -> Rows:
        """The full verdict on a request whose values a gather did not take; raises InputError."""

    def fail(self, work: Work, error: BaseException) -> None:
        """Tell the caller why there is no answer."""


class Work(msgspec.Struct, eq=False):
    """The rows of one request on their way to the model.

    values and gather: see `gather.py`. count: its rows. deadline and queued: on the monotonic clock. parse: seconds.
    rank: whose turn it is among those that wait.
    """

    door: Door
    request: Any
    respond: Any
    gather: gather.Gather
    values: list[Any]
    count: int
    key: Key
    deadline: float
    queued: float
    parse: float = 0.0
    extra: Any = None
    rank: int = RANK
    alone: bool = False  # no other can come in this turn
    settled: bool = False
    queue: Batcher | None = None  # where it waits

    def cancel(self) -> None:
        """The caller left: nothing is answered, and what has not begun is not done."""
        if self.settled:
            return
        self.settled = True
        if self.queue is not None:
            self.queue.leave(self)


class Batch(msgspec.Struct, eq=False):
    """Works predicted in one call: `answer` has the rows of all of them, in order.

    began: when the call began; seconds: what it took. inline: on the event loop.
    """

    works: Sequence[Work]
    given: Rows
    answer: Rows
    began: float
    seconds: float
    inline: bool


Settle = Callable[[Batch], None]


class Batcher:
    """The queue of one model. All calls come from the event loop's thread."""

    def __init__(
        self, model: Model, settle: Settle, *, target: float = TARGET, cost: Cost | None = None, most: int = MOST
    ) -> None:
        self.model = model
        self._runtime = model.runtime
        self.cost = cost or Cost(model.costs)
        self.admission = Admission(self.cost, target)
        self.target = target
        self.stopped = False
        self.waiting_rows = 0
        self._settle = settle
        self._most = most
        self._turn: dict[Key, list[Work]] = {}
        self._turn_rows = 0
        self._full = self._fits()
        self._waiting: dict[tuple[int, Key], deque[Work]] = {}  # by rank and key
        self._running: asyncio.Task[None] | None = None
        self._run: Sequence[Work] = ()
        self._run_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._hung: asyncio.TimerHandle
        self._joining: dict[Work, asyncio.Task[None]] = {}  # of a model that answers in pieces

    # -- in ---------------------------------------------------------------------------------------------------------

    def submit(self, work: Work) -> None:
        """Take a work; it is settled at the end of this turn of the loop or later; one that is alone, or fills a batch,
        at once where the model runs on the loop. Raises Overloaded, Unavailable."""
        if self.stopped:
            raise Unavailable("the server is shutting down")
        if self.waiting_rows:
            now = work.queued
            ahead = self.waiting_rows + self._turn_rows
            if self.model.streams:
                ahead //= self.model.runtime.streams  # side by side
            self.admission.admit(ahead, self._run_until - now, work.deadline - now, self._full)
        works = self._turn.get(work.key)
        if works is None:
            if not self._turn and not work.alone:
                asyncio.get_running_loop().call_soon(self._end_turn)
            self._turn[work.key] = works = []
        works.append(work)
        self._turn_rows += work.count
        if work.alone or self._turn_rows >= self._full:
            self._end_turn()

    def leave(self, work: Work) -> None:
        """A waiting work was cancelled."""
        if work.queue is not self:
            return
        work.queue = None
        task = self._joining.get(work)
        if task is not None:
            task.cancel()
        else:
            self.waiting_rows -= work.count

    def follow(self, other: Batcher) -> None:
        """Expect of a call what those of another cost, whose place this one takes, where loading measured more: beside
        a busy server it measures too much, and would refuse the first requests. It is learned at once if they do.
        """
        if other.cost.seconds(1) < self.cost.seconds(1):
            self.cost = copy(other.cost)
            self.admission = Admission(self.cost, self.target)
            self._full = self._fits()

    async def stop(self) -> None:
        """Finish what was taken, refuse what comes."""
        self.stopped = True
        self._end_turn()
        while self._running is not None:
            await asyncio.wait([self._running])
        while self._joining:
            await asyncio.wait(self._joining.values())

    @property
    def in_flight(self) -> int:
        """Works that wait or are being predicted beside the loop."""
        return sum(map(len, self._waiting.values())) + len(self._run) + len(self._joining)

    # -- the end of a turn ------------------------------------------------------------------------------------------

    def _fits(self) -> int:
        """Rows of a full batch: what one call can do within the goal, or within twice the time of a single row."""
        goal = PROMPT if self.model.inline else max(self.target, 2 * self.cost.seconds(1))
        return min(self._most, self.cost.rows_within(goal))

    def _end_turn(self) -> None:
        turn, self._turn, self._turn_rows = self._turn, {}, 0
        if not turn:
            return
        if self.model.runtime is not self._runtime:
            self._renew()
        inline = self.model.inline
        for key, works in turn.items():
            alive = self._alive(works)
            if self.model.streams:
                for work in alive:
                    self._join(key, work)
            elif alive and inline and self.cost.seconds(sum([work.count for work in alive])) <= PROMPT:
                self._predict(key, alive)
            elif alive:
                self._enqueue(key, alive)
        self._full = self._fits()

    def _renew(self) -> None:
        """The model was switched to another runtime: its calls cost something else."""
        self._runtime = self.model.runtime
        self.cost = Cost(self.model.costs)
        self.admission = Admission(self.cost, self.target)
        self._full = self._fits()

    def _alive(self, works: list[Work]) -> list[Work]:
        """Those whose caller is still there and whose deadline has not passed."""
        now = monotonic()
        over = [work for work in works if work.settled or work.deadline <= now]
        if not over:
            return works
        for work in over:
            self._fail(work, DeadlineExceeded("the deadline passed before the prediction began"))
        return [work for work in works if not work.settled]

    def _gathered(self, works: list[Work]) -> tuple[list[Work], Rows | None]:
        """The Rows of the works that are good; the others are told why not, and left out."""
        kinds = dict.fromkeys([work.gather for work in works])
        if len(kinds) > 1:
            groups = [[work for work in works if work.gather is kind] for kind in kinds]
            return _joined([self._gathered(group) for group in groups])
        try:
            rows = works[0].gather([work.values for work in works])
        except Exception:  # a fault of ours: the full verdict on each alone leaves none without an answer
            log.exception("the values of %d requests could not be gathered", len(works))
            rows = None
        if rows is not None and rows.count == sum([work.count for work in works]):
            return works, rows
        if len(works) > 1:
            half = len(works) // 2
            return _joined([self._gathered(works[:half]), self._gathered(works[half:])])
        return self._rechecked(works[0])

    def _rechecked(self, work: Work) -> tuple[list[Work], Rows | None]:
        try:
            rows = work.door.recheck(work)
        except Exception as error:  # whatever it is, it is this request's alone
            self._fail(work, error)
            return [], None
        work.gather, work.values, work.count = gather.ready, [rows], rows.count
        return [work], rows

    def _fail(self, work: Work, error: BaseException) -> None:
        if not work.settled:
            work.settled = True
            faults.of(error, self.model)
            try:
                work.door.fail(work, error)
            except Exception:
                log.exception("an error could not be told")

    # -- on the loop ------------------------------------------------------------------------------------------------

    def _predict(self, key: Key, works: list[Work]) -> None:
        kept, rows = self._gathered(works)
        if rows is not None:
            self._run_inline(key, kept, rows)

    def _run_inline(self, key: Key, works: Sequence[Work], rows: Rows) -> None:
        began = monotonic()
        try:
            answer = self.model.run(rows, key[0], threshold=key[1])
            _balanced(answer, rows)
        except Exception as error:
            for part, its_rows in self._parts(works, rows, error):
                self._run_inline(key, part, its_rows)
            return
        self._done(Batch(works, rows, answer, began, monotonic() - began, inline=True))

    def _parts(self, works: Sequence[Work], rows: Rows, error: Exception) -> list[tuple[Sequence[Work], Rows]]:
        """What is tried again after a failure: the halves; after a crash each work alone. A lone work has failed."""
        if len(works) == 1:
            self._fail(works[0], error)
            return []
        crashed = isinstance(error, ModelCrashed)
        step = 1 if crashed else (len(works) + 1) // 2
        parts, at = [], 0
        for start in range(0, len(works), step):
            part = works[start : start + step]
            count = sum([work.count for work in part])
            parts.append((part, rows.slice(at, at + count)))
            at += count
        return parts

    def _done(self, batch: Batch) -> None:
        if self.cost.learn(batch.given.count, batch.seconds):
            self._shed()
        try:
            self._settle(batch)
        except Exception as error:
            log.exception("a batch could not be answered")
            for work in batch.works:
                self._fail(work, error)

    def _shed(self) -> None:
        """Refuse those who would not wait had it been known when they came what a call costs."""
        now, ahead = monotonic(), 0
        for lane in sorted(self._waiting, key=lambda lane: lane[0]):
            for work in [each for each in self._waiting[lane] if not each.settled]:
                try:
                    self.admission.admit(ahead, 0.0, work.deadline - now, self._fits())
                except Overloaded as error:
                    self.leave(work)
                    self._fail(work, error)
                else:
                    ahead += work.count

    # -- beside the loop --------------------------------------------------------------------------------------------

    def _enqueue(self, key: Key, works: list[Work]) -> None:
        """Queue what is good; what is not hears of it now, not when its turn would have come."""
        kept, _ = self._gathered(works)
        for work in kept:
            work.queue = self
            self.waiting_rows += work.count
            self._waiting.setdefault((work.rank, key), deque()).append(work)
        if not kept:
            return
        self._watch(min([work.deadline for work in kept]))
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._work_off())

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                key, works = self._next()
                works = self._alive(works)
                kept, rows = self._gathered(works) if works else ([], None)
                self._run = kept
                if rows is not None:
                    await self._run_beside(key, kept, rows)
                self._run = ()
                await asyncio.sleep(0)  # callers just answered may ask again at once: they join the next call
                self._end_turn()
        finally:
            self._running, self._run = None, ()

    def _next(self) -> tuple[Key, list[Work]]:
        """The next batch: of the requests whose turn it is, as many as fit. Kinds of request of one rank take turns."""
        late = monotonic() - PATIENCE
        first = min(self._waiting, key=lambda lane: 0 if self._waiting[lane][0].queued <= late else lane[0])
        key = first[1]
        others = sorted([lane for lane in self._waiting if lane[1] == key and lane != first], key=lambda lane: lane[0])
        works: list[Work] = []
        rows, most = 0, min(self._fits(), self.cost.most)
        self._waiting[first] = self._waiting.pop(first)
        for lane in (first, *others):
            queue = self._waiting[lane]
            while queue and (not works or rows + queue[0].count <= most):
                work = queue.popleft()
                if work.settled:
                    continue
                self.leave(work)
                works.append(work)
                rows += work.count
            if not queue:
                del self._waiting[lane]
        return key, works

    async def _run_beside(self, key: Key, works: Sequence[Work], rows: Rows) -> None:
        began = monotonic()
        self._run_until = began + self.cost.seconds(rows.count)
        self._await(self.model.runtime, max([work.deadline for work in works]) + HUNG - began)
        try:
            try:
                answer = await self.model.run_async(rows, key[0], threshold=key[1])
            finally:
                self._hung.cancel()
            _balanced(answer, rows)
        except Exception as error:
            seconds = monotonic() - began
            if isinstance(error, ModelCrashed) and seconds > self.cost.seconds(rows.count):
                self.cost.learn(rows.count, seconds)  # it would have taken longer still: the next shall have fewer rows
            for part, its_rows in self._parts(works, rows, error):
                if not all(work.settled for work in part):
                    await self._run_beside(key, part, its_rows)
            return
        self._done(Batch(works, rows, answer, began, monotonic() - began, inline=False))

    def _await(self, runtime: Runtime, seconds: float) -> None:
        """Look then whether the call that begins now still runs."""
        self._hung = asyncio.get_running_loop().call_later(seconds, self._interrupt, runtime)

    def _interrupt(self, runtime: Runtime) -> None:
        """End a call whose answer nobody waits for, with the process that it holds up; it may be loading the model."""
        if runtime.interrupt(again=not self.stopped):
            log.error("%s: no answer %.3g s after the deadline; its process is replaced", self.model.name, HUNG)
        else:
            self._await(runtime, HUNG)

    # -- in pieces --------------------------------------------------------------------------------------------------

    def _join(self, key: Key, work: Work) -> None:
        kept, rows = self._gathered([work])
        if rows is None:
            return
        work.queue = self
        task = asyncio.get_running_loop().create_task(self._run_joining(key, kept, rows))
        self._joining[work] = task
        task.add_done_callback(lambda _: self._parted(work))
        self._count_joining()

    async def _run_joining(self, key: Key, works: list[Work], rows: Rows) -> None:
        (work,) = works
        began = monotonic()
        try:
            async with asyncio.timeout(work.deadline - began):
                answer = await self.model.run_async(rows, key[0], threshold=key[1])
            _balanced(answer, rows)
        except TimeoutError:
            self._fail(work, DeadlineExceeded("no prediction within the deadline"))
        except Exception as error:
            self._fail(work, error)
        else:
            self._done(Batch(works, rows, answer, began, monotonic() - began, inline=False))

    def _parted(self, work: Work) -> None:
        del self._joining[work]
        work.queue = None
        self._count_joining()

    def _count_joining(self) -> None:
        """Rows that wait for a place of the model."""
        self.waiting_rows = max(0, sum([work.count for work in self._joining]) - self.model.runtime.streams)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def _watch(self, deadline: float) -> None:
        if self._alarm is not None:
            if self._alarm_at <= deadline:
                return
            self._alarm.cancel()
        self._alarm_at = deadline
        delay = max(0.0, deadline - monotonic()) + 0.001
        self._alarm = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        """Answer those whose deadline has passed; what runs goes on, its answer is dropped."""
        self._alarm = None
        now = monotonic()
        alive = []
        for work in [*self._run, *(work for queue in self._waiting.values() for work in queue)]:
            if work.settled:
                continue
            if work.deadline <= now:
                self.leave(work)
                self._fail(work, DeadlineExceeded("no prediction within the deadline"))
            else:
                alive.append(work.deadline)
        if alive:
            self._watch(min(alive))


def _joined(parts: Sequence[tuple[list[Work], Rows | None]]) -> tuple[list[Work], Rows | None]:
    rows = [rows for _, rows in parts if rows is not None]
    return [work for works, _ in parts for work in works], Rows.concat(rows) if rows else None


def _balanced(answer: Rows, rows: Rows) -> None:
    if answer.count != rows.count:
        raise BimodalError(f"the model gave {answer.count} answers for {rows.count} rows")
