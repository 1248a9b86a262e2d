"""The same App in any ASGI server, or mounted in a FastAPI or Starlette application.

    application = asgi(app)                       # uvicorn module:application
    fastapi_app.mount("/models", asgi(app))       # beside routes of one's own

The server in front keeps connections, heads and timeouts; the bound on the body, the deadline and the errors are ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import monotonic
from typing import Any

from bimodal.realtime.exchange import App, Intake, Request, Response, stop_work
from bimodal.realtime.failure import status
from bimodal.realtime.guard import Guard
from bimodal.realtime.head import SLASH, unquoted
from bimodal.realtime.limits import Limits
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.observer import LEFT, Observer
from bimodal.realtime.refusal import REQUEST_ID, Refusal, expired, given_id, id_of, internal, long_body, new_id
from bimodal.realtime.rendering import BODILESS

log = logging.getLogger("bimodal.realtime")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]

_OPEN, _STARTED, _DONE, _GONE = range(4)  # states of an exchange
_PACE = 1.0  # seconds between two looks at whether a caller's key still holds
_QUEUED = 64 * 1024  # bytes of a streamed answer that may wait for the server in front


def asgi(
    app: App,
    limits: Limits | None = None,
    *,
    startup: Hook | None = None,
    shutdown: Hook | None = None,
    guard: Guard | None = None,
    observer: Observer | None = None,
    metrics: Metrics | None = None,
) -> Application:
    """An ASGI application of an App. `startup` and `shutdown` run with the server's lifespan, where it has one. guard:
    asked before the app; None lets everybody in whom the server in front lets in. observer: told of each request;
    metrics: of what is refused here.
    """
    bounds = limits or Limits()
    if observer is not None:
        observer.gathers = False

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send, startup, shutdown)
        elif scope["type"] == "http":
            await _Exchange(scope, receive, send, observer, metrics).run(app, bounds, guard)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    return application


async def _live(receive: Receive, send: Send, startup: Hook | None, shutdown: Hook | None) -> None:
    for step, hook in (("startup", startup), ("shutdown", shutdown)):
        await receive()
        try:
            if hook is not None:
                await hook()
        except Exception as error:
            log.exception("%s failed", step)
            await send({"type": f"lifespan.{step}.failed", "message": str(error)})
            return
        await send({"type": f"lifespan.{step}.complete"})


class _Exchange:
    """One request: Respond and Writer for the app, messages for the server in front."""

    def __init__(
        self, scope: Message, receive: Receive, send: Send, observer: Observer | None, metrics: Metrics | None
    ) -> None:
        self._observer, self._metrics = observer, metrics
        self._version, self._client = scope.get("http_version", "1.1"), scope.get("client")
        self._size = self._sent = 0  # bytes of the body, and of the answer
        self._begun: Response | None = None
        query = scope.get("query_string", b"").decode("latin-1")
        headers = _joined(scope["headers"])
        self._id = given_id(headers)
        self._given = self._id is not None
        if self._id is None and observer is not None:
            self._id = observer.name()
        self._request = Request(scope["method"], _path(scope), query, headers, b"", monotonic(), False, self._id)
        self._receive = receive
        self._send = send
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        self._queued = 0  # bytes in it
        self._taken = asyncio.Event()
        self._flows = asyncio.Event()  # cleared while the app wants no more of the body
        self._flows.set()
        self._state = _OPEN
        self._intake: Intake | None = None
        self._cancel: Callable[[], None] | None = None

    # What the app calls

    def __call__(self, response: Response) -> None:
        """Respond."""
        if self._state == _OPEN:
            self._begin(response, (b"content-length", b"%d" % len(response.body)))
            self._put(response.body, more=False)
            self._end()

    def start(self, response: Response) -> None:
        if self._state == _OPEN:
            self._begin(response)
            self._state = _STARTED
            self.write(response.body)

    def write(self, piece: bytes) -> None:
        if self._state == _STARTED and piece:
            self._put(piece, more=True)

    def end(self) -> None:
        if self._state == _STARTED:
            self._put(b"", more=False)
            self._end()

    async def ready(self) -> None:
        while self._state == _STARTED and self._queued > _QUEUED:
            self._taken.clear()
            await self._taken.wait()

    def pause(self) -> None:
        """Read no more of the body for now."""
        if self._state < _DONE:
            self._flows.clear()

    def resume(self) -> None:
        """Read on."""
        self._flows.set()

    # One request from its head to its answer

    async def run(self, app: App, limits: Limits, guard: Guard | None) -> None:
        """Take the body, let the app answer, send the answer; a caller who leaves has the work stopped."""
        sending = asyncio.create_task(self._deliver())
        try:
            if guard is None or not self._is_refused(guard):
                await self._take(app, limits, guard)
            if self._state != _GONE:
                await self._watch(sending, None if self._intake else limits.deadline, guard)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception:
            self._fail()
        finally:
            if self._state != _DONE:
                self._abandon()
                sending.cancel()
        await asyncio.wait([sending])
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    def _is_refused(self, guard: Guard) -> bool:
        """Whether the guard refuses it; then it is answered."""
        request = self._request
        guard.look_again()
        error = guard.request(request.method, request.path, request.headers).error
        if error is not None:
            self(guard.refusal(error, request.path, request.headers))
        return error is not None

    def _judge(self, guard: Guard) -> None:
        """Raises Refusal where the caller's key has ended, or was revoked, since."""
        guard.look_again()
        request = self._request
        error = guard.request(request.method, request.path, request.headers).error
        if error is not None:
            raise Refusal(status(error), error.code, error.message)

    async def _take(self, app: App, limits: Limits, guard: Guard | None) -> None:
        """Read the body to its end, and give it to the app."""
        self._intake = app.stream(self._request, self)
        body = bytearray()
        more = True
        while more and self._state != _DONE:
            await self._flows.wait()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return self._abandon()
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            self._size += len(piece)
            if self._intake is not None:
                if guard is not None and guard.asks:
                    self._judge(guard)
                self._intake.feed(piece)
            elif self._size > limits.body_bytes:
                raise long_body(limits.body_bytes)
            else:
                body += piece
        if self._intake is not None:
            self._intake.finish()
        elif self._state == _OPEN:
            self._request.body = bytes(body)
            self._cancel = app(self._request, self)
        return None

    async def _watch(self, sending: asyncio.Task[None], deadline: float | None, guard: Guard | None) -> None:
        """Wait for the answer to be sent, for the caller to leave, for the deadline, or for the end of its key."""
        if self._state == _DONE:
            return
        leaving = asyncio.ensure_future(self._receive())
        judges = guard if guard is not None and guard.asks and self._intake is not None else None
        pace = deadline if judges is None else _PACE
        try:
            while True:
                done, _ = await asyncio.wait([sending, leaving], timeout=pace, return_when=asyncio.FIRST_COMPLETED)
                if done or judges is None:
                    break
                self._judge(judges)
        finally:
            leaving.cancel()
        if self._state != _DONE and deadline is not None and not leaving.done():
            raise expired(deadline)

    async def _deliver(self) -> None:
        more = True
        while more:
            message = await self._out.get()
            await self._send(message)
            more = message.get("more_body", True)
            self._queued -= len(message.get("body", b""))
            self._taken.set()

    # Answers

    def _begin(self, response: Response, *fields: tuple[bytes, bytes]) -> None:
        self._begun = response
        headers = [*response.headers]
        if response.status not in BODILESS:
            headers += [(b"content-type", response.content_type), *fields]
        if self._id is not None and all(name != REQUEST_ID for name, _ in response.headers):
            headers.append((REQUEST_ID, self._id))
        self._out.put_nowait({"type": "http.response.start", "status": response.status, "headers": headers})

    def _put(self, piece: bytes, *, more: bool) -> None:
        if self._request.method == "HEAD":
            piece = b""
        self._queued += len(piece)
        self._sent += len(piece)
        self._out.put_nowait({"type": "http.response.body", "body": piece, "more_body": more})

    def _end(self) -> None:
        """The answer is complete."""
        self._state = _DONE
        self._flows.set()
        if self._begun is not None:
            self._observed(self._begun.status)

    def _observed(self, status: int) -> None:
        """Tell the observer, where there is one."""
        observer, request, begun = self._observer, self._request, self._begun
        if observer is not None:
            told = observer.asked(request.method, request.path, self._version, request.headers)
            name = (None if self._given or begun is None else id_of(begun)) or self._id
            note = None if begun is None else begun.note
            peer = observer.client(self._client)
            observer.saw(told, peer, request.received, status, self._size, self._sent, name, note)

    def _refuse(self, refusal: Refusal, name: bytes | None = None) -> None:
        """Answer for the app."""
        self._stop()
        if self._metrics is not None and self._state == _OPEN:
            self._metrics.refused(refusal.status, refusal.code)
        self(refusal.response(name or self._id))

    def _fail(self) -> None:
        """An exception of the app: all of it to the log, a fixed sentence to the caller."""
        name = self._id or new_id()
        log.exception("request %s failed", name.decode("ascii"))
        self._refuse(internal(), name)

    def _abandon(self) -> None:
        """The caller left."""
        if self._state < _DONE:
            self._observed(LEFT)
            self._state = _GONE
            self._stop()
        self._taken.set()

    def _stop(self) -> None:
        """Have the app stop its work."""
        cancel, self._cancel = self._cancel, None
        intake, self._intake = self._intake, None
        stop_work(cancel, intake)


def _path(scope: Message) -> str:
    """The path below the place where the application is mounted."""
    path = _with_slashes(scope["path"], scope.get("raw_path") or b"")
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path or "/"


def _with_slashes(path: str, raw: bytes) -> str:
    """A decoded path in which encoded slashes are SLASH again, as the raw one tells them: one of the two may lack the
    place where the application is mounted.
    """
    if b"%2f" not in raw.lower():
        return path
    marked = unquoted(raw.partition(b"?")[0].decode("ascii", "replace"))
    plain = marked.replace(SLASH, "/")
    if plain.endswith(path):
        return marked[len(plain) - len(path) :]
    return path.removesuffix(plain) + marked if path.endswith(plain) else marked


def _joined(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Header fields with one value a name."""
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        name = name.lower()
        if name in headers:
            value = headers[name] + (b"; " if name == b"cookie" else b", ") + value
        headers[name] = value
    return headers
