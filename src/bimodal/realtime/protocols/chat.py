"""OpenAI's shape: `/v1/chat/completions`, `/v1/completions`, `/v1/models`, for models that stream text.

https://platform.openai.com/docs/api-reference. The model is found by the name in the body, for each request.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import Any

import msgspec

from bimodal.chat.asked import asked, model_of
from bimodal.chat.speaker import Speaker
from bimodal.chat.told import Reply, fault
from bimodal.errors import UsageError
from bimodal.field import listed
from bimodal.realtime import faults
from bimodal.realtime.exchange import Request, Respond, Response, Writer
from bimodal.realtime.extension import Extension
from bimodal.realtime.failure import failure, status
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.entry import entry
from bimodal.realtime.protocols.events import Live, event, tell
from bimodal.realtime.service import Served, Service
from bimodal.realtime.streaming import Pieces
from bimodal.rows import Rows

ROUTES = re.compile(r"/v1/(?!models/.*[:/]).*")  # what is asked there is asked by clients of this protocol
DONE = b"data: [DONE]\n\n"


class Completions:
    """One of the two routes. chat: with messages, not a bare prompt."""

    def __init__(self, service: Service, metrics: Metrics, *, chat: bool) -> None:
        self._service = service
        self._chat = chat
        self.live = Live(self._answer, service.limits, failed, lambda error: metrics.other(status(error)))

    async def _answer(self, request: Request, writer: Writer) -> None:
        told = body.decode(request.body, self._service.limits.depth)
        name = model_of(told)
        served = self._service.find(name)
        speaker = speaker_of(served)
        if speaker is None:
            raise UsageError(f"the model {name!r} streams no text; {_others(self._service)}")
        wanted = asked(told, speaker, chat=self._chat)
        deadline = monotonic() + choice.seconds(request.headers, self._service.limits.deadline)
        pieces = served.stream(wanted.rows, (speaker.outputs, None), deadline, whole=not wanted.stream)
        reply = Reply(wanted, speaker)
        if wanted.stream:
            await tell(writer, pieces, _Chunks(reply))
        else:
            await _whole(writer, pieces, reply)


async def _whole(writer: Writer, pieces: Pieces, reply: Reply) -> None:
    texts: list[str] = []
    try:
        async for piece in pieces:
            texts.append(reply.feed(piece))
            if reply.over:
                break
    finally:
        pieces.close()
    texts.append(reply.rest())
    writer.start(Response(200, msgspec.json.encode(reply.whole("".join(texts)))))
    writer.end()


class _Chunks:
    """The events of one answer."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._begun = False

    @property
    def over(self) -> bool:
        return self._reply.over

    def piece(self, piece: Rows) -> bytes:
        return self._first() + self._text(self._reply.feed(piece))

    def end(self) -> bytes:
        events = [self._first(), self._text(self._reply.rest()), *[event(chunk) for chunk in self._reply.last()]]
        return b"".join([*events, DONE])

    def fault(self, error: Exception) -> bytes:
        faults.tell(error, "an answer in pieces")
        return event(fault(error, status(error)))

    def _first(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        chunk = self._reply.first()
        return b"" if chunk is None else event(chunk)

    def _text(self, text: str) -> bytes:
        return event(self._reply.chunk(text)) if text else b""


def speaker_of(served: Served) -> Speaker | None:
    """How the model is talked to; None where it streams no text."""
    return Speaker.of(served.signature) if served.model.streams else None


def failed(error: Exception, request: Request) -> Response:
    """An error in the shape that clients of this protocol read."""
    response = failure(error, request.headers)
    response.body = msgspec.json.encode(fault(error, response.status))
    return response


def extend(extension: Extension) -> None:
    """Add the routes, which belong to no model."""
    service, metrics = extension.service, extension.metrics
    for path, chat in (("/v1/chat/completions", True), ("/v1/completions", False)):
        live = Completions(service, metrics, chat=chat).live
        extension.routes["POST", path] = live
        extension.streams[path] = live.stream

    def models(request: Request, respond: Respond) -> None:
        metrics.other(200)
        respond(Response(200, msgspec.json.encode(_listed(service))))

    extension.routes["GET", "/v1/models"] = models
    extension.faults.append((ROUTES, fault))
    extension.paths.update(_paths())


def _paths() -> dict[str, Any]:
    """The part of /openapi.json."""
    listed = "The models that stream text, and the names of all"
    return {
        "/v1/chat/completions": {"post": _operation("What a model says next in a conversation", "messages")},
        "/v1/completions": {"post": _operation("What a model says to a text", "prompt")},
        "/v1/models": {"get": {"tags": ["chat"], "summary": listed, "responses": {"200": {"description": listed}}}},
    }


def _operation(summary: str, needed: str) -> dict[str, Any]:
    """Of the requests and answers of OpenAI's protocol, which has its own description."""
    refused = {
        "description": "Refused; `error` has message, type, param and code.",
        "content": {"application/json": {}},
    }
    body = {
        "type": "object",
        "required": ["model", needed],
        "properties": {"model": {"type": "string"}, "stream": {"type": "boolean"}},
    }
    told = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "tags": ["chat"],
        "summary": summary,
        "description": "OpenAI's shape: https://platform.openai.com/docs/api-reference",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "A completion, or its chunks.", "content": told},
            **dict.fromkeys(("400", "404", "405", "413", "415", "429", "500", "503", "504"), refused),
        },
    }


def _listed(service: Service) -> dict[str, Any]:
    """Every model, in OpenAI's words (`data`: those that stream text) and in KServe's (`models`: all names)."""
    told = [entry(served.model) for served in service.served.values() if speaker_of(served) is not None]
    return {"object": "list", "data": told, "models": list(service.served)}


def _others(service: Service) -> str:
    names = [name for name, served in service.served.items() if speaker_of(served) is not None]
    return f"those that do: {listed(names)}" if names else "no model here does"
