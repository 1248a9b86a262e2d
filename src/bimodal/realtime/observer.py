"""Observer: sees each request once, when it has ended, for the access log and for traces.

What it sees is kept until the end of the turn of the event loop (`sight.py`), or for a millisecond where turns follow
each other faster, and made to lines and spans then, when the answers are out. A line tells nothing of what a request
holds: no query, no header, no body, of its path the route alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain, count
from math import inf
from random import random
from time import gmtime, monotonic, strftime, time
from typing import Any, Protocol

import msgspec

from bimodal.errors import MissingLibrary
from bimodal.formats.library import library
from bimodal.realtime.access import AccessLog
from bimodal.realtime.calls import Status
from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.head import Head, unquoted
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.note import NOTHING, Note
from bimodal.realtime.refusal import id_of
from bimodal.realtime.sight import Sight, tell_of
from bimodal.realtime.tracing import Parent, Sampler, new_trace, parent_of, sampler_of

log = logging.getLogger("bimodal.realtime")

HTTP, HTTP2, GRPC = "HTTP/1.1", "HTTP/2", "gRPC"
GATHER = 0.001  # seconds at least between two tellings: one costs as much as ten lines
KNOWN = 1024  # kinds of heads that are remembered
LEFT = 499  # the status of a request whose caller left before its answer, as others have it
_BLAME = frozenset(  # of gRPC: what is the server's fault
    (
        Status.UNKNOWN,
        Status.DEADLINE_EXCEEDED,
        Status.UNIMPLEMENTED,
        Status.INTERNAL,
        Status.UNAVAILABLE,
        Status.DATA_LOSS,
    )
)

_PAIRS = [b"%02x" % number for number in range(256)]
_LINE = b'%b%b",%b%d%b,"bytes_in":%d,"bytes_out":%d,"ms":%d.%03d%b}\n'
_quoted = msgspec.json.encode


class Told(msgspec.Struct, eq=False):
    """What is told of all requests with the same head. route: the path without what callers put into it; empty where
    there is none. line: its part of a line. age: of the routes and keys that it was made with.
    """

    method: str
    route: str
    protocol: str
    parent: Parent | None
    line: bytes
    age: int

    @property
    def told(self) -> Told:
        """It is a head of its own."""
        return self


class Headed(Protocol):
    """A head of any wire: `told` is the observer's place in it."""

    @property
    def told(self) -> Any: ...


class Seen(msgspec.Struct, eq=False, gc=False):
    """One request that has ended. status: HTTP's, or gRPC's where it is a call. taken, sent: bytes of its content."""

    told: Told
    peer: bytes
    received: float
    ended: float
    name: bytes
    status: int
    taken: int
    sent: int
    note: Note
    trace: int = 0  # that begins here


class Guarded(Protocol):
    """What the verdicts of heads are of. generation: how often the keys have changed."""

    generation: int


class Spans(Protocol):
    """Where what is traced goes."""

    def put(self, seen: list[Seen]) -> None: ...

    def close(self) -> None: ...


class Routes(Protocol):
    """What knows the route of a method and a path. mounted: how often they have changed."""

    mounted: int

    def template(self, method: str, path: str) -> str: ...


class Observer(Sight):
    """One worker's. share: of the good answers that are logged; others always are. peers: whether addresses of callers
    are told. sampler, spans: of traces.
    """

    def __init__(
        self,
        routes: Routes,
        log: AccessLog | None = None,
        *,
        share: float = 1.0,
        peers: bool = True,
        sampler: Sampler | None = None,
        spans: Spans | None = None,
        guard: Guarded | None = None,
    ) -> None:
        super().__init__()
        self._routes, self.guard = routes, guard
        self._log, self._share, self._peers = log, share, peers
        self._sampler, self._spans = sampler, spans
        self.name = chain.from_iterable(_names(secrets.token_hex(4).encode())).__next__
        """An id for a request that has none: 16 hexadecimal digits, which no other request of this server has."""
        self.gathers = True
        """Whether what is seen may wait a moment. Not where the loop may be over by then: it is another server's."""
        self._flushed = -inf  # on the monotonic clock
        self._second, self._date = 0, b""
        self._known: dict[tuple[str, str, str, str], Told] = {}

    # -- what the wires call ----------------------------------------------------------------------------------------

    def peer(self, transport: asyncio.BaseTransport) -> bytes:
        """The part of a line that tells of the other end of a connection."""
        return self.client(transport.get_extra_info("peername"))

    def client(self, place: Any) -> bytes:
        """The same of an address and a port; of anything else, nothing."""
        if not self._peers:
            return b""
        host = str(place[0]) if isinstance(place, tuple | list) and place else ""
        return b',"peer":%b' % _quoted(host) if host else b""

    def await_end(self) -> None:
        loop = asyncio.get_running_loop()
        if self.gathers and monotonic() - self._flushed < GATHER:
            loop.call_later(GATHER, self.flush)
        else:
            loop.call_soon(self.flush)

    def noted(self, note: Note) -> bytes:
        """The note's part of a line, made once."""
        line = _about(note.code, note.model, note.version)
        if note.timing:
            line += b',"stages":{"%b}' % note.timing.replace(b";dur=", b'":').replace(b", ", b',"')
        note.line = line
        return line

    def read(self, head: Any) -> Told:
        """What is told of a head of HTTP/1 or HTTP/2, kept in it. Equal heads share it. None: it could not be read."""
        if head is None:
            return self._made("", "", HTTP, None)
        if isinstance(head, Told):
            return head  # of one request alone
        if isinstance(head.method, str):
            route = self._routes.template(head.method, head.path)
            told = self._made(head.method, route, HTTP, parent_of(head.headers), _key(head))
        else:
            told = self._of_http2(head)
        head.told = told
        return told

    def saw_alone(self, request: Request, response: Response) -> None:
        """A request of no wire."""
        told = self.asked(request.method, request.path, "1.1", request.headers)
        taken, sent = len(request.body), len(response.body)
        self.saw(
            told, b"", request.received, response.status, taken, sent, id_of(response) or self.name(), response.note
        )

    def asked(self, method: str, path: str, version: str, headers: Mapping[bytes, bytes]) -> Told:
        """The same where another server has the connection."""
        return self._made(method, self._routes.template(method, path), f"HTTP/{version}", parent_of(headers))

    def _of_http2(self, head: Any) -> Told:
        method, target = head.method.decode("ascii", "replace"), head.target.decode("ascii", "replace")
        if head.opening:
            opening = head.opening
            known = opening.unary is not None or opening.streaming is not None
            return self._made(method, target if known else "", GRPC, parent_of(head.headers), _key(head))
        route = self._routes.template(method, unquoted(target.partition("?")[0]))
        return self._made(method, route, HTTP2, parent_of(head.headers), _key(head))

    def _made(self, method: str, route: str, protocol: str, parent: Parent | None, key: str = "") -> Told:
        """What is told of such heads. Those without a trace are remembered."""
        sign, age = (method, route, protocol, key), self._age()
        known = self._known.get(sign) if parent is None else None
        if known is not None and known.age == age:
            return known
        parts = [b'"method":%b,"route":%b,"protocol":"%b"' % (_quoted(method), _quoted(route), protocol.encode())]
        if parent is not None:
            parts.append(b'"trace_id":"%b"' % parent.trace)
        if key:
            parts.append(b'"key":%b' % _quoted(key))
        parts.append(b'"grpc_status":' if protocol == GRPC else b'"status":')
        told = Told(method, route, protocol, parent, b",".join(parts), age)
        if parent is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[sign] = told
        return told

    def _age(self) -> int:
        """Another number whenever the routes change, or the keys do."""
        return self._routes.mounted + (0 if self.guard is None else self.guard.generation << 20)

    # -- at the end of some turns --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand on what was seen."""
        self._flushed = monotonic()
        begin, age = self._begin(), self._age()
        whole = self._log is not None and self._sampler is None and self._share >= 1.0
        told = self.lines(begin, age) if whole else None
        if told is None:
            self._sift(begin, age)
        elif self._log is not None and told[1]:
            self._log.put(*told)

    def _sift(self, begin: bytes, age: int) -> None:
        """The same where not all is told, or where traces are."""
        sampler = self._sampler
        lines: list[bytes] = []
        traced: list[Seen] = []
        for head, peer, received, ended, name, status, taken, sent, given in self.taken():
            told = None if head is None else head.told
            if told is None or told.age != age:
                told = self.read(head)
            name, note, more = name or b"", given or NOTHING, peer or b""
            if sampler is not None and sampler(told.parent):
                trace = new_trace() if told.parent is None else 0
                traced.append(Seen(told, more, received, ended, name, status, taken, sent, note, trace))
                if trace:
                    more = b'%b,"trace_id":"%032x"' % (more, trace)
            if self._log is not None and (self._share >= 1.0 or not good(told, status) or random() < self._share):  # noqa: S311 - no secret
                about, (whole, rest) = note.line or self.noted(note), divmod(int((ended - received) * 1e6 + 0.5), 1000)
                lines.append(_LINE % (begin, name, told.line, status, about, taken, sent, whole, rest, more))
        if lines and self._log is not None:
            self._log.put(b"".join(lines), len(lines))
        if traced and self._spans is not None:
            self._spans.put(traced)

    def _begin(self) -> bytes:
        """The begin of a line, up to its request's id. The time is by RFC 3339, to the millisecond."""
        now = time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = strftime('{"time":"%Y-%m-%dT%H:%M:%S.', gmtime(second)).encode()
        return b'%b%03dZ","request_id":"' % (self._date, int((now - second) * 1e3))

    def close(self) -> None:
        """Write all that was seen."""
        self.flush()
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            self._spans.close()


def observer_of(
    told: Mapping[str, Any] | None, routes: Routes, metrics: Metrics, guard: Guarded | None = None
) -> Observer | None:
    """The observer that a server's spec tells of (`serving.observed`), or None. Raises what keeps it from seeing."""
    if told is None:
        return None
    path = told["access_log"]

    def lines(written: int, dropped: int) -> None:
        metrics.count("bimodal_access_log_lines_total", number=written)
        metrics.count("bimodal_access_log_dropped_total", number=dropped)

    sampler, spans = _traces(told["traces"], metrics)
    if path is None and spans is None:
        return None
    made = None if path is None else AccessLog(path, lines)
    return Observer(routes, made, share=told["sample"], peers=told["peers"], sampler=sampler, spans=spans, guard=guard)


def _traces(told: Mapping[str, Any] | None, metrics: Metrics) -> tuple[Sampler | None, Spans | None]:
    if told is None:
        return None, None

    def exported_so(exported: int, dropped: int) -> None:
        metrics.count("bimodal_spans_exported_total", number=exported)
        metrics.count("bimodal_spans_dropped_total", number=dropped)

    try:
        spans: Spans = library("bimodal.realtime.spans").Exports(told["endpoint"], os.environ, exported_so)
        return sampler_of(told["sampler"], told["argument"]), spans
    except MissingLibrary as error:
        if told["needed"]:
            raise
        log.warning("the environment asks for traces (OTEL_…), but %s", error)
        return None, None


def good(told: Told, status: int) -> bool:
    """Whether a request got what it asked for."""
    return status == Status.OK if told.protocol == GRPC else status < 400


def failed(told: Told, status: int) -> bool:
    """Whether the server is to blame."""
    return status in _BLAME if told.protocol == GRPC else status >= 500


def _names(begin: bytes) -> Iterator[list[bytes]]:
    """Ids, 8 digits that are the same and 8 that count, 256 at a time."""
    for number in count():
        part = b"%b%06x" % (begin, number & 0xFFFFFF)
        yield [part + end for end in _PAIRS]


def _key(head: Headed | None) -> str:
    """The name of the caller's key, as the guard found it."""
    verdict = getattr(head, "verdict", None)
    return "" if verdict is None else str(verdict.key)


@lru_cache(KNOWN)
def _about(code: str, model: str, version: str) -> bytes:
    """The error and the model of a line."""
    parts = [b""]
    if code:
        parts.append(b'"error":%b' % _quoted(code))
    if model:
        parts.append(b'"model":%b,"version":%b' % (_quoted(model), _quoted(version)))
    return b",".join(parts)


tell_of(Told, Note, Head)
