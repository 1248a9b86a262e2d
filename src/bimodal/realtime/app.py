"""The routes: from a Request to a Response, without a socket."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from bimodal.errors import BimodalError, MethodNotAllowed, NotFound
from bimodal.field import nearest
from bimodal.realtime.exchange import Intake, Request, Respond, Response, Writer
from bimodal.realtime.exposition import OPEN, PLAIN, wants_open
from bimodal.realtime.failure import failure, status
from bimodal.realtime.metrics import Metrics

Cancel = Callable[[], None]
Handler = Callable[[Request, Respond], Cancel | None]
Streamer = Callable[[Request, Writer], Intake | None]
Fault = Callable[[BaseException, int], object]  # a body for an error and its status
AGAIN = ((b"retry-after", b"1"),)
SENT = (  # headers that a page of another origin may send
    b"authorization, content-type, x-api-key, x-request-id, x-request-timeout-ms, inference-header-content-length"
)
T = TypeVar("T")


class Mounted(Protocol):
    """Routes of a model: see `doors.py`."""

    routes: dict[tuple[str, str], Handler]
    streams: dict[str, Streamer]


class App:
    """Finds the handler of a route. Routes are whole paths, made when the models are known: one look in a table. Those
    of models come and go with them (`mount`).

    prefixes, stream_prefixes: beginnings of paths, tried where no route is found; the longest counts. patterns: paths
    with a name in them, for what nothing has (an unknown model); they raise the error to tell. faults: paths whose
    errors have a shape of their own.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        metrics: Metrics,
        *,
        streams: Mapping[str, Streamer] | None = None,
        prefixes: Mapping[tuple[str, str], Handler] | None = None,
        stream_prefixes: Mapping[tuple[str, str], Streamer] | None = None,
        patterns: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], None]]] = (),
        faults: Sequence[tuple[re.Pattern[str], Fault]] = (),
        cors: Sequence[str] = (),
    ) -> None:
        self._fixed = dict(routes)
        self._fixed_streams = dict(streams or {})
        self._prefixes = _longest_first(prefixes or {})
        self._stream_prefixes = _longest_first(stream_prefixes or {})
        self._patterns = patterns
        self._faults = faults
        self._metrics = metrics
        self._methods: dict[str, list[str]] = {}
        self.mounted = 0  # how often the routes have changed
        self._routes: dict[tuple[str, str], Handler] = {}
        self.mount(())
        self._cors = Cors(cors, self._methods, metrics) if cors else None
        self.table = None if cors else self._routes  # for a wire that looks there itself first

    def mount(self, doors: Sequence[Mounted]) -> None:
        """The routes of all models from now on, in one step; where two have the same, the later one counts."""
        routes: dict[tuple[str, str], Handler] = {}
        streams: dict[str, Streamer] = {}
        for each in doors:
            routes |= each.routes
            streams |= each.streams
        self._routes.clear()
        self._routes.update(routes | self._fixed)
        self._streams = streams | self._fixed_streams
        self.mounted += 1
        self._methods.clear()
        for method, path in self._routes:
            self._methods.setdefault(path, []).append(method)

    def template(self, method: str, path: str) -> str:
        """The route of a path, without what callers put into it (`*` stands for that); empty where there is none."""
        if path in self._methods or path in self._streams:
            return path
        begins = [*self._prefixes, *self._stream_prefixes]
        found = [begin for way, begin, _ in begins if way == method and path.startswith(begin)]
        return f"{max(found, key=len)}*" if found else ""

    def answers(self, method: str, path: str) -> bool:
        """Whether a route takes it; else the answer is an error that says so."""
        routes = self._routes
        if (method, path) in routes or (method == "HEAD" and ("GET", path) in routes):
            return True
        if method == "POST" and path in self._streams:
            return True
        begins = (*self._prefixes, *self._stream_prefixes)
        return any(way == method and path.startswith(begin) for way, begin, _ in begins)

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Methods and paths."""
        return list(self._routes)

    @property
    def begins(self) -> list[tuple[str, str]]:
        """Methods and beginnings of paths, of which there may be many."""
        return [(method, begin) for method, begin, _ in (*self._prefixes, *self._stream_prefixes)]

    @property
    def streams(self) -> list[str]:
        """Paths of which a POST's body may be taken in pieces."""
        return list(self._streams)

    def __call__(self, request: Request, respond: Respond) -> Cancel | None:
        if self._cors is not None:
            respond = self._cors.over(request, respond)
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            handler = self._other(request)
        return handler(request, respond)

    def stream(self, request: Request, writer: Writer) -> Intake | None:
        streamer = self._streams.get(request.path) if request.method == "POST" else None
        streamer = streamer or self._stream_of(request)
        if streamer is None:
            return None
        return streamer(request, writer if self._cors is None else self._cors.stream_over(request, writer))

    def _stream_of(self, request: Request) -> Streamer | None:
        for method, begin, streamer in self._stream_prefixes:
            if request.method == method and request.path.startswith(begin):
                return streamer
        return None

    def _other(self, request: Request) -> Handler:
        """A route that begins so. HEAD is GET without its body (which the wire leaves out); all else is an error that
        says what there is.
        """
        for method, begin, handler in self._prefixes:
            if request.method == method and request.path.startswith(begin) and request.path != begin:
                return handler
        if request.method == "HEAD" and ("GET", request.path) in self._routes:
            return self._routes["GET", request.path]
        if self._cors is not None and self._cors.is_preflight(request):
            return self._cors.preflight
        return self._unknown

    def _unknown(self, request: Request, respond: Respond) -> None:
        error, headers = self._error(request)
        self._metrics.other(status(error))
        response = failure(error, request.headers, headers)
        for pattern, told in self._faults:
            if pattern.fullmatch(request.path):
                response.body = msgspec.json.encode(told(error, response.status))
        respond(response)

    def _error(self, request: Request) -> tuple[BimodalError, tuple[tuple[bytes, bytes], ...]]:
        methods = self._methods.get(request.path)
        if methods is not None:
            allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
            error = MethodNotAllowed(f"this route takes {allowed}, not {request.method}")
            return error, ((b"allow", allowed.encode()),)
        for pattern, raiser in self._patterns:
            match = pattern.fullmatch(request.path)
            if match is not None:
                try:
                    raiser(match)
                except BimodalError as known:
                    return known, ()
        near = nearest(request.path, list(self._methods))
        return NotFound(f"no such route; did you mean {near}?" if near else "no such route; /docs lists them all"), ()


def _longest_first(begins: Mapping[tuple[str, str], T]) -> list[tuple[str, str, T]]:
    return sorted(((*key, value) for key, value in begins.items()), key=lambda each: -len(each[1]))


class Cors:
    """Lets pages of the listed origins call: preflights and headers for them, nothing for others."""

    def __init__(self, origins: Sequence[str], methods: Mapping[str, list[str]], metrics: Metrics) -> None:
        self._metrics = metrics
        self._any = "*" in origins
        self._origins = {origin.rstrip("/").encode("ascii") for origin in origins}
        self._methods = methods

    def is_preflight(self, request: Request) -> bool:
        return request.method == "OPTIONS" and b"access-control-request-method" in request.headers

    def preflight(self, request: Request, respond: Respond) -> None:
        self._metrics.other(204)
        methods = self._methods.get(request.path, ["GET", "POST"])
        fields: list[tuple[bytes, bytes]] = [(b"vary", b"origin")]
        if self._allowed(request):
            fields = [
                (b"access-control-allow-methods", ", ".join(methods).encode()),
                (b"access-control-allow-headers", SENT),
                (b"access-control-max-age", b"600"),
            ]
        respond(Response(204, b"", headers=tuple(fields)))

    def over(self, request: Request, respond: Respond) -> Respond:
        """`respond`, with the headers for the caller's origin."""
        if not self._allowed(request):
            return respond
        fields = self._fields(request)

        def allowed(response: Response) -> None:
            response.headers = (*response.headers, *fields)
            respond(response)

        return allowed

    def stream_over(self, request: Request, writer: Writer) -> Writer:
        return _CorsWriter(writer, self._fields(request)) if self._allowed(request) else writer

    def _allowed(self, request: Request) -> bool:
        origin = request.headers.get(b"origin")
        return origin is not None and (self._any or origin in self._origins)

    def _fields(self, request: Request) -> tuple[tuple[bytes, bytes], ...]:
        return (
            (b"access-control-allow-origin", b"*" if self._any else request.headers[b"origin"]),
            (
                b"access-control-expose-headers",
                b"server-timing, x-request-id, x-model, retry-after, inference-header-content-length",
            ),
            (b"vary", b"origin"),
        )


class _CorsWriter:
    """A Writer that adds the headers for the caller's origin."""

    def __init__(self, writer: Writer, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        self._writer = writer
        self._fields = fields
        self.write = writer.write
        self.end = writer.end
        self.ready = writer.ready

    def start(self, response: Response) -> None:
        response.headers = (*response.headers, *self._fields)
        self._writer.start(response)


def text(content_type: bytes, make: Callable[[], bytes], metrics: Metrics) -> Handler:
    """A handler that answers what `make` gives."""

    def handle(request: Request, respond: Respond) -> None:
        metrics.other(200)
        respond(Response(200, make(), content_type))

    return handle


def measured(metrics: Metrics) -> Handler:
    """The handler of /metrics: Prometheus' text, or OpenMetrics where that is asked for."""

    def handle(request: Request, respond: Respond) -> None:
        metrics.other(200)
        openly = wants_open(request.headers.get(b"accept", b""))
        respond(Response(200, metrics.text(openly=openly), OPEN if openly else PLAIN))

    return handle


def state(
    check: Callable[[], bool], good: object, bad: object, metrics: Metrics, why: Callable[[], dict[str, Any]] = dict
) -> Handler:
    """A health route: 200, or 503 and when to ask again, with a small JSON. why: what else it tells then."""
    bodies = {True: msgspec.json.encode(good), False: msgspec.json.encode(bad)}

    def handle(request: Request, respond: Respond) -> None:
        fine = check()
        metrics.other(200 if fine else 503)
        if fine:
            respond(Response(200, bodies[True]))
            return
        more = why()
        body = msgspec.json.encode({**msgspec.json.decode(bodies[False]), **more}) if more else bodies[False]
        respond(Response(503, body, headers=AGAIN))

    return handle
