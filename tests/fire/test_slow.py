"""Promise 12: callers that are slow on purpose are cut in time, and cost the others nothing.

The whole form is python -m tests.fire.slow (2 minutes; it prints the figures); under pytest -m soak it is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bimodal.realtime.exchange import Request, Response, Writer
from bimodal.realtime.limits import Limits
from tests.fire import slow
from tests.fire.slow import KINDS, LEAVES, is_answered
from tests.realtime.test_http import wait_for
from tests.realtime.wire import HOST, Running, TryOut, serving

SOON = Limits(header_timeout=0.4, body_timeout=0.6, idle_timeout=0.8, deadline=5.0)
MANY = b"GET /big HTTP/1.1\r\n%b\r\n" % HOST * 400  # whose answers are of 8 MB each
WITHIN = 30.0  # seconds beyond a limit, on a machine that others use


@pytest.fixture(scope="module")
def crowd() -> Iterator[tuple[slow.Figures, list[float]]]:
    """All kinds at once, and the seconds of a good caller beside them."""
    limits = {"header": SOON.header_timeout, "body": SOON.body_timeout, "idle": SOON.idle_timeout}
    with serving(SOON) as server:
        seen: list[float] = []
        over = threading.Event()
        caller = threading.Thread(target=keep_asking, args=(server, seen, over))
        caller.start()
        kinds = [each if each.reads else replace(each, first=MANY) for each in KINDS]
        figures = asyncio.run(slow.crowd(server.port, lambda: [os.getpid()], kinds, 120, limits))
        over.set()
        caller.join()
        deadline = time.monotonic() + LEAVES + WITHIN
        while server.listener.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server.listener.connections, "connections are left"
        assert server.listener.bodies == 0
        yield figures, seen


def keep_asking(server: Running, seen: list[float], over: threading.Event) -> None:
    while not over.is_set():
        with server.connect() as client:
            begun = time.monotonic()
            assert client.get("/nothing").answer().status == 204
            seen.append(time.monotonic() - begun)
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [each.name for each in KINDS])
def test_each_kind_is_cut_in_time(crowd: tuple[slow.Figures, list[float]], kind: str) -> None:
    figures, _ = crowd
    assert len(figures.cuts[kind]) == 120 / len(KINDS)  # none of them is missing
    assert kind not in figures.late(WITHIN)


def test_a_good_caller_beside_them_is_answered(crowd: tuple[slow.Figures, list[float]]) -> None:
    _, seen = crowd
    assert len(seen) > 3
    assert max(seen) < WITHIN


class Late(TryOut):
    """Takes bodies in pieces, and answers when they are whole."""

    def stream(self, request: Request, writer: Writer) -> Late.Taker:
        return Late.Taker(writer)

    class Taker:
        def __init__(self, writer: Writer) -> None:
            self.writer = writer

        def feed(self, piece: bytes) -> None: ...

        def finish(self) -> None:
            self.writer.start(Response(200, b"", b"text/plain"))
            self.writer.end()

        def cut(self, code: str, sentence: str) -> None: ...

        def abort(self) -> None: ...


@pytest.mark.parametrize(("size", "status"), [(1, 408), (400, 200)])
def test_a_body_in_pieces_must_come_at_its_rate(size: int, status: int) -> None:
    """Pieces come all the time: of one byte, 20 bytes a second; of 400, 8,000, with 1,000 to be kept."""
    limits = Limits(body_timeout=1.0, body_rate=1000)
    pieces = 40 if status == 200 else 1000  # who is too slow is told so on the way
    with serving(limits) as server:
        server.listener.app = Late()
        with server.connect() as client:
            client.send(b"POST /up HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            client.socket.settimeout(0.05)
            answered = b""
            for _ in range(pieces):
                client.send(b"%x\r\n%b\r\n" % (size, b"x" * size))
                try:
                    answered = client.socket.recv(65536)
                    break
                except TimeoutError:
                    continue
            client.socket.settimeout(60)
            if not answered:
                answered = client.send(b"0\r\n\r\n").socket.recv(65536)
            assert int(answered[9:12]) == status


def test_a_caller_that_does_not_read_makes_the_server_hold_little() -> None:
    """Many requests in one packet, each with a large answer: they are answered as the caller reads."""
    with serving() as server, server.connect() as client:
        client.send(MANY)
        wait_for(lambda: len(server.app.requests) > 0, 60)
        time.sleep(0.3)
        assert len(server.app.requests) < 10


def test_a_body_over_http2_is_not_kept_alive_by_its_drip() -> None:
    """Frames of one byte come all the time, of a body that is collected."""
    kind = next(each for each in KINDS if each.name == "h2 data")
    with serving(Limits(body_timeout=0.5)) as server, server.connect() as client:
        client.send(kind.first)
        client.socket.settimeout(0.05)
        told = b""
        for _ in range(1000):
            client.send(kind.drip)
            with contextlib.suppress(TimeoutError):
                told += client.socket.recv(65536)
            if is_answered(told, kind):
                break
        assert is_answered(told, kind)
        assert server.app.requests == []
        wait_for(lambda: server.listener.bodies == 0, 60)


@pytest.mark.soak
def test_two_thousand_slow_callers() -> None:
    figures = slow.run(2000, {"idle": 60.0, "header": 10.0, "body": 30.0})
    print(figures.told())
    assert figures.late(1.0) == {}
    assert figures.rss <= 64 * 2**20
    assert figures.alone is not None
    assert figures.beside is not None
    assert figures.beside.p(99, 200) <= 2 * figures.alone.p(99, 200)
    assert set(figures.beside.statuses) == {200}
