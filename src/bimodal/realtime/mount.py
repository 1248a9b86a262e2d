"""`asgi`: models as an application for any ASGI server, or mounted in a FastAPI or Starlette application."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bimodal.errors import UsageError
from bimodal.model import Model
from bimodal.realtime.asgi import Application
from bimodal.realtime.asgi import asgi as application
from bimodal.realtime.serving import limits_of, prepare
from bimodal.realtime.wiring import wire


def asgi(
    *models: Any,
    outputs: Sequence[str] | None = None,
    threshold: float | None = None,
    cors: Sequence[str] | None = None,
    keys: str | Path | None = None,
    hosts: Sequence[str] | None = None,
    code: str | Path | Sequence[str | Path] = (),
    trust: str | Sequence[str] = (),
    sample: Any = None,
    features: Sequence[str] | None = None,
    runtime: str | None = None,
    allow_drift: bool = False,
    **limits: Any,
) -> Application:
    """The routes of `bimodal.serve` as an ASGI application; the models are loaded before it returns.

        app = bimodal.asgi("my_model.pkl")                          # uvicorn shop:app
        shop.mount("/model", bimodal.asgi("my_model.pkl"))          # beside the routes of a FastAPI application

    The arguments are those of `bimodal.serve`, without the ones of its sockets and processes. Who may come in is for
    the application around it to say, unless `keys` names a file of keys; the names it is asked by are looked at where
    `hosts` gives them. With one of the two, pages of other origins are refused, but for those of `cors`.
    """
    chosen = {"outputs": outputs, "threshold": threshold, "cors": cors, "runtime": runtime, **limits}
    chosen |= {"keys": None if keys is None else str(keys), "hosts": hosts}
    loading = {"code": code, "trust": trust, "sample": sample, "features": features, "allow_drift": allow_drift}
    prepared = prepare(models, chosen, loading)
    if prepared.repository is not None:
        raise UsageError("a repository is served by `bimodal serve` or bimodal.serve(); here, name the models")
    told = prepared.told
    given = {id(each.location): each for each in models if isinstance(each, Model)}
    loaded = [given.get(id(each)) or Model.open(each) for each in prepared.locations]
    bounds = limits_of(told)
    spec = prepared.spec(metrics=None)
    guarded = {**spec["guard"], "keys": told["keys"] or None, "address": "localhost" if told["hosts"] else None}
    wired = wire(
        loaded,
        bounds,
        outputs=told["outputs"],
        threshold=told["threshold"],
        cors=told["cors"],
        queue_target=told["queue_target"],
        spec={**spec, "guard": guarded},
    )
    guard = wired.guard if told["keys"] or told["hosts"] else None
    return application(
        wired.app, bounds, shutdown=wired.close, guard=guard, observer=wired.observer, metrics=wired.metrics
    )
