"""All objects of a worker, made in one visible function."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec

from bimodal import __version__, model
from bimodal.errors import ModelNotFound, NotFound, UsageError
from bimodal.formats.library import library
from bimodal.model import Model
from bimodal.realtime import openapi, pages, platforms
from bimodal.realtime.app import App, Handler, measured, state, text
from bimodal.realtime.calls import Methods
from bimodal.realtime.catalogue import Catalogue
from bimodal.realtime.doors import Doors, Provider
from bimodal.realtime.exchange import JSON, Request, Respond
from bimodal.realtime.extension import Extension
from bimodal.realtime.guard import Guard, guard_of
from bimodal.realtime.limits import Limits
from bimodal.realtime.link import Link
from bimodal.realtime.listener import Listener
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.observer import Observer, observer_of
from bimodal.realtime.protocols import chat, generate, instances, invocations
from bimodal.realtime.protocols import repository as repository_doors
from bimodal.realtime.protocols.description import configuration, extensions, metadata
from bimodal.realtime.protocols.media import Media
from bimodal.realtime.protocols.methods import methods
from bimodal.realtime.protocols.openinference import InferDoor
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.protocols.statistics import statistics
from bimodal.realtime.service import Served, Service
from bimodal.realtime.states import STATISTICS
from bimodal.realtime.stock import ROOM


@dataclass(frozen=True)
class Wired:
    """A worker's app and its gRPC methods, its service, its models as they come and go, and how to end all."""

    app: App
    methods: Methods
    guard: Guard
    service: Service
    catalogue: Catalogue
    close: Callable[[], Any]
    metrics: Metrics
    observer: Observer | None
    repository: Mapping[str, Any] | None = None
    opened: asyncio.Event | None = None

    def linked(self, control: socket.socket) -> Callable[[bytes], None]:
        """Let the process at the other end lead what models come and go; gives what takes the lines that it says."""
        self.service.control = link = Link(control, self.catalogue, self.repository, self.opened)
        return link.take

    def attach(self, listener: Listener) -> None:
        """Let a listener count, and tell the observer."""
        listener.metrics, listener.observer = self.metrics, self.observer
        self.metrics.watch_connections(lambda: len(listener.connections))
        self.metrics.watch_workers(lambda: int(not listener.draining))

    def drain(self) -> None:
        """The server will end soon."""
        self.service.drain()


async def build(spec: Mapping[str, Any], limits: Limits, worker: int) -> Wired:
    """The app of a worker.

    spec: {"models": [Model.spec() of each], "outputs": names or None, "threshold": number or None, "cors": [origins],
    "metrics": path of the workers' shared file or None, "workers": how many, "queue_target": seconds or None,
    "defaults": {name: {"outputs": …, "threshold": …}} of models that have their own, "stores": {name: what
    `serving.store` gives} of models with a prediction store, "repository": see `serving.spec`, "stock": what of it is
    served, by `Stock.told`, "guard": see `guard.guard_of`, "record": see `serving.record`}.
    Raises the error that keeps a model from loading.
    """
    stocked = (spec.get("stock") or {}).get("models", ())
    reloaded = {each["name"]: each for each in stocked if each["name"] in {other["name"] for other in spec["models"]}}
    named = [reloaded.get(each["name"], each) for each in spec["models"]]
    specs = [*named, *[each for each in stocked if each["name"] not in reloaded]]
    models = await asyncio.gather(*[asyncio.to_thread(model.from_spec, each) for each in specs])
    if worker == 0:  # once, not once a worker
        for each in models:
            each.tell_warnings()
    try:
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
    except BaseException:
        for each in models:
            each.close()  # else what proves its compiled form would tell how it ended
        raise


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
    told = spec or {}
    repository, stock = told.get("repository"), told.get("stock") or {}
    if not models and repository is None:
        raise UsageError("there is no model to serve")
    names = list(dict.fromkeys([*stock.get("counted", ()), *(each.name for each in models)]))
    counters = Metrics(names, metrics, workers, worker, ROOM if repository else 0)
    written = recorded(told, counters, worker)
    service = Service(
        models,
        limits,
        counters,
        outputs=outputs,
        threshold=threshold,
        target=queue_target,
        defaults=told.get("defaults"),
        repository=None if repository is None else str(repository["control"]),
        record=None if written is None else written.recorder,
    )
    service.shelf.change((), aliases=stock.get("aliases"), chosen=stock.get("defaults"))
    counters.describe(lambda: [_labels(each.model) for each in service.shelf])
    catalogue = Catalogue(service, counters, PROVIDERS)
    extension = Extension(service, counters, told, worker).load()
    repository_doors.extend(extension)
    platforms.extend(extension)
    chat.extend(extension)
    if extension.spec.get("stores"):
        library("bimodal.realtime.lookup").extend(extension)  # only now: it maps files in ways that Windows has not
    counters.add(extension.texts)
    guard = guard_of(told.get("guard"), counters, extension.faults)
    service.insecure = bool((told.get("guard") or {}).get("warning"))
    routes = _health(service, counters, told.get("guard") or {}) | _pages(catalogue, counters, extension.paths, guard)
    app = App(
        routes | extension.routes,
        counters,
        streams=extension.streams,
        prefixes=extension.prefixes,
        stream_prefixes=extension.stream_prefixes,
        patterns=_patterns(service, extension.spec.get("stores") or ()),
        faults=extension.faults,
        cors=cors,
    )
    catalogue.mount(app)
    guard.answers = app.answers
    observer = observer_of(told.get("observe"), app, counters, guard)
    service.control = Link(None, catalogue, repository)

    async def close() -> None:
        await service.close()
        for each in extension.closes:
            await each()
        if written is not None:
            await asyncio.to_thread(written.close)
        if observer is not None:
            await asyncio.to_thread(observer.close)
        counters.end()

    opened = asyncio.Event() if repository is not None and not stock else None  # what is to be loaded is told later
    called = methods(service, counters, known=not guard.asks)
    guard.takes = called.takes
    return Wired(app, called, guard, service, catalogue, close, counters, observer, repository, opened)


def recorded(spec: Mapping[str, Any], metrics: Metrics, worker: int) -> Any:
    """The prediction log of a worker, or None. It is imported only where there is one: it needs Arrow."""
    told = spec.get("record")
    return None if told is None else library("bimodal.realtime.recorder").Log(told, metrics, worker)


def _labels(model: Model) -> dict[str, str]:
    return {"model": model.name, "version": model.version, "format": model.format, "runtime": model.runtime_name}


def _summary(served: Served, service: Service) -> dict[str, Any]:
    """A model as `/models` tells it, with the versions and aliases that it has beside."""
    name, shelf = served.model.name, service.shelf
    return {
        **openapi.summary(served),
        "versions": shelf.versions(name),
        "aliases": dict(shelf.aliases.get(name, {})),
    }


def _described(served: Served, service: Service, metrics: Metrics) -> Doors:
    """What is told of one model."""
    name = served.model.name
    told = text(JSON, lambda: msgspec.json.encode(_summary(served, service)), metrics)
    return Doors(
        {("GET", path): told for path in (f"/models/{name}", f"/models/{name}/versions/{served.model.version}")}
    )


def _paths(served: Served, service: Service) -> list[str]:
    """Where a model's `/predict` is."""
    name = served.model.name
    paths = [f"/models/{name}/predict", f"/models/{name}/versions/{served.model.version}/predict"]
    return ["/predict", *paths] if served is service.first else paths


def _health(service: Service, metrics: Metrics, guarded: Mapping[str, Any]) -> dict[tuple[str, str], Handler]:
    """They are open to everybody: where callers have keys, they tell the state alone."""
    lack = dict if guarded.get("keys") else service.lack
    ready_told = {"status": "ready"} | ({"warning": guarded["warning"]} if guarded.get("warning") else {})
    live = state(lambda: True, {"status": "live"}, {"status": "live"}, metrics)
    states = {
        reason: state(lambda: service.ready, ready_told, {"status": reason}, metrics, lack)
        for reason in ("draining", "loading", "a model is not there")
    }

    def ready(request: Request, respond: Respond) -> None:
        reason = "draining" if not service.taking else "loading" if service.loading else "a model is not there"
        states[reason](request, respond)

    return {
        ("GET", "/health/live"): live,
        ("GET", "/health/ready"): ready,
        ("GET", "/v2/health/live"): state(lambda: True, {"live": True}, {"live": False}, metrics),
        ("GET", "/v2/health/ready"): state(lambda: service.ready, {"ready": True}, {"ready": False}, metrics, lack),
        ("GET", "/ping"): ready,  # as SageMaker and MLflow ask it
        ("GET", "/metrics"): measured(metrics),
    }


def _predict(served: Served, service: Service, metrics: Metrics) -> Doors:
    """`/predict` of one model."""
    media, paths = Media(served), _paths(served, service)
    return Doors({("POST", path): media.__call__ for path in paths}, dict.fromkeys(paths, media.stream))


def _open_inference(served: Served, service: Service, metrics: Metrics) -> Doors:
    """The Open Inference routes of one model."""
    name, version = served.model.name, served.model.version
    infer = InferDoor(served).__call__
    told = text(JSON, lambda: msgspec.json.encode(metadata(served), enc_hook=plain), metrics)
    ready = state(
        lambda: service.taking and served.available,
        {"name": name, "ready": True},
        {"name": name, "ready": False},
        metrics,
    )
    config = text(JSON, lambda: msgspec.json.encode(configuration(served), enc_hook=plain), metrics)
    counted = text(JSON, lambda: _counted(service, name, version), metrics)
    routes: dict[tuple[str, str], Handler] = {}
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        routes["GET", path] = told
        routes["GET", f"{path}/ready"] = ready
        routes["GET", f"{path}/config"] = config
        routes["GET", f"{path}/stats"] = counted
        routes["POST", f"{path}/infer"] = infer
    return Doors(routes)


def _counted(service: Service, name: str | None = None, version: str | None = None) -> bytes:
    return msgspec.json.encode({"model_stats": statistics(service, name, version)})


# what each model is reached by
PROVIDERS: tuple[Provider, ...] = (
    _described,
    _predict,
    _open_inference,
    generate.doors,
    invocations.doors,
    instances.doors,
)


def _pages(
    catalogue: Catalogue, metrics: Metrics, paths: Mapping[str, Any], guard: Guard
) -> dict[tuple[str, str], Handler]:
    """What tells of the server and its models: pages, documents, lists. paths: more of /openapi.json."""
    service = catalogue.service
    server = {"name": "bimodal", "version": __version__, "extensions": extensions(service)}

    @lru_cache(maxsize=1)
    def document(generation: int) -> bytes:
        served = list(service.served.values())
        told = openapi.document(served, service.limits, paths)
        return msgspec.json.encode(openapi.guarded(told) if guard.ring is not None else told)

    def listed() -> bytes:
        return msgspec.json.encode([_summary(each, service) for each in service.served.values()])

    return {
        **pages.routes(metrics),
        ("GET", "/v2"): text(JSON, partial(msgspec.json.encode, server), metrics),
        ("GET", f"/v2/models/{STATISTICS}"): text(JSON, lambda: _counted(service), metrics),
        ("GET", "/openapi.json"): text(JSON, lambda: document(catalogue.generation), metrics),
        ("GET", "/models"): text(JSON, listed, metrics),
    }


def _patterns(
    service: Service, stores: Collection[str]
) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], None]]]:
    """What is told of paths below a model that are no routes. stores: the models that have a prediction store."""

    def find(match: re.Match[str]) -> None:
        service.find(match["name"], match["version"])
        model, _, verb = match[0].rpartition(":")
        if model.startswith("/v1/") and verb != "predict":
            raise NotFound(f"no such route: there is no :{verb} here; did you mean {model}:predict?")
        if match["below"] == "lookup" and match["name"] not in stores:
            raise NotFound(
                f"this server has no prediction store for {match['name']!r}; [models.{match['name']}.store] "
                "in bimodal.toml gives it one: the results of a job"
            )

    def lack(match: re.Match[str]) -> None:
        if service.first is None:
            raise ModelNotFound("no model is served; none is loaded")

    path = r"(?:/v[12])?/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[^/:]+))?(?:[/:](?P<below>\w+)(?:/.*)?)?"
    return [(re.compile(path), find), (re.compile("/predict|/invocations"), lack)]
