"""Guard: the one gate in front of all routes and all gRPC methods. What nobody has allowed is refused.

The wires ask it before anything else of a request is looked at, its body included. Its verdict depends on the head
alone: it is kept beside the head, whose bytes callers repeat, until the keys change or one of them ends. So a request
costs two comparisons.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Protocol

import msgspec

from bimodal.errors import BimodalError, Forbidden, Unauthenticated
from bimodal.realtime.app import Fault
from bimodal.realtime.calls import Call
from bimodal.realtime.exchange import Response
from bimodal.realtime.failure import failure, status
from bimodal.realtime.hosts import Hosts, Origins
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import statuses
from bimodal.realtime.refusal import Refusal
from bimodal.realtime.ring import Ring
from bimodal.realtime.scopes import ADMIN, INFER, OPEN, Scopes

NOTHING = "nothing"  # is there, as whoever has a key is told: 404, 405 and what the route takes, or UNIMPLEMENTED
CALLERS = 1024  # remembered
CHALLENGE = (b"www-authenticate", b'Bearer realm="bimodal"')
MAKES = "`bimodal keys add NAME --keys FILE` on the server makes one"
NO_KEY = f"this needs an API key, as `Authorization: Bearer KEY`; {MAKES}"
WRONG_KEY = (
    "the API key is none of this server's, has ended or was revoked; `bimodal keys list --keys FILE` on the server "
    "shows those there are, `bimodal keys add NAME --keys FILE` makes one"
)
SEVERAL = "several keys were sent, as Authorization or X-Api-Key headers: send one; a proxy on the way may add its own"
WRONG_HOST = "this server does not answer to that host name; `--hosts NAME` adds one that it is reached by"
WRONG_ORIGIN = "pages of another origin may not ask this server; `--cors ORIGIN` lets those of one"

_several = re.compile(rb"^bearer [^,]*, |, bearer ", re.IGNORECASE).search
_bearer = re.compile(rb"bearer +(\S+)", re.IGNORECASE).fullmatch

Headers = Mapping[bytes, bytes]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What is said of a head. It holds for the guard's `generation`, until a time (time.monotonic()). error: why the
    request is refused, None where it is not. key: the name of the caller's key, where there is one.
    """

    generation: int
    until: float
    error: BimodalError | None = None
    key: str = ""


class Judged(Protocol):
    """A head of HTTP, of any wire."""

    @property
    def headers(self) -> Headers: ...

    verdict: Any


class Caller(msgspec.Struct, frozen=True):
    """Who asks. scopes: what the key gives, until a time (time.monotonic())."""

    scopes: frozenset[str]
    until: float = inf
    error: BimodalError | None = None  # why there is no key
    page: BimodalError | None = None  # why nobody by that name, or from that page, may ask
    key: str = ""  # its name


class Guard:
    """One worker's. hosts: None for all names (where somebody else answers for them). ring: None where there are no
    keys, and whoever gets here may do everything; or, `certified`, infer: a client certificate has been proven.
    """

    def __init__(
        self,
        hosts: Hosts | None = None,
        origins: Origins | None = None,
        ring: Ring | None = None,
        scopes: Scopes | None = None,
        *,
        certified: bool = False,
        metrics: Metrics | None = None,
        faults: Sequence[tuple[re.Pattern[str], Fault]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.generation = 0
        self.answers: Callable[[str, str], bool] = lambda method, path: True  # whether a route is there at all
        self.takes: Callable[[str], bool] = lambda path: True  # whether a gRPC method is
        self.ring = ring
        self._hosts, self._origins, self._scopes = hosts, origins or Origins(), scopes or Scopes()
        self._certified = certified and ring is None
        self._metrics, self._faults = metrics, faults
        self._clock = clock
        self._shift = clock() - time.monotonic()
        self._looked = time.monotonic()
        self._callers: dict[tuple[bytes | str | None, ...], Caller] = {}
        self._near: dict[int, tuple[Headers, str, Caller]] = {}  # by the headers themselves, which heads may share

    @property
    def asks(self) -> bool:
        """Whether a caller has to say who it is."""
        return self.ring is not None or self._certified

    def look(self) -> None:
        """Take notice of a changed file of keys, and of a clock that was set: what was said before counts no more."""
        self._looked = time.monotonic()
        shift = self._clock() - self._looked
        moved = abs(shift - self._shift) > 0.5
        self._shift = shift
        if (self.ring is not None and self.ring.look()) or moved:
            self.generation += 1
            self._callers.clear()
            self._near.clear()

    def look_again(self) -> None:
        """The same, for wires without a sweep: at most once a second."""
        if time.monotonic() - self._looked > 1.0:
            self.look()

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, headers: Headers) -> Verdict:
        """Of a request. path: decoded, without the query."""
        caller = self._caller(method, headers)
        preflight = method == "OPTIONS" and b"access-control-request-method" in headers
        if preflight and self._origins.knows(headers.get(b"origin")):
            return self._verdict(caller, OPEN, path)  # browsers send it without a key; it tells what pages may send
        scope = self._scopes.of(method, path)
        if scope == ADMIN and caller.error is None and not (self._scopes.knows(path) or self.answers(method, path)):
            scope = NOTHING
        return self._verdict(caller, scope, path)

    def call(self, path: str, headers: Headers) -> Verdict:
        """Of a gRPC call."""
        caller, scope = self._caller("POST", headers), self._scopes.of_call(path)
        if scope == ADMIN and caller.error is None and not self.takes(path):
            scope = NOTHING
        return self._verdict(caller, scope, path)

    def barred(self, head: Judged, method: str, path: str, now: float) -> Refusal | None:
        """Why a request that was let in, and goes on, is refused since: its key has ended, or was revoked. None where
        it still holds; which costs two comparisons. now: time.monotonic().
        """
        verdict = head.verdict
        if verdict is None:
            return None
        if verdict.generation != self.generation or now >= verdict.until:
            verdict = head.verdict = self.request(method, path, head.headers)
        error = verdict.error  # which another request of the same head may have been told of
        if error is None:
            return None
        told = (CHALLENGE,) if isinstance(error, Unauthenticated) else ()
        return Refusal(status(error), error.code, error.message, *told)

    def _verdict(self, caller: Caller, scope: str, path: str) -> Verdict:
        error = caller.page
        if scope == NOTHING:  # routes come and go, so this is not kept
            return Verdict(self.generation, 0.0, error, caller.key)
        if error is None and self.asks and scope != OPEN and scope not in caller.scopes:
            error = caller.error or Forbidden(self._needed(scope, path))
        return Verdict(self.generation, caller.until, error, caller.key)

    def _needed(self, scope: str, path: str) -> str:
        if self._certified:
            return f"a client certificate has the scope {INFER} alone, and this needs {scope}; --keys FILE adds keys"
        remedy = f"`bimodal keys add NAME --scope {scope} --keys FILE` on the server makes one"
        if scope == ADMIN and not self._scopes.knows(path):
            return f"there is no such route, or it needs a key with the scope {scope}; {remedy}"
        return f"this needs a key with the scope {scope}; {remedy}"

    def _caller(self, method: str, headers: Headers) -> Caller:
        """Who sends these headers. Good ones are remembered: lookups by key have a head of their own each."""
        near = self._near.get(id(headers))
        if near is not None and near[0] is headers and near[1] == method and time.monotonic() < near[2].until:
            return near[2]
        caller = self._known(method, headers)
        if caller.page is None and caller.error is None:
            if len(self._near) >= CALLERS:
                self._near.clear()
            self._near[id(headers)] = (headers, method, caller)
        return caller

    def _known(self, method: str, headers: Headers) -> Caller:
        get = headers.get
        sign = (
            get(b"host"), get(b"authorization"), get(b"x-api-key"), get(b"origin"), get(b"sec-fetch-site"),
            get(b"sec-fetch-mode"), get(b"sec-fetch-dest"), method,
        )  # fmt: skip
        known = self._callers.get(sign)
        if known is not None and time.monotonic() < known.until:
            return known
        caller = self._looked_at(method, headers)
        if caller.page is None and caller.error is None:
            if len(self._callers) >= CALLERS:
                self._callers.clear()
            self._callers[sign] = caller
        return caller

    def _looked_at(self, method: str, headers: Headers) -> Caller:
        if self._hosts is not None and not self._hosts.allows(headers.get(b"host")):
            return Caller(frozenset(), page=Forbidden(WRONG_HOST))
        if not self._origins.allows(method, headers):
            return Caller(frozenset(), page=Forbidden(WRONG_ORIGIN))
        if self.ring is None:
            return Caller(frozenset((INFER,)) if self._certified else frozenset())
        key = key_of(headers)
        found = None if key is None else self.ring.find(key)
        if found is None:
            several = _several(headers.get(b"authorization", b"")) or b", " in headers.get(b"x-api-key", b"")
            why = SEVERAL if several else NO_KEY if key is None else WRONG_KEY
            return Caller(frozenset(), error=Unauthenticated(why))
        ends = inf if found.expires is None else time.monotonic() + found.expires.timestamp() - self._clock()
        return Caller(frozenset(found.scopes), ends, key=found.name)

    # -- answers -------------------------------------------------------------------------------------------------------

    def refusal(self, error: BimodalError, path: str, headers: Headers) -> Response:
        """The answer to a request that is refused, in the words of its route."""
        told: tuple[tuple[bytes, bytes], ...] = (CHALLENGE,) if isinstance(error, Unauthenticated) else ()
        origin = headers.get(b"origin")
        if origin is not None and self._origins.knows(origin):
            told = (*told, *self._origins.fields(origin))
        response = failure(error, headers, told)
        for pattern, fault in self._faults:
            if pattern.fullmatch(path):
                response.body = msgspec.json.encode(fault(error, response.status))
        self._count(error)
        return response

    def refuse_call(self, call: Call, error: BimodalError) -> None:
        """End a call that is refused."""
        statuses.fail(call, error)
        self._count(error)

    def _count(self, error: BimodalError) -> None:
        if self._metrics is not None:
            self._metrics.refused(status(error), error.code)


def key_of(headers: Headers) -> bytes | None:
    """The key that a caller sends: as a bearer's token, else as `x-api-key`."""
    told = headers.get(b"authorization")
    found = None if told is None else _bearer(told)
    return found[1] if found is not None else headers.get(b"x-api-key")


def guard_of(
    told: Mapping[str, Any] | None,
    metrics: Metrics | None = None,
    faults: Sequence[tuple[re.Pattern[str], Fault]] = (),
) -> Guard:
    """The guard that a server's spec tells of: {"address": listened on, None where somebody else listens, "hosts":
    names, "cors": origins, "keys": path or None, "certified": whether every caller has proven a certificate, "secure":
    whether TLS is spoken, "routes": names of routes}. None: of a server on a loopback address, without keys. Raises
    what keeps the keys from being read.
    """
    told = told or {}
    path, address = told.get("keys"), told.get("address", "127.0.0.1")
    return Guard(
        None if address is None else Hosts(address, told.get("hosts") or ()),
        Origins(told.get("cors") or (), secure=bool(told.get("secure"))),
        None if path is None else Ring(os.fspath(path)),
        Scopes(told.get("routes")),
        certified=bool(told.get("certified")),
        metrics=metrics,
        faults=faults,
    )
