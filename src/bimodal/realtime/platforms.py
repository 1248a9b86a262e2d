"""Routes of the first model under paths that a platform chooses, as Vertex AI does for its containers."""

from __future__ import annotations

from collections.abc import Callable

from bimodal.errors import ModelNotFound, UsageError
from bimodal.realtime.app import state
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.extension import Extension
from bimodal.realtime.failure import failure, status
from bimodal.realtime.protocols.instances import InstancesDoor


def extend(extension: Extension) -> None:
    """Add the paths that the spec's `routes` names: {"predict": path or None, "health": path or None}. Raises
    UsageError.
    """
    told = extension.spec.get("routes") or {}
    service, metrics = extension.service, extension.metrics
    predict, health = _path(told.get("predict")), _path(told.get("health"))

    def ask(request: Request, respond: Respond) -> Callable[[], None] | None:
        if service.first is not None:
            return service.first.door(InstancesDoor)(request, respond)
        error = ModelNotFound("no model is served")
        metrics.other(status(error))
        respond(failure(error, request.headers))
        return None

    if predict is not None:
        extension.routes["POST", predict] = ask
    if health is not None:
        extension.routes["GET", health] = state(
            lambda: service.ready, {"status": "ready"}, {"status": "unready"}, metrics
        )


def _path(path: str | None) -> str | None:
    if path and not path.startswith("/"):
        raise UsageError(f"a route begins with a slash: {path!r}")
    return path or None
