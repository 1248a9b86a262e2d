"""The statistics extension."""

from __future__ import annotations

import time
from typing import Any

from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import MUST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.target import Target, asking, expect

SOURCE = "Triton, extension_statistics.md"
NAME = "statistics"
STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def _told(target: Target, path: str | None = None) -> dict[str, Any]:
    reply = target.get(f"{path or target.subject.path}/stats")
    listed = reply.object().get("model_stats") or []
    expect(isinstance(listed, list) and listed, "model_stats is no list of models", reply)
    own = [each for each in listed if each.get("name") == target.subject.name]
    expect(own, "the model is missing", reply)
    return dict(own[-1])


@check("statistics/shape", MUST, SOURCE, "counts, and count and ns of each stage", extension=NAME)
def shape(target: Target) -> None:
    told = _told(target)
    for name in ("last_inference", "inference_count", "execution_count"):
        expect(type(told.get(name)) is int, f"{name} is no whole number: {told}"[:400])
    for stage in STAGES:
        held = told["inference_stats"].get(stage) or {}
        expect(type(held.get("count")) is int and type(held.get("ns")) is int, f"{stage} lacks count or ns: {held}")
    expect(isinstance(told.get("batch_stats"), list), "batch_stats is no list")


@check("statistics/rows", MUST, SOURCE, "each row of a batch counts as an inference", extension=NAME)
def rows(target: Target) -> None:
    before = _told(target)
    for count in (1, 3, 3):
        target.answers(target.subject, target.subject.sample(count))
    after = _told(target)
    grown = after["inference_count"] - before["inference_count"]
    expect(grown == 7, f"1, 3 and 3 rows made inference_count grow by {grown}")
    requests = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
    expect(requests == 3, f"three requests made success.count grow by {requests}")
    runs = after["execution_count"] - before["execution_count"]
    expect(1 <= runs <= 3, f"three requests made execution_count grow by {runs}")


@check("statistics/time", MUST, SOURCE, "last_inference is a time in milliseconds since the epoch", extension=NAME)
def last(target: Target) -> None:
    target.answers(target.subject, target.subject.sample())
    told = _told(target)["last_inference"]
    expect(abs(time.time() * 1000 - told) < 60_000, f"it is {told}")


@check("statistics/batches", SHOULD, SOURCE, "batch_stats counts executions by batch size", extension=NAME)
def batches(target: Target) -> None:
    def seen() -> int:
        sizes = {each["batch_size"]: each["compute_infer"]["count"] for each in _told(target)["batch_stats"]}
        return int(sizes.get(5, 0))

    before = seen()
    target.answers(target.subject, target.subject.sample(5))
    expect(seen() == before + 1, f"a batch of 5 rows: its count was {before}, is {seen()}")


@check("statistics/version", MUST, SOURCE, "statistics of one version, and of all models", extension=NAME)
def version(target: Target) -> None:
    for each in target.subject.versions:
        expect(_told(target, f"{target.subject.path}/versions/{each}")["version"] == each, "another version")
    _told(target, "/v2/models")


@check("statistics/failed", SHOULD, SOURCE, "a request that fails is counted in fail, not in success", extension=NAME)
def failed(target: Target) -> None:
    before = _told(target)["inference_stats"]["success"]["count"]
    request = asking(target.subject.sample())
    request["inputs"][0]["data"] = []
    told_error(target.infer(target.subject, request))
    expect(_told(target)["inference_stats"]["success"]["count"] == before, "it counts as a success")


@check("statistics/unknown", MUST, SOURCE, "statistics of an unknown model: an error", extension=NAME)
def unknown(target: Target) -> None:
    told_error(target.get("/v2/models/no-such-model/stats"))


@check("statistics/grpc", MUST, SOURCE, "ModelStatistics tells the same counts", extension=NAME, grpc=True)
def over_grpc(target: Target) -> None:
    called = target.call("ModelStatistics", messages.ModelStatisticsRequest(name=target.subject.name))
    told = called.good().model_stats
    expect(told, "no model", called)
    rest = _told(target)
    expect(told[-1].inference_count == rest["inference_count"], "another inference_count than over REST", called)
    seen = told[-1].inference_stats.success.count
    expect(seen == rest["inference_stats"]["success"]["count"], "another success.count than over REST", called)
