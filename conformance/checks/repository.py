"""The model repository extension. The model that is unloaded and loaded is echo_int8, a known one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages

from conformance.catalogue import MUST, SHOULD, check
from conformance.checks.errors import told_error
from conformance.target import Target, asking, expect

SOURCE = "Triton, extension_model_repository.md"
NAME = "model_repository"
SPARE = "echo_int8"


def _index(target: Target, **told: Any) -> list[dict[str, Any]]:
    reply = target.post("/v2/repository/index", told)
    expect(reply.status == 200, f"the status is {reply.status}, not 200", reply)
    listed = reply.json()
    expect(isinstance(listed, list), "the index is no list", reply)
    for each in listed:
        expect(isinstance(each.get("name"), str), "an entry has no name", reply)
        for member in ("version", "state", "reason"):
            expect(isinstance(each.get(member, ""), str), f"{member} is no string", reply)
    return list(listed)


@check(
    "repository/index", MUST, SOURCE, "a list of name, version, state and reason; the model is READY", extension=NAME
)
def index(target: Target) -> None:
    own = [each for each in _index(target) if each["name"] == target.subject.name]
    expect(own, "the model is not in the index")
    expect(own[-1].get("state") == "READY", f"its state is {own[-1].get('state')!r}")


@check("repository/index-empty", SHOULD, SOURCE, "an index may be asked for without a body", extension=NAME)
def index_empty(target: Target) -> None:
    reply = target.post("/v2/repository/index")
    expect(reply.status == 200 and isinstance(reply.json(), list), "no list", reply)


def _steps(target: Target, step: Callable[[str], None]) -> None:
    """Unload and load the spare model, looking at it in between; it is loaded again whatever happens."""
    subject = target.needs(SPARE)
    request = asking(subject.sample())
    expect(target.infer(subject, request).status == 200, "the model does not answer before")
    try:
        step("unload")
        expect(target.get(f"{subject.path}/ready").status >= 400, "the model is ready although it is unloaded")
        told_error(target.infer(subject, request))
        ready = [each["name"] for each in _index(target, ready=True)]
        expect(SPARE not in ready, "the index of the ready ones names it")
    finally:
        step("load")
    expect(target.get(f"{subject.path}/ready").status == 200, "the model is not ready although it is loaded")
    reply = target.infer(subject, request)
    expect(reply.status == 200, "the model does not answer after it was loaded", reply)
    expect(SPARE in [each["name"] for each in _index(target, ready=True)], "the index of the ready ones lacks it")


@check("repository/load", MUST, SOURCE, "unload takes a model away at once, load brings it back", extension=NAME)
def load(target: Target) -> None:
    def step(verb: str) -> None:
        reply = target.post(f"/v2/repository/models/{SPARE}/{verb}")
        expect(reply.status == 200, f"{verb}: the status is {reply.status}", reply)

    _steps(target, step)


@check("repository/reload", MUST, SOURCE, "load of a model that is loaded loads it anew", extension=NAME)
def reload(target: Target) -> None:
    subject = target.needs(SPARE)
    reply = target.post(f"/v2/repository/models/{SPARE}/load", {})
    expect(reply.status == 200, f"the status is {reply.status}", reply)
    reply = target.infer(subject, asking(subject.sample()))
    expect(reply.status == 200, "the model does not answer", reply)


@check("repository/load-unknown", MUST, SOURCE, "load of an unknown model: an error", extension=NAME)
def load_unknown(target: Target) -> None:
    told_error(target.post("/v2/repository/models/no-such-model/load"))


@check("repository/others", MUST, SOURCE, "the other models answer as before", extension=NAME)
def others(target: Target) -> None:
    reply = target.infer(target.subject, asking(target.subject.sample()))
    expect(reply.status == 200, "the model does not answer", reply)


@check("repository/grpc-index", MUST, SOURCE, "RepositoryIndex tells what REST tells", extension=NAME, grpc=True)
def grpc_index(target: Target) -> None:
    called = target.call("RepositoryIndex", messages.RepositoryIndexRequest())
    seen = {(each.name, each.version, each.state) for each in called.good().models}
    wanted = {(each["name"], each.get("version", ""), each.get("state", "")) for each in _index(target)}
    expect(seen == wanted, "another index than over REST", called)


@check(
    "repository/grpc-load", MUST, SOURCE, "RepositoryModelUnload and RepositoryModelLoad do", extension=NAME, grpc=True
)
def grpc_load(target: Target) -> None:
    def step(verb: str) -> None:
        kind = getattr(messages, f"RepositoryModel{verb.capitalize()}Request")
        target.call(f"RepositoryModel{verb.capitalize()}", kind(model_name=SPARE)).good()

    _steps(target, step)


@check(
    "repository/grpc-unknown", MUST, SOURCE, "load of an unknown model over gRPC: an error", extension=NAME, grpc=True
)
def grpc_unknown(target: Target) -> None:
    called = target.call("RepositoryModelLoad", messages.RepositoryModelLoadRequest(model_name="no-such-model"))
    expect(called.code is not grpc.StatusCode.OK, "the status is OK", called)
