"""Every metric of a server, in one list: /metrics and the table of docs/observability.md are made of it."""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True)
class Measure:
    """One metric. labels: their names; each has few values, whatever callers send."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


MEASURES = (
    Measure("bimodal_build_info", GAUGE, ("version", "python"), "The software that runs: 1."),
    Measure(
        "bimodal_model_info", GAUGE, ("model", "version", "format", "runtime"), "The models that are served: 1 each."
    ),
    Measure(
        "bimodal_requests_total",
        COUNTER,
        ("model", "route", "code"),
        "Requests answered, by model, route and HTTP status (of gRPC: the status that HTTP would have).",
    ),
    Measure("bimodal_rows_total", COUNTER, ("model",), "Rows predicted, by model."),
    Measure("bimodal_executions_total", COUNTER, ("model",), "Calls of the model that were answered, by model."),
    Measure("bimodal_batch_rows", HISTOGRAM, ("model",), "Rows of one call of the model."),
    Measure("bimodal_parse_seconds", HISTOGRAM, ("model",), "Seconds from a request's bytes to its decoded values."),
    Measure(
        "bimodal_check_seconds",
        HISTOGRAM,
        ("model",),
        "Seconds from decoded values to columns that the signature allows (one batch).",
    ),
    Measure("bimodal_queue_seconds", HISTOGRAM, ("model",), "Seconds a request waited for its call of the model."),
    Measure("bimodal_predict_seconds", HISTOGRAM, ("model",), "Seconds of one call of the model (one batch)."),
    Measure(
        "bimodal_encode_seconds",
        HISTOGRAM,
        ("model",),
        "Seconds from the outputs of a call to the bodies of its answers (one batch).",
    ),
    Measure(
        "bimodal_refusals_total",
        COUNTER,
        ("model", "reason"),
        "Requests that got an error instead of an answer, by reason; those that the wire refused have no model, "
        "connections over the limit among them.",
    ),
    Measure(
        "bimodal_requests_in_flight",
        GAUGE,
        ("model",),
        "Requests that wait for the model or are being predicted beside the event loop.",
    ),
    Measure("bimodal_streams_open", GAUGE, ("model",), "Answers in pieces that are under way."),
    Measure("bimodal_connections_open", GAUGE, (), "Connections that are open."),
    Measure("bimodal_workers_ready", GAUGE, (), "Worker processes that take connections."),
    Measure("bimodal_connections_total", COUNTER, (), "Connections that were accepted."),
    Measure("bimodal_lookups_total", COUNTER, ("model", "source"), "Keys looked up, by where the answer came from."),
    Measure(
        "bimodal_lookup_age_seconds", GAUGE, ("model",), "Seconds since the results that are looked up were committed."
    ),
    Measure("bimodal_lookup_keys", GAUGE, ("model",), "Keys that have a result."),
    Measure(
        "bimodal_model_crashes_total",
        COUNTER,
        ("model",),
        "Processes of the model that died, or were ended, and are followed by another.",
    ),
    Measure("bimodal_worker_starts_total", COUNTER, (), "Worker processes that were started."),
    Measure("bimodal_worker_crashes_total", COUNTER, (), "Worker processes that died; counted when they are followed."),
    Measure(
        "bimodal_reloads_total",
        COUNTER,
        ("outcome",),
        "Changes of the models that are served: done, or failed (what was there stays).",
    ),
    Measure("bimodal_access_log_lines_total", COUNTER, (), "Lines of the access log that were written."),
    Measure(
        "bimodal_access_log_dropped_total",
        COUNTER,
        (),
        "Lines of the access log that were dropped, since writing was too slow or impossible.",
    ),
    Measure("bimodal_prediction_log_rows_total", COUNTER, (), "Rows that were written to the prediction log."),
    Measure(
        "bimodal_prediction_log_dropped_rows_total",
        COUNTER,
        (),
        "Rows that the prediction log lacks, since writing was too slow or impossible.",
    ),
    Measure(
        "bimodal_prediction_log_deleted_files_total",
        COUNTER,
        (),
        "Files of the prediction log that were deleted, since they were too old or too much.",
    ),
    Measure("bimodal_spans_exported_total", COUNTER, (), "Spans that the collector of OpenTelemetry took."),
    Measure(
        "bimodal_spans_dropped_total",
        COUNTER,
        (),
        "Spans that were dropped: more than exporting keeps up with, or the collector did not take them.",
    ),
    Measure(
        "bimodal_process_resident_memory_bytes",
        GAUGE,
        ("worker", "process"),
        "Memory of each worker process, and of the processes of its models together.",
    ),
    Measure(
        "bimodal_process_cpu_seconds_total",
        COUNTER,
        ("worker", "process"),
        "Processor time of each worker process, and of the processes of its models together.",
    ),
    Measure("bimodal_model_processes", GAUGE, ("worker",), "Processes that run the models of a worker."),
)
BY_NAME = {each.name: each for each in MEASURES}
STAGES = ("parse", "check", "queue", "predict", "encode")
