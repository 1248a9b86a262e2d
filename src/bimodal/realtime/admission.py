"""How long a model takes, as measured, and whether one more request may wait for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bimodal.errors import DeadlineExceeded, Overloaded

TARGET = 0.1  # seconds that a request may be predicted to wait, unless `queue_target` says otherwise
_FADE = 0.95  # weight of all earlier measures when a new one comes in
_GUESS = {1: 1e-3, 1000: 1e-2}  # for a model that could not be measured at start
STALL = 5.0
_FIRST = 2  # calls by which a model that could not be measured is known
_SHORT = 0.05  # seconds below which a call is believed, whatever was expected
_SPREAD = 0.05  # relative spread of batch sizes below which they say nothing about the cost of a row


class Cost:
    """Seconds of one call by its number of rows: a line through what was measured, where new measures count more.

    Of a model that could not be measured nothing is known before its first calls: they begin with few rows, and each
    may have twice as many as any before it (`most`).
    """

    def __init__(self, measured: Mapping[int, float]) -> None:
        self._guessed = not measured
        self._learned = 0  # calls, of a model that could not be measured
        self._tried = 0  # rows of the largest of them
        self._weight = self._rows = self._squares = self._seconds = self._products = 0.0
        self.row = 0.0
        self.call = 0.0
        for rows, seconds in sorted((measured or _GUESS).items()):
            self._add(rows, seconds)
        self._fit()

    @property
    def most(self) -> int:
        """Rows that a call may have as far as is known by now."""
        return max(1, 2 * self._tried) if self._guessed else 1 << 30

    def learn(self, rows: int, seconds: float) -> bool:
        """One call took so long. A stall of the machine is not the model's: a call counts for STALL times its
        expectation at most, so that a lasting change is learned and a single one refuses nobody. True where this is the
        first time that something is known of a model that could not be measured.
        """
        self._tried = max(self._tried, rows)
        self._learned += 1
        if self._guessed and self._learned <= _FIRST:
            self._learn_anew(rows, seconds)
            return self._learned == _FIRST
        seconds = min(seconds, max(STALL * self.seconds(rows), _SHORT))
        self._weight *= _FADE
        self._rows *= _FADE
        self._squares *= _FADE
        self._seconds *= _FADE
        self._products *= _FADE
        self._add(rows, seconds)
        self._fit()
        return False

    def _learn_anew(self, rows: int, seconds: float) -> None:
        """The first call takes the place of the guess; the second one that of the first, where that took far longer: it
        may have loaded something."""
        if self._learned == 1 or seconds / rows < self.seconds(rows) / rows / 2:
            self._weight = self._rows = self._squares = self._seconds = self._products = self.row = 0.0
        self._add(rows, seconds)
        self._fit()

    def seconds(self, rows: int) -> float:
        """What a call with so many rows is expected to take."""
        return self.call + self.row * rows

    def rows_within(self, seconds: float) -> int:
        """The largest call that is expected to take no longer; at least one row."""
        if self.row <= 0.0:
            return 1 if self.call > seconds else 1 << 30
        return max(1, min(1 << 30, math.floor((seconds - self.call) / self.row)))

    def _add(self, rows: int, seconds: float) -> None:
        self._weight += 1
        self._rows += rows
        self._squares += rows * rows
        self._seconds += seconds
        self._products += rows * seconds

    def _fit(self) -> None:
        rows, seconds = self._rows / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - rows * rows
        if variance > (_SPREAD * rows) ** 2:
            self.row = max(0.0, (self._products / self._weight - rows * seconds) / variance)
        self.call = seconds - self.row * rows
        if self.call < 0.0:
            self.call, self.row = 0.0, seconds / rows


class Admission:
    """Lets a request wait only where the wait is predicted to be short: a queue bounded by time, not by length."""

    def __init__(self, cost: Cost, target: float = TARGET) -> None:
        self.cost = cost
        self.target = target

    def admit(self, waiting: int, running: float, remaining: float, fits: int, rows: int = 1) -> None:
        """Raise Overloaded if a request of so many rows would wait too long, or in vain; DeadlineExceeded if it
        would be too late even without a wait.

        waiting: rows in the queue. running: seconds until the current call is expected to end; with neither, everything
        is admitted. remaining: seconds until the request's deadline. fits: rows of a full batch. Rows that share a call
        wait for each other's rows, not for each other's calls; the current call is nobody's fault, so it counts against
        the deadline alone.
        """
        if not waiting and running <= 0:
            return
        queued = self.cost.row * waiting + self.cost.call * (waiting // fits)
        if self.cost.seconds(rows) > remaining:  # also if nobody else were there
            raise DeadlineExceeded("the prediction would not end within the deadline")
        answered = max(0.0, running) + queued + self.cost.seconds(rows)
        if (waiting and queued > min(self.target, remaining / 2)) or answered > remaining:
            raise Overloaded(
                "the queue of this model is full; try again later", retry_after=max(1, math.ceil(min(answered, 60.0)))
            )
