"""Ledger: the counters of one model."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from time import time
from typing import TYPE_CHECKING

from bimodal.realtime.layout import (
    BATCHES,
    EXACTLY,
    FAILED,
    LOOKUP,
    MODEL_REASONS,
    ROUTES,
    SECONDS,
    SIZED,
    SIZES,
    SOURCES,
    STATUSES,
    STREAM,
    known,
)
from bimodal.realtime.measures import STAGES
from bimodal.realtime.work import Batch, Work

if TYPE_CHECKING:
    from bimodal.realtime.metrics import Metrics


class Ledger:
    """Counts in this worker's row."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        layout = metrics.layout
        self._metrics = metrics
        self._row = metrics.row
        self._requests = {(r, s): layout.requests[model, r, s] for r in ROUTES for s in STATUSES}
        self._rows = layout.rows[model]
        self._looked, self._hits = layout.requests[model, LOOKUP, 200], layout.lookups[model, "hit"]
        self._lookups = {source: layout.lookups[model, source] for source in SOURCES}
        self._refusals = {reason: layout.refusals[model, reason] for reason in MODEL_REASONS}
        self._crashes = layout.crashes[model]
        self._sizes = layout.batch_rows[model]
        self._stages = {stage: layout.seconds[model, stage] for stage in STAGES}
        self._in_flight, self._streams = layout.in_flight[model], layout.streams[model]
        self._statistics = layout.statistics[model]

    def watch(self, gauge: Callable[[], int]) -> Callable[[], None]:
        """Where to ask for the requests in flight, until the function that is returned is called."""
        return self._metrics.watch(self._in_flight, gauge)

    def watch_streams(self, gauge: Callable[[], int]) -> Callable[[], None]:
        """The same for the answers in pieces."""
        return self._metrics.watch(self._streams, gauge)

    def answers(self, batch: Batch, bodies: Sequence[tuple[Work, bytes]]) -> None:
        """A batch is about to be answered: who has the answer finds it counted, at any worker."""
        row = self._row
        routes = {bodies[0][0].door.route: len(bodies)}
        if len(bodies) > 1:
            routes = Counter([work.door.route for work, _ in bodies])
        for route, number in routes.items():
            if route != STREAM:  # a stream is one request, counted at its end
                row[self._requests[route, 200]] += number
        row[self._rows] += batch.given.count

    def answered(
        self, batch: Batch, bodies: Sequence[tuple[Work, bytes]], parse: float, queue: float, encode: float
    ) -> None:
        """How long it took; nobody waits for that to be noted. parse and queue: mean seconds of its requests, encode:
        of all its answers.
        """
        row, count = self._row, len(bodies)
        _observe(row, self._sizes, SIZES, batch.given.count)
        _observe(row, self._stages["parse"], SECONDS, parse, count)
        _observe(row, self._stages["check"], SECONDS, batch.check)
        if batch.inline:
            _observe(row, self._stages["queue"], SECONDS, queue, count)
        else:
            for work, _ in bodies:
                _observe(row, self._stages["queue"], SECONDS, batch.waited(work))
        _observe(row, self._stages["predict"], SECONDS, batch.seconds)
        _observe(row, self._stages["encode"], SECONDS, encode)
        at = self._statistics
        row[at] += batch.check * count  # CHECKED
        row[at + 1] += batch.seconds * count  # PREDICTED
        row[at + 2] += encode * count  # ENCODED
        row[at + 3] = time() * 1000.0  # LAST
        size = batch.given.count
        at += SIZED + 4 * (size - 1 if size <= EXACTLY else min(bisect_left(BATCHES, size), len(BATCHES) - 1))
        row[at] += 1.0
        row[at + 1] += parse * count
        row[at + 2] += batch.seconds
        row[at + 3] += encode
        if not batch.inline:
            self._metrics.refresh()

    def streamed(self) -> None:
        """A stream of lines has been answered."""
        self._row[self._requests[STREAM, 200]] += 1.0

    def hit(self) -> None:
        """A lookup of one key was answered from the store: `looked(200, "hit")`, for the way of most."""
        row = self._row
        row[self._looked] += 1.0
        row[self._hits] += 1.0

    def looked(self, status: int | None, *sources: str) -> None:
        """A lookup was answered. sources: of its keys. status None: it is counted where the model's answer is."""
        row = self._row
        if status is not None:
            row[self._requests[LOOKUP, status]] += 1.0
        for source in sources:
            row[self._lookups[source]] += 1.0

    def refused(self, route: str, status: int, code: str, seconds: float = 0.0) -> None:
        """A request got an error, so many seconds after it came."""
        self._row[self._statistics + FAILED] += seconds
        status = known(status)
        self._row[self._requests[route, status]] += 1.0
        reason = code if code in self._refusals else "invalid_input" if status in (400, 413) else "other"
        self._row[self._refusals[reason]] += 1.0

    def crashed(self) -> None:
        """A process of the model died in a call."""
        self._row[self._crashes] += 1.0


def _observe(row: memoryview[float], place: int, bounds: Sequence[float], value: float, times: int = 1) -> None:
    """A histogram is its buckets (not yet cumulative), the one without a bound, and the sum."""
    row[place + bisect_left(bounds, value)] += times
    row[place + len(bounds) + 1] += value * times
