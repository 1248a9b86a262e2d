"""Job and Report: what a parent process and its worker tell each other, each one line of JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from bimodal.realtime.limits import Limits


class Job(msgspec.Struct):
    """What the parent tells a worker."""

    spec: dict[str, Any]
    limits: Limits
    worker: int
    parent: int
    grace: float
    path: list[str]


class Report(msgspec.Struct, omit_defaults=True, tag="report"):
    """What a worker tells its parent: that it is ready, or the code and message of the error that keeps it from it."""

    ready: bool
    code: str = ""
    message: str = ""
