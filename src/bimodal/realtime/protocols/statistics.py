"""The statistics extension: what each model has done since the server began, over all workers.

Triton's extension_statistics.md. Counted by the name of a model: its versions together. A request is what a wire
answers at once: of a stream of lines, each part that is predicted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bimodal.realtime.layout import BATCHES, CHECKED, ENCODED, FAILED, LAST, PREDICTED, SECONDS, SIZED
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.service import Served, Service


def statistics(service: Service, name: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
    """Those of one model, or of all. Raises ModelNotFound."""
    found = list(service.served.values()) if name is None else [service.find(name, version)]
    return [_statistics(each, service.metrics) for each in found]


def _statistics(served: Served, metrics: Metrics) -> dict[str, Any]:
    name, layout = served.model.name, metrics.layout
    own = metrics.each(layout.statistics[name], SIZED + 4 * len(BATCHES))
    sums = [sum(column) for column in zip(*own, strict=True)]
    parse = _stage(metrics, name, "parse")
    queue = _stage(metrics, name, "queue")
    answered = parse[0]
    refused = sum([metrics.total(place) for (model, _), place in layout.refusals.items() if model == name])
    sizes = _sizes(sums[SIZED:])
    whole = parse[1] + queue[1] + sums[CHECKED] + sums[PREDICTED] + sums[ENCODED]
    return {
        "name": name,
        "version": served.model.version,
        "last_inference": int(max(row[LAST] for row in own)),
        "inference_count": int(metrics.total(layout.rows[name])),
        "execution_count": sum([each["compute_infer"]["count"] for each in sizes]),
        "inference_stats": {
            "success": _duration(answered, whole),
            "fail": _duration(refused, sums[FAILED]),
            "queue": _duration(answered, queue[1]),
            "compute_input": _duration(answered, parse[1] + sums[CHECKED]),
            "compute_infer": _duration(answered, sums[PREDICTED]),
            "compute_output": _duration(answered, sums[ENCODED]),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": sizes,
    }


def _sizes(values: Sequence[float]) -> list[dict[str, Any]]:
    told = []
    for place, size in enumerate(BATCHES):
        calls, *seconds = values[4 * place : 4 * place + 4]
        if calls:
            stages = zip(("compute_input", "compute_infer", "compute_output"), seconds, strict=True)
            told.append({"batch_size": size, **{stage: _duration(calls, spent) for stage, spent in stages}})
    return told


def _stage(metrics: Metrics, name: str, stage: str) -> tuple[float, float]:
    """How many requests went through a stage, and their seconds in it."""
    rows = metrics.each(metrics.layout.seconds[name, stage], len(SECONDS) + 2)
    return sum([sum(row[:-1]) for row in rows]), sum([row[-1] for row in rows])


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": int(seconds * 1e9)}
