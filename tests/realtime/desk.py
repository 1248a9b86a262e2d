"""The app without a socket: requests go in, responses come out, all on one event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from bimodal.model import Model
from bimodal.realtime.exchange import Request, Response, Writer
from bimodal.realtime.limits import Limits
from bimodal.realtime.refusal import given_id
from bimodal.realtime.wiring import wire
from tests.realtime.wire import PATIENCE

T = TypeVar("T")


@dataclass
class Ask:
    """One request. A body that is no bytes is sent as JSON."""

    path: str = "/predict"
    body: Any = b""
    method: str = "POST"
    kind: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self) -> Request:
        path, _, query = self.path.partition("?")
        fields = {name.lower().encode(): value.encode() for name, value in self.headers.items()}
        if self.kind is not None:
            fields[b"content-type"] = self.kind.encode()
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return Request(self.method, path, query, fields, body, monotonic(), name=given_id(fields))


class Desk:
    """A wired app. `close` ends its loop, not the models."""

    def __init__(self, *models: Model, limits: Limits | None = None, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._runner.get_loop()
        self.limits = limits or Limits(deadline=PATIENCE)
        self.wired = wire(models, self.limits, **options)
        self.app = self.wired.app

    def close(self) -> None:
        self._runner.close()

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        async def called() -> T:
            return await work()

        return self._runner.run(called())

    def together(self, asks: Sequence[Ask]) -> list[Response]:
        """The responses to requests that arrive in one turn of the loop."""

        async def asked() -> list[Response]:
            loop = asyncio.get_running_loop()
            answers: list[asyncio.Future[Response]] = []
            for ask in asks:
                answer: asyncio.Future[Response] = loop.create_future()
                answers.append(answer)
                self.app(ask.request(), answer.set_result)
            return await asyncio.wait_for(asyncio.gather(*answers), PATIENCE)

        return self._runner.run(asked())

    def ask(self, path: str = "/predict", body: Any = b"", **options: Any) -> Response:
        return self.together([Ask(path, body, **options)])[0]

    def get(self, path: str, **options: Any) -> Response:
        return self.ask(path, method="GET", kind=None, **options)

    def answer(self, body: Any, path: str = "/predict", **options: Any) -> dict[str, Any]:
        """The JSON of an answer that must be good."""
        response = self.ask(path, body, **options)
        assert response.status == 200, response.body
        return told(response)

    def error(self, body: Any, status: int = 400, path: str = "/predict", **options: Any) -> dict[str, Any]:
        """The JSON of an error."""
        response = self.ask(path, body, **options)
        assert response.status == status, response
        error = told(response)
        assert set(error) >= {"error", "code", "request_id"}
        assert dict(response.headers)[b"x-request-id"].decode() == error["request_id"]
        return error

    def stream(
        self, pieces: Sequence[bytes], path: str = "/predict", kind: bytes = b"application/x-ndjson"
    ) -> list[Any]:
        """The lines that answer a stream, as JSON."""

        async def streamed() -> bytes:
            writer = Collected()
            path_, _, query = path.partition("?")
            request = Request("POST", path_, query, {b"content-type": kind}, b"", monotonic())
            intake = self.app.stream(request, writer)
            assert intake is not None
            for piece in pieces:
                intake.feed(piece)
                await asyncio.sleep(0)
            intake.finish()
            await asyncio.wait_for(writer.ended.wait(), PATIENCE)
            return b"".join(writer.pieces)

        return [json.loads(line) for line in self._runner.run(streamed()).splitlines()]


class Collected(Writer):
    """A Writer that keeps what it is given."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.started: Response | None = None
        self.ended = asyncio.Event()

    def start(self, response: Response) -> None:
        self.started = response
        if response.body:
            self.pieces.append(response.body)

    def write(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def end(self) -> None:
        self.ended.set()

    async def ready(self) -> None:
        await asyncio.sleep(0)


def told(response: Response) -> dict[str, Any]:
    """The JSON object of a response."""
    value: dict[str, Any] = json.loads(response.body)
    return value
