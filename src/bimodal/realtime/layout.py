"""Layout: which place of a worker's row of counters counts what.

It follows from the names of the models in their order, so all workers agree on it; a name that comes later has the next
places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bimodal.errors import Overloaded
from bimodal.realtime.measures import STAGES

STREAM = "stream"
LOOKUP = "lookup"
ROUTES = ("predict", STREAM, "infer", LOOKUP, "invocations", "instances", "grpc infer")
SOURCES = ("hit", "live", "stale", "changed", "miss")  # of an answer to a lookup
STATUSES = (
    200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 421, 429, 431, 500, 501, 503, 504, 505
)  # fmt: skip
MODEL_REASONS = (
    "overloaded",
    "unavailable",
    "deadline_exceeded",
    "invalid_input",
    "model_failed",
    "model_crashed",
    "other",
)
WIRE_REASONS = (  # codes of errors that the wire itself answers with, or that no model is to blame for
    "malformed",
    "request_timeout",
    "too_large",
    "headers_too_large",
    "overloaded",
    "deadline_exceeded",
    "unauthenticated",
    "forbidden",
    "not_implemented",
    "version_not_supported",
    "expectation_failed",
    "unsupported_media_type",
    "internal",
    "other",
)
NO_WORKER = "no_worker"  # counted by the parent, in the first row
SECONDS = (
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0
)  # fmt: skip
EXACTLY = 64  # rows: batches of up to so many are counted by their size, larger ones by the next power of two
BATCHES = (*range(1, EXACTLY + 1), *(2**power for power in range(7, 15)))
# what is kept for statistics: seconds of the check, of the model and of encoding, each times the requests of its batch;
# the last answer (milliseconds of the epoch); seconds of refused requests; then of each size of batch four numbers:
# calls, seconds of parsing, of the model, of encoding
CHECKED, PREDICTED, ENCODED, LAST, FAILED, SIZED = range(6)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 10000.0)
# of the process itself: which one it is (its id, and when it began), whether it ended as it should
PID, BORN, ENDED = "pid", "born", "ended"
DONE, FAILURE = "done", "failed"  # outcomes of a reload
COUNTS = (  # one number each: the metric and the values of its labels
    ("bimodal_connections_total",),
    ("bimodal_worker_starts_total",),
    ("bimodal_worker_crashes_total",),
    ("bimodal_reloads_total", DONE),
    ("bimodal_reloads_total", FAILURE),
    ("bimodal_access_log_lines_total",),
    ("bimodal_access_log_dropped_total",),
    ("bimodal_prediction_log_rows_total",),
    ("bimodal_prediction_log_dropped_rows_total",),
    ("bimodal_prediction_log_deleted_files_total",),
    ("bimodal_spans_exported_total",),
    ("bimodal_spans_dropped_total",),
)
GAUGES = (("bimodal_connections_open",), ("bimodal_workers_ready",))


class Layout:
    """room: names of models that there are places for, those given among them."""

    def __init__(self, models: Sequence[str], room: int = 0) -> None:
        self.models: list[str] = []
        self.requests: dict[Any, int] = {}
        self.rows: dict[Any, int] = {}
        self.lookups: dict[Any, int] = {}
        self.refusals: dict[Any, int] = {}
        self.crashes: dict[Any, int] = {}
        self.in_flight: dict[Any, int] = {}
        self.streams: dict[Any, int] = {}
        self.batch_rows: dict[Any, int] = {}
        self.seconds: dict[Any, int] = {}
        self.statistics: dict[Any, int] = {}
        self.used = 0  # places that are in use, from the first on
        self.process = self._places([PID, BORN, ENDED])
        self.others = self._places(list(STATUSES))
        self.wire = self._places([*WIRE_REASONS, NO_WORKER])
        self.counts = self._places(list(COUNTS))
        self.gauges = self._places(list(GAUGES))
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
            self.crashes,
            self.in_flight,
            self.streams,
            self.batch_rows,
            self.seconds,
            self.statistics,
        )

    @property
    def now(self) -> list[int]:
        """The places of gauges: they mean nothing once their process is gone."""
        return [*self.gauges.values(), *self.in_flight.values(), *self.streams.values()]

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
        self.refusals |= self._places([(model, reason) for reason in MODEL_REASONS])
        self.crashes |= self._places([model])
        self.in_flight |= self._places([model])
        self.streams |= self._places([model])
        self.batch_rows |= self._places([model], len(SIZES) + 2)
        self.seconds |= self._places([(model, stage) for stage in STAGES], len(SECONDS) + 2)
        self.statistics |= self._places([model], SIZED + 4 * len(BATCHES))

    def _places(self, keys: Sequence[Any], width: int = 1) -> dict[Any, int]:
        places = {key: self.used + i * width for i, key in enumerate(keys)}
        self.used += len(keys) * width
        return places


def known(status: int) -> int:
    """The status under which one is counted: itself, or the plainest of its kind."""
    if status in STATUSES:
        return status
    return 200 if status < 400 else 400 if status < 500 else 500
