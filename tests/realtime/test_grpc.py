"""gRPC with stock clients: unary and streams, ends of every kind, and HTTP/1.1 on the same port."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bimodal.realtime.calls import Status
from bimodal.realtime.http2 import frames
from bimodal.realtime.http2.frames import PREFACE, Code
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server
from tests.realtime.frames import Said, data, headers, parted
from tests.realtime.services import Services, until
from tests.realtime.wire import PATIENCE, Client, Running, serving

MIB = 2**20


def same(message: bytes) -> bytes:
    """Messages are bytes here."""
    return message


class Stub:
    """A stock client."""

    def __init__(self, target: str, credentials: Any = None, **options: Any) -> None:
        told = [(f"grpc.{name}", value) for name, value in options.items()]
        told += [("grpc.max_receive_message_length", 64 * MIB), ("grpc.max_send_message_length", 64 * MIB)]
        if credentials is None:
            self.channel = grpc.insecure_channel(target, told)
        else:
            self.channel = grpc.secure_channel(target, credentials, told)

    def unary(self, method: str) -> Any:
        return self.channel.unary_unary(f"/test.Test/{method}", same, same)

    def stream(self, method: str) -> Any:
        return self.channel.stream_stream(f"/test.Test/{method}", same, same)

    def status(self, method: str, message: bytes = b"", **options: Any) -> grpc.RpcError:
        """The error that a call ends with."""
        with pytest.raises(grpc.RpcError) as error:
            self.unary(method)(message, **{"timeout": PATIENCE, **options})
        return error.value


@pytest.fixture(scope="module")
def services() -> Services:
    return Services()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest, services: Services) -> Iterator[Running]:
    with serving(Limits(deadline=1.0, body_bytes=6 * MIB), request.param, services) as running:
        yield running


@pytest.fixture(scope="module")
def stub(running: Running) -> Iterator[Stub]:
    made = Stub(f"127.0.0.1:{running.port}")
    yield made
    made.channel.close()


class Wire:
    """HTTP/2 by hand over a socket, which grants no more than the windows of the beginning."""

    def __init__(self, port: int) -> None:
        self.client = Client(port)
        self.client.send(PREFACE, frames.settings({}))

    def call(
        self,
        message: bytes,
        method: str = "Echo",
        *fields: tuple[bytes, bytes],
        number: int = 1,
        kind: bytes = b"application/grpc",
    ) -> None:
        """A whole call."""
        self.head(method, *fields, number=number, kind=kind)
        self.client.send(data(number, message, frames.END_STREAM))

    def head(
        self, method: str = "Echo", *fields: tuple[bytes, bytes], number: int = 1, kind: bytes = b"application/grpc"
    ) -> None:
        start = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/test.Test/" + method.encode()))
        told = (*start, (b":authority", b"test"), (b"content-type", kind), (b"te", b"trailers"), *fields)
        self.client.send(headers(number, told, frames.END_HEADERS))

    def answer(self, number: int = 1) -> list[Said]:
        """The frames of a stream, to its end."""
        seen: list[Said] = []
        while not (seen and (seen[-1].flags & frames.END_STREAM or seen[-1].kind == frames.RST_STREAM)):
            size = self.client._exactly(3)
            rest = self.client._exactly(6 + int.from_bytes(size, "big"))
            said = parted(size + rest)[0]
            if said.stream == number and said.kind != frames.WINDOW_UPDATE:
                seen.append(said)
            assert said.kind != frames.GOAWAY, said
        return seen

    def status(self, number: int = 1) -> Status:
        """Of the trailers: the last field that our side writes as a literal."""
        last = self.answer(number)[-1].payload
        at = last.index(b"grpc-status") + len(b"grpc-status")
        return Status(int(last[at + 1 : at + 1 + last[at]]))


def cleared(*counts: threading.Semaphore) -> None:
    """What other tests left is no longer counted."""
    for each in counts:
        while each.acquire(blocking=False):
            pass


def framed(message: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(message)) + message


class TestUnary:
    def test_an_answer(self, stub: Stub) -> None:
        assert stub.unary("Echo")(b"hello", timeout=PATIENCE) == b"hello"
        assert stub.unary("Echo")(b"", timeout=PATIENCE) == b""

    def test_many_at_once(self, stub: Stub) -> None:
        calls = [stub.unary("Echo").future(b"%d" % number, timeout=PATIENCE) for number in range(500)]
        assert [call.result() for call in calls] == [b"%d" % number for number in range(500)]

    @pytest.mark.parametrize("size", [16_379, 16_380, 65_530, 65_531, 1_000_000, 5 * MIB])
    def test_messages_of_any_size(self, stub: Stub, size: int) -> None:
        message = bytes(range(256)) * (size // 256 + 1)
        assert stub.unary("Echo")(message[:size], timeout=PATIENCE) == message[:size]

    def test_a_message_at_the_limit_and_one_byte_over_it(self, stub: Stub) -> None:
        assert len(stub.unary("Echo")(b"x" * 6 * MIB, timeout=PATIENCE)) == 6 * MIB
        error = stub.status("Echo", b"x" * (6 * MIB + 1))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == f"the message is over {6 * MIB} bytes"

    def test_metadata_goes_both_ways(self, stub: Stub, services: Services) -> None:
        sent = (("x-mine", "1"), ("x-mine", "2"), ("some-bin", b"\0\xff"), ("x-request-id", "abc-1"))
        answer, call = stub.unary("Echo").with_call(b"m", timeout=PATIENCE, metadata=sent)
        assert answer == b"m"
        assert dict(call.initial_metadata()) == {"back-x-mine": "1, 2", "x-request-id": "abc-1"}
        seen = services.calls[-1].metadata
        assert seen[b"some-bin"] == b"\0\xff"
        assert services.calls[-1].path == "/test.Test/Echo"

    def test_errors_carry_status_sentence_and_trailers(self, stub: Stub) -> None:
        sentence = "row 3: 100 % of \u00fcber\nis too much"
        error = stub.status("Fail", sentence.encode(), metadata=(("x-request-id", "r1"),))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == sentence
        told = {**dict(error.trailing_metadata()), **dict(error.initial_metadata())}
        assert told["x-error-code"] == "bad"
        assert told["detail-bin"] == b"\0\1\2"
        assert told["x-request-id"] == "r1"

    def test_an_unknown_method_is_unimplemented(self, stub: Stub) -> None:
        assert stub.status("Nothing").code() is grpc.StatusCode.UNIMPLEMENTED

    def test_an_exception_is_told_to_the_log_alone(self, stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
        error = stub.status("Raise")
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
        name = dict(error.trailing_metadata())["x-request-id"]
        assert f"call {name} failed" in caplog.text
        assert "a secret of the method" in caplog.text

    def test_the_callers_deadline_stops_the_work(self, stub: Stub, services: Services) -> None:
        for timeout in (0.1, 0.3, 0.9):  # where it was over before the call had left, there is nothing to stop
            cleared(services.came, services.cancelled)
            assert stub.status("Never", timeout=timeout).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if services.came.acquire(blocking=False):
                break
        assert services.cancelled.acquire(timeout=PATIENCE)
        assert 0 < services.calls[-1].deadline - services.calls[-1].received < 1.1 * timeout

    def test_the_servers_own_deadline_holds_where_the_caller_names_none(self, stub: Stub, services: Services) -> None:
        cleared(services.cancelled)
        error = stub.status("Never", timeout=None)
        assert (error.code(), error.details()) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "no answer within the deadline of 1 s",
        )
        assert services.cancelled.acquire(timeout=PATIENCE)
        assert services.calls[-1].deadline == float("inf")

    def test_a_cancelled_call_is_stopped(self, stub: Stub, services: Services) -> None:
        cleared(services.came, services.cancelled)
        call = stub.unary("Never").future(b"")
        assert services.came.acquire(timeout=PATIENCE)
        call.cancel()
        assert services.cancelled.acquire(timeout=PATIENCE)
        services.calls[-1].respond(b"too late")
        assert stub.unary("Echo")(b"others go on", timeout=PATIENCE) == b"others go on"

    def test_a_caller_that_is_gone_is_stopped_for(self, running: Running, services: Services) -> None:
        cleared(services.came, services.cancelled)
        gone = Wire(running.port)
        gone.call(framed(b""), "Never")
        assert services.came.acquire(timeout=PATIENCE)
        gone.client.socket.close()
        assert services.cancelled.acquire(timeout=PATIENCE)


class TestStreams:
    def test_both_ways(self, stub: Stub) -> None:
        assert list(stub.stream("Talk")(iter([b"a", b"b" * 100_000, b""]), timeout=PATIENCE)) == [
            b"A",
            b"B" * 100_000,
            b"",
        ]
        assert list(stub.stream("Talk")(iter(()), timeout=PATIENCE)) == []

    def test_answers_come_before_the_caller_has_ended(self, stub: Stub) -> None:
        over = threading.Event()

        def messages() -> Iterator[bytes]:
            yield b"ping"
            over.wait(PATIENCE)

        answers = stub.stream("Talk")(messages(), timeout=PATIENCE)
        assert next(answers) == b"PING"
        assert answers.cancel()
        over.set()

    def test_a_failure_amid_answers(self, stub: Stub) -> None:
        answers = stub.stream("Talk")(iter([b"a", b"fail", b"b"]), timeout=PATIENCE)
        assert next(answers) == b"A"
        with pytest.raises(grpc.RpcError) as error:
            list(answers)
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, "not here")

    def test_an_exception_amid_answers(self, stub: Stub) -> None:
        answers = stub.stream("Talk")(iter([b"a", b"raise"]), timeout=PATIENCE)
        assert next(answers) == b"A"
        with pytest.raises(grpc.RpcError) as error:
            list(answers)
        assert error.value.details() == "internal error"

    def test_a_cancelled_stream_is_stopped(self, stub: Stub, services: Services) -> None:
        cleared(services.aborted)
        answers = stub.stream("Flood")(iter([b""]))
        next(answers)
        answers.cancel()
        assert services.aborted.acquire(timeout=PATIENCE)

    def test_a_slow_reader_holds_up_its_own_answers_alone(self, running: Running, services: Services) -> None:
        """Windows of 64 KiB that are never opened again: no more than those and what waits is made."""
        cleared(services.aborted)
        slow = Wire(running.port)
        services.written = 0
        slow.head("Flood", number=1)
        until(lambda: services.written >= 2)
        time.sleep(0.2)
        assert services.written * 50_000 < 65_535 + 65_536 + 2 * 50_000
        slow.call(framed(b""), "Never", number=3)  # its own window is open, the connection's is not
        other = Stub(f"127.0.0.1:{running.port}", use_local_subchannel_pool=1)
        assert other.unary("Echo")(b"x" * 200_000, timeout=PATIENCE) == b"x" * 200_000
        other.channel.close()
        slow.client.socket.close()
        assert services.aborted.acquire(timeout=PATIENCE)

    def test_the_asyncio_client(self, running: Running) -> None:
        async def asked() -> tuple[bytes, list[bytes], Any]:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
                echo: Any = channel.unary_unary("/test.Test/Echo", same, same)
                talk: Any = channel.stream_stream("/test.Test/Talk", same, same)
                never: Any = channel.unary_unary("/test.Test/Never", same, same)
                call = talk()
                seen = []
                for message in (b"a", b"b"):
                    await call.write(message)
                    seen.append(await call.read())
                await call.done_writing()
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await never(b"", timeout=0.1)
                return await echo(b"m"), seen, error.value.code()

        assert asyncio.run(asked()) == (b"m", [b"A", b"B"], grpc.StatusCode.DEADLINE_EXCEEDED)


class TestCompression:
    @pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
    def test_compressed_messages_are_read_and_answered_alike(self, stub: Stub, kind: Any) -> None:
        for size in (0, 10, 100_000, 5 * MIB):
            assert stub.unary("Echo")(b"y" * size, timeout=PATIENCE, compression=kind) == b"y" * size
        assert list(stub.stream("Talk")(iter([b"a" * 9000, b"b"]), timeout=PATIENCE, compression=kind)) == [
            b"A" * 9000,
            b"B",
        ]

    def test_only_large_answers_are_compressed_and_only_where_the_caller_takes_it(self, running: Running) -> None:
        told = ((b"grpc-encoding", b"gzip"), (b"grpc-accept-encoding", b"identity, gzip"))
        for size, fields, small in ((50_000, told, True), (100, told, False), (50_000, told[:1], False)):
            wire = Wire(running.port)
            wire.call(framed(gzip.compress(b"z" * size), 1), "Echo", *fields)
            answer = b"".join(each.payload for each in wire.answer() if each.kind == frames.DATA)
            assert answer[0] == small
            assert (gzip.decompress(answer[5:]) if small else answer[5:]) == b"z" * size
            wire.client.socket.close()

    def test_a_bomb_is_refused_at_the_limit(self, running: Running) -> None:
        wire = Wire(running.port)
        bomb = gzip.compress(b"\0" * (6 * MIB + 1))
        assert len(bomb) < 8000
        wire.call(framed(bomb, 1), "Echo", (b"grpc-encoding", b"gzip"))
        assert wire.status() is Status.RESOURCE_EXHAUSTED
        wire.call(framed(gzip.compress(b"\0" * 6 * MIB), 1), "Never", (b"grpc-encoding", b"gzip"), number=3)
        wire.call(framed(b"still here"), number=5)
        assert wire.answer(5)[1].payload.endswith(b"still here")
        wire.client.socket.close()

    def test_an_unknown_coding_says_what_is_known(self, running: Running) -> None:
        wire = Wire(running.port)
        wire.call(framed(b"x", 1), "Echo", (b"grpc-encoding", b"snappy"))
        told = wire.answer()[-1].payload
        assert b"grpc-status\x0212" in told
        assert b"grpc-accept-encoding" in told
        assert b"identity,deflate,gzip" in told
        wire.client.socket.close()


BROKEN: dict[str, tuple[bytes, tuple[tuple[bytes, bytes], ...], Status]] = {
    "no message": (b"", (), Status.UNIMPLEMENTED),
    "a prefix that is cut": (b"\0\0\0", (), Status.INTERNAL),
    "a message that is cut": (framed(b"abc")[:-1], (), Status.INTERNAL),
    "two messages": (framed(b"a") * 2, (), Status.UNIMPLEMENTED),
    "a flag that is none": (framed(b"a", 2), (), Status.INTERNAL),
    "compressed, but nobody says how": (framed(b"a", 1), (), Status.INTERNAL),
    "compressed, but it is not": (framed(b"abc", 1), ((b"grpc-encoding", b"gzip"),), Status.INTERNAL),
    "something after what is compressed": (
        framed(gzip.compress(b"a") + b"b", 1),
        ((b"grpc-encoding", b"gzip"),),
        Status.INTERNAL,
    ),
    "a message of 4 GiB is announced": (b"\0\xff\xff\xff\xff", (), Status.RESOURCE_EXHAUSTED),
    "a timeout that is none": (framed(b"a"), ((b"grpc-timeout", b"1h"),), Status.INTERNAL),
    "a timeout of nine digits": (framed(b"a"), ((b"grpc-timeout", b"123456789S"),), Status.INTERNAL),
    "metadata that is no base64": (framed(b"a"), ((b"x-bin", b"!!"),), Status.INTERNAL),
    "too many fields": (framed(b"a"), ((b"x-a", b"1"),) * 100, Status.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_calls_have_a_status_and_harm_nobody(running: Running, case: str) -> None:
    message, fields, expected = BROKEN[case]
    wire = Wire(running.port)
    wire.call(message, "Echo", *fields)
    assert wire.status() is expected
    wire.call(framed(b"next"), number=3)
    assert wire.answer(3)[1].payload == framed(b"next")
    wire.client.socket.close()


def test_a_message_in_pieces(running: Running) -> None:
    wire = Wire(running.port)
    wire.head()
    for byte in framed(b"in pieces"):
        wire.client.send(data(1, bytes((byte,))))
    wire.client.send(data(1, b"", frames.END_STREAM))
    assert wire.answer()[1].payload == framed(b"in pieces")
    wire.client.socket.close()


def test_several_messages_in_one_frame(running: Running) -> None:
    wire = Wire(running.port)
    wire.call(framed(b"a") + framed(b"b"), "Talk")
    assert b"".join(each.payload for each in wire.answer() if each.kind == frames.DATA) == framed(b"A") + framed(b"B")
    wire.client.socket.close()


def test_the_servers_clock_ends_a_call_whose_caller_does_not(running: Running, services: Services) -> None:
    wire = Wire(running.port)
    begun = time.monotonic()
    wire.call(framed(b""), "Never", (b"grpc-timeout", b"100m"))
    told = wire.answer()[-1].payload
    assert b"grpc-status\x014" in told
    assert b"no answer within the deadline of the call" in told  # not the server's own
    assert time.monotonic() - begun >= 0.1
    assert services.cancelled.acquire(timeout=PATIENCE)
    wire.client.socket.close()


def test_another_content_type_is_415(running: Running) -> None:
    for kind in (b"application/grpc-web", b"application/grpc+json", b"application/json"):
        wire = Wire(running.port)
        wire.call(framed(b""), kind=kind)
        assert b"\x03415" in wire.answer()[0].payload
        wire.client.socket.close()


def over_http2(running: Running) -> httpx.Client:
    return httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{running.port}", timeout=PATIENCE)


class TestOnePort:
    def test_http_1_and_2_side_by_side(self, running: Running, stub: Stub) -> None:
        with Client(running.port) as client:
            assert client.post("/echo", b"one").answer().body == b"one"
            assert stub.unary("Echo")(b"two", timeout=PATIENCE) == b"two"
            assert client.post("/echo", b"one").answer().body == b"one"

    @pytest.mark.parametrize("cut", range(1, len(PREFACE), 5))
    def test_a_preface_in_pieces(self, running: Running, cut: int) -> None:
        with Client(running.port) as client:
            client.send(PREFACE[:cut])
            time.sleep(0.01)
            client.send(PREFACE[cut:], frames.settings({}))
            assert parted(client._exactly(9 + 18))[0].kind == frames.SETTINGS

    def test_a_method_that_begins_like_the_preface(self, running: Running) -> None:
        with Client(running.port) as client:
            client.send(b"P")
            time.sleep(0.01)
            assert client.send(b"OST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok").answer().body == b"ok"

    def test_plain_requests_over_http_2_reach_the_app(self, running: Running) -> None:
        with httpx.Client(
            http1=False, http2=True, base_url=f"http://127.0.0.1:{running.port}", timeout=PATIENCE
        ) as client:
            told = client.get("/a%20b?q=1", headers={"x-request-id": "r7"})
            assert (told.http_version, told.status_code) == ("HTTP/2", 200)
            assert (told.json()["path"], told.json()["query"]) == ("/a b", "q=1")
            assert told.headers["x-request-id"] == "r7"
            assert client.post("/echo", content=b"z" * 300_000).content == b"z" * 300_000
            assert client.head("/big").headers["content-length"] == "8000000"
            assert len(client.get("/big").content) == 8_000_000
            assert client.get("/nothing").status_code == 204
            assert client.get("/fail").json()["code"] == "internal"
            assert client.get("/never").status_code == 504
            assert client.get("/a%zz").status_code == 400
            assert client.post("/deaf", content=b"z").status_code == 403
            assert len(client.post("/flood", content=b"").content) == 20_000_000

    def test_a_body_over_the_limit_over_http_2(self, running: Running, tmp_path: Path) -> None:
        """The answer comes amid the body; httpx would wait on for room to send."""
        body = tmp_path / "body"
        body.write_bytes(b"z" * (6 * MIB + 1))
        command = ["curl", "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{running.port}/echo"]
        command += ["--data-binary", f"@{body}", "--max-time", "60"]
        for told in ([], ["-H", "content-length:"]):
            done = subprocess.run([*command, *told], capture_output=True, check=True)
            assert json.loads(done.stdout)["code"] == "too_large"

    def test_bodies_in_pieces_over_http_2(self, running: Running) -> None:
        with httpx.Client(
            http1=False, http2=True, base_url=f"http://127.0.0.1:{running.port}", timeout=PATIENCE
        ) as client:
            told = client.post("/talk", content=iter([b"a", b"b", b"c"]))
            assert (told.status_code, told.text) == (200, "ABC")
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/talk", content=iter([b"a", b"boom"]))
            assert client.get("/nothing").status_code == 204  # the stream was reset, the connection goes on


def test_http_2_by_alpn_and_http_1_beside_it(services: Services, tmp_path: Path) -> None:
    certificate, context = _certified(tmp_path)
    with serving(methods=services, tls=context) as running:
        target = f"localhost:{running.port}"
        stub = Stub(target, grpc.ssl_channel_credentials(certificate))
        assert stub.unary("Echo")(b"x" * 1_000_000, timeout=PATIENCE) == b"x" * 1_000_000
        stub.channel.close()
        trust = ssl.create_default_context(cadata=certificate.decode())
        for two in (True, False):
            with httpx.Client(http2=two, verify=trust, trust_env=False, timeout=PATIENCE) as client:
                told = client.post(f"https://{target}/echo", content=b"hello")
                assert (told.content, told.http_version) == (b"hello", "HTTP/2" if two else "HTTP/1.1")


def _certified(folder: Path) -> tuple[bytes, ssl.SSLContext]:
    """A certificate of its own for localhost, and a server's context that offers h2 and HTTP/1.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "both.pem"
    path.write_bytes(secret + certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return certificate, context


class TestEnds:
    def test_a_drain_finishes_what_is_in_flight(self) -> None:
        services = Services()
        with serving(methods=services) as running:
            stub = Stub(f"127.0.0.1:{running.port}")
            call = stub.unary("Later").future(b"0.3", timeout=PATIENCE)
            assert services.came.acquire(timeout=PATIENCE)
            running.do(running.listener.drain(PATIENCE))
            assert call.result() == b"later"
            assert not running.listener.connections
            stub.channel.close()

    def test_a_drain_ends_what_does_not_finish(self) -> None:
        services = Services()
        with serving(methods=services) as running:
            stub = Stub(f"127.0.0.1:{running.port}")
            call = stub.unary("Never").future(b"")
            assert services.came.acquire(timeout=PATIENCE)
            running.do(running.listener.drain(0.3))
            assert call.exception().code() is grpc.StatusCode.UNAVAILABLE
            assert services.cancelled.acquire(timeout=PATIENCE)
            stub.channel.close()

    def test_connections_that_do_nothing_are_closed(self) -> None:
        with serving(Limits(header_timeout=0.7, idle_timeout=0.8), methods=Services()) as running:
            silent, idle, dead = Client(running.port), Wire(running.port), Wire(running.port)
            silent.send(PREFACE)
            dead.call(framed(b""), "Never")
            assert frames.GOAWAY in [each.kind for each in parted(_until_closed(idle.client))]
            assert parted(_until_closed(silent))[0].kind == frames.SETTINGS
            said = parted(_until_closed(dead.client))  # asked whether it is there, it says nothing
            assert said[-1].kind == frames.PING
            for each in (silent, idle.client, dead.client):
                each.socket.close()

    def test_one_connection_too_many_is_told_so(self) -> None:
        with serving(Limits(connections=1), methods=Services()) as running:
            held, over = Wire(running.port), Wire(running.port)
            assert b"503" in over.client.everything()[:20]  # in HTTP/1.1: what it speaks is not known yet
            for each in (held, over):
                each.client.socket.close()

    def test_a_caller_that_answers_pings_may_wait(self) -> None:
        services = Services()
        with serving(Limits(header_timeout=2.0, idle_timeout=0.3), methods=services) as running:
            stub = Stub(f"127.0.0.1:{running.port}")
            assert stub.unary("Later")(b"3.0", timeout=PATIENCE) == b"later"
            stub.channel.close()

    def test_a_reader_that_grants_no_window_loses_its_stream_alone(self) -> None:
        with serving(Limits(idle_timeout=1.0), methods=Services()) as running:
            wire = Wire(running.port)
            wire.call(framed(b"200000"), "Big")
            for number in range(3, 30, 2):
                time.sleep(0.1)
                wire.client.send(frames.frame(frames.PING, 0, 0, b"%8d" % number))
            assert wire.answer()[-1].code is Code.CANCEL
            wire.client.socket.close()


def _until_closed(client: Client) -> bytes:
    """All that comes."""
    return client.everything()


def test_a_second_port_answers_as_the_first_does() -> None:
    """There are no methods in this app: a call is unimplemented, wherever it comes in."""
    with Server({"app": "tests.realtime.wire:app"}, grpc_port=0, workers=2) as server:
        assert server.grpc_port != server.port
        for port in (server.port, server.grpc_port):
            stub = Stub(f"127.0.0.1:{port}")
            assert stub.status("Echo").code() is grpc.StatusCode.UNIMPLEMENTED
            stub.channel.close()
            with Client(port) as client:
                assert client.get("/nothing").answer().status == 204
        assert server.grpc == f"127.0.0.1:{server.grpc_port}"
    with Server({"app": "tests.realtime.wire:app"}) as server:
        assert server.grpc == f"127.0.0.1:{server.port}"
