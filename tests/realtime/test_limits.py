"""Every limit of the wire: kept exactly, and refused one over; slow callers cut off in time."""

from __future__ import annotations

import socket
import time
from dataclasses import fields, replace
from typing import Any

import pytest

from bimodal.errors import UsageError
from bimodal.realtime import http
from bimodal.realtime.exchange import Response
from bimodal.realtime.http import Connection
from bimodal.realtime.limits import Limits
from tests.realtime.test_http import wait_for
from tests.realtime.wire import HOST, PATIENCE, Running, serving

SOON = Limits(header_timeout=0.3, body_timeout=0.3, idle_timeout=0.6, deadline=0.4)


def padded(size: int) -> bytes:
    """A head of exactly so many bytes."""
    head = b"GET / HTTP/1.1\r\n" + HOST + b"x: %b\r\n\r\n"
    return head % (b"a" * (size - len(head) + 2))


def crowded(count: int) -> bytes:
    """A head with exactly so many fields."""
    return b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"x-%d: 1\r\n" % n for n in range(count - 1)) + b"\r\n"


class TestSizes:
    @pytest.mark.parametrize("cut", [100_000, 1000])
    def test_header_bytes(self, cut: int) -> None:
        with serving(Limits(header_bytes=4096)) as server:
            for size, status in ((4096, 200), (4097, 431)):
                with server.connect() as client:
                    raw = padded(size)
                    assert len(raw) == size
                    for at in range(0, size, cut):
                        client.send(raw[at : at + cut])
                        time.sleep(0.002)
                    answer = client.answer()
                    assert answer.status == status
                    if status == 431:
                        assert answer.json["code"] == "headers_too_large"
                        assert client.is_closed()

    def test_a_head_that_never_ends_is_refused_as_soon_as_it_is_too_long(self) -> None:
        with serving(Limits(header_bytes=4096)) as server, server.connect() as client:
            client.send(b"GET /" + b"a" * 5000)
            assert client.answer().status == 431

    def test_header_fields(self) -> None:
        with serving() as server, server.connect() as client:
            assert client.send(crowded(100)).answer().status == 200
            answer = client.send(crowded(101)).answer()
            assert (answer.status, answer.json["code"]) == (431, "headers_too_large")

    def test_body_bytes_by_length_are_refused_before_they_are_read(self) -> None:
        with serving(Limits(body_bytes=1000)) as server, server.connect() as client:
            assert len(client.post("/echo", b"x" * 1000).answer().body) == 1000
            client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 1001\r\n\r\n" % HOST)
            answer = client.answer()
            assert (answer.status, answer.json["code"]) == (413, "too_large")
            assert answer.headers["connection"] == "close"
            assert client.is_closed()

    def test_the_default_body_limit_is_exact_and_its_answer_is_read_by_a_caller_that_sends_on(self) -> None:
        most = Limits().body_bytes
        with serving() as server:
            with server.connect() as client:
                assert len(client.post("/echo", b"x" * most).answer().body) == most
            with server.connect() as client:
                client.post("/echo", b"x" * (most + 1))  # all of it is sent before the answer is read
                assert client.answer().status == 413

    @pytest.mark.parametrize("piece", [1, 7, 1000])
    def test_body_bytes_are_counted_where_no_length_is_told(self, piece: int) -> None:
        with serving(Limits(body_bytes=1000)) as server:
            for size, status in ((1000, 200), (1001, 413)):
                body = b"x" * size
                with server.connect() as client:
                    client.chunked("/echo", *(body[at : at + piece] for at in range(0, size, piece)))
                    assert client.answer().status == status

    def test_a_stream_is_as_long_as_it_is_since_its_taker_holds_a_piece_at_a_time(self) -> None:
        with serving(Limits(body_bytes=1000, chunk_bytes=100)) as server, server.connect() as client:
            assert len(client.chunked("/talk", *[b"x" * 600] * 100).answer().body) == 60_000
            client.send(b"POST /talk HTTP/1.1\r\n%bcontent-length: 2000\r\n\r\n" % HOST, b"x" * 2000)
            assert len(client.answer().body) == 2000

    def test_tiny_chunks_are_bounded(self) -> None:
        with serving(Limits(chunk_bytes=10_000)) as server, server.connect() as client:
            assert client.chunked("/echo", *[b"x"] * 1900).answer().status == 200
            answer = client.chunked("/echo", *[b"x"] * 2100).answer()
            assert (answer.status, answer.json["code"]) == (413, "too_large")

    def test_a_million_tiny_chunks_are_refused_early(self) -> None:
        with serving() as server, server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            client.send(b"1\r\nx\r\n" * 1_000_000)
            assert client.answer().status == 413
            wait_for(lambda: server.listener.bodies == 0)

    def test_what_comes_after_a_refusal_is_not_read_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "DISCARDED", 2**20)
        with serving() as server, server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            client.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.socket.sendall(b"1\r\nx\r\n" * 15_000_000)
            client.socket.settimeout(PATIENCE)
            assert client.answer().status == 413

    def test_unfinished_bodies_are_bounded_together(self) -> None:
        with serving(Limits(bodies_bytes=1000)) as server:
            with server.connect() as first, server.connect() as second:
                first.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 2000\r\n\r\n" % HOST, b"x" * 900)
                wait_for(lambda: server.listener.bodies == 900)
                second.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 200\r\n\r\n" % HOST, b"x" * 101)
                answer = second.answer()
                assert (answer.status, answer.json["code"]) == (503, "overloaded")
                assert answer.headers["retry-after"] == "1"
            wait_for(lambda: server.listener.bodies == 0)

    def test_connections(self) -> None:
        with serving(Limits(connections=2)) as server:
            with server.connect() as first, server.connect() as second:
                assert first.get("/nothing").answer().status == 204
                assert second.get("/nothing").answer().status == 204
                with server.connect() as third:
                    answer = third.answer()
                    assert answer.status == 503
                    assert answer.json["error"].startswith("2 connections are open, the most that a worker takes")
                    assert third.is_closed()
            wait_for(lambda: not server.listener.connections)
            with server.connect() as fourth:
                assert fourth.get("/nothing").answer().status == 204


class TestTimes:
    def test_a_slow_head_is_refused(self) -> None:
        with serving(SOON) as server, server.connect() as client:
            assert self.drip(client.socket, b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 3000)
            answer = client.answer()
            assert (answer.status, answer.json["code"]) == (408, "request_timeout")
            assert client.is_closed()

    def test_a_slow_body_is_refused(self) -> None:
        with serving(SOON) as server, server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 3000\r\n\r\n" % HOST)
            assert self.drip(client.socket, b"x" * 3000)
            assert client.answer().status == 408
            assert client.is_closed()
            wait_for(lambda: server.listener.bodies == 0)

    def test_a_slow_chunked_body_is_refused(self) -> None:
        with serving(SOON) as server, server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            assert self.drip(client.socket, b"1\r\nx\r\n" * 600)
            assert client.answer().status == 408

    def test_a_stream_may_last_as_long_as_pieces_come(self) -> None:
        with serving(replace(SOON, body_timeout=1.5)) as server, server.connect() as client:
            client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            for _ in range(18):
                client.send(b"1\r\nx\r\n")
                time.sleep(0.1)
            client.send(b"0\r\n\r\n")
            assert client.answer().body == b"X" * 18

    def test_a_stream_without_pieces_is_told_and_ends(self) -> None:
        with serving(SOON) as server, server.connect() as client:
            client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
            assert client.answer().body == b"request_timeout"
            assert client.is_closed()

    @pytest.mark.parametrize("before", [0, 1])
    def test_an_idle_connection_is_closed_without_a_word(self, before: int) -> None:
        with serving(SOON) as server:
            begun = time.monotonic()
            with server.connect() as client:
                for _ in range(before):
                    client.get("/nothing").answer()
                assert client.is_closed()
            assert time.monotonic() - begun > 0.5

    def test_requests_keep_a_connection_open(self) -> None:
        with serving(replace(SOON, idle_timeout=1.5)) as server, server.connect() as client:
            for _ in range(18):
                time.sleep(0.1)
                assert client.get("/nothing").answer().status == 204

    def test_an_app_that_does_not_answer_is_answered_for(self, caplog: pytest.LogCaptureFixture) -> None:
        with serving(SOON) as server, server.connect() as client:
            answer = client.get("/never", b"x-request-id: mine\r\n").get("/nothing").answer()
            assert (answer.status, answer.json["code"]) == (504, "deadline_exceeded")
            assert answer.json["request_id"] == "mine"
            wait_for(lambda: server.app.cancelled == 1)
            assert client.answer().status == 204
            server.loop.call_soon_threadsafe(server.app.responds[0], Response(200, b"too late"))
            assert client.get("/echo").answer().body == b""
            assert not caplog.records

    def test_the_deadline_holds_behind_a_stream(self) -> None:
        with serving(Limits(deadline=0.4)) as server, server.connect() as client:
            # in one packet: while a flood blocks the connection, it is not read
            client.send(b"GET /flood HTTP/1.1\r\n%b\r\nGET /never HTTP/1.1\r\n%b\r\n" % (HOST, HOST))
            wait_for(lambda: server.app.cancelled == 1)
            assert len(client.answer().body) == 400 * 50_000
            assert client.answer().status == 504

    def test_waiting_for_an_answer_is_not_idleness(self) -> None:
        with serving(Limits(idle_timeout=0.2)) as server, server.connect() as client:
            assert client.get("/later0.8?x").answer().body == b"x"

    def test_a_caller_that_never_reads_is_cut_off(self) -> None:
        with serving(SOON) as server, server.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.get("/big").get("/big")
            wait_for(lambda: len(server.app.requests) > 0)
            wait_for(lambda: not server.listener.connections)

    def test_slow_callers_do_not_hold_up_others(self) -> None:
        with serving(replace(SOON, idle_timeout=1.5)) as server:
            slow = [server.connect() for _ in range(200)]
            for number, client in enumerate(slow):
                client.send(
                    (b"GET / HT", b"POST /echo HTTP/1.1\r\n%bcontent-length: 9\r\n\r\nx" % HOST, b"")[number % 3]
                )
            with server.connect() as quick:
                for _ in range(50):
                    assert quick.get("/nothing").answer().status == 204
            for client in slow:
                client.everything()
                client.socket.close()
            wait_for(lambda: not server.listener.connections)

    @staticmethod
    def drip(to: socket.socket, data: bytes) -> bool:
        """Send a byte every 20 ms until the server has an answer: whether it has one before it has all."""
        to.settimeout(0.02)
        for byte in data:
            to.send(bytes([byte]))
            try:
                to.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                continue
            to.settimeout(PATIENCE)
            return True
        return False


class TestBackPressure:
    def test_a_caller_that_does_not_read_is_not_read(self) -> None:
        with serving() as server, server.connect() as client:
            client.socket.settimeout(0.3)
            many = b"GET /big HTTP/1.1\r\n%b\r\n" % HOST * 500_000
            with pytest.raises(TimeoutError):
                client.send(many)
            wait_for(lambda: bool(server.listener.connections))
            (connection,) = server.listener.connections
            assert isinstance(connection, Connection)
            wait_for(lambda: not connection._transport.is_reading())
            assert len(server.app.requests) < 10

    def test_an_app_may_stop_the_body_and_let_it_go_on(self) -> None:
        with serving() as server, server.connect() as client:
            client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n1\r\na\r\n" % HOST)
            wait_for(lambda: server.app.fed == 1)
            exchange = one_exchange(server)
            server.do(paused(exchange))
            client.send(b"1\r\nb\r\n0\r\n\r\n")
            time.sleep(0.1)
            assert server.app.fed == 1
            server.loop.call_soon_threadsafe(exchange.resume)
            assert client.answer().body == b"AB"

    def test_a_body_left_paused_does_not_stop_the_connection(self) -> None:
        with serving() as server, server.connect() as client:
            client.send(b"POST /talk HTTP/1.1\r\n%bcontent-length: 2\r\n\r\na" % HOST)
            wait_for(lambda: server.app.fed == 1)
            exchange = one_exchange(server)
            server.loop.call_soon_threadsafe(exchange.pause)
            server.loop.call_soon_threadsafe(exchange.end)
            assert client.answer().body == b"A"
            assert client.is_closed()


async def paused(exchange: Any) -> None:
    exchange.pause()


def one_exchange(server: Running):  # type: ignore[no-untyped-def]  # what a wire's writer is, is its own business
    (connection,) = server.listener.connections
    assert isinstance(connection, Connection)
    return connection.queue[0]


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_no_limit_may_be_nothing(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: 0})
