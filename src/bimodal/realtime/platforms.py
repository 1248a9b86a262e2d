"""Routes of the first model under paths that a platform chooses, as Vertex AI does for its containers."""

from __future__ import annotations

from collections.abc import Callable

from bimodal.errors import ModelNotFound
from bimodal.realtime.app import state
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.extension import Extension
from bimodal.realtime.failure import failure, status
from bimodal.realtime.protocols.instances import InstancesDoor
from bimodal.settings import READY


def extend(extension: Extension) -> None:
    """Add the paths that the spec's `routes` names: {"predict": path or None, "health": path or None}."""
    told = extension.spec.get("routes") or {}
    service, metrics = extension.service, extension.metrics
    predict, health = told.get("predict"), told.get("health")
    named = (predict or "").removeprefix("/v1/models/").removesuffix(":predict")  # a model that is meant, if any

    def ask(request: Request, respond: Respond) -> Callable[[], None] | None:
        asked = service.shelf.defaults.get(named, service.first)
        if asked is not None:
            return asked.door(InstancesDoor)(request, respond)
        error = ModelNotFound("no model is served")
        metrics.other(status(error))
        respond(failure(error, request.headers))
        return None

    if predict:
        extension.routes["POST", predict] = ask
    if health and health not in READY:
        extension.routes["GET", health] = state(
            lambda: service.ready, {"status": "ready"}, {"status": "unready"}, metrics
        )
