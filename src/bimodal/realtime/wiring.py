"""All objects of a worker, made in one visible function."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bimodal import model
from bimodal.errors import UsageError
from bimodal.model import Model
from bimodal.realtime.app import App, Handler, state
from bimodal.realtime.limits import Limits
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols.rows import RowsDoor
from bimodal.realtime.service import Served, Service


@dataclass(frozen=True)
class Wired:
    """A worker's app, its service, and how to end both."""

    app: App
    service: Service
    close: Callable[[], Any]


async def build(spec: Mapping[str, Any], limits: Limits, worker: int) -> Wired:
    """The app of a worker.

    spec: {"models": [Model.spec() of each], "outputs": names or None, "threshold": number or None, "cors": [origins],
    "metrics": path of the workers' shared file or None, "workers": how many, "queue_target": seconds or None}.
    Raises the error that keeps a model from loading.
    """
    models = await asyncio.gather(*[asyncio.to_thread(model.from_spec, each) for each in spec["models"]])
    return wire(
        models,
        limits,
        worker,
        outputs=spec.get("outputs"),
        threshold=spec.get("threshold"),
        cors=spec.get("cors") or (),
        metrics=spec.get("metrics"),
        workers=spec.get("workers") or 1,
        queue_target=spec.get("queue_target"),
    )


def wire(
    models: Sequence[Model],
    limits: Limits,
    worker: int = 0,
    *,
    outputs: Sequence[str] | None = None,
    threshold: float | None = None,
    cors: Sequence[str] = (),
    metrics: str | None = None,
    workers: int = 1,
    queue_target: float | None = None,
) -> Wired:
    """The same of models that are loaded."""
    if not models:
        raise UsageError("there is no model to serve")
    counters = Metrics([each.name for each in models], metrics, workers, worker)
    service = Service(models, limits, counters, outputs=outputs, threshold=threshold, target=queue_target)
    routes: dict[tuple[str, str], Handler] = {}
    routes |= _health(service, counters)
    for served in service.served.values():
        routes |= _predictions(served)
    routes["POST", "/predict"] = routes["POST", f"/models/{service.first.model.name}/predict"]
    app = App(routes, counters, patterns=_patterns(service), cors=cors)

    async def close() -> None:
        await service.close()

    return Wired(app, service, close)


def _health(service: Service, metrics: Metrics) -> dict[tuple[str, str], Handler]:
    return {
        ("GET", "/health/live"): state(lambda: True, {"status": "live"}, {"status": "live"}, metrics),
        ("GET", "/health/ready"): state(lambda: service.ready, {"status": "ready"}, {"status": "draining"}, metrics),
    }


def _predictions(served: Served) -> dict[tuple[str, str], Handler]:
    door = RowsDoor(served)
    name = served.model.name
    return {
        ("POST", f"/models/{name}/predict"): door,
        ("POST", f"/models/{name}/versions/{served.model.version}/predict"): door,
    }


def _patterns(service: Service) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], None]]]:
    def find(match: re.Match[str]) -> None:
        service.find(match["name"], match["version"])

    return [(re.compile(r"(?:/v2)?/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/\w+)?"), find)]
