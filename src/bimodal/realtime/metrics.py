"""Counters in Prometheus' text format, right with several workers.

Every worker counts in its own row of one shared file of float64; whichever worker is asked adds up all rows. The layout
follows from the names of the models in their order, so all workers agree on it; a name that comes later has the next
places. A worker that is restarted goes on in its row.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import time
from typing import Any

from bimodal.errors import Overloaded
from bimodal.realtime.batcher import Batch, Work

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

STREAM = "stream"
LOOKUP = "lookup"
ROUTES = ("predict", STREAM, "infer", LOOKUP, "invocations", "instances", "grpc infer")
SOURCES = ("hit", "live", "stale", "changed", "miss")  # of an answer to a lookup
STATUSES = (200, 400, 404, 413, 415, 429, 500, 503, 504)
REASONS = ("overloaded", "unavailable", "deadline_exceeded", "invalid_input", "model_failed", "model_crashed", "other")
STAGES = {
    "parse": "Seconds from a request's bytes to its decoded values.",
    "queue": "Seconds a request waited for its call of the model.",
    "predict": "Seconds of one call of the model (one batch).",
    "encode": "Seconds from the outputs of a call to the bodies of its answers.",
}
SECONDS = (
    1e-5,
    2.5e-5,
    5e-5,
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    2.5e-3,
    5e-3,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
EXACTLY = 64  # rows: batches of up to so many are counted by their size, larger ones by the next power of two
BATCHES = (*range(1, EXACTLY + 1), *(2**power for power in range(7, 15)))
# what is kept for statistics: seconds of the model and of encoding, each times the requests of its batch; the last
# answer (milliseconds of the epoch); seconds of refused requests; then of each size of batch four numbers: calls,
# seconds of parsing, of the model, of encoding
PREDICTED, ENCODED, LAST, FAILED, SIZED = range(5)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 10000.0)
OTHER = "other"  # route and model of what is no prediction


class Layout:
    """Which place of a row counts what. room: names of models that there are places for, those given among them."""

    def __init__(self, models: Sequence[str], room: int = 0) -> None:
        self.models: list[str] = []
        self.requests: dict[Any, int] = {}
        self.rows: dict[Any, int] = {}
        self.lookups: dict[Any, int] = {}
        self.refusals: dict[Any, int] = {}
        self.in_flight: dict[Any, int] = {}
        self.batch_rows: dict[Any, int] = {}
        self.seconds: dict[Any, int] = {}
        self.statistics: dict[Any, int] = {}
        self.used = 0  # places that are in use, from the first on
        self.others = self._places(list(STATUSES))
        self.room = max(room, len(models))
        rest = self.used
        self._add("")  # how many places a model needs
        self.size = rest + (self.used - rest) * self.room
        for each in self._of_models:
            each.clear()
        self.used = rest
        for model in models:
            self.add(model)

    @property
    def _of_models(self) -> tuple[dict[Any, int], ...]:
        return (
            self.requests,
            self.rows,
            self.lookups,
            self.refusals,
            self.in_flight,
            self.batch_rows,
            self.seconds,
            self.statistics,
        )

    def add(self, model: str) -> None:
        """The next places are this model's, unless it has some. Raises Overloaded where there is no room."""
        if model in self.models:
            return
        if len(self.models) >= self.room:
            raise Overloaded(f"{self.room} names of models were served here, and are counted; start the server again")
        self._add(model)
        self.models.append(model)

    def _add(self, model: str) -> None:
        self.requests |= self._places([(model, route, status) for route in ROUTES for status in STATUSES])
        self.rows |= self._places([model])
        self.lookups |= self._places([(model, source) for source in SOURCES])
        self.refusals |= self._places([(model, reason) for reason in REASONS])
        self.in_flight |= self._places([model])
        self.batch_rows |= self._places([model], len(SIZES) + 2)
        self.seconds |= self._places([(model, stage) for stage in STAGES], len(SECONDS) + 2)
        self.statistics |= self._places([model], SIZED + 4 * len(BATCHES))

    def _places(self, keys: Sequence[Any], width: int = 1) -> dict[Any, int]:
        places = {key: self.used + i * width for i, key in enumerate(keys)}
        self.used += len(keys) * width
        return places


class Metrics:
    """The shared counters as one worker sees them. `path` None: a file of this process alone."""

    def __init__(
        self, models: Sequence[str], path: str | Path | None = None, workers: int = 1, worker: int = 0, room: int = 0
    ) -> None:
        self.layout = Layout(models, room)
        self.workers = max(workers, worker + 1)
        size = self.layout.size * 8
        with _opened(path) as file:
            if os.fstat(file.fileno()).st_size < size * self.workers:
                os.truncate(file.fileno(), size * self.workers)
            self._map = mmap.mmap(file.fileno(), size * self.workers)
        self._all: memoryview[float] = memoryview(self._map).cast("d")
        self.row = self._all[worker * self.layout.size : (worker + 1) * self.layout.size]
        self._gauges: dict[int, list[Callable[[], int]]] = {}
        self._info: Callable[[], Sequence[dict[str, str]]] = list
        self._more: Sequence[Callable[[], str]] = ()
        for place in self.layout.in_flight.values():
            self.row[place] = 0.0

    def ledger(self, model: str) -> Ledger:
        self.layout.add(model)
        return Ledger(self, model)

    def other(self, status: int) -> None:
        """One answer that is no prediction."""
        self.row[self.layout.others[status if status in STATUSES else 200 if status < 400 else 400]] += 1.0

    def watch(self, place: int, gauge: Callable[[], int]) -> Callable[[], None]:
        """Ask the gauge whenever the numbers are asked for, and add it to the others of its place, until the function
        that is returned is called.
        """
        gauges = self._gauges.setdefault(place, [])
        gauges.append(gauge)
        return lambda: gauges.remove(gauge)

    def describe(self, told: Callable[[], Sequence[dict[str, str]]]) -> None:
        """Name, version, format and runtime of each model; asked each time, since they come and go."""
        self._info = told

    def add(self, texts: Sequence[Callable[[], str]]) -> None:
        """More of the text, whole metrics each, asked each time."""
        self._more = texts

    def total(self, place: int) -> float:
        """What all workers counted there."""
        return sum([self._all[worker * self.layout.size + place] for worker in range(self.workers)])

    def each(self, place: int, width: int) -> list[list[float]]:
        """What each worker counted in the places from there on."""
        starts = [worker * self.layout.size + place for worker in range(self.workers)]
        return [list(self._all[start : start + width]) for start in starts]

    def refresh(self) -> None:
        """Write this worker's gauges."""
        for place, gauges in list(self._gauges.items()):  # a model that is loaded aside adds its own meanwhile
            self.row[place] = float(sum([gauge() for gauge in gauges]))

    def text(self) -> bytes:
        """All workers' counters together."""
        self.refresh()
        size = self.layout.size
        rows = [self._all[i * size : i * size + self.layout.used].tolist() for i in range(self.workers)]
        lines = _rendered(self.layout, [sum(column) for column in zip(*rows, strict=True)], self._info())
        return "".join([*lines, *[more() for more in self._more]]).encode()

    def close(self) -> None:
        self._all.release()
        self.row.release()
        self._map.close()


class Ledger:
    """The counters of one model."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        layout = metrics.layout
        self._metrics = metrics
        self._row = metrics.row
        self._model = model
        self._requests = {(r, s): layout.requests[model, r, s] for r in ROUTES for s in STATUSES}
        self._rows = layout.rows[model]
        self._looked, self._hits = layout.requests[model, LOOKUP, 200], layout.lookups[model, "hit"]
        self._lookups = {source: layout.lookups[model, source] for source in SOURCES}
        self._sizes = layout.batch_rows[model]
        self._stages = {stage: layout.seconds[model, stage] for stage in STAGES}
        self._in_flight = layout.in_flight[model]
        self._statistics = layout.statistics[model]

    def watch(self, gauge: Callable[[], int]) -> Callable[[], None]:
        """Where to ask for the requests in flight, until the function that is returned is called."""
        return self._metrics.watch(self._in_flight, gauge)

    def answered(
        self, batch: Batch, bodies: Sequence[tuple[Work, bytes]], parse: float, queue: float, encode: float
    ) -> None:
        """A batch was answered. parse and queue: mean seconds of its requests, encode: of all its answers."""
        row, count = self._row, len(bodies)
        routes: dict[str, int] = {}
        for work, _ in bodies:
            routes[work.door.route] = routes.get(work.door.route, 0) + 1
        for route, number in routes.items():
            if route != STREAM:  # a stream is one request, counted at its end
                row[self._requests[route, 200]] += number
        row[self._rows] += batch.given.count
        _observe(row, self._sizes, SIZES, batch.given.count)
        _observe(row, self._stages["parse"], SECONDS, parse, count)
        if batch.inline:
            _observe(row, self._stages["queue"], SECONDS, queue, count)
        else:
            for work, _ in bodies:
                _observe(row, self._stages["queue"], SECONDS, batch.began - work.queued)
        _observe(row, self._stages["predict"], SECONDS, batch.seconds)
        _observe(row, self._stages["encode"], SECONDS, encode)
        at = self._statistics
        row[at] += batch.seconds * count  # PREDICTED
        row[at + 1] += encode * count  # ENCODED
        row[at + 2] = time() * 1000.0  # LAST
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
        status = status if status in STATUSES else 400 if status < 500 else 500
        self._row[self._requests[route, status]] += 1.0
        reason = code if code in REASONS else "invalid_input" if status in (400, 413) else "other"
        self._row[self._metrics.layout.refusals[self._model, reason]] += 1.0


def _observe(row: memoryview[float], place: int, bounds: Sequence[float], value: float, times: int = 1) -> None:
    """A histogram is its buckets (not yet cumulative), the one without a bound, and the sum."""
    row[place + bisect_left(bounds, value)] += times
    row[place + len(bounds) + 1] += value * times


def _opened(path: str | Path | None) -> Any:
    if path is None:
        return tempfile.TemporaryFile()
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


# -- the text --------------------------------------------------------------------------------------------------------


def _rendered(layout: Layout, sums: Sequence[float], info: Sequence[dict[str, str]]) -> Iterator[str]:
    yield _head("bimodal_model_info", "gauge", "The models that are served: 1 each.")
    for labels in info:
        yield _line("bimodal_model_info", labels, 1)
    yield _head("bimodal_requests_total", "counter", "Requests answered, by model, route and HTTP status.")
    for (model, route, status), place in layout.requests.items():
        if sums[place] or (status == 200 and route != LOOKUP):
            labels = {"model": model, "route": route, "code": str(status)}
            yield _line("bimodal_requests_total", labels, sums[place])
    for status, place in layout.others.items():
        if sums[place]:
            labels = {"model": "", "route": OTHER, "code": str(status)}
            yield _line("bimodal_requests_total", labels, sums[place])
    yield from _simple(
        layout.rows, sums, "bimodal_rows_total", "counter", "Rows predicted, by model.", lambda key: {"model": key}
    )
    yield from _simple(
        layout.refusals,
        sums,
        "bimodal_refusals_total",
        "counter",
        "Requests that got an error instead of a prediction, by reason.",
        lambda key: {"model": key[0], "reason": key[1]},
    )
    yield from _simple(
        layout.in_flight,
        sums,
        "bimodal_requests_in_flight",
        "gauge",
        "Requests that wait for the model or are being predicted beside the event loop.",
        lambda key: {"model": key},
    )
    yield _head("bimodal_batch_rows", "histogram", "Rows of one call of the model; its count is the number of calls.")
    for model, place in layout.batch_rows.items():
        yield from _histogram("bimodal_batch_rows", {"model": model}, sums[place : place + len(SIZES) + 2], SIZES)
    for stage, text in STAGES.items():
        name = f"bimodal_{stage}_seconds"
        yield _head(name, "histogram", text)
        for model in layout.models:
            place = layout.seconds[model, stage]
            yield from _histogram(name, {"model": model}, sums[place : place + len(SECONDS) + 2], SECONDS)


def _simple(
    places: dict[Any, int],
    sums: Sequence[float],
    name: str,
    kind: str,
    text: str,
    labels: Callable[[Any], dict[str, str]],
) -> Iterator[str]:
    yield _head(name, kind, text)
    for key, place in places.items():
        yield _line(name, labels(key), sums[place])


def _histogram(name: str, labels: dict[str, str], values: Sequence[float], bounds: Sequence[float]) -> Iterator[str]:
    total = 0.0
    for bound, count in zip(bounds, values[: len(bounds)], strict=True):
        total += count
        yield _line(f"{name}_bucket", {**labels, "le": repr(bound)}, total)
    total += values[len(bounds)]
    yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, total)
    yield _line(f"{name}_sum", labels, values[len(bounds) + 1])
    yield _line(f"{name}_count", labels, total)


def block(name: str, kind: str, text: str, values: Iterable[tuple[dict[str, str], float]]) -> str:
    """One metric: its labels and values."""
    return _head(name, kind, text) + "".join([_line(name, labels, value) for labels, value in values])


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _line(name: str, labels: dict[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {int(value) if float(value).is_integer() else repr(float(value))}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
