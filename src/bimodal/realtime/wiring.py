"""All objects of a worker, made in one visible function."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import msgspec

from bimodal import __version__, model
from bimodal.errors import UsageError
from bimodal.formats.library import library
from bimodal.model import Model
from bimodal.realtime import openapi, pages
from bimodal.realtime.app import App, Handler, Streamer, state, text
from bimodal.realtime.doors import Doors, Provider
from bimodal.realtime.exchange import JSON
from bimodal.realtime.extension import Extension
from bimodal.realtime.limits import Limits
from bimodal.realtime.metrics import CONTENT_TYPE, Metrics
from bimodal.realtime.protocols.media import Media
from bimodal.realtime.protocols.openinference import InferDoor, metadata
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
    "metrics": path of the workers' shared file or None, "workers": how many, "queue_target": seconds or None,
    "defaults": {name: {"outputs": …, "threshold": …}} of models that have their own, "stores": {name: what
    `serving.store` gives} of models with a prediction store}.
    Raises the error that keeps a model from loading.
    """
    models = await asyncio.gather(*[asyncio.to_thread(model.from_spec, each) for each in spec["models"]])
    if worker == 0:  # once, not once a worker
        for each in models:
            each.tell_warnings()
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
        spec=spec,
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
    spec: Mapping[str, Any] | None = None,
) -> Wired:
    """The same of models that are loaded. spec: of the server, for its extensions."""
    if not models:
        raise UsageError("there is no model to serve")
    counters = Metrics([each.name for each in models], metrics, workers, worker)
    for each in models:
        counters.describe(partial(_labels, each))
    service = Service(
        models,
        limits,
        counters,
        outputs=outputs,
        threshold=threshold,
        target=queue_target,
        defaults=(spec or {}).get("defaults"),
    )
    extension = Extension(service, counters, spec or {}, worker).load()
    if extension.spec.get("stores"):
        library("bimodal.realtime.lookup").extend(extension)  # only now: it maps files in ways that Windows has not
    counters.add(extension.texts)
    routes: dict[tuple[str, str], Handler] = _health(service, counters) | _pages(service, counters, extension.paths)
    streams: dict[str, Streamer] = {}
    for served in service.served.values():
        for provider in PROVIDERS:
            doors = provider(served, service, counters)
            routes |= doors.routes
            streams |= doors.streams
    app = App(
        routes | extension.routes,
        counters,
        streams=streams | extension.streams,
        prefixes=extension.prefixes,
        stream_prefixes=extension.stream_prefixes,
        patterns=_patterns(service),
        cors=cors,
    )

    async def close() -> None:
        await service.close()
        for each in extension.closes:
            await each()
        counters.refresh()  # nothing is in flight any more, also for those who read this row later

    return Wired(app, service, close)


def _labels(model: Model) -> dict[str, str]:
    return {"model": model.name, "version": model.version, "format": model.format, "runtime": model.runtime_name}


def _summary(served: Served) -> bytes:
    return msgspec.json.encode(openapi.summary(served))


def _paths(served: Served, service: Service) -> list[str]:
    """Where a model's `/predict` is."""
    name = served.model.name
    paths = [f"/models/{name}/predict", f"/models/{name}/versions/{served.model.version}/predict"]
    return ["/predict", *paths] if served is service.first else paths


def _health(service: Service, metrics: Metrics) -> dict[tuple[str, str], Handler]:
    live = state(lambda: True, {"status": "live"}, {"status": "live"}, metrics)
    ready = state(lambda: service.ready, {"status": "ready"}, {"status": "draining"}, metrics)
    return {
        ("GET", "/health/live"): live,
        ("GET", "/health/ready"): ready,
        ("GET", "/v2/health/live"): state(lambda: True, {"live": True}, {"live": False}, metrics),
        ("GET", "/v2/health/ready"): state(lambda: service.ready, {"ready": True}, {"ready": False}, metrics),
        ("GET", "/metrics"): text(CONTENT_TYPE, metrics.text, metrics),
    }


def _predict(served: Served, service: Service, metrics: Metrics) -> Doors:
    """`/predict` of one model."""
    media, paths = Media(served), _paths(served, service)
    return Doors({("POST", path): media for path in paths}, dict.fromkeys(paths, media.stream))


def _open_inference(served: Served, service: Service, metrics: Metrics) -> Doors:
    """The Open Inference routes of one model."""
    name, version = served.model.name, served.model.version
    infer = InferDoor(served)
    told = text(JSON, partial(msgspec.json.encode, metadata(served)), metrics)
    ready = state(lambda: service.ready, {"name": name, "ready": True}, {"name": name, "ready": False}, metrics)
    routes: dict[tuple[str, str], Handler] = {}
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        routes["GET", path] = told
        routes["GET", f"{path}/ready"] = ready
        routes["POST", f"{path}/infer"] = infer
    return Doors(routes)


PROVIDERS: tuple[Provider, ...] = (_predict, _open_inference)  # what each model is reached by


def _pages(service: Service, metrics: Metrics, paths: Mapping[str, Any]) -> dict[tuple[str, str], Handler]:
    """What tells of the server and its models: pages, documents, lists. paths: more of /openapi.json."""
    server = {"name": "bimodal", "version": __version__, "extensions": []}
    served = list(service.served.values())
    return {
        **pages.routes(metrics),
        ("GET", "/v2"): text(JSON, partial(msgspec.json.encode, server), metrics),
        ("GET", "/openapi.json"): text(
            JSON, cache(lambda: msgspec.json.encode(openapi.document(served, service.limits, paths))), metrics
        ),
        ("GET", "/models"): text(
            JSON, lambda: msgspec.json.encode([openapi.summary(each) for each in served]), metrics
        ),
        **{("GET", f"/models/{each.model.name}"): text(JSON, partial(_summary, each), metrics) for each in served},
    }


def _patterns(service: Service) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], None]]]:
    def find(match: re.Match[str]) -> None:
        service.find(match["name"], match["version"])

    return [(re.compile(r"(?:/v2)?/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/\w+(?:/.*)?)?"), find)]
