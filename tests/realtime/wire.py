"""A small app, a real server around it in a thread, and a client that says exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Self, TypeVar

import uvloop

from bimodal.realtime.calls import Methods
from bimodal.realtime.exchange import Intake, Request, Respond, Response, Writer
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
HOST = b"host: localhost\r\n"
PATIENCE = 60.0  # seconds for what comes at once, but on a machine that has much else to do


class Talk:
    """An Intake that sends back what it is fed, in capitals; it ends with the body."""

    def __init__(self, app: TryOut, writer: Writer, *, late: bool = False) -> None:
        self.app = app
        self.writer = writer
        if not late:
            writer.start(Response(200, b"", b"text/plain"))

    def feed(self, piece: bytes) -> None:
        self.app.fed += 1
        if piece == b"boom":
            raise RuntimeError("a secret of the intake")
        self.writer.start(Response(200, b"", b"text/plain"))  # does nothing where it has started
        self.writer.write(piece.upper())

    def finish(self) -> None:
        self.writer.end()

    def cut(self, code: str, sentence: str) -> None:
        self.writer.write(code.encode())
        self.writer.end()

    def abort(self) -> None:
        self.app.aborted += 1


class Silent:
    """An Intake that takes no notice."""

    def feed(self, piece: bytes) -> None: ...

    def finish(self) -> None: ...

    def cut(self, code: str, sentence: str) -> None: ...

    def abort(self) -> None: ...


class TryOut:
    """Routes to try a wire with."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled = 0
        self.aborted = 0
        self.fed = 0
        self.responds: list[Respond] = []

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        if request.path == "/talk":
            return Talk(self, writer)
        if request.path == "/talk/late":
            return Talk(self, writer, late=True)
        if request.path == "/deaf":
            writer.start(Response(403, b"no", b"text/plain"))
            writer.end()
            return Silent()
        if request.path == "/flood":
            writer.start(Response(200, b"", b"text/plain"))
            self.flood = asyncio.get_running_loop().create_task(_flood(writer))
            return Silent()
        if request.path == "/broken-stream":
            raise RuntimeError("a secret of the app")
        return None

    def __call__(self, request: Request, respond: Respond) -> Callable[[], None] | None:
        self.requests.append(request)
        route = request.path.strip("/")
        loop = asyncio.get_running_loop()
        if route == "fail":
            raise RuntimeError("a secret of the app")
        if route == "never":
            self.responds.append(respond)
            return self.cancel
        if route.startswith("later"):
            delay = float(route.removeprefix("later") or 0.02)
            loop.call_later(delay, respond, Response(200, request.query.encode(), b"text/plain"))
            return self.cancel
        respond(answer(route, request))
        return None

    def cancel(self) -> None:
        self.cancelled += 1


async def _flood(writer: Writer) -> None:
    for _ in range(400):
        writer.write(b"x" * 50_000)
        await writer.ready()
    writer.end()


def answer(route: str, request: Request) -> Response:
    """What can be answered at once."""
    if route == "echo":
        return Response(200, request.body, b"application/octet-stream")
    if route == "nothing":
        return Response(204, b"")
    if route == "big":
        return Response(200, b"x" * 8_000_000)
    if route == "split":
        return Response(200, b"", headers=((b"x-a", b"1\r\nx-b: 2"),))
    if route == "pid":
        return Response(200, json.dumps({"pid": os.getpid()}).encode())
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()},
        "length": len(request.body),
    }
    return Response(200, json.dumps(told).encode(), headers=((b"x-route", route.encode("ascii", "replace")),))


app = TryOut()


@dataclass
class Running:
    """A server in a thread."""

    port: int
    app: TryOut
    listener: Listener
    loop: asyncio.AbstractEventLoop

    def connect(self) -> Client:
        return Client(self.port)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the server's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)


@contextmanager
def serving(
    limits: Limits | None = None, loop: str = "uvloop", methods: Methods | None = None, tls: SSLContext | None = None
) -> Iterator[Running]:
    """A listener on a free port, in a thread with a loop of its own."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        runs = LOOPS[loop]()
        thread = threading.Thread(target=runs.run_forever)
        thread.start()
        tried = TryOut()
        listener = Listener(tried, limits or Limits(), methods)
        running = Running(listening.getsockname()[1], tried, listener, runs)
        running.do(listener.start(listening, tls=tls))
        try:
            yield running
        finally:
            running.do(listener.close())
            running.do(asyncio.sleep(0.01))
            runs.call_soon_threadsafe(runs.stop)
            thread.join()
            runs.close()


@dataclass
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A socket, and what has been read from it but not used yet."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> Self:
        self.socket.sendall(b"".join(pieces))
        return self

    def get(self, path: str = "/", *fields: bytes) -> Self:
        return self.send(b"GET ", path.encode("latin-1"), b" HTTP/1.1\r\n", HOST, *fields, b"\r\n")

    def in_hand(self, path: str) -> Self:
        """Ask, and wait until the server has the request: it comes with one that is answered at once."""
        asked = (b"GET %b HTTP/1.1\r\n%b\r\n" % (each.encode("latin-1"), HOST) for each in ("/nothing", path))
        assert self.send(*asked).answer().status == 204
        return self

    def post(self, path: str, body: bytes, *fields: bytes) -> Self:
        head = b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n" % (path.encode("latin-1"), HOST, len(body))
        return self.send(head, *fields, b"\r\n", body)

    def chunked(self, path: str, *pieces: bytes) -> Self:
        head = b"POST %b HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % (path.encode("latin-1"), HOST)
        return self.send(head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")

    def answer(self, *, bare: bool = False) -> Answer:
        """Read one response; `bare` where it has no body whatever its head says (HEAD)."""
        head = self._until(b"\r\n\r\n").decode("latin-1").splitlines()
        status = int(head[0].split(" ")[1])
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        if bare or status in (100, 204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = self.everything()
        return Answer(status, headers, body)

    def everything(self) -> bytes:
        """All until the server closes."""
        while data := self.socket.recv(65536):
            self.rest += data
        data, self.rest = self.rest, b""
        return data

    def is_closed(self) -> bool:
        """Whether the server has closed, with nothing more to say."""
        return self.rest + self.socket.recv(65536) == b""

    def _chunks(self) -> bytes:
        pieces = []
        while size := int(self._until(b"\r\n"), 16):
            pieces.append(self._exactly(size + 2)[:-2])
        assert self._exactly(2) == b"\r\n"
        return b"".join(pieces)

    def _until(self, end: bytes) -> bytes:
        while end not in self.rest:
            self._more()
        taken, _, self.rest = self.rest.partition(end)
        return taken

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._more()
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"closed after {self.rest!r}")
        self.rest += data
