"""Liveness and readiness over REST."""

from __future__ import annotations

from conformance.catalogue import MUST, REQUIRED, REST, SHOULD, check
from conformance.target import Target, expect


@check("health/live", MUST, f"{REST}, Server Live", "a running server answers the liveness probe with 200")
def live(target: Target) -> None:
    reply = target.get("/v2/health/live")
    expect(reply.status == 200, f"the status is {reply.status}", reply)


@check("health/ready", MUST, f"{REST}, Server Ready", "a server whose models are ready answers with 200")
def ready(target: Target) -> None:
    reply = target.get("/v2/health/ready")
    expect(reply.status == 200, f"the status is {reply.status}", reply)


@check("health/model", MUST, f"{REST}, Model Ready", "a model that is ready has its readiness answered with 200")
def model_ready(target: Target) -> None:
    reply = target.get(f"{target.subject.path}/ready")
    expect(reply.status == 200, f"the status is {reply.status}", reply)


@check("health/model-version", MUST, f"{REST}, Model Ready", "the readiness of a version that is listed can be asked")
def version_ready(target: Target) -> None:
    for version in target.subject.versions:
        reply = target.get(f"{target.subject.path}/versions/{version}/ready")
        expect(reply.status == 200, f"the status is {reply.status}", reply)


@check("health/unknown-model", MUST, f"{REQUIRED}, Health", "a model that is not there is not ready: no 200")
def unknown_ready(target: Target) -> None:
    reply = target.get("/v2/models/no-such-model/ready")
    expect(reply.status >= 400, f"the status is {reply.status}", reply)


@check("health/live-body", SHOULD, f"{REST}, Server Live", "the body is empty or tells live: true")
def live_body(target: Target) -> None:
    reply = target.get("/v2/health/live")
    expect(not reply.body or reply.json() == {"live": True}, "another body", reply)


@check("health/model-body", SHOULD, f"{REST}, Model Ready", "the body is empty or tells the name and ready: true")
def model_body(target: Target) -> None:
    reply = target.get(f"{target.subject.path}/ready")
    told = reply.json() if reply.body else {"name": target.subject.name, "ready": True}
    fits = isinstance(told, dict) and told.get("name") == target.subject.name and told.get("ready") is True
    expect(fits, "another body", reply)
