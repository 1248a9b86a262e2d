"""What gRPC callers ask of the server and of its models: live, ready, metadata, configuration, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bimodal import __version__
from bimodal.errors import ModelNotFound
from bimodal.realtime.calls import Unary
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import description
from bimodal.realtime.protocols.replies import unary
from bimodal.realtime.protocols.statistics import statistics
from bimodal.realtime.service import Served, Service

SERVICE = "inference.GRPCInferenceService"

Answer = Callable[[Any], Mapping[str, Any]]


def methods(service: Service, metrics: Metrics) -> dict[str, Unary]:
    """The methods by path."""

    def find(request: Any) -> Served:
        return service.find(request.name, request.version or None)

    def ready(request: Any) -> Mapping[str, Any]:
        try:
            served = find(request)
        except ModelNotFound:
            return {"ready": False}
        return {"ready": service.taking and served.available}

    answers: dict[str, Answer] = {
        "ServerLive": lambda request: {"live": True},
        "ServerReady": lambda request: {"ready": service.ready},
        "ModelReady": ready,
        "ServerMetadata": lambda request: {
            "name": "bimodal",
            "version": __version__,
            "extensions": description.extensions(service),
        },
        "ModelMetadata": lambda request: metadata(find(request)),
        "ModelConfig": lambda request: {"config": configuration(find(request))},
        "ModelStatistics": lambda request: {
            "model_stats": statistics(service, request.name or None, request.version or None)
        },
    }
    return {f"/{SERVICE}/{name}": unary(SERVICE, name, answer, metrics) for name, answer in answers.items()}


def metadata(served: Served) -> dict[str, Any]:
    """The fields of ModelMetadataResponse: what REST tells, without our own extension's."""
    told = description.metadata(served)
    tensors = {
        kind: [{key: each[key] for key in ("name", "datatype", "shape")} for each in told[kind]]
        for kind in ("inputs", "outputs")
    }
    return {**{key: told[key] for key in ("name", "versions", "platform")}, **tensors}


def configuration(served: Served) -> dict[str, Any]:
    """The fields of ModelConfig that have a place in the message."""
    told = description.configuration(served)
    kept = {key: told[key] for key in ("name", "platform", "backend", "runtime", "max_batch_size", "parameters")}
    batching = told["dynamic_batching"]
    return {
        **kept,
        "input": [_tensor(each) for each in told["input"]],
        "output": [_tensor(each) for each in told["output"]],
        "dynamic_batching": {"max_queue_delay_microseconds": batching["max_queue_delay_microseconds"]},
        "model_transaction_policy": {"decoupled": bool(getattr(served.model, "streams", False))},
    }


def _tensor(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: told[key] for key in ("name", "data_type", "dims")}
