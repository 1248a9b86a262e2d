"""Traces: the context of a caller read strictly, spans as a collector of OpenTelemetry gets them."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bimodal.errors import UsageError
from bimodal.realtime import observer, spans
from bimodal.realtime.note import Note
from bimodal.realtime.observer import Seen, Told
from bimodal.realtime.spans import Exports
from bimodal.realtime.tracing import Parent, parent_of, sampler_of, wanted
from tests.realtime.services import until
from tests.realtime.watched import INFER, ROW, Watched, watched

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ALWAYS = {"endpoint": "", "sampler": "parentbased_always_on", "argument": "", "needed": True}
SECRET = "Geheimnis4711"


# -- traceparent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "good"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"01-{TRACE}-{SPAN}-01", True),  # a later version, as the standard wants it read
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
        (f"cc-{TRACE}-{SPAN}-01.what", False),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE[:-1]}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f" 00-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", False),
        ("", False),
    ],
)
def test_a_traceparent_is_read_strictly(told: str, good: bool) -> None:
    found = parent_of({b"traceparent": told.encode()})
    assert (found is not None) == good
    if found is not None:
        assert (found.trace.decode(), found.span.decode()) == (TRACE, SPAN)
        assert found.sampled == (int(told[53:55], 16) & 1 == 1)


digits = st.text("0123456789abcdef", min_size=1, max_size=33)


@settings(max_examples=60, deadline=None)
@given(st.lists(digits | st.sampled_from([TRACE, SPAN, "00", "01"]), min_size=4, max_size=4).map("-".join))
def test_what_is_read_is_what_opentelemetry_reads(told: str) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": told})
    theirs = get_current_span(context).get_span_context() if context else None
    mine = parent_of({b"traceparent": told.encode()})
    if mine is None:
        assert theirs is None or not theirs.is_valid
    else:
        assert theirs is not None
        assert (theirs.trace_id, theirs.span_id) == (int(mine.trace, 16), int(mine.span, 16))


def test_the_sampled_flag_and_the_samplers_are_honoured() -> None:
    def parent(sampled: bool) -> Parent:
        return Parent(TRACE.encode(), SPAN.encode(), sampled)

    for name, roots, parents in (
        ("always_on", True, (True, True)),
        ("always_off", False, (False, False)),
        ("parentbased_always_on", True, (True, False)),
        ("parentbased_always_off", False, (True, False)),
    ):
        sampler = sampler_of(name, "")
        assert sampler(None) == roots
        assert (sampler(parent(True)), sampler(parent(False))) == parents
    tenth = sampler_of("parentbased_traceidratio", "0.1")
    assert 700 < sum(tenth(None) for _ in range(10_000)) < 1300
    for name, argument in (("jaeger_remote", ""), ("traceidratio", "2"), ("traceidratio", "much")):
        with pytest.raises(UsageError, match="OTEL_TRACES_SAMPLER"):
            sampler_of(name, argument)


def test_the_environment_of_opentelemetry_turns_traces_on() -> None:
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert wanted(None, {}) is None
    assert wanted(None, {**there, "OTEL_SDK_DISABLED": "true"}) is None
    assert wanted(None, {**there, "OTEL_TRACES_EXPORTER": "none"}) is None
    told = wanted(None, {**there, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"})
    assert told == {"endpoint": None, "sampler": "traceidratio", "argument": "0.5", "needed": False}
    assert wanted("http://collector:4318", {}) == {**ALWAYS, "endpoint": "http://collector:4318"}


# -- spans, as a collector gets them ---------------------------------------------------------------------------------


class Collected:
    """A collector: what it was sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.paths: set[str] = set()
        self.came = threading.Event()

    def take(self, path: str, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.paths.add(path)
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(named["service.name"])
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.came.set()

    def span(self, name: str) -> Span:
        """The one of a request, once it is there."""

        def found() -> list[Span]:
            return [each for each in self.spans if told(each).get("bimodal.request_id") == name]

        until(lambda: bool(found()))
        return found()[0]


@contextmanager
def collector() -> Iterator[tuple[str, Collected]]:
    collected = Collected()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collected.take(self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *told: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", collected
        server.shutdown()


def told(span: Span) -> dict[str, Any]:
    values = {each.key: each.value for each in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, Collected]]:
    with pytest.MonkeyPatch.context() as patch, collector() as (address, collected):
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_SERVICE_NAME", "shop")
        log = tmp_path_factory.mktemp("log") / "log"
        with watched(log, traces={**ALWAYS, "endpoint": address}) as server:
            yield server, collected


def test_a_request_is_a_span_below_its_callers(traced: tuple[Watched, Collected]) -> None:
    server, collected = traced
    fields = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "shop=1", "cookie": SECRET}
    reply = server.http("POST", f"/predict?key={SECRET}", {"input": ROW}, fields)
    span = collected.span(reply.name)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.trace_state == "shop=1"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.name == "POST /predict"
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 120e9
    values = told(span)
    assert values["http.request.method"] == "POST"
    assert values["http.route"] == "/predict"
    assert values["http.response.status_code"] == 200
    assert values["client.address"] == "127.0.0.1"
    assert values["bimodal.model.name"] == "inline"
    stages = [values[f"bimodal.stage.{stage}"] for stage in ("parse", "check", "queue", "predict", "encode")]
    assert 0 < sum(stages) <= (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 + 1e-4
    assert SECRET not in str(span)
    assert collected.services == {"shop"}
    assert collected.paths == {"/v1/traces"}
    assert server.line(reply.name)["trace_id"] == TRACE


def test_a_request_without_a_caller_begins_a_trace(traced: tuple[Watched, Collected]) -> None:
    server, collected = traced
    first, second = [collected.span(server.http2("POST", "/predict", {"input": ROW}).name) for _ in range(2)]
    assert first.parent_span_id == b""
    assert first.trace_id != second.trace_id
    assert len(first.trace_id) == 16
    assert server.line(str(told(second)["bimodal.request_id"]))["trace_id"] == second.trace_id.hex()
    assert told(first)["network.protocol.version"] == "2"


def test_a_call_of_grpc_is_a_span_alike(traced: tuple[Watched, Collected]) -> None:
    server, collected = traced
    span = collected.span(server.infer([ROW], [("traceparent", f"00-{TRACE}-{SPAN}-01")]).name)
    values = told(span)
    assert span.name == INFER.removeprefix("/")
    assert span.parent_span_id.hex() == SPAN
    assert (values["rpc.system"], values["rpc.method"]) == ("grpc", "ModelInfer")
    assert values["rpc.service"] == "inference.GRPCInferenceService"
    assert values["rpc.grpc.status_code"] == 0


def test_what_a_caller_does_not_record_is_not_exported(traced: tuple[Watched, Collected]) -> None:
    server, collected = traced
    quiet = server.http("POST", "/predict", {"input": ROW}, {"traceparent": f"00-{TRACE}-{SPAN}-00"}).name
    loud = server.http("POST", "/predict", {"input": ROW}).name
    collected.span(loud)
    assert quiet not in [told(each)["bimodal.request_id"] for each in collected.spans]


def test_errors_are_told_by_their_kind_those_of_the_server_as_such(traced: tuple[Watched, Collected]) -> None:
    server, collected = traced
    span = collected.span(server.http("POST", "/predict", {"input": [1.0]}).name)
    assert told(span)["error.type"] == "wrong_width"
    assert span.status.code == Status.STATUS_CODE_UNSET  # the caller's fault, as the conventions have it
    broken = Seen(
        Told("POST", "/predict", "HTTP/1.1", None, b"", 0), b"", 1.0, 1.5, b"", 500, 1, 1, Note(code="internal")
    )
    assert spans.Making({}).span(broken).status.status_code.name == "ERROR"
    assert observer.failed(broken.told, 500)
    assert not observer.failed(broken.told, 429)


class Refusing:
    """An exporter whose collector is slow, or away."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def export(self, given: list[Any]) -> Any:
        self.gate.wait(60)
        raise ConnectionError("away")

    def shutdown(self) -> None: ...


def test_spans_that_cannot_be_exported_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    counts: list[tuple[int, int]] = []
    exporter = Refusing()
    bounds = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    exports = Exports(None, bounds, lambda exported, dropped: counts.append((exported, dropped)), exporter)
    seen = Seen(Told("GET", "/", "HTTP/1.1", None, b"", 0), b"", 1.0, 1.5, b"a", 200, 0, 0, Note())
    for _ in range(50):
        exports.put([seen] * 10)  # returns at once, however many wait
    exporter.gate.set()
    exports.close()
    assert [sum(each) for each in zip(*counts, strict=True)] == [0, 500]
    told = [each.getMessage() for each in caplog.records]
    assert len(told) == 1  # not one for each try
    assert told[0].startswith("spans cannot be exported: ")


def test_what_a_library_tells_of_each_try_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        place = f"http://127.0.0.1:{taken.getsockname()[1]}"
        bounds = {"OTEL_BSP_SCHEDULE_DELAY": "10"}
        exports = Exports(place, bounds, lambda exported, dropped: None)
        exports.put([Seen(Told("GET", "/", "HTTP/1.1", None, b"", 0), b"", 1.0, 1.5, b"a", 200, 0, 0, Note())])
        exports.close()
    assert not [each for each in caplog.records if each.name != "bimodal.realtime"]


def test_an_address_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="traces: no address of a collector"):
        Exports("collector", {}, lambda exported, dropped: None)
    with pytest.raises(UsageError, match="OTEL_BSP_MAX_QUEUE_SIZE is no whole number"):
        Exports("http://collector", {"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, lambda exported, dropped: None)
