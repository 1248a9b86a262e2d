"""Open Inference's extension for text: `/v2/models/{m}/generate` (JSON) and `/generate_stream` (events).

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/generate_rest.yaml, with its
statuses: 422 what the request says wrongly, 424 the model failed, 429 it is busy, 500 all else. Beside `text_output`
stand the model's other outputs, by their names.
"""

from __future__ import annotations

from time import monotonic
from typing import Any
from urllib.parse import quote

import msgspec

from bimodal.chat.speaker import Speaker
from bimodal.errors import DeadlineExceeded, InputError, ModelCrashed, ModelFailed, NotFound, Overloaded, UsageError
from bimodal.field import kind
from bimodal.realtime.doors import Doors
from bimodal.realtime.exchange import Request, Response, Writer
from bimodal.realtime.failure import failure, told_later
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.events import Live, event, tell
from bimodal.realtime.service import Served, Service
from bimodal.realtime.streaming import Pieces
from bimodal.rows import Rows
from bimodal.runtimes.collected import Joined

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (InputError, 422),
    (UsageError, 422),
    (NotFound, 404),
    (Overloaded, 429),
    (DeadlineExceeded, 504),
    (ModelFailed, 424),
    (ModelCrashed, 424),
)
KEYS = ("id", "text_input", "parameters")


class Generate:
    """Both routes of one model that streams text."""

    def __init__(self, served: Served, speaker: Speaker) -> None:
        self._served = served
        self._speaker = speaker
        self._fields = [served.signature.output(name) for name in speaker.outputs]
        self.plain = Live(self._whole, served.limits, failed, served.streams.failed)
        self.live = Live(self._pieces, served.limits, failed, served.streams.failed)

    async def _whole(self, request: Request, writer: Writer) -> None:
        head, pieces = self._begun(request, whole=True)
        joined = Joined(self._fields)
        try:
            async for piece in pieces:
                joined.feed(piece)
        finally:
            pieces.close()
        values = dict(zip(self._speaker.outputs, joined.values(), strict=True))
        text = values.pop(self._speaker.text)
        told = {**head, "text_output": text, **{name: plain(value) for name, value in values.items()}}
        writer.start(Response(200, msgspec.json.encode(told)))
        writer.end()

    async def _pieces(self, request: Request, writer: Writer) -> None:
        head, pieces = self._begun(request)
        await tell(writer, pieces, _Events(request, head, self._speaker.text))

    def _begun(self, request: Request, *, whole: bool = False) -> tuple[dict[str, Any], Pieces]:
        """What every answer says, and its pieces."""
        model = self._served.model
        told = body.decode(request.body, self._served.limits.depth)
        if not isinstance(told, dict):
            raise InputError(f"the body must be a JSON object, not {kind(told)}")
        text, parameters = told.get("text_input"), told.get("parameters")
        if not isinstance(text, str):
            raise InputError('"text_input" needs text', column="text_input")
        if parameters is not None and not isinstance(parameters, dict):
            raise InputError(f'"parameters" needs an object, not {kind(parameters)}', column="parameters")
        options = {**{name: value for name, value in told.items() if name not in KEYS}, **(parameters or {})}
        rows = self._speaker.said(text, options)
        deadline = monotonic() + choice.seconds(request.headers, self._served.limits.deadline)
        pieces = self._served.stream(rows, (self._speaker.outputs, None), deadline, whole=whole)
        head = {"id": told["id"]} if isinstance(told.get("id"), str) else {}
        return {**head, "model_name": model.name, "model_version": model.version}, pieces


class _Events:
    """The events of one answer."""

    over = False

    def __init__(self, request: Request, head: dict[str, Any], text: str) -> None:
        self._request = request
        self._head = head
        self._text = text

    def piece(self, piece: Rows) -> bytes:
        values = {name: plain(piece.array(name)[0]) for name in piece}
        text = values.pop(self._text, "")
        return event({**self._head, "text_output": text, "done": False, **values})

    def end(self) -> bytes:
        return event({**self._head, "text_output": "", "done": True})

    def fault(self, error: Exception) -> bytes:
        return event(told_later(error, self._request.headers))


def plain(value: Any) -> Any:
    """A value of a column as JSON has it."""
    return value.tolist() if hasattr(value, "tolist") else value


def failed(error: Exception, request: Request) -> Response:
    """An error under this protocol's status."""
    response = failure(error, request.headers)
    response.status = next((number for known, number in STATUS if isinstance(error, known)), response.status)
    return response


def paths(served: Served) -> dict[str, Any]:
    """The part of /openapi.json, of a model that streams text."""
    if not served.model.streams or Speaker.of(served.signature) is None:
        return {}
    name = served.model.name
    body = {
        "type": "object",
        "required": ["text_input"],
        "properties": {"text_input": {"type": "string"}, "parameters": {"type": "object"}},
    }
    asked = {"required": True, "content": {"application/json": {"schema": body}}}
    told = {}
    for last, content in (("generate", "application/json"), ("generate_stream", "text/event-stream")):
        answer = {"200": {"description": "The text.", "content": {content: {}}}}
        summary = f"Text of {name}" if last == "generate" else f"The same in events, of {name}"
        told[f"/v2/models/{quote(name)}/{last}"] = {
            "post": {"tags": ["open inference"], "summary": summary, "requestBody": asked, "responses": answer}
        }
    return told


def doors(served: Served, service: Service, metrics: Metrics) -> Doors:
    """The routes of a model that streams text; none of another."""
    speaker = Speaker.of(served.signature)
    if speaker is None or not served.model.streams:
        return Doors()
    generate = Generate(served, speaker)
    found = Doors()
    for base in (f"/v2/models/{served.model.name}", f"/v2/models/{served.model.name}/versions/{served.model.version}"):
        for name, live in (("generate", generate.plain), ("generate_stream", generate.live)):
            found.routes["POST", f"{base}/{name}"] = live
            found.streams[f"{base}/{name}"] = live.stream
    return found
