"""Requests predicted together: natural batching, without a timer.

What arrives in one turn of the event loop for the same model, outputs and parameters is predicted in one call at the
end of that turn, or at once where the wire knows that nothing else can come in it. A model that must not run on the
loop is called beside it, one call at a time; while it is busy requests gather, and the next call takes all that fit the
largest batch within the latency goal and leave nobody in it without an answer by its deadline: a request that would
outlast that of another waits for the next call, one that would outlast its own is told so and not predicted, unless no
other waits (what a call costs is learned from calls). A call that goes on far beyond that while others wait is ended,
and its requests are tried alone (`habit.py`, `suspects.py`). A model that runs on the loop has `PROMPT` of each turn;
beyond that its requests wait like the others', so that a turn stays short and the queue has its bound. A model that
answers in pieces: see `joining.py`.

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
from math import inf
from time import monotonic, thread_time

from bimodal.errors import DeadlineExceeded, ModelCrashed, ModelHung, Overloaded, Unavailable
from bimodal.model import Model
from bimodal.realtime import faults, gather
from bimodal.realtime.admission import STALL, TARGET, Admission, Cost
from bimodal.realtime.habit import Habit
from bimodal.realtime.joining import Joining
from bimodal.realtime.suspects import Suspects
from bimodal.realtime.work import RANK, Batch, Door, Key, Work, check_balance
from bimodal.rows import Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.quarantine import Quarantine

__all__ = ["MOST", "PATIENCE", "PROMPT", "RANK", "Batch", "Batcher", "Door", "Key", "Work"]

log = logging.getLogger("bimodal.realtime")

PROMPT = 0.005  # seconds: a call expected to take longer does not run on the event loop
MOST = 10_000  # rows of one call, but for a single request with more
HUNG = 1.0  # seconds after the last deadline of a call until its process is replaced
BRIEF = PROMPT / 10  # seconds: what takes less on the loop holds up nobody
CHEAP = 1e-4  # seconds of one row: to refuse it would take as long
SLACK = 1.25  # times what a call is expected to take, where a deadline is near: calls vary
STEP = 0.005  # seconds between two looks at the deadlines of those that wait
LOOK = 0.05  # seconds between two looks whether others wait for a call that seems to hang
LARGE = 256  # rows of a request that are not gathered twice
PATIENCE = 1.0  # seconds: how long a request waits for those of a lower rank

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
        self.quarantine = Quarantine()
        self.habit = Habit()
        self._suspects = Suspects(self)
        self._most = most
        self._turn: dict[Key, list[Work]] = {}
        self._turn_rows = 0
        self._look()
        self._spent = 0.0  # seconds of this turn that the model has had
        self._waiting: dict[tuple[int, Key], deque[Work]] = {}  # by rank and key
        self._running: asyncio.Task[None] | None = None
        self._run: Sequence[Work] = ()
        self._run_until = 0.0
        self.check = 0.0  # seconds that it took to make the rows of the next call
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._hung: asyncio.TimerHandle
        self._doubt: asyncio.TimerHandle | None = None
        self._doubted = False  # whether the call that runs was ended since it seemed to hang
        self._joining = Joining(self)  # of a model that answers in pieces

    # -- in ---------------------------------------------------------------------------------------------------------

    def submit(self, work: Work) -> None:
        """Take a work; it is settled at the end of this turn of the loop or later; one that is alone, or fills a batch,
        at once where the model runs on the loop. Raises DeadlineExceeded, Overloaded, Unavailable."""
        if self.stopped:
            raise Unavailable("the server is shutting down")
        if self.waiting_rows or self._run:
            self._admit(work)
        elif (
            work.alone
            and self._light
            and work.count <= self._full
            and work.deadline > work.queued
            and self.model.runtime is self._runtime
            and not self._turn
        ):
            self._predict(work.key, [work])
            self._look()
            return
        works = self._turn.get(work.key)
        if works is None:
            if not self._turn and not work.alone:
                asyncio.get_running_loop().call_soon(self._end_turn)
            self._turn[work.key] = works = []
        works.append(work)
        self._turn_rows += work.count
        if work.alone or self._turn_rows >= self._full:
            self._end_turn()

    def _admit(self, work: Work) -> None:
        now = work.queued
        ahead = self.waiting_rows + self._turn_rows
        if self.model.streams:
            ahead //= self.model.runtime.streams  # side by side
        self.admission.admit(ahead, self._run_until - now, work.deadline - now, self._full, work.count)

    def leave(self, work: Work) -> None:
        """A waiting work was cancelled."""
        if work.queue is not self:
            return
        work.queue = None
        if not self._joining.leave(work):
            self.waiting_rows -= work.count

    def follow(self, other: Batcher) -> None:
        """Expect of a call what those of another cost, whose place this one takes, where loading measured more: beside
        a busy server it measures too much, and would refuse the first requests. It is learned at once if they do.
        """
        if other.cost.seconds(1) < self.cost.seconds(1):
            self.cost = copy(other.cost)
            self.admission = Admission(self.cost, self.target)
            self._look()

    async def stop(self) -> None:
        """Finish what was taken, refuse what comes."""
        self.stopped = True
        self._end_turn()
        while self._running is not None:
            await asyncio.wait([self._running])
        await self._suspects.stop()
        await self._joining.stop()

    @property
    def in_flight(self) -> int:
        """Works that wait or are being predicted beside the loop."""
        return sum(map(len, self._waiting.values())) + len(self._run) + self._joining.count + self._suspects.count

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
                    self._joining.join(key, work)
            elif alive and inline and self._is_prompt(sum([work.count for work in alive])):
                self._predict(key, alive)
            elif alive:
                self._enqueue(key, alive)
        self._look()

    def _look(self) -> None:
        """See what a call may hold by now, and whether a lone request needs no further look before it is predicted."""
        self._full = self._fits()
        self._light = self.model.inline and not self.model.streams and self.cost.seconds(1) <= CHEAP

    def _is_prompt(self, rows: int) -> bool:
        """Whether they are predicted on the loop, now. A model that has had its part of this turn, or for which others
        wait already, shall neither keep the loop from its other callers nor serve the latest first; but where a refusal
        takes as long as an answer, there is nothing to be won by a queue.
        """
        seconds = self.cost.seconds(rows)
        if seconds <= CHEAP or self.cost.seconds(1) <= CHEAP:
            return seconds <= PROMPT
        if seconds <= BRIEF:
            return self._spent < PROMPT
        return self._spent + seconds <= PROMPT and not self.waiting_rows

    def _spend(self, seconds: float) -> None:
        if not self._spent:
            asyncio.get_running_loop().call_soon(self._rest)
        self._spent += seconds

    def _rest(self) -> None:
        self._spent = 0.0

    def _renew(self) -> None:
        """The model was switched to another runtime: its calls cost something else."""
        self._runtime = self.model.runtime
        self.cost, self.habit = Cost(self.model.costs), Habit()
        self.admission = Admission(self.cost, self.target)
        self._look()

    def _alive(self, works: list[Work]) -> list[Work]:
        """Those whose caller is still there and whose deadline has not passed."""
        now = monotonic()
        over = [work for work in works if work.settled or work.deadline <= now]
        if not over:
            return works
        for work in over:
            self.fail(work, DeadlineExceeded("the deadline passed before the prediction began"))
        return [work for work in works if not work.settled]

    def checked(self, works: list[Work]) -> tuple[list[Work], Rows | None]:
        """`gathered`, and what it took, for the batch that follows."""
        start = monotonic()
        found = self.gathered(works)
        self.check = monotonic() - start
        return found

    def gathered(self, works: list[Work]) -> tuple[list[Work], Rows | None]:
        """The Rows of the works that are good; the others are told why not, and left out."""
        count = works[0].count
        if len(works) > 1:
            kinds = dict.fromkeys([work.gather for work in works])
            if len(kinds) > 1:
                groups = [[work for work in works if work.gather is kind] for kind in kinds]
                return _joined([self.gathered(group) for group in groups])
            count = sum([work.count for work in works])
        try:
            rows = works[0].gather([work.values for work in works])
        except Exception:  # a fault of ours: the full verdict on each alone leaves none without an answer
            log.exception("the values of %d requests could not be gathered", len(works))
            rows = None
        if rows is not None and rows.count == count:
            return works, rows
        if len(works) > 1:
            half = len(works) // 2
            return _joined([self.gathered(works[:half]), self.gathered(works[half:])])
        return self._rechecked(works[0])

    def _rechecked(self, work: Work) -> tuple[list[Work], Rows | None]:
        try:
            rows = work.door.recheck(work)
        except Exception as error:  # whatever it is, it is this request's alone
            self.fail(work, error)
            return [], None
        work.gather, work.values, work.count = gather.ready, [rows], rows.count
        return [work], rows

    def fail(self, work: Work, error: BaseException) -> None:
        if not work.settled:
            work.settled = True
            faults.of(error, self.model)
            try:
                work.door.fail(work, error)
            except Exception:
                log.exception("an error could not be told")

    # -- on the loop ------------------------------------------------------------------------------------------------

    def _predict(self, key: Key, works: list[Work]) -> None:
        kept, rows = self.checked(works)
        if rows is not None:
            self._run_inline(key, kept, rows)

    def _run_inline(self, key: Key, works: Sequence[Work], rows: Rows) -> None:
        if not works:
            return
        began, busy = monotonic(), thread_time()
        try:
            answer = self.model.run(rows, key[0], threshold=key[1])
            check_balance(answer, rows)
        except Exception as error:
            for part, its_rows in self._parts(key, works, rows, error):
                self._run_inline(key, *self._still(part, its_rows))
            return
        spent = thread_time() - busy  # where others have the processor, that is not what the model costs
        if spent > BRIEF:
            self._spend(spent)
        self.done(Batch(works, rows, answer, began, monotonic() - began, inline=True, check=self.check), waited=True)
        self.cost.learn(rows.count, spent)  # nobody waits for that

    def _parts(
        self, key: Key, works: Sequence[Work], rows: Rows, error: Exception, *, again: bool = True
    ) -> list[tuple[Sequence[Work], Rows]]:
        """What is tried again after a failure: the halves; after a crash each work alone, a lone one once more, since
        something else may have killed the process. again: they were tried before. A lone work has failed then.
        """
        crashed = isinstance(error, ModelCrashed)
        if len(works) == 1 and crashed and not isinstance(error, ModelHung) and not again:
            return [(works, rows)]
        if len(works) == 1 or isinstance(error, Unavailable):  # where no process takes over, none does for a part
            for work in works:
                self.fail(work, error)
            if isinstance(error, ModelCrashed) and not isinstance(error, ModelHung):
                self.quarantine.remember(key, rows, error)
            return []
        step = 1 if crashed else (len(works) + 1) // 2
        parts, at = [], 0
        for start in range(0, len(works), step):
            part = works[start : start + step]
            count = sum([work.count for work in part])
            parts.append((part, rows.slice(at, at + count)))
            at += count
        return parts

    def _still(self, works: Sequence[Work], rows: Rows) -> tuple[Sequence[Work], Rows]:
        """What is tried again, less those whose caller left or whose deadline passed meanwhile."""
        alive = set(self._alive(list(works)))
        if len(alive) == len(works):
            return works, rows
        kept, at = [rows.slice(0, 0)], 0
        for work in works:
            if work in alive:
                kept.append(rows.slice(at, at + work.count))
            at += work.count
        return [work for work in works if work in alive], Rows.concat(kept)

    def done(self, batch: Batch, *, waited: bool = False) -> None:
        """waited: its seconds say nothing of what a call costs: they were also those of another wait."""
        if not waited and self.cost.learn(batch.given.count, batch.seconds):
            self._shed()
        try:
            self._settle(batch)
        except Exception as error:
            log.exception("a batch could not be answered")
            for work in batch.works:
                self.fail(work, error)

    def _shed(self) -> None:
        """Refuse those who would not wait had it been known when they came what a call costs."""
        now, ahead = monotonic(), 0
        for lane in sorted(self._waiting, key=lambda lane: lane[0]):
            for work in [each for each in self._waiting[lane] if not each.settled]:
                try:
                    self.admission.admit(ahead, 0.0, work.deadline - now, self._fits(), work.count)
                except (DeadlineExceeded, Overloaded) as error:
                    self.leave(work)
                    self.fail(work, error)
                else:
                    ahead += work.count

    # -- beside the loop --------------------------------------------------------------------------------------------

    def _enqueue(self, key: Key, works: list[Work]) -> None:
        """Queue what is good; what is not hears of it now, not when its turn would have come."""
        kept, rows = self.gathered(works)
        if rows is not None and rows.count >= LARGE:
            _keep(kept, rows)
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
                kept, rows = self.checked(works) if works else ([], None)
                self._run = kept
                if rows is not None:
                    await self._run_beside(key, kept, rows)
                self._run = ()
                await asyncio.sleep(0)  # callers just answered may ask again at once: they join the next call
                self._end_turn()
        finally:
            self._running, self._run = None, ()

    def _next(self) -> tuple[Key, list[Work]]:
        """The next batch: of the requests whose turn it is, as many as fit and have their answers in time. Kinds of
        request of one rank take turns.
        """
        late = monotonic() - PATIENCE
        first = min(self._waiting, key=lambda lane: 0 if self._waiting[lane][0].queued <= late else lane[0])
        key = first[1]
        others = sorted([lane for lane in self._waiting if lane[1] == key and lane != first], key=lambda lane: lane[0])
        self._waiting[first] = self._waiting.pop(first)
        works: list[Work] = []
        for lane in (first, *others):
            if not self._fill(works, self._waiting[lane]):
                break
            del self._waiting[lane]
        return key, works

    def _fill(self, works: list[Work], queue: deque[Work]) -> bool:
        """Move to a call those who fit in it; whether none is left over."""
        now, most = monotonic(), min(self._fits(), self.cost.most)
        rows, until = sum([work.count for work in works]), min([work.deadline for work in works], default=inf)
        while queue:
            work = queue[0]
            if work.settled:
                queue.popleft()
                continue
            end = now + SLACK * self.cost.seconds(rows + work.count)
            if works and (rows + work.count > most or end > min(until, work.deadline)):
                return False
            queue.popleft()
            self.leave(work)
            if end > work.deadline and (self.waiting_rows or work.deadline <= now):
                self.fail(work, DeadlineExceeded("the prediction would not end within the deadline"))
            else:
                works.append(work)
                rows, until = rows + work.count, min(until, work.deadline)
        return True

    def _let_in(self, key: Key, works: Sequence[Work], rows: Rows) -> tuple[Sequence[Work], Rows]:
        """Less those whose rows killed a process lately: they are told so at once. Where they hung, those who have far
        more time than was tried are tried again, beside the others.
        """
        kept, rest, known = self.quarantine.sift(key, works, rows)
        fates = {id(work): error for work, error in known}
        at = 0
        for work in works if known else ():
            error, at = fates.get(id(work)), at + work.count
            if isinstance(error, ModelHung) and work.deadline - monotonic() > 2 * error.tried:
                self._suspects.take(key, work, rows.slice(at - work.count, at))
            elif error is not None:
                self.fail(work, error)
        return kept, rest

    async def _run_beside(self, key: Key, works: Sequence[Work], rows: Rows, *, again: bool = False) -> None:
        """again: a process died of these works, with others or alone."""
        if self.quarantine.holds:
            works, rows = self._let_in(key, works, rows)
        if not works:
            return
        began, check = monotonic(), self.check
        self._run_until = began + self.cost.seconds(rows.count)
        self._await(self.model.runtime, self._patience(works, rows.count, began))
        self._doubt_later(works, rows.count, began)
        try:
            try:
                answer = await self.model.run_async(rows, key[0], threshold=key[1])
            finally:
                self._rest_assured()
            check_balance(answer, rows)
        except Exception as error:
            seconds = monotonic() - began
            doubted = self._doubted and isinstance(error, ModelHung)
            if doubted and len(works) == 1:
                self._suspects.take(key, works[0], rows)
                return
            if isinstance(error, ModelHung) and not doubted and seconds > self.cost.seconds(rows.count):
                self.cost.learn(rows.count, seconds)  # it would have taken longer still: the next shall have fewer rows
            crashed = isinstance(error, ModelCrashed)
            for part, its_rows in self._parts(key, works, rows, error, again=again):
                await self._run_beside(key, *self._still(part, its_rows), again=crashed)
            return
        seconds = monotonic() - began
        if not again:
            self.habit.took(seconds)
        self.done(Batch(works, rows, answer, began, seconds, inline=False, check=check), waited=again)

    def _patience(self, works: Sequence[Work], count: int, began: float) -> float:
        """Seconds until a call is taken to hang: HUNG after its last deadline, or after its first, where it should have
        ended long ago. The others in it are then tried again without the one that may be to blame.
        """
        deadlines = [work.deadline - began for work in works]
        expected = STALL * self.cost.seconds(count)
        return min(max(min(deadlines), expected), max(deadlines)) + HUNG

    def _await(self, runtime: Runtime, seconds: float) -> None:
        """Look then whether the call that begins now still runs."""
        self._hung = asyncio.get_running_loop().call_later(seconds, self._interrupt, runtime)

    def _interrupt(self, runtime: Runtime) -> None:
        """End a call whose answer nobody waits for, with the process that it holds up; it may be loading the model."""
        if runtime.interrupt(again=not self.stopped):
            log.error("%s: no answer %.3g s after the deadline; its process is replaced", self.model.name, HUNG)
        else:
            self._await(runtime, HUNG)

    def _doubt_later(self, works: Sequence[Work], count: int, began: float) -> None:
        """Look whether the call that begins now goes on far longer than such calls do."""
        self._doubted = False
        limit = self.habit.limit(self.cost.seconds(count), min([work.deadline for work in works]) - began)
        if limit < self._patience(works, count, began):
            self._doubt = asyncio.get_running_loop().call_later(limit, self._suspect, self.model.runtime, count, limit)

    def _rest_assured(self) -> None:
        self._hung.cancel()
        if self._doubt is not None:
            self._doubt.cancel()
            self._doubt = None

    def _suspect(self, runtime: Runtime, count: int, seconds: float) -> None:
        """End a call that seems to hang, where others wait and are answered at once then; else look again."""
        others = self.waiting_rows or sum([not work.settled for work in self._run]) > 1
        if others and not self.stopped and runtime.spared and runtime.interrupt():
            self._doubted = True
            told = (
                "%s: no answer to %d rows within %.3g s, far longer than they take; its process is replaced, and those "
            )
            log.error(told + "who asked are tried alone", self.model.name, count, seconds)
            return
        self._doubt = asyncio.get_running_loop().call_later(LOOK, self._suspect, runtime, count, seconds + LOOK)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def _watch(self, deadline: float) -> None:
        if self._alarm is not None:
            if self._alarm_at <= deadline:
                return
            self._alarm.cancel()
        self._alarm_at = deadline
        delay = max(STEP, deadline - monotonic() + 0.001)
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
                self.fail(work, DeadlineExceeded("no prediction within the deadline"))
            else:
                alive.append(work.deadline)
        if alive:
            self._watch(min(alive))


def _joined(parts: Sequence[tuple[list[Work], Rows | None]]) -> tuple[list[Work], Rows | None]:
    rows = [rows for _, rows in parts if rows is not None]
    return [work for works, _ in parts for work in works], Rows.concat(rows) if rows else None


def _keep(works: list[Work], rows: Rows) -> None:
    """Rows that took long to gather stay as they are."""
    at = 0
    for work in works:
        if work.count >= LARGE:
            work.gather, work.values = gather.ready, [rows.slice(at, at + work.count)]
        at += work.count
