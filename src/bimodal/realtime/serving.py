"""`serve`: models behind a running server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bimodal import settings
from bimodal.errors import UsageError
from bimodal.location import Location, PrivateFolder
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server

SETTINGS = settings.table(settings.SERVE)
LIMITS = {  # settings that are limits of a worker
    "deadline": "deadline",
    "body_limit": "body_bytes",
    "row_limit": "rows",
    "header_timeout": "header_timeout",
    "body_timeout": "body_timeout",
    "idle_timeout": "idle_timeout",
}


def serve(
    *models: Any,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    outputs: Sequence[str] | None = None,
    threshold: float | None = None,
    cors: Sequence[str] | None = None,
    code: str | Path | Sequence[str | Path] = (),
    sample: Any = None,
    features: Sequence[str] | None = None,
    runtime: str | None = None,
    allow_drift: bool = False,
    insecure: bool = False,
    queue_target: float | None = None,
    **limits: Any,
) -> Server:
    """Serve models over HTTP from worker processes; returns when the first request can be answered.

    models: paths, Models or objects with `predict`, each under its own name. port: 0 takes a free one. outputs: what is
    answered when a request names none. limits: deadline, header_timeout, body_timeout, idle_timeout (seconds),
    body_limit (bytes), row_limit. What is not given comes from the environment (BIMODAL_PORT, …), then the default.

    The Server has `url`; `wait()` blocks until a signal; `close()`, or the end of a `with` block, answers what is in
    flight and ends. Raises PortTaken naming a free port, UsageError, and whatever keeps a model from loading.
    """
    given = {"host": host, "port": port, "workers": workers, "outputs": outputs, "threshold": threshold, "cors": cors}
    told = resolved({**given, "runtime": runtime, "queue_target": queue_target, **limits})
    loading = {"code": code, "sample": sample, "features": features, "allow_drift": allow_drift}
    locations = locate(models, **loading, runtime=told["runtime"])
    folder = PrivateFolder()
    return Server(
        spec_of(locations, told, metrics=str(Path(folder.path, "metrics"))),
        host=told["host"],
        port=told["port"],
        workers=told["workers"],
        limits=limits_of(told),
        insecure=insecure,
        holds=(folder, locations),
    )


def resolved(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting's value: given, else from the environment, else the default."""
    for name in given:
        if name not in SETTINGS:
            raise UsageError(f"serve has no setting {name!r}; it has {', '.join(SETTINGS)}")
    return {name: settings.resolve(setting, given.get(name)) for name, setting in SETTINGS.items()}


def limits_of(told: Mapping[str, Any]) -> Limits:
    return replace(Limits(), **{limit: told[name] for name, limit in LIMITS.items()})


def locate(models: Sequence[Any], **loading: Any) -> list[Location]:
    if not models:
        raise UsageError("no model was named; give the path of a saved one")
    given = [getattr(each, "location", each) for each in models]  # a Model knows its own
    locations = [each if isinstance(each, Location) else Location.find(each, **loading) for each in given]
    twice = [name for name, count in Counter(each.name for each in locations).items() if count > 1]
    if twice:
        raise UsageError(f"two models are called {twice[0]!r}; rename the file of one of them")
    return locations


def spec_of(locations: Sequence[Location], told: Mapping[str, Any], *, metrics: str | None) -> dict[str, Any]:
    return {
        "models": [each.spec() for each in locations],
        "outputs": told["outputs"],
        "threshold": told["threshold"],
        "cors": list(told["cors"]),
        "queue_target": told["queue_target"],
        "workers": told["workers"],
        "metrics": metrics,
    }
