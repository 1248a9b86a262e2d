"""Requests: a model that streams text, asked by whole requests, a row each: OpenAI's batch file.

    {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": …, "messages": […]}}
    {"id": …, "custom_id": "1", "response": {"status_code": 200, "request_id": …, "body": {…}}, "error": null}

What fails costs its own row, with the status that the server would give; so does an object without the shape of a
request. A line that is no JSON object is refused with its file, as any other. Ids follow from the requests, and there
are no times, so that the same file gives the same answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import msgspec
import numpy as np

from bimodal.chat.asked import asked, model_of
from bimodal.chat.speaker import Speaker
from bimodal.chat.told import Reply, fault
from bimodal.errors import BimodalError, InputError, ModelCrashed, ModelNotFound, NotFound, Problem, UsageError
from bimodal.field import Field, kind
from bimodal.model import Model
from bimodal.rows import Array, Column, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.process import Limit, ProcessRuntime, Report
from bimodal.signature import Signature

COLUMNS = ("custom_id", "method", "url", "body")
URLS = {"/v1/chat/completions": True, "/v1/completions": False}  # whether with messages


class Part(Field):
    """A column of requests. Nothing in it is refused: what is wrong with a request is told in its own line."""

    def judge(self, value: object) -> tuple[Any, Problem | None]:
        """A body is JSON, or text that holds it; of the others, a list or an object is as good as nothing."""
        if self.nested:
            return (value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()), None
        return (None if isinstance(value, dict | list) else value), None


LEFT_OUT: dict[str, Any] = {"nullable": True, "optional": True}  # to be told in the line of its request
SIGNATURE = Signature(
    (
        *(Part(name, "any", example="", **LEFT_OUT) for name in COLUMNS[:3]),
        Part("body", "string", nested=True, example="{}", **LEFT_OUT),
    ),
    (
        Field("id", "string"),
        Field("custom_id", "string", nullable=True),
        Field("response", "string", nested=True),
        Field("error", "string", nullable=True, nested=True),
    ),
)


def of_requests(model: Model, columns: Sequence[str]) -> Model:
    """The model as it is asked by requests, where these are the columns of such a file; else the model itself."""
    names = {each.name for each in model.signature.inputs}
    there = set(COLUMNS) & set(columns)
    if not model.streams or len(there) < len(COLUMNS) - 1 or names & set(COLUMNS):
        return model
    speaker = Speaker.of(model.signature)
    return model if speaker is None else Requested(model, speaker)


class Requested(Model):
    """The model behind requests. It is closed with the model that it stands for."""

    def __init__(self, model: Model, speaker: Speaker) -> None:
        report = Report(SIGNATURE, model.versions, (), model.facts, {})
        super().__init__(model.location, Answering(model, speaker), report)
        self._behind, self._speaker = model, speaker

    @property
    def side_by_side(self) -> int:
        return self._behind.side_by_side

    def clones(self, count: int) -> list[Model]:
        return [Requested(each, self._speaker) for each in self._behind.clones(count)]


class Answering(Runtime):
    """Answers requests with the model's streams, as many side by side as it takes."""

    name = "native"

    def __init__(self, model: Model, speaker: Speaker) -> None:
        self._model = model
        self._speaker = speaker
        self._side_by_side = model.runtime.streams
        self.releases_gil = True
        if isinstance(model.runtime, ProcessRuntime):
            model.runtime.limit = Limit()  # between two pieces

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        columns = [rows.array(name).tolist() if name in rows else [None] * rows.count for name in COLUMNS]
        requests = list(zip(*columns, strict=True))
        with ThreadPoolExecutor(min(self._side_by_side, len(requests))) as pool:
            answers = list(pool.map(self._tried, requests))
        for place, answer in enumerate(answers):
            if answer is None:  # the process died, of this request or of one beside it
                answers[place] = self._line(requests[place])
        given = [answer for answer in answers if answer is not None]
        return Rows({name: _column([line[name] for line in given]) for name in outputs}, rows.count)

    def close(self) -> None:
        self._model.close()

    def _tried(self, request: tuple[Any, ...]) -> dict[str, Any] | None:
        """The line; None where the process that was to answer died."""
        try:
            return self._answer(request)
        except ModelCrashed:
            return None

    def _line(self, request: tuple[Any, ...]) -> dict[str, Any]:
        """The line of a request that is alone."""
        try:
            return self._answer(request)
        except ModelCrashed as error:
            return _told(request, 500, fault(error, 500))

    def _answer(self, request: tuple[Any, ...]) -> dict[str, Any]:
        try:
            return _told(request, 200, self._completion(request))
        except ModelCrashed:
            raise
        except BimodalError as error:
            status = _status(error)
            return _told(request, status, fault(error, status))

    def _completion(self, request: tuple[Any, ...]) -> dict[str, Any]:
        method, url, text = _parts(request)
        if method != "POST" or url not in URLS:
            raise NotFound(f"a request is a POST to {' or '.join(URLS)}")
        body = _decoded(text)
        if model_of(body) != self._model.name:
            raise ModelNotFound(f"this run asks the model {self._model.name!r}, and the request another")
        wanted = asked(body, self._speaker, chat=URLS[url])
        if wanted.stream:
            raise InputError("a request in a file has one whole answer", column="stream")
        reply = Reply(wanted, self._speaker, mark=_mark(request), created=0)
        texts: list[str] = []
        with closing(self._model.runtime.stream(wanted.rows, self._speaker.outputs)) as pieces:
            for piece in pieces:
                texts.append(reply.feed(piece))
                if reply.over:
                    break
        return reply.whole("".join([*texts, reply.rest()]))


def _parts(request: tuple[Any, ...]) -> tuple[str, str, str]:
    """Method, URL and body. Raises InputError where one of them, or the id, is not there or no text."""
    for name, value in zip(COLUMNS, request, strict=True):
        if value is None:
            raise InputError("a request has one; here it is missing, or of another kind", column=name)
        if not isinstance(value, str):
            raise InputError(f"text is needed, not {kind(value)}", column=name)
    _, method, url, text = request
    return method, url, text


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InputError("it is no JSON", column="body") from None


def _told(request: tuple[Any, ...], status: int, body: dict[str, Any]) -> dict[str, Any]:
    mark = _mark(request)
    response = {"status_code": status, "request_id": f"req_{mark}", "body": body}
    return {
        "id": f"batch_req_{mark}",
        "custom_id": None if request[0] is None else str(request[0]),
        "response": msgspec.json.encode(response).decode(),
        "error": None,
    }


def _status(error: BimodalError) -> int:
    if isinstance(error, NotFound | ModelNotFound):
        return 404
    return 400 if isinstance(error, InputError | UsageError) else 500


def _mark(request: tuple[Any, ...]) -> str:
    told = "\n".join("" if part is None else str(part) for part in request)
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def _column(values: list[Any]) -> Column:
    column: Array = np.empty(len(values), object)
    column[:] = values
    return column
