"""However the network cuts a caller's bytes, well-formed or not, the requests and the answers are the same."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable
from typing import cast

import pytest

from bimodal.realtime.http import Connection
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from tests.realtime.test_http import ALL_REFUSED
from tests.realtime.wire import TryOut

WELL_FORMED = [
    b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\nA: b\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
    b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
]
PIECES = (
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b":",
    b"\0",
    b"0",
    b"\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
)

Outcome = tuple[bytes, list[tuple[str, str, bytes]], bool]


class Wire:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended = False
        self.reads = True

    def get_extra_info(self, name: str) -> None:
        """It is no encrypted one."""

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.sent += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return self.reads

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.mark.parametrize("seed", range(8))
def test_the_cuts_make_no_difference(seed: int) -> None:
    chance = random.Random(seed)
    loop = asyncio.new_event_loop()
    hostile = [raw for raw, _ in ALL_REFUSED.values() if len(raw) < 500]
    for _ in range(100):
        sources = [
            chance.choice(hostile if chance.random() < 0.3 else WELL_FORMED) for _ in range(chance.randint(1, 3))
        ]
        data = b"".join(mutated(source, chance) for source in sources)
        cuts = sorted(chance.sample(range(len(data) + 1), min(3, len(data))))
        whole = outcome(loop, data, [])
        assert outcome(loop, data, cuts) == whole, data
        assert outcome(loop, data, range(1, len(data))) == whole, data
    loop.close()


def mutated(source: bytes, chance: random.Random) -> bytes:
    """The bytes with up to four faults."""
    data = bytearray(source)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(3)
        if kind == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at:at] = chance.choice(PIECES)
        else:
            del data[at : at + chance.randint(1, 5)]
    return bytes(data)


def outcome(loop: asyncio.AbstractEventLoop, data: bytes, cuts: Iterable[int]) -> Outcome:
    """What is sent for the data, cut there; which requests the app saw; whether the connection was ended."""
    app, wire = TryOut(), Wire()
    listener = Listener(app, Limits())
    connection = Connection(listener, loop)
    connection.connection_made(cast(asyncio.Transport, wire))
    start = 0
    for stop in [*cuts, len(data)]:
        if stop > start:
            connection.data_received(data[start:stop])
            start = stop
    connection.connection_lost(None)
    assert listener.bodies == 0
    # Ids and the date differ, and whoever has sent the body already is not told to continue.
    sent = re.sub(rb"[0-9a-f]{16}", b"ID", re.sub(rb"date: [^\r]*", b"", wire.sent))
    sent = sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return sent, [(request.method, request.path, bytes(request.body)) for request in app.requests], wire.ended
