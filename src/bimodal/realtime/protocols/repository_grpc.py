"""The repository of models over gRPC: index, load, unload, in both services in which callers look for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bimodal.realtime.calls import Unary
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols.replies import later, unary
from bimodal.realtime.protocols.tensor_messages import parameters_of
from bimodal.realtime.service import Service

SERVICES = ("inference.GRPCInferenceService", "inference.model_repository.ModelRepositoryService")


def methods(service: Service, metrics: Metrics) -> dict[str, Unary]:
    """The methods by path. There is one repository: its name is not looked at."""

    def index(request: Any) -> Mapping[str, Any]:
        return {"models": service.index(request.ready or None)}

    async def load(request: Any) -> None:
        await service.load(request.model_name, _parameters(request))

    async def unload(request: Any) -> None:
        await service.unload(request.model_name, _parameters(request))

    found: dict[str, Unary] = {}
    for name in SERVICES:
        path: Callable[[str], str] = f"/{name}/".__add__
        found[path("RepositoryIndex")] = unary(name, "RepositoryIndex", index, metrics)
        found[path("RepositoryModelLoad")] = later(name, "RepositoryModelLoad", load, metrics)
        found[path("RepositoryModelUnload")] = later(name, "RepositoryModelUnload", unload, metrics)
    return found


def _parameters(request: Any) -> dict[str, Any]:
    """The parameters of a request, where its message has any."""
    return parameters_of(request.parameters) if "parameters" in request.DESCRIPTOR.fields_by_name else {}
