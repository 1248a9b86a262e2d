"""What waits for a model: the rows of one request, and those that are predicted in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from bimodal.errors import BimodalError
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.rows import Rows

RANK = 5  # of a request that names none; 1 goes first

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


class Queue(Protocol):
    """Where a Work waits."""

    def leave(self, work: Work) -> None:
        """It was cancelled."""


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
    queue: Queue | None = None  # where it waits

    def cancel(self) -> None:
        """The caller left: nothing is answered, and what has not begun is not done."""
        if self.settled:
            return
        self.settled = True
        if self.queue is not None:
            self.queue.leave(self)


class Batch(msgspec.Struct, eq=False):
    """Works predicted in one call: `answer` has the rows of all of them, in order.

    began: when the call began; seconds: what it took; check: what it took before that to make `given` of the works'
    values. inline: on the event loop.
    """

    works: Sequence[Work]
    given: Rows
    answer: Rows
    began: float
    seconds: float
    inline: bool
    check: float = 0.0

    def waited(self, work: Work) -> float:
        """Seconds from when a work was there to when the model's call began, without those of the check."""
        return max(0.0, self.began - work.queued - self.check)


def check_balance(answer: Rows, rows: Rows) -> None:
    """Raise BimodalError unless each row has its answer."""
    if answer.count != rows.count:
        raise BimodalError(f"the model gave {answer.count} answers for {rows.count} rows")
