"""grpc.health.v1: whether the server, a service of it or a model takes requests; and word when that changes.

https://grpc.io/docs/guides/health-checking/. A service is known by its full name, a model by its own; the empty name is
the server as a whole.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bimodal.errors import ModelNotFound, NotFound
from bimodal.field import nearest
from bimodal.messages.pool import message, services
from bimodal.realtime import failure
from bimodal.realtime.calls import Call, Streaming, Unary
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import statuses
from bimodal.realtime.protocols.replies import unary
from bimodal.realtime.protocols.tensor_messages import parsed
from bimodal.realtime.service import Service

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3
LISTED = 100  # services that one List may tell, by the standard
EACH = 0.1  # seconds between two looks at what watchers wait for

_Request = message("grpc.health.v1.HealthCheckRequest")
_Response = message("grpc.health.v1.HealthCheckResponse")


class Health:
    """The three methods."""

    def __init__(self, service: Service, metrics: Metrics, *, known: bool = True) -> None:
        """known: whether Check, which is open to everybody, tells of models."""
        self._known = known
        self._service = service
        self._metrics = metrics
        self._watches: set[Watch] = set()
        self._watching: asyncio.Task[None] | None = None
        self.unary: dict[str, Unary] = {
            f"/{SERVICE}/Check": unary(SERVICE, "Check", self._check, metrics),
            f"/{SERVICE}/List": unary(SERVICE, "List", self._list, metrics),
        }
        self.streaming: dict[str, Streaming] = {f"/{SERVICE}/Watch": lambda call: Watch(self, call)}

    def state(self, name: str) -> int:
        """SERVING, NOT_SERVING, or UNKNOWN where there is nothing of that name."""
        if not name or name in services():
            return SERVING if self._service.ready else NOT_SERVING
        try:
            served = self._service.find(name)
        except ModelNotFound:
            return UNKNOWN
        return SERVING if self._service.taking and served.available else NOT_SERVING

    def watch(self, watch: Watch) -> None:
        """Tell it now and whenever its state changes, until the server drains."""
        watch.tell(self.state(watch.name))
        if self._service.draining:
            watch.end()
            return
        self._watches.add(watch)
        self._service.leaving.add(self._drain)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._look())

    def leave(self, watch: Watch) -> None:
        """The caller is gone."""
        self._watches.discard(watch)

    def _drain(self) -> None:
        """Everybody hears that the server is not serving, and that it is the last word."""
        for watch in list(self._watches):
            watch.tell(self.state(watch.name))
            watch.end()
        self._watches.clear()

    async def _look(self) -> None:
        """While somebody watches."""
        while self._watches:
            await asyncio.sleep(EACH)
            for watch in list(self._watches):
                watch.tell(self.state(watch.name))
        self._watching = None

    def _check(self, request: Any) -> dict[str, Any]:
        if not self._known and request.service not in ("", *services()):
            raise NotFound("no service of that name; ModelReady tells of models, to those who have a key")
        state = self.state(request.service)
        if state == UNKNOWN:
            known = [*services(), *self._service.served]
            near = nearest(request.service, known)
            raise NotFound(f"no service or model of that name{f'; did you mean {near!r}?' if near else ''}")
        return {"status": state}

    def _list(self, request: Any) -> dict[str, Any]:
        names = ["", *services(), *self._service.served][:LISTED]
        return {"statuses": {name: _Response(status=self.state(name)) for name in names}}

    def refused(self, error: BaseException) -> None:
        """Count what was no question."""
        self._metrics.other(failure.status(error))

    def asked(self) -> None:
        """Count a question that goes on."""
        self._metrics.other(200)


class Watch:
    """One caller of Watch."""

    def __init__(self, health: Health, call: Call) -> None:
        self._health = health
        self._call = call
        self._told: int | None = None
        self.name = ""

    def feed(self, message: bytes) -> None:
        try:
            self.name = parsed(_Request, message).service
        except Exception as error:
            self._health.refused(error)
            statuses.fail(self._call, error)
            return
        self._health.asked()
        self._health.watch(self)

    def finish(self) -> None:
        """The caller has asked; the answers go on."""

    def abort(self) -> None:
        self._health.leave(self)

    def end(self) -> None:
        """Nothing more will be told."""
        self._call.end()

    def tell(self, state: int) -> None:
        """Write the state if it is another than before."""
        if state != self._told:
            self._told = state
            self._call.write(_Response(status=state).SerializeToString())
