"""The HTTP wire, over real sockets: what is answered, in which order, what is refused, what a leaving caller stops."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from bimodal.realtime.chunks import Chunks
from bimodal.realtime.exchange import Response
from bimodal.realtime.head import parse
from bimodal.realtime.http import Connection
from bimodal.realtime.limits import Limits
from bimodal.realtime.refusal import Refusal
from tests.realtime.wire import HOST, LOOPS, PATIENCE, Client, Running, serving


@pytest.fixture(params=LOOPS)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with serving(loop=request.param) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


class TestAnswers:
    def test_a_request_is_answered_with_length_type_and_date(self, client: Client) -> None:
        answer = client.get("/some/where?a=1&b=%20").answer()
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["date"].endswith("GMT")
        assert "connection" not in answer.headers
        assert answer.headers["x-route"] == "some/where"
        assert answer.json["query"] == "a=1&b=%20"
        assert answer.json["headers"] == {"host": "localhost"}

    def test_a_connection_serves_many_requests(self, client: Client) -> None:
        for number in range(50):
            body = b"x" * number
            assert client.post("/echo", body).answer().body == body

    def test_a_head_in_single_bytes_is_the_same_request(self, client: Client) -> None:
        for byte in b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc":
            client.send(bytes([byte]))
        assert client.answer().body == b"abc"
        assert client.post("/echo", b"next").answer().body == b"next"

    def test_a_body_in_pieces_is_one_body(self, client: Client) -> None:
        body = bytes(range(256)) * 4000
        client.send(b"POST /echo HTTP/1.1\r\n", HOST, b"content-length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 100_000):
            client.send(body[at : at + 100_000])
            time.sleep(0.001)
        assert client.answer().body == body

    def test_a_request_is_alone_where_nothing_else_can_come_in_its_turn(self, server: Running, client: Client) -> None:
        def alone() -> list[bool]:
            told = [each.alone for each in server.app.requests]
            server.app.requests.clear()
            return told

        client.post("/echo", b"x").answer()
        client.send(b"POST /echo HTTP/1.1\r\n", HOST, b"content-length: 4\r\n\r\nin")
        time.sleep(0.02)
        client.send(b" 2")
        client.answer()
        assert alone() == [True, True]
        client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 1\r\n\r\nx" % HOST * 3)
        for _ in range(3):
            client.answer()
        assert alone()[0] is False  # more had come with it
        with server.connect() as other:
            other.post("/echo", b"x").answer()
            client.post("/echo", b"x").answer()
            assert alone() == [False, False]
        wait_for(lambda: len(server.listener.connections) == 1)
        client.post("/echo", b"x").answer()
        assert alone() == [True]

    def test_pipelined_answers_come_in_the_order_of_the_requests(self, client: Client) -> None:
        slow_first = [0.08, 0.0, 0.04, 0.0, 0.02]
        lines = [f"GET /later{delay}?{number} HTTP/1.1\r\n".encode() for number, delay in enumerate(slow_first)]
        client.send(*(line + HOST + b"\r\n" for line in lines))
        client.post("/echo", b"at once").post("/echo", b"the last")
        bodies = [client.answer().body for _ in range(7)]
        assert bodies == [b"0", b"1", b"2", b"3", b"4", b"at once", b"the last"]

    def test_more_pipelined_requests_than_are_taken_at_once_are_all_answered(self, server: Running) -> None:
        most = server.listener.limits.pipeline
        with server.connect() as client:
            count = 5 * most
            client.send(*(b"GET /later?%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(count)))
            assert [int(client.answer().body) for _ in range(count)] == list(range(count))
            client.send(b"GET /never HTTP/1.1\r\n%b\r\n" % HOST * count)
            wait_for(lambda: len(server.app.responds) == most)
            time.sleep(0.05)
            assert len(server.app.responds) == most

    def test_hundreds_of_pipelined_requests_answered_at_once(self, client: Client) -> None:
        client.send(b"".join(b"POST /echo HTTP/1.1\r\n%bcontent-length: 3\r\n\r\n%03d" % (HOST, n) for n in range(500)))
        assert [int(client.answer().body) for _ in range(500)] == list(range(500))

    def test_chunked_bodies_are_put_together(self, client: Client) -> None:
        assert client.chunked("/echo", b"a", b"bc" * 1000, b"d").answer().body == b"a" + b"bc" * 1000 + b"d"
        assert client.chunked("/echo").answer().body == b""

    def test_a_chunked_body_in_single_bytes_with_extensions_and_trailers(self, client: Client) -> None:
        head = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: Chunked\r\n\r\n"
        for byte in head + b'3;a="b c"\r\nabc\r\n00A ; x\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n':
            client.send(bytes([byte]))
        assert client.answer().body == b"abc0123456789"
        assert client.get("/echo").answer().status == 200

    def test_a_request_may_follow_a_chunked_body_in_the_same_packet(self, client: Client) -> None:
        head = b"POST /echo HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST
        client.send(
            head, b"1\r\na\r\n0\r\n\r\n", head, b"1\r\nb\r\n0\r\n\r\n", b"GET /nothing HTTP/1.1\r\n", HOST, b"\r\n"
        )
        assert [client.answer().body, client.answer().body, client.answer().status] == [b"a", b"b", 204]

    def test_expect_continue_is_told_to_go_on(self, client: Client) -> None:
        head = b"POST /echo HTTP/1.1\r\n%bcontent-length: 3\r\nexpect: 100-continue\r\n\r\n" % HOST
        client.send(head)
        assert client.answer().status == 100
        assert client.send(b"abc").answer().body == b"abc"
        client.send(head, b"abc")  # it did not wait: nothing to tell
        assert client.answer().body == b"abc"

    def test_expect_continue_waits_for_the_answers_before_it(self, client: Client) -> None:
        client.get("/later0.05?first")
        client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 3\r\nexpect: 100-continue\r\n\r\n" % HOST)
        assert client.answer().body == b"first"
        assert client.answer().status == 100
        assert client.send(b"abc").answer().body == b"abc"

    def test_a_body_over_the_limit_is_refused_instead_of_continued(self, client: Client) -> None:
        client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 99999999\r\nexpect: 100-continue\r\n\r\n" % HOST)
        assert client.answer().status == 413

    def test_head_has_the_length_but_no_body(self, client: Client) -> None:
        client.send(b"HEAD /x HTTP/1.1\r\n", HOST, b"\r\n")
        assert int(client.answer(bare=True).headers["content-length"]) > 2
        assert client.get("/echo").answer().status == 200

    def test_204_has_neither_body_nor_length_nor_type(self, client: Client) -> None:
        answer = client.get("/nothing").answer()
        assert answer.status == 204
        assert set(answer.headers) == {"date"}
        assert client.get("/echo").answer().status == 200

    def test_connection_close_is_kept(self, client: Client) -> None:
        answer = client.get("/x", b"Connection: close\r\n").get("/ignored").answer()
        assert answer.headers["connection"] == "close"
        assert client.is_closed()

    def test_http_1_0_closes_unless_asked_to_keep_alive(self, server: Running) -> None:
        with server.connect() as client:
            answer = client.send(b"GET /x HTTP/1.0\r\n\r\n").answer()
            assert answer.headers["connection"] == "close"
            assert client.is_closed()
        with server.connect() as client:
            answer = client.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer()
            assert answer.headers["connection"] == "keep-alive"
            assert client.get("/echo").answer().status == 200

    def test_an_upgrade_offer_is_answered_in_http_1_1(self, client: Client) -> None:
        client.get("/x", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n")
        assert client.answer().status == 200
        client.post("/echo", b"abc", b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        assert client.answer().body == b"abc"
        assert client.get("/echo").answer().status == 200

    def test_the_callers_request_id_comes_back_if_it_is_sane(self, client: Client) -> None:
        assert client.get("/x", b"X-Request-ID: abc-123\r\n").answer().headers["x-request-id"] == "abc-123"
        assert "x-request-id" not in client.get("/x", b"X-Request-ID: a b\r\n").answer().headers

    def test_an_empty_line_before_a_request_is_forgiven(self, client: Client) -> None:
        client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 3\r\n\r\nabc\r\n" % HOST).get("/echo")
        assert [client.answer().status, client.answer().status] == [200, 200]

    def test_a_caller_that_sends_close_after_its_request_gets_an_answer_that_was_ready(self, client: Client) -> None:
        client.get("/x")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().status == 200
        assert client.is_closed()

    def test_a_large_answer_reaches_a_slow_reader(self, client: Client) -> None:
        client.get("/big").get("/echo")
        time.sleep(0.1)
        assert len(client.answer().body) == 8_000_000
        assert client.answer().status == 200


class TestTargets:
    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/a?", "/a", ""),
            ("/a?b?c=%41", "/a", "b?c=%41"),
            ("/a%20b/%C3%A9", "/a b/é", ""),
            ("/a//b/../c", "/a//b/../c", ""),
            ("http://other:80/a?b", "/a", "b"),
            ("HTTP://other", "/", ""),
            ("http://other?b", "/", "b"),
        ],
    )
    def test_path_and_query(self, target: str, path: str, query: str) -> None:
        head = parse(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode(), 100)
        assert (head.path, head.query) == (path, query)

    def test_a_target_of_options_may_be_a_star(self) -> None:
        assert parse(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 100).path == "*"

    def test_equal_names_are_joined_in_their_order(self) -> None:
        head = parse(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nCookie: a=1\r\nx:  2 \t\r\ncookie: b=2\r\n\r\n", 100)
        assert dict(head.headers) == {b"host": b"a", b"x": b"1, 2", b"cookie": b"a=1; b=2"}


REFUSED = {
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare CR in a value": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
    "bare CR in the request line": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    "folded field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "space before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    "null in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
    "control character in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
    "odd character in a name": (b"GET / HTTP/1.1\r\nHost: a\r\nX\xff: b\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two hosts in 1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with a user": (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "version 0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 505),
    "version 1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "version 2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "version in small letters": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET / a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab for a space": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "relative target": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "other scheme": (b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "byte over 127 in the target": (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "broken escape": (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "half an escape": (b"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "path not UTF-8": (b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "null in the path": (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "method in small letters": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "connect": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no HTTP at all": (b"\x00\x01\x02", 400),
    "unknown expectation": (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
    "two empty lines first": (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
}
P = b"POST / HTTP/1.1\r\nHost: a\r\n"
FRAMING = {
    "both framings": (P + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "both framings, turned": (P + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (P + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400),
    "two equal lengths": (P + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "list of lengths": (P + b"Content-Length: 5, 5\r\n\r\nabcde", 400),
    "length with a sign": (P + b"Content-Length: +5\r\n\r\nabcde", 400),
    "negative length": (P + b"Content-Length: -5\r\n\r\n", 400),
    "hexadecimal length": (P + b"Content-Length: 0x5\r\n\r\nabcde", 400),
    "length with a space": (P + b"Content-Length: 5 0\r\n\r\nabcde", 400),
    "empty length": (P + b"Content-Length: \r\n\r\n", 400),
    "length without end": (P + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "length with an underscore": (P + b"Content-Length: 1_0\r\n\r\n", 400),
    "unknown coding": (P + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "coding before chunked": (P + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked before a coding": (P + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "chunked twice": (P + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "two codings": (P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "nearly chunked": (P + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    "vertical tab before chunked": (P + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "quoted chunked": (P + b'Transfer-Encoding: "chunked"\r\n\r\n', 400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
}
C = P + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = {
    "size with a sign": C + b"+3\r\nabc\r\n0\r\n\r\n",
    "size with 0x": C + b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative size": C + b"-3\r\nabc\r\n0\r\n\r\n",
    "space before the size": C + b" 3\r\nabc\r\n0\r\n\r\n",
    "space after the size": C + b"3 \r\nabc\r\n0\r\n\r\n",
    "no size": C + b"\r\nabc\r\n0\r\n\r\n",
    "no number": C + b"g\r\nabc\r\n0\r\n\r\n",
    "size over 64 bits": C + b"11111111111111111\r\nabc\r\n",
    "LF after the size": C + b"3\nabc\r\n0\r\n\r\n",
    "CR alone after the size": C + b"3\rabc\r\n0\r\n\r\n",
    "LF in an extension": C + b"3;a\n\r\nabc\r\n0\r\n\r\n",
    "null in an extension": C + b"3;\0\r\nabc\r\n0\r\n\r\n",
    "LF after the content": C + b"3\r\nabc\n0\r\n\r\n",
    "content longer than its size": C + b"3\r\nabcd\r\n0\r\n\r\n",
    "content shorter than its size": C + b"3\r\nab\r\n0\r\n\r\n",
    "LF after the last chunk": C + b"0\n\n",
    "LF at the very end": C + b"0\r\n\n",
    "trailer without a colon": C + b"0\r\nabc\r\n\r\n",
    "folded trailer": C + b"0\r\nA: b\r\n c\r\n\r\n",
    "endless size line": C + b"3;" + b"a" * 5000,
}
ALL_REFUSED = REFUSED | FRAMING | {name: (raw, 400) for name, raw in CHUNKS.items()}


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with serving() as running:
        yield running


class TestRefusals:
    @pytest.mark.parametrize(("raw", "status"), ALL_REFUSED.values(), ids=ALL_REFUSED.keys())
    def test_malformed_requests_are_refused_and_the_connection_closed(
        self, shared: Running, raw: bytes, status: int
    ) -> None:
        with shared.connect() as client:
            answer = client.send(raw, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").answer()
            assert answer.status == status
            assert answer.headers["connection"] == "close"
            assert set(answer.json) == {"error", "code", "request_id"}
            assert answer.headers["x-request-id"] == answer.json["request_id"]
            assert client.is_closed()
        assert not shared.app.requests

    @pytest.mark.parametrize(("raw", "status"), ALL_REFUSED.values(), ids=ALL_REFUSED.keys())
    def test_they_are_refused_alike_in_single_bytes(self, shared: Running, raw: bytes, status: int) -> None:
        with shared.connect() as client:
            for byte in raw:  # the server reads on after its refusal, so that all of it can be sent
                client.send(bytes([byte]))
            assert client.answer().status == status
        assert not shared.app.requests

    def test_a_refusal_waits_for_the_answers_before_it(self, shared: Running) -> None:
        with shared.connect() as client:
            client.get("/later0.05?first").send(b"nonsense\r\n\r\n")
            assert client.answer().body == b"first"
            assert client.answer().status == 400
            assert client.is_closed()
        shared.app.requests.clear()

    def test_a_refusal_has_the_id_of_its_caller(self, shared: Running) -> None:
        with shared.connect() as client:
            answer = client.send(b"GET / HTTP/1.1\r\nX-Request-Id: mine-2\r\n\r\n").answer()
            assert (answer.status, answer.json["request_id"], answer.headers["x-request-id"]) == (400, *["mine-2"] * 2)

    def test_a_refusal_repeats_nothing_of_the_request(self, shared: Running) -> None:
        with shared.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: secret\0\r\n\r\n")
            assert b"secret" not in client.everything()


class TestFaults:
    def test_an_exception_of_the_app_is_a_fixed_sentence_and_all_of_it_in_the_log(
        self, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = client.get("/fail", b"X-Request-Id: mine-1\r\n").answer()
        assert answer.status == 500
        assert answer.json == {"error": "internal error", "code": "internal", "request_id": "mine-1"}
        assert "mine-1" in caplog.text
        assert "a secret of the app" in caplog.text

    def test_an_exception_before_a_stream_begins(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        answer = client.post("/broken-stream", b"abc").answer()
        assert (answer.status, answer.json["code"]) == (500, "internal")
        assert answer.json["request_id"] in caplog.text
        assert client.is_closed()

    @pytest.mark.parametrize("path", ["/broken-stream", "/deaf"])
    def test_who_is_answered_before_the_body_is_read_is_told_that_nothing_can_follow(
        self, client: Client, path: str
    ) -> None:
        assert client.post(path, b"abc").answer().headers["connection"] == "close"

    def test_an_exception_in_a_stream_that_began_cuts_it_off(
        self, client: Client, server: Running, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
        client.send(b"2\r\nab\r\n")
        wait_for(lambda: server.app.fed == 1)
        client.send(b"4\r\nboom\r\n")
        with pytest.raises((EOFError, ConnectionError)):
            client.answer()
        wait_for(lambda: "a secret of the intake" in caplog.text and server.app.aborted == 1)

    def test_an_app_cannot_split_a_response(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        answer = client.get("/split").answer()
        assert answer.status == 500
        assert "x-b" not in answer.headers
        assert "holds a line end" in caplog.text

    def test_a_second_answer_is_dropped(
        self, client: Client, server: Running, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.get("/never")
        wait_for(lambda: bool(server.app.responds))
        respond = server.app.responds[0]
        for body in (b"first", b"second"):
            server.loop.call_soon_threadsafe(respond, Response(200, body))
        assert client.answer().body == b"first"
        assert client.get("/nothing").answer().status == 204
        assert "answered twice" in caplog.text


class TestLeaving:
    @pytest.mark.parametrize("how", ["closes", "resets", "stops sending"])
    def test_a_caller_that_leaves_has_its_request_cancelled(self, server: Running, how: str) -> None:
        with server.connect() as client:
            client.get("/never").get("/never")
            wait_for(lambda: len(server.app.responds) == 2)
            if how == "resets":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "stops sending":
                client.socket.shutdown(socket.SHUT_WR)
            else:
                client.socket.close()
            wait_for(lambda: server.app.cancelled == 2)
        wait_for(lambda: not server.listener.connections)
        server.loop.call_soon_threadsafe(server.app.responds[0], Response(200, b"late"))
        with server.connect() as client:
            assert client.get("/nothing").answer().status == 204

    def test_a_caller_that_leaves_in_the_middle_of_a_body_leaves_nothing(self, server: Running) -> None:
        with server.connect() as client:
            client.send(b"POST /echo HTTP/1.1\r\n%bcontent-length: 1000\r\n\r\nabc" % HOST)
            wait_for(lambda: server.listener.bodies == 3)
        wait_for(lambda: server.listener.bodies == 0 and not server.listener.connections)
        assert not server.app.requests

    def test_a_caller_that_leaves_aborts_its_stream(self, server: Running) -> None:
        with server.connect() as client:
            client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n1\r\na\r\n" % HOST)
            wait_for(lambda: server.app.fed == 1)
        wait_for(lambda: server.app.aborted == 1)


class TestStreams:
    def test_each_piece_is_answered_as_it_comes(self, client: Client) -> None:
        client.send(b"POST /talk HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n" % HOST)
        client.send(b"3\r\nabc\r\n")
        assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
        assert client._exactly(8) == b"3\r\nABC\r\n"
        client.send(b"2\r\nde\r\n")
        assert client._exactly(7) == b"2\r\nDE\r\n"
        client.send(b"0\r\n\r\n")
        assert client._exactly(5) == b"0\r\n\r\n"
        assert client.get("/nothing").answer().status == 204

    def test_a_stream_with_a_length_or_without_a_body(self, client: Client) -> None:
        assert client.post("/talk", b"abc").answer().body == b"ABC"
        assert client.get("/talk").answer().body == b""
        client.send(b"HEAD /talk HTTP/1.1\r\n", HOST, b"\r\n")
        assert client.answer(bare=True).status == 200
        assert client.get("/nothing").answer().status == 204

    def test_a_stream_waits_for_the_answers_before_it(self, client: Client) -> None:
        client.get("/later0.05?first").post("/talk", b"abc").get("/nothing")
        assert [client.answer().body, client.answer().body, client.answer().status] == [b"first", b"ABC", 204]

    def test_http_1_0_gets_a_stream_to_the_end_of_the_connection(self, client: Client) -> None:
        client.send(b"POST /talk HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc")
        answer = client.answer()
        assert answer.body == b"ABC"
        assert answer.headers["connection"] == "close"
        assert "transfer-encoding" not in answer.headers

    def test_an_answer_before_the_end_of_the_body_is_the_last_one(self, client: Client) -> None:
        client.send(b"POST /deaf HTTP/1.1\r\n%bcontent-length: 10000000\r\n\r\n" % HOST)
        assert client.answer().status == 403
        client.send(b"x" * 1_000_000)
        assert client.is_closed()

    def test_an_answer_that_begins_within_the_body_keeps_the_connection(self, client: Client, server: Running) -> None:
        client.send(b"POST /talk/late HTTP/1.1\r\n%btransfer-encoding: chunked\r\n\r\n1\r\na\r\n" % HOST)
        wait_for(lambda: server.app.fed == 1)
        answer = client.send(b"1\r\nb\r\n0\r\n\r\n").answer()
        assert answer.body == b"AB"
        assert "connection" not in answer.headers
        assert client.get("/nothing").answer().status == 204

    def test_a_failing_intake_leaves_no_bytes_on_the_account(self, client: Client, server: Running) -> None:
        client.chunked("/talk/late", b"boom", b"more", b"and more")
        assert client.answer().status == 500
        wait_for(lambda: server.listener.bodies == 0)

    def test_a_writer_waits_for_a_slow_reader(self, client: Client, server: Running) -> None:
        client.get("/flood")
        wait_for(lambda: bool(server.listener.connections))
        time.sleep(0.3)
        (connection,) = server.listener.connections
        assert isinstance(connection, Connection)
        assert connection._transport.get_write_buffer_size() < 1_000_000
        assert len(client.answer().body) == 400 * 50_000


class TestDrain:
    def test_what_is_in_flight_is_answered_and_the_idle_closed(self, server: Running) -> None:
        with server.connect() as busy, server.connect() as idle, server.connect() as queued:
            busy.get("/never").get("/later?next")
            idle.get("/nothing").answer()
            wait_for(lambda: len(server.app.requests) == 3)
            drain = asyncio.run_coroutine_threadsafe(server.listener.drain(10 * PATIENCE), server.loop)
            wait_for(lambda: server.listener.draining)
            server.loop.call_soon_threadsafe(server.app.responds[0], Response(200, b"busy"))
            drain.result(PATIENCE)  # long before the grace is over
            first, second = busy.answer(), busy.answer()
            assert (first.body, second.body) == (b"busy", b"next")
            assert "connection" not in first.headers
            assert second.headers["connection"] == "close"
            assert busy.is_closed()
            assert idle.is_closed()
            assert queued.is_closed()

    def test_a_connection_in_use_is_closed_after_its_next_answer(self, server: Running) -> None:
        with server.connect() as client:
            client.get("/nothing").answer()
            server.listener.draining = True
            assert client.get("/nothing").answer().headers["connection"] == "close"
            assert client.is_closed()

    def test_what_takes_longer_than_the_grace_is_cut_off(self, server: Running) -> None:
        with server.connect() as client:
            client.get("/never")
            wait_for(lambda: bool(server.app.responds))
            server.do(server.listener.drain(0.1))
            wait_for(lambda: server.app.cancelled == 1)
            with pytest.raises((EOFError, ConnectionError)):
                client.answer()


class TestHeads:
    def test_remembered_heads_are_bounded_and_frozen(self) -> None:
        with serving() as server, server.connect() as client:
            for number in range(1100):
                client.get(f"/{number}").answer()
            assert len(server.listener.heads) <= 1024
            with pytest.raises(TypeError):
                server.app.requests[0].headers[b"x"] = b"y"  # type: ignore[index]

    def test_refused_heads_are_not_remembered(self) -> None:
        with serving() as server:
            for _ in range(2):
                with server.connect() as client:
                    assert client.send(b"GET / HTTP/1.1\r\n\r\n").answer().status == 400
            assert not server.listener.heads


class TestChunks:
    def test_any_cut_gives_the_same_content(self) -> None:
        whole = b"3\r\nabc\r\n1;x\r\nd\r\n0\r\nT: u\r\n\r\nrest"
        for cut in range(len(whole) - 4):
            chunks, content = Chunks(1000), bytearray()
            assert chunks.feed(whole[:cut], content.extend) is None
            assert chunks.feed(whole[cut:], content.extend) == b"rest"
            assert content == b"abcd"
            assert chunks.overhead == len(whole) - len(b"abcd") - len(b"rest")

    def test_what_is_not_content_is_bounded_at_the_byte(self) -> None:
        flood = b"1\r\nx\r\n" * 10
        assert Chunks(50).feed(flood, bytearray().extend) is None
        with pytest.raises(Refusal) as refused:
            Chunks(49).feed(flood, bytearray().extend)
        assert refused.value.status == 413


def test_refusals_of_a_full_server_say_when_to_come_again() -> None:
    with serving(Limits(connections=1)) as server, server.connect() as first:
        first.get("/nothing").answer()
        with server.connect() as second:
            answer = second.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert json.loads(answer.body)["code"] == "overloaded"
        assert first.get("/nothing").answer().status == 204


logging.getLogger("asyncio").setLevel(logging.ERROR)
