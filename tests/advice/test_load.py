"""The load, against a server whose delay is known: what it counts and times is what the server did."""

from __future__ import annotations

import os
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bimodal.advice.load import SHARES, press, processor

DELAY = 0.02


class Desk(socketserver.StreamRequestHandler):
    """Answers every request after DELAY, in two pieces; every fourth is refused where the path says so."""

    def handle(self) -> None:
        told: Any = self.server
        mine = 0
        while head := self._head():
            told.seen, mine = told.seen + 1, mine + 1
            time.sleep(DELAY)
            if b"/close" in head:
                return
            status = b"429 Busy" if b"/busy" in head and mine % 4 == 0 else b"200 OK"
            self.wfile.write(b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nfir")
            time.sleep(0.001)
            self.wfile.write(b"st\n")

    def _head(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line)
            if line.lower().startswith(b"content-length"):
                length = int(line.split(b":")[1])
        if lines and lines[0].startswith(b"POST"):
            assert self.rfile.read(length) in (b'{"a":1}', b'{"a":22}')
        return b"".join(lines)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    seen = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A load that ends leaves its last requests unanswered."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Desk) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def order(server: Server, path: str = "/", **told: Any) -> dict[str, Any]:
    usual = {"method": "POST", "bodies": ['{"a":1}', '{"a":22}'], "connections": 4, "seconds": 0.4, "watched": []}
    return {"address": list(server.server_address), "path": path, **usual, **told}


def test_what_is_counted_and_timed_is_what_the_server_did(server: Server) -> None:
    told = press(order(server))
    assert told["refused"] == told["broken"] == 0
    assert 0 < told["answered"] <= server.seen
    assert server.seen - told["answered"] <= 4 * (0.4 * 0.15 / DELAY + 3)  # those of the warming up, and the last ones
    times = dict(zip(SHARES, told["quantiles"], strict=True))
    assert DELAY <= times[0.01] <= times[0.5] <= times[0.99]
    assert told["answered"] / told["seconds"] <= 4 / DELAY


def test_refusals_are_no_answers(server: Server) -> None:
    told = press(order(server, "/busy", seconds=2.0))
    assert told["refused"] > 0
    assert told["answered"] > told["refused"]


def test_a_server_that_closes_its_connections_is_an_error(server: Server) -> None:
    with pytest.raises(ConnectionError):
        press(order(server, "/close", method="GET", bodies=[]))


def test_processor_seconds_are_those_of_the_process() -> None:
    before, own = processor([os.getpid()]), time.process_time()
    while time.process_time() < own + 0.2:
        pass
    assert 0.1 <= processor([os.getpid()]) - before <= 1.0
