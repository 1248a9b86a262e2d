"""Extension: what parts of Bimodal above this one add to a worker: routes, metrics, pages of the description.

A server's spec names them ("module:function"); the function is called once in each worker, when its models are loaded,
with the Extension to add to. So this room serves jobs without knowing of them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

from bimodal.realtime.app import Fault, Handler, Streamer
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.service import Service


@dataclass
class Extension:
    """What a worker has, and what is added to it.

    spec: the server's. worker: this one's number, from 0. routes: by method and path. prefixes: by method and the
    beginning of a path (the handler looks at the rest itself). streams: those that take a POST's body in pieces, by
    path; stream_prefixes: by method and the beginning of one. paths: for /openapi.json. texts: more of /metrics, in
    Prometheus' format, asked each time. faults: how errors about paths of a pattern that are no route are told, with
    their status, where that is not our own way. closes: awaited when the worker ends, after its models.
    """

    service: Service
    metrics: Metrics
    spec: Mapping[str, Any]
    worker: int
    routes: dict[tuple[str, str], Handler] = field(default_factory=dict)
    prefixes: dict[tuple[str, str], Handler] = field(default_factory=dict)
    streams: dict[str, Streamer] = field(default_factory=dict)
    stream_prefixes: dict[tuple[str, str], Streamer] = field(default_factory=dict)
    paths: dict[str, Any] = field(default_factory=dict)
    texts: list[Callable[[], str]] = field(default_factory=list)
    faults: list[tuple[re.Pattern[str], Fault]] = field(default_factory=list)
    closes: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def load(self) -> Extension:
        """Have all that the spec names add what is theirs."""
        for name in self.spec.get("extensions", ()):
            module, _, function = str(name).partition(":")
            cast(Callable[[Extension], None], getattr(import_module(module), function))(self)
        return self
