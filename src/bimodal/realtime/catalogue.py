"""Catalogue: the models of a worker with all their routes, changed in one step."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

from bimodal import errors, model
from bimodal.errors import AnswersChanged, BimodalError
from bimodal.model import Model
from bimodal.realtime import openapi
from bimodal.realtime.app import App
from bimodal.realtime.control import Failure, Loaded, Prepare, Switch
from bimodal.realtime.differences import differences
from bimodal.realtime.doors import Doors, Provider
from bimodal.realtime.layout import DONE, FAILURE
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.service import Served, Service
from bimodal.runtimes.aside import aside

log = logging.getLogger("bimodal.repository")

PROOF = 60.0  # seconds that a model which follows another may take to be compiled, before it answers as it is
TOGETHER = 8  # models that are loaded at once where nobody is answered yet
LOOK = 0.05  # seconds between two looks whether it is


class Catalogue:
    """generation: how often it has changed."""

    def __init__(self, service: Service, metrics: Metrics, providers: Sequence[Provider]) -> None:
        self.service, self.generation = service, 0
        self._metrics, self._providers = metrics, providers
        self._app: App | None = None
        self._doors: dict[tuple[Served, bool], list[Doors]] = {}
        self._counted = -1  # the change that this worker counts, of all workers
        self._aside: dict[int, dict[tuple[str, str], Served]] = {}  # what was prepared, by change

    def example(self) -> str | None:
        """The body of a request to /predict that works; None where nobody knows one."""
        first = self.service.first
        return None if first is None or first.signature.open else json.dumps(openapi.body(first.signature))

    def mount(self, app: App) -> None:
        """Have the app answer for the models."""
        self._app = app
        self._remount()

    def _remount(self) -> None:
        """Versions first; the one that answers where none is named has the last word, and `first` the very last."""
        assert self._app is not None
        shelf, first = self.service.shelf, self.service.first
        defaults = set(shelf.defaults.values())
        kept = {(each, each is first): self._made(each, first=each is first) for each in shelf}
        self._doors = kept
        doors = []
        for served in sorted(shelf, key=lambda each: (each in defaults, each is first)):
            names = [served.model.version, *shelf.aliases_of(served)]
            doors += [_doors(each, names, plain=served in defaults) for each in kept[served, served is first]]
        self._app.mount(doors)

    def _made(self, served: Served, *, first: bool) -> list[Doors]:
        """The doors of a model; those of the first have more routes."""
        if (served, first) not in self._doors:
            service = cast(Service, _Led(self.service, served)) if first else self.service
            self._doors[served, first] = [each(served, service, self._metrics) for each in self._providers]
        return self._doors[served, first]

    # -- changes ----------------------------------------------------------------------------------------------------

    async def prepare(self, told: Prepare) -> tuple[list[Failure], list[Loaded]]:
        """Load models aside: each opened, compared with its golden rows, called once, its routes made. Returns what
        cannot be served, with the reasons, and what can. Nobody finds them yet.
        """
        for name in told.counted:
            self._metrics.layout.add(name)
        aside = self._aside.setdefault(told.change, {})
        alone = asyncio.Semaphore(TOGETHER if not self.service.shelf.names else 1)
        loaded: list[Loaded] = []

        async def opened(spec: Mapping[str, Any]) -> list[Failure]:
            async with alone:
                began = time.monotonic()
                try:
                    served = await asyncio.to_thread(self._opened, spec, told.tells)
                except Exception as error:  # whatever a model does when it is loaded, it is told
                    return [Failure(spec["name"], spec["label"] or "", _told(error))]
            if told.tells:
                served.model.tell_warnings()
            one = served.model
            aside[one.name, one.version] = served
            span, before = time.monotonic() - began, self.service.shelf.defaults.get(one.name)
            differs = "" if before is None else differences(before.signature, one.signature)
            loaded.append(Loaded(one.name, one.version, one.runtime_name, span, differs))
            return []

        failed = list(chain(*await asyncio.gather(*[opened(each) for each in told.models])))
        if told.tells:
            self._counted = told.change
            if failed:
                self._metrics.count("bimodal_reloads_total", FAILURE)
        return failed, loaded

    def _opened(self, spec: Mapping[str, Any], tells: bool) -> Served:
        follows = spec["name"] in self.service.shelf.names
        with aside(follows or bool(self.service.shelf.names)):
            loaded = model.from_spec(spec)
        try:
            if follows and tells and loaded.verifying:
                log.info(
                    "%s %s waits up to %.0f s for its compiled form to be proven", loaded.name, loaded.version, PROOF
                )
            ready(loaded, PROOF if follows else 0.0)
            served = self.service.made(loaded)
            leads = self.service.first
            self._made(served, first=leads is None or leads.model.name == served.model.name)
        except BaseException:
            loaded.close()
            raise
        return served

    def switch(self, told: Switch) -> None:
        """What was prepared takes its place, in one step; what it replaces answers what it took, and ends."""
        aside = self._aside.pop(told.change, {})
        come = [aside.pop(key) for key in told.come if key in aside]
        shelf = self.service.shelf
        before = list(shelf)
        for each in come:
            if each.model.name in shelf.defaults:
                each.batcher.follow(shelf.defaults[each.model.name].batcher)
        gone = [each for each in before if (each.model.name, each.model.version) in told.gone]
        shelf.change(come, gone, aliases=told.aliases, chosen=told.defaults)
        if before and told.change == self._counted:
            self._metrics.count("bimodal_reloads_total", DONE)
        self.generation += 1
        self._remount()
        kept = set(shelf)
        for served in [*(each for each in before if each not in kept), *aside.values()]:
            self._retire(served)

    def drop(self, change: int) -> None:
        """What was prepared is not wanted."""
        for served in self._aside.pop(change, {}).values():
            self._retire(served)

    def _retire(self, served: Served) -> None:
        for first in (False, True):
            self._doors.pop((served, first), None)
        self.service.retire(served).add_done_callback(self._collect)

    def _collect(self, _: object) -> None:
        """A model and its doors know each other: what is gone is given back now, not at some later request."""
        if not self.service.retiring and self.service.taking:
            gc.collect()


class _Led:
    """The service as it will be when a model that is still aside is the first: so its doors are made before."""

    def __init__(self, service: Service, first: Served) -> None:
        self.first = first
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


def ready(loaded: Model, proof: float) -> None:
    """Have a model compared with its golden rows, and called once. proof: seconds to wait for its compiled form. Raises
    AnswersChanged, and what its call raises.
    """
    package = loaded.location.package
    if package is not None and package.golden is not None and not loaded.location.drift:
        changed = package.golden.changed(lambda rows, outputs: loaded.run(rows, outputs))
        if len(changed):
            raise AnswersChanged(
                f"{len(changed)} of its {package.golden.rows.count} golden rows are answered otherwise than when it "
                f"was packed, the first of them golden row {int(changed[0]) + 1}; pack it again where it is served"
            )
    until = time.monotonic() + proof
    while loaded.verifying and time.monotonic() < until:
        time.sleep(LOOK)
    if not loaded.signature.open:
        loaded.run(loaded.signature.example_rows(), loaded.resolve_outputs(None))


def _told(error: Exception) -> dict[str, object]:
    if isinstance(error, BimodalError):
        return errors.told(error)
    return errors.told(BimodalError(f"it cannot be loaded: {type(error).__name__}: {error}"))


def _doors(doors: Doors, versions: Sequence[str], *, plain: bool) -> Doors:
    """The routes under each name of the version. plain: also those that name none."""
    part = f"/versions/{versions[0]}"
    if plain and len(versions) == 1:
        return doors
    routes = {(method, path): each for (method, path), each in doors.routes.items() if plain or part in path}
    streams = {path: each for path, each in doors.streams.items() if plain or part in path}
    for alias in versions[1:]:
        named = f"/versions/{alias}"
        routes |= {(way, path.replace(part, named)): each for (way, path), each in routes.items() if part in path}
        streams |= {path.replace(part, named): each for path, each in streams.items() if part in path}
    return Doors(routes, streams)
