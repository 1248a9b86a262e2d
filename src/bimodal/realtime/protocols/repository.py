"""The model repository extension of Open Inference over REST: index, load, unload.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md. A load takes as
long as the model does, so it is no request with a deadline: it is answered like a stream, when it is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from bimodal.errors import InputError, TooLarge
from bimodal.realtime import openapi
from bimodal.realtime.app import Handler, Streamer
from bimodal.realtime.exchange import Intake, Request, Respond, Response, Writer
from bimodal.realtime.extension import Extension
from bimodal.realtime.failure import failure
from bimodal.realtime.head import SLASH
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import body
from bimodal.realtime.service import Service

log = logging.getLogger("bimodal.realtime")

INDEX = "/v2/repository/index"
MODELS = "/v2/repository/models/"

Work = Callable[[str, dict[str, Any]], Awaitable[None]]


def extend(extension: Extension) -> None:
    """Add the routes."""
    service, metrics = extension.service, extension.metrics
    extension.routes["POST", INDEX] = index(service, metrics)
    extension.stream_prefixes["POST", MODELS] = changes(service, metrics)
    extension.paths |= PATHS


def index(service: Service, metrics: Metrics) -> Handler:
    """The versions of all models with their states."""

    def handle(request: Request, respond: Respond) -> None:
        try:
            told = _object(request.body, service.limits.depth)
            ready = told.get("ready")
            if ready is not None and not isinstance(ready, bool):
                raise InputError('"ready" is true or false')
            answer = Response(200, msgspec.json.encode(service.index(ready)))
        except Exception as error:
            answer = failure(error, request.headers)
        metrics.other(answer.status)
        respond(answer)

    return handle


def changes(service: Service, metrics: Metrics) -> Streamer:
    """Load and unload."""
    verbs: dict[str, Work] = {"load": service.load, "unload": service.unload}

    def stream(request: Request, writer: Writer) -> Intake | None:
        name, _, verb = request.path.removeprefix(MODELS).rpartition("/")
        work = verbs.get(verb) if name and SLASH not in name else None
        return None if work is None else Change(request, writer, service.limits, metrics, name, work)

    return stream


class Change(Intake):
    """One load or unload: takes the body, has it done, answers. A caller who leaves does not stop it."""

    def __init__(self, request: Request, writer: Writer, limits: Any, metrics: Metrics, name: str, work: Work) -> None:
        self._request, self._writer, self._limits, self._metrics = request, writer, limits, metrics
        self._name, self._work = name, work
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None

    def feed(self, piece: bytes) -> None:
        if len(self._body) <= self._limits.body_bytes:
            self._body += piece

    def finish(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer())

    def cut(self, code: str, sentence: str) -> None:
        if self._task is None:
            self._tell(failure(TooLarge(sentence), self._request.headers))

    def abort(self) -> None:
        """What has begun is done all the same: other workers are at it."""

    async def _answer(self) -> None:
        try:
            if len(self._body) > self._limits.body_bytes:
                raise TooLarge(f"the body has more than {self._limits.body_bytes} bytes")
            told = _object(bytes(self._body), self._limits.depth).get("parameters") or {}
            if not isinstance(told, dict):
                raise InputError('"parameters" is an object')
            await self._work(self._name, told)
            self._tell(Response(200, b"{}"))
        except Exception as error:
            self._tell(failure(error, self._request.headers))

    def _tell(self, answer: Response) -> None:
        self._metrics.other(answer.status)
        self._writer.start(answer)
        self._writer.end()


def _object(data: bytes, depth: int) -> dict[str, Any]:
    """The JSON object of a body; an empty body is an empty one."""
    told = body.decode(data, depth) if data.strip() else {}
    if not isinstance(told, dict):
        raise InputError("the body is a JSON object, or empty")
    return told


def _post(summary: str, shown: Any, *, name: bool) -> dict[str, Any]:
    where = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "post": {
            "tags": ["Open Inference"],
            "summary": summary,
            "parameters": [where] if name else [],
            "responses": {
                "200": {"description": summary, "content": {"application/json": {"example": shown}}},
                **openapi.failures(),
            },
        }
    }


PATHS = {
    INDEX: _post(
        "Versions of all models with their states",
        [{"name": "churn", "version": "2", "state": "READY", "reason": ""}],
        name=False,
    ),
    f"{MODELS}{{name}}/load": _post("Load a model as it stands in the repository", {}, name=True),
    f"{MODELS}{{name}}/unload": _post("Serve a model no longer", {}, name=True),
}
