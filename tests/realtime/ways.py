"""What a server says to the same callers: `python -m tests.realtime.ways SEED` with the compiled way of a request, and
with `--plain` without it. Prints JSON: the outcome of each run, and how many requests and answers went the long way.
"""

from __future__ import annotations

import sys

if "--plain" in sys.argv:
    sys.modules["bimodal.realtime.wire"] = None  # type: ignore[assignment]  # so that its import fails

import asyncio
import json
import logging
import random
import re
from collections.abc import Callable
from typing import Any, cast

from bimodal.realtime.access import AccessLog
from bimodal.realtime.exchange import Request, Respond, Response
from bimodal.realtime.guard import Guard
from bimodal.realtime.hosts import Hosts
from bimodal.realtime.http import Connection
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.observer import Observer
from bimodal.realtime.transfer import Exchange
from tests.realtime.test_cuts import Wire
from tests.realtime.wire import TryOut

ROUTES = ("echo", "nothing", "split", "fail", "later0.0", "late", "twice", "named", "bad", "talk", "deaf", "told")
FIELDS = (b"x-request-id: given-1\r\n", b"connection: close\r\n", b"host: other\r\n", b"accept: a/b\r\n")
PASSING = re.compile(r'date: [^\r]*|"time":"[^"]*"|"ms":\d+\.\d{3}|[0-9a-f]{16}')  # what differs between two runs


class App(TryOut):
    """Answers at once, in a later turn, twice, never, and with what cannot be sent; half of it by a table."""

    mounted = 0

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[tuple[str, str], Callable[..., Any]] = {
            ("POST", "/echo"): self.__call__,
            ("POST", "/late"): self.late,
            ("POST", "/fail"): self.__call__,
        }

    def template(self, method: str, path: str) -> str:
        return path

    def __call__(self, request: Request, respond: Respond) -> Callable[[], None] | None:
        route = request.path.strip("/")
        loop = asyncio.get_running_loop()
        if route == "late":
            return self.late(request, respond)
        if route == "twice":
            loop.call_soon(respond, Response(200, b"second"))
        if route in ("twice", "named", "bad"):
            self.requests.append(request)
            given = ((b"x-request-id", b"of-the-app"),) if route == "named" else ((b"x-a", b"b"), (b"x-c", b"d"))
            respond(Response(400 if route == "bad" else 200, b"first", b"text/plain", given))
            return None
        return super().__call__(request, respond)

    def late(self, request: Request, respond: Respond) -> Callable[[], None]:
        self.requests.append(request)
        asyncio.get_running_loop().call_soon(respond, Response(200, request.body * 3, b"text/plain"))
        return self.cancel


class Lines:
    """Takes the place of an access log's file."""

    def __init__(self) -> None:
        self.text = b""
        self.count = 0

    def put(self, text: bytes, count: int) -> None:
        self.text += text
        self.count += count


def main() -> None:
    logging.disable(logging.CRITICAL)
    long = {"receive": 0, "respond": 0}
    for kind, name in ((Connection, "receive"), (Exchange, "respond")):
        setattr(kind, name, counted(getattr(kind, name), long, name))
    outcomes = [asyncio.run(outcome(random.Random(f"{sys.argv[1]} {number}"))) for number in range(30)]
    print(json.dumps({"outcomes": outcomes, **long}))


def counted(way: Callable[..., Any], counts: dict[str, int], name: str) -> Callable[..., Any]:
    def counting(*args: Any) -> Any:
        counts[name] += 1
        return way(*args)

    return counting


async def outcome(chance: random.Random) -> dict[str, Any]:
    """What some connections are told, what the app saw, and the lines of the log."""
    app, log = App(), Lines()
    guard = Guard(Hosts("127.0.0.1", ("localhost", "a"))) if chance.random() < 0.5 else None
    listener = Listener(app, Limits(body_bytes=4000, pipeline=3), guard=guard)
    if chance.random() < 0.5:
        share = chance.choice((1.0, 1.0, 0.0))
        listener.observer = Observer(app, cast(AccessLog, log), share=share, guard=guard)
    loop = asyncio.get_running_loop()
    wires = [Wire() for _ in range(chance.choice((1, 2, 3)))]
    talks = []
    for wire in wires:
        connection = Connection(listener, loop)
        connection.connection_made(cast(asyncio.Transport, wire))
        talks.append(connection)
    for step in range(150):
        place = chance.randrange(len(talks))
        data = b"".join(request(chance) for _ in range(chance.choice((1, 1, 1, 1, 1, 2, 4))))
        cuts = sorted(chance.sample(range(1, len(data)), chance.choice((0, 0, 0, 0, 0, 1, 2))))
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if not wires[place].ended:
                talks[place].data_received(data[start:stop])
        if chance.random() < 0.8:
            await asyncio.sleep(0)
        if step == 70 and guard is not None:
            guard.generation += 1
        if step == 130:
            listener.draining = chance.random() < 0.3
        if wires[place].ended:
            talks[place].connection_lost(None)
            wires[place], talks[place] = Wire(), Connection(listener, loop)
            talks[place].connection_made(cast(asyncio.Transport, wires[place]))
    await asyncio.sleep(0.002)
    for talk in talks:
        talk.connection_lost(None)
    if listener.observer is not None:
        listener.observer.flush()
    seen = [
        (one.method, one.path, one.query, bytes(one.body).decode(), one.alone, one.name is None) for one in app.requests
    ]
    told: dict[str, Any] = {"sent": [lasting(wire.sent) for wire in wires], "ended": [wire.ended for wire in wires]}
    told |= {"seen": seen, "cancelled": app.cancelled, "log": lasting(log.text), "lines": log.count}
    told |= {"phases": [(talk._phase, len(talk.queue), talk._more) for talk in talks]}
    return told


def lasting(told: bytes) -> str:
    """Without times and ids."""
    return PASSING.sub("", told.decode("latin-1"))


def request(chance: random.Random) -> bytes:
    """Most are plain ones with a body that is there."""
    route = chance.choice(ROUTES if chance.random() < 0.3 else ("echo", "late", "told")).encode()
    method = chance.choice((b"POST",) * 8 + (b"GET", b"GET", b"HEAD"))
    body = (
        b""
        if method != b"POST"
        else chance.choice((b"", b"abc", b"abc", b"x" * 100, b"x" * chance.choice((5, 3999, 4000, 4001))))
    )
    field = chance.choice(FIELDS) if chance.random() < 0.06 else b""
    version = b"1.0" if chance.random() < 0.03 else b"1.1"
    head = b"%b /%b HTTP/%b\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n" % (method, route, version, field, len(body))
    return head + body


if __name__ == "__main__":
    main()
