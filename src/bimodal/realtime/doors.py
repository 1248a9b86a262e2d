"""Doors: the routes of one model, which each protocol gives for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bimodal.realtime.app import Handler, Streamer
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.service import Served, Service


@dataclass
class Doors:
    """routes: by method and path. streams: those that take a POST's body in pieces, by path."""

    routes: dict[tuple[str, str], Handler] = field(default_factory=dict)
    streams: dict[str, Streamer] = field(default_factory=dict)


Provider = Callable[[Served, Service, Metrics], Doors]
