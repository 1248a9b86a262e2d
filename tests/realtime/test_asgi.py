"""The same app in an ASGI server, and mounted in an application of someone else's."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import httpx
import pytest
import uvicorn

from bimodal.realtime.asgi import Application, Message, asgi
from bimodal.realtime.exchange import Intake, Request, Writer
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols.lines import Pausing
from tests.realtime.test_http import wait_for
from tests.realtime.wire import HOST, Client, Talk, TryOut


@contextmanager
def uvicorn_serving(application: Any, **options: Any) -> Iterator[int]:
    """A real uvicorn in a thread; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(application, log_level="warning", **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield int(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


class Pauser(Talk):
    """Wants no more of the body after each piece, until it is told to."""

    def __init__(self, held: Held, writer: Writer) -> None:
        super().__init__(held, writer)
        self.held = held

    def feed(self, piece: bytes) -> None:
        super().feed(piece)
        assert isinstance(self.writer, Pausing)
        self.writer.pause()
        self.held.resume = self.writer.resume


class Held(TryOut):
    """Takes bodies in pieces, with a rest after each."""

    resume: Callable[[], None]

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        self.loop = asyncio.get_running_loop()
        return Pauser(self, writer)


@pytest.fixture
def app() -> TryOut:
    return TryOut()


@pytest.fixture
def client(app: TryOut) -> Iterator[Client]:
    with uvicorn_serving(asgi(app, Limits(body_bytes=1000))) as port, Client(port) as connected:
        yield connected


def test_requests_are_answered_as_on_our_own_wire(client: Client) -> None:
    answer = client.get("/some%20where/%C3%A9?a=1&b=%20", b"X-Request-Id: mine\r\n").answer()
    assert (answer.json["path"], answer.json["query"], answer.json["method"]) == ("/some where/é", "a=1&b=%20", "GET")
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["content-type"] == "application/json"
    assert client.post("/echo", b"abc").answer().body == b"abc"
    assert client.get("/later?x").answer().body == b"x"
    assert client.get("/nothing").answer().status == 204
    client.send(b"HEAD /x HTTP/1.1\r\n", HOST, b"\r\n")
    assert client.answer(bare=True).status == 200
    assert client.get("/echo").answer().status == 200


def test_the_body_limit_is_exact(client: Client) -> None:
    assert client.post("/echo", b"x" * 1000).answer().status == 200
    assert client.chunked("/echo", b"x" * 600, b"x" * 400).answer().status == 200
    answer = client.chunked("/echo", b"x" * 600, b"x" * 401).answer()
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def test_the_deadline_holds(app: TryOut) -> None:
    with uvicorn_serving(asgi(app, Limits(deadline=0.3))) as port, Client(port) as client:
        answer = client.get("/never").answer()
        assert (answer.status, answer.json["code"]) == (504, "deadline_exceeded")
        wait_for(lambda: app.cancelled == 1)


def test_an_exception_is_a_fixed_sentence(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/fail", "/broken-stream"):
        answer = client.get(path).answer()
        assert (answer.status, answer.json["error"]) == (500, "internal error")
        assert answer.json["request_id"] in caplog.text


def test_a_stream_is_answered_piece_by_piece(client: Client) -> None:
    client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n2\r\nab\r\n" % HOST)
    assert b"200 OK" in client._until(b"\r\n\r\n")
    assert client._exactly(7) == b"2\r\nAB\r\n"
    client.send(b"0\r\n\r\n")
    assert client._exactly(5) == b"0\r\n\r\n"


def test_a_writer_waits_for_a_slow_reader(client: Client) -> None:
    client.get("/flood")
    time.sleep(0.1)
    assert len(client.answer().body) == 400 * 50_000


def test_an_app_may_stop_the_body_and_let_it_go_on() -> None:
    app = Held()
    with uvicorn_serving(asgi(app)) as port, Client(port) as client:
        client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n1\r\na\r\n" % HOST)
        wait_for(lambda: app.fed == 1)
        client.send(b"1\r\nb\r\n0\r\n\r\n")
        time.sleep(0.1)
        assert app.fed == 1
        app.loop.call_soon_threadsafe(app.resume)
        assert client.answer().body == b"AB"


def test_a_caller_that_leaves_has_its_request_cancelled(app: TryOut) -> None:
    with uvicorn_serving(asgi(app)) as port:
        with Client(port) as client:
            client.get("/never")
            wait_for(lambda: bool(app.responds))
        wait_for(lambda: app.cancelled == 1)
        with Client(port) as client:
            client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n2\r\nab\r\n" % HOST)
            wait_for(lambda: app.fed == 1)
        wait_for(lambda: app.aborted == 1)


def test_mounted_in_fastapi_it_sees_its_own_paths(app: TryOut) -> None:
    outer = fastapi.FastAPI()

    @outer.get("/mine")
    def mine() -> dict[str, bool]:
        return {"mine": True}

    outer.mount("/models", asgi(app))
    with uvicorn_serving(outer, root_path="/behind") as port, Client(port) as client:
        assert client.get("/mine").answer().json == {"mine": True}
        assert client.get("/models/v2/health?x=1").answer().json["path"] == "/v2/health"
        assert client.post("/models/echo", b"abc").answer().body == b"abc"
        assert client.get("/models/").answer().json["path"] == "/"


def test_it_works_without_a_server(app: TryOut) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=asgi(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/echo", content=b"abc")

    assert asyncio.run(ask()).content == b"abc"


class TestLifespan:
    def test_it_starts_and_ends_with_the_server(self, app: TryOut) -> None:
        steps = []

        async def startup() -> None:
            steps.append("startup")

        async def shutdown() -> None:
            steps.append("shutdown")

        with uvicorn_serving(asgi(app, startup=startup, shutdown=shutdown), lifespan="on"):
            assert steps == ["startup"]
        assert steps == ["startup", "shutdown"]

    def test_a_failing_start_is_told(self, app: TryOut) -> None:
        async def startup() -> None:
            raise RuntimeError("no model")

        assert told(asgi(app, startup=startup), "lifespan", "lifespan.startup") == [
            {"type": "lifespan.startup.failed", "message": "no model"}
        ]

    def test_a_websocket_is_closed(self, app: TryOut) -> None:
        assert told(asgi(app), "websocket", "websocket.connect") == [{"type": "websocket.close", "code": 1000}]


def told(application: Application, kind: str, *events: str) -> list[Message]:
    """What an ASGI application sends in answer to events."""
    coming = iter(events)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": next(coming)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(application({"type": kind}, receive, send))  # type: ignore[arg-type]  # an Awaitable that is a coroutine
    return sent
