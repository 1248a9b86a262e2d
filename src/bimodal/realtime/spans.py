"""Spans of OpenTelemetry: one for each request that is traced, made and exported by a thread that bounds itself.

The attributes are those of https://opentelemetry.io/docs/specs/semconv/http/http-spans/ (server) and
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/; what is ours begins with `bimodal.`. Where it is exported to and
how much is held comes from the environment, by its usual names (OTEL_EXPORTER_OTLP_…, OTEL_BSP_…, OTEL_SERVICE_NAME).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import inf
from time import monotonic, thread_time, time_ns
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bimodal.errors import UsageError
from bimodal.formats.library import library
from bimodal.realtime.measures import STAGES
from bimodal.realtime.observer import GRPC, Seen, failed
from bimodal.realtime.tracing import new_span, new_trace

log = logging.getLogger("bimodal.realtime")

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
PATH = "/v1/traces"  # where a collector takes spans
SHARE = 0.1  # of one processor: what exporting may take; spans beyond that are dropped
SPAN = 60.0  # seconds between two lines that spans are lost
PARTING = 3.0  # seconds in which the last spans are exported

Count = Callable[[int, int], None]


class Exports:
    """A queue with a bound, and the thread that empties it. count: told of spans exported and dropped, from the thread.

    endpoint: of the collector, None for that of the environment. Raises MissingLibrary, UsageError.
    """

    def __init__(
        self, endpoint: str | None, environment: Mapping[str, str], count: Count, exporter: Any = None
    ) -> None:
        self._count = count
        self._make = Making(environment)
        self._most = _number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._together = min(self._most, _number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))
        self._pause = _number(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
        self._exporter = exporter or _exporter(endpoint)
        self._waiting: deque[Seen] = deque()
        self._dropped = 0
        self._lost = 0  # that could not be exported, since they could
        self._told = -inf  # when that was told last
        self._ends = False
        self._wake = threading.Event()
        self._rest = threading.Event()  # set at the end alone
        self._thread = threading.Thread(target=self._run, name="bimodal-spans", daemon=True)
        self._thread.start()

    def put(self, seen: list[Seen]) -> None:
        """Take what was seen, as much as there is room for."""
        room = max(0, self._most - len(self._waiting))
        self._dropped += max(0, len(seen) - room)
        self._waiting.extend(seen[:room])
        if len(self._waiting) >= self._together:
            self._wake.set()

    def close(self) -> None:
        """Export what there is, for a while."""
        self._ends = True
        self._wake.set()
        self._rest.set()
        self._thread.join(PARTING)

    def _run(self) -> None:
        _silence(threading.get_ident())
        while not self._ends or self._waiting:
            self._wake.wait(self._pause)
            self._wake.clear()
            while self._waiting:
                began = thread_time()
                self._export([self._waiting.popleft() for _ in range(min(len(self._waiting), self._together))])
                self._rest.wait((thread_time() - began) * (1 / SHARE - 1))
            self._tell(0, 0)
        self._exporter.shutdown()

    def _export(self, seen: Sequence[Seen]) -> None:
        try:
            taken = self._exporter.export([self._make.span(each) for each in seen]).name == "SUCCESS"
            why = "the collector does not take them"
        except Exception as error:
            taken, why = False, type(error).__name__
        self._tell(len(seen) if taken else 0, 0 if taken else len(seen))
        self._tell_log(len(seen), "" if taken else why)

    def _tell_log(self, count: int, why: str) -> None:
        """A line a minute while spans are lost, and one when they are exported again."""
        self._lost += count if why else 0
        if why and monotonic() - self._told >= SPAN:
            self._told = monotonic()
            log.warning("spans cannot be exported: %s; %d were dropped by now", why, self._lost)
        elif not why and self._lost:
            log.warning("spans are exported again; %d were dropped", self._lost)
            self._lost, self._told = 0, -inf

    def _tell(self, exported: int, lost: int) -> None:
        dropped, self._dropped = self._dropped + lost, 0
        if exported or dropped:
            self._count(exported, dropped)


class Making:
    """Makes spans of what was seen. Raises MissingLibrary."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        trace, sdk = library("opentelemetry.trace"), library("opentelemetry.sdk.trace")
        resources = library("opentelemetry.sdk.resources")
        named = "OTEL_SERVICE_NAME" in environment or "service.name" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        self._resource = resources.Resource.create({} if named else {"service.name": "bimodal"})
        self._scope = library("opentelemetry.sdk.util.instrumentation").InstrumentationScope("bimodal.realtime")
        self._api, self._span = trace, sdk.ReadableSpan

    def span(self, seen: Seen) -> Any:
        """The span of one request."""
        api, told = self._api, seen.told
        ended = time_ns() - int((monotonic() - seen.ended) * 1e9)
        return self._span(
            name=told.route.removeprefix("/") if told.protocol == GRPC else f"{told.method} {told.route}".strip(),
            context=self._context(seen),
            parent=self._parent(seen),
            resource=self._resource,
            attributes=attributes(seen),
            kind=api.SpanKind.SERVER,
            instrumentation_scope=self._scope,
            status=api.Status(api.StatusCode.ERROR if failed(told, seen.status) else api.StatusCode.UNSET),
            start_time=ended - int((seen.ended - seen.received) * 1e9),
            end_time=ended,
        )

    def _context(self, seen: Seen) -> Any:
        parent = seen.told.parent
        trace = seen.trace or new_trace() if parent is None else int(parent.trace, 16)
        return self._api.SpanContext(trace, new_span(), False, self._api.TraceFlags(1), self._state(seen))

    def _parent(self, seen: Seen) -> Any:
        parent = seen.told.parent
        if parent is None:
            return None
        flags = self._api.TraceFlags(int(parent.sampled))
        return self._api.SpanContext(int(parent.trace, 16), int(parent.span, 16), True, flags, self._state(seen))

    def _state(self, seen: Seen) -> Any:
        parent = seen.told.parent
        return self._api.TraceState.from_header(
            [parent.state.decode("ascii")] if parent is not None and parent.state else []
        )


def attributes(seen: Seen) -> dict[str, str | int | float]:
    """What a span tells of a request: nothing of what it holds."""
    told, note = seen.told, seen.note
    values: dict[str, str | int | float] = {"bimodal.request_id": seen.name.decode("ascii")} if seen.name else {}
    if told.protocol == GRPC:
        service, _, method = told.route.removeprefix("/").rpartition("/")
        values |= {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "rpc.grpc.status_code": seen.status,
        }
    else:
        values |= {
            "http.request.method": told.method or "_OTHER",
            "http.response.status_code": seen.status,
            "network.protocol.name": "http",
            "network.protocol.version": told.protocol.removeprefix("HTTP/"),
            "http.request.body.size": seen.taken,
            "http.response.body.size": seen.sent,
        }
        if told.route:
            values["http.route"] = told.route
    if seen.peer:
        values["client.address"] = msgspec.json.decode(b"{%b}" % seen.peer.removeprefix(b","))["peer"]
    if note.code:
        values["error.type"] = note.code
    if note.model:
        values |= {"bimodal.model.name": note.model, "bimodal.model.version": note.version}
    if note.stages is not None:
        values |= {f"bimodal.stage.{stage}": seconds for stage, seconds in zip(STAGES, note.stages, strict=True)}
    return values


def _silence(thread: int) -> None:
    """What libraries tell of each try to reach the collector is not repeated; one line a minute tells it."""
    for name in ("urllib3.connectionpool", EXPORTER, f"{EXPORTER}.trace_exporter"):
        logging.getLogger(name).addFilter(lambda record: record.thread != thread)


def _exporter(endpoint: str | None) -> Any:
    made = library(f"{EXPORTER}.trace_exporter").OTLPSpanExporter
    if endpoint is None:
        return made()
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("traces: no address of a collector; write it like http://localhost:4318")
    return made(endpoint=endpoint.rstrip("/") + PATH if parts.path in ("", "/") else endpoint)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not int(text):
        raise UsageError(f"{name} is no whole number above 0")
    return int(text)
