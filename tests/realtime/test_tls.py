"""HTTPS and gRPC over TLS, with certificates of callers too; judged by OpenSSL, http.client and grpcio."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

import bimodal
from bimodal import AsyncClient
from bimodal import Client as BimodalClient
from bimodal.errors import ServerUnreachable, UsageError
from bimodal.realtime import processes
from bimodal.realtime.heap import PAUSE
from bimodal.realtime.limits import MIB, Limits
from bimodal.realtime.server import Server
from bimodal.realtime.serving import prepare
from bimodal.realtime.tls import Certificate, Files, Renewal
from tests.realtime.certificates import Authority, Pair
from tests.realtime.watched import Watched, watched
from tests.realtime.wire import LOOPS, PATIENCE, Client, serving

TRY_OUT = {"app": "tests.realtime.wire:app"}
MODEL = """
class Model:
    def predict(self, rows: list[list[float]]) -> list[float]:
        return [sum(row) for row in rows]
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """Of a server on this machine."""
    return authority.issue("server", ["localhost", "127.0.0.1"])


@pytest.fixture(scope="module")
def files(pair: Pair) -> Files:
    return Files(str(pair.cert), str(pair.key))


@pytest.fixture(scope="module")
def mutual(authority: Authority, pair: Pair) -> Iterator[Server]:
    """A server of one model, which asks its callers for certificates."""
    path = authority.folder / "sums.py"
    path.write_text(MODEL)
    with bimodal.serve(
        f"{path}:Model", port=0, tls_cert=pair.cert, tls_key=str(pair.key), tls_client_ca=authority.path
    ) as server:
        yield server


@pytest.fixture(scope="module")
def caller(authority: Authority) -> tuple[str, str]:
    """The certificate of a caller, and its key."""
    pair = authority.issue("caller", use="client")
    return str(pair.cert), str(pair.key)


# -- what is spoken ----------------------------------------------------------------------------------------------------


class TestContext:
    def test_no_cipher_but_sound_ones_is_agreed_on(self, files: Files) -> None:
        """Every cipher that OpenSSL has, each offered alone, at its lowest level of security."""
        server, agreed = files.context(), set()
        every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        offered = [each["name"] for each in every.get_ciphers() if each["protocol"] != "TLSv1.3"]
        assert len(offered) > 60
        for cipher in offered:
            client = _client(files)
            client.maximum_version = ssl.TLSVersion.TLSv1_2
            client.set_ciphers(f"{cipher}:@SECLEVEL=0")
            if _agree(server, client):
                agreed.add(cipher)
        assert agreed
        for cipher in agreed:
            assert re.fullmatch(r"ECDHE-ECDSA-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", cipher), cipher

    def test_newer_tls_is_preferred(self, files: Files) -> None:
        assert _agree(files.context(), _client(files)) == "TLSv1.3"

    def test_neither_compression_nor_renegotiation(self, files: Files) -> None:
        options = files.context().options
        assert options & ssl.OP_NO_COMPRESSION
        assert options & ssl.OP_NO_RENEGOTIATION


def _client(files: Files) -> ssl.SSLContext:
    return Certificate(files).caller()


def _agree(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """The version that the two agree on."""
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = client.wrap_bio(here, there), server.wrap_bio(there, here, server_side=True)
    for each in (ours, theirs, ours, theirs, ours):
        try:
            each.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return None
    return ours.version()


@pytest.fixture(scope="module")
def server(files: Files) -> Iterator[Server]:
    with Server({**TRY_OUT, "tls": files.spec()}) as server:
        yield server


class TestServed:
    def test_its_address_is_one_that_the_certificate_is_for(self, server: Server, authority: Authority) -> None:
        assert server.url == f"https://127.0.0.1:{server.port}"
        context = ssl.create_default_context(cafile=authority.path)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=PATIENCE)
        connection.request("POST", "/echo", b"x" * 300_000)
        assert connection.getresponse().read() == b"x" * 300_000
        connection.request("GET", "/nothing")  # on the same connection
        assert connection.getresponse().status == 204
        connection.close()

    def test_curl_as_it_is_told(self, server: Server) -> None:
        done = subprocess.run(
            f"{server.curl} -sS {server.url}/echo -d hello", shell=True, capture_output=True, text=True, check=True
        )
        assert done.stdout == "hello"

    @pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
    def test_old_versions_are_refused(self, server: Server, version: str) -> None:
        assert "Cipher is (NONE)" in _openssl(server, version, "-cipher", "ALL:@SECLEVEL=0")

    def test_renegotiation_is_refused(self, server: Server) -> None:
        told = _openssl(server, "-tls1_2", given="R\n")
        assert "Cipher is ECDHE" in told
        assert "no renegotiation" in told.lower()

    def test_the_answer_to_a_body_that_is_not_read_is_found(self, server: Server, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=authority.path)
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            secured.sendall(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 99999999\r\n\r\n")
            secured.sendall(bytes(2 * MIB))
            answer = secured.recv(1000)
        assert answer.startswith(b"HTTP/1.1 413")


def _openssl(server: Server, *options: str, given: str = "") -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *options]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("loop", LOOPS)
class TestBeforeTheHandshake:
    def test_who_speaks_http_is_told(self, files: Files, loop: str) -> None:
        with serving(loop=loop, tls=files.context()) as running, running.connect() as client:
            answer = client.get("/nothing").answer()
            assert (answer.status, answer.json["code"]) == (400, "malformed")
            assert "https://" in answer.json["error"]
            assert client.is_closed()

    def test_who_comes_to_no_end_is_cut(self, files: Files, loop: str) -> None:
        """Nothing at all; the beginning of a hello; a hello, and no more."""
        client = _client(files)
        here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            client.wrap_bio(here, there).do_handshake()
        hello = there.read()
        with serving(Limits(header_timeout=0.3), loop, tls=files.context()) as running:
            clients = [Client(running.port) for _ in range(3)]
            for each, said in zip(clients, (b"", hello[:7], hello), strict=True):
                each.send(said)
            for each in clients:
                with each:
                    each.everything()  # or the test times out
            _until(lambda: not running.listener.connections)

    def test_what_is_no_tls_is_cut(self, files: Files, loop: str) -> None:
        with serving(loop=loop, tls=files.context()) as running, running.connect() as client:
            client.send(b"\x16\x03\x01\x00\x05hello")
            client.everything()
            _until(lambda: not running.listener.connections)

    def test_handshakes_count_among_the_connections(self, files: Files, loop: str) -> None:
        limits = Limits(connections=2)
        with serving(limits, loop, tls=files.context()) as running, Client(running.port), Client(running.port):
            _until(lambda: len(running.listener.connections) == 2)
            with Client(running.port) as third, pytest.raises((ConnectionError, EOFError)):
                third.get("/nothing").answer()

    def test_a_drain_does_not_wait_for_what_has_not_begun(self, files: Files, loop: str) -> None:
        with serving(loop=loop, tls=files.context()) as running, Client(running.port) as client:
            _until(lambda: bool(running.listener.connections))
            running.do(running.listener.drain(60))
            assert client.is_closed()

    def test_a_request_in_the_same_flight_is_answered(self, files: Files, loop: str) -> None:
        """Many times, so that the request comes before the end of the handshake is told."""
        client = _client(files)
        with serving(loop=loop, tls=files.context()) as running:
            for _ in range(30):
                plain = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
                with client.wrap_socket(plain) as secured:
                    secured.sendall(b"GET /nothing HTTP/1.1\r\nhost: test\r\n\r\n")
                    assert secured.recv(100).startswith(b"HTTP/1.1 204")


@pytest.fixture(scope="module")
def seen(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    log = tmp_path_factory.mktemp("seen") / "log"
    with watched(log, Limits(connections=3), tls=files.context()) as server:
        yield server


class TestCounted:
    """What becomes of a connection to a TLS port is counted, and what is answered stands in the access log."""

    def test_http_in_clear_text(self, seen: Watched) -> None:
        reply = seen.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        (line,) = seen.lines(1)
        assert (line["request_id"], line["status"], line["error"]) == (reply.name, 400, "malformed")
        assert line["peer"] == "127.0.0.1"
        assert line["bytes_out"] == len(reply.body)
        assert _refused(seen, "malformed") == 1
        assert seen.metrics.total(seen.metrics.layout.others[400]) == 1

    @pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
    def test_each_protocol(self, seen: Watched, files: Files, protocol: str) -> None:
        client, before = _client(files), _connections(seen)
        client.set_alpn_protocols([protocol])
        _until(lambda: not seen.listener.connections)
        with client.wrap_socket(socket.create_connection(("127.0.0.1", seen.port), timeout=PATIENCE)):
            _until(lambda: _connections(seen) == before + 1)
            assert len(seen.listener.connections) == 1  # as bimodal_connections_open tells

    def test_one_over_the_limit(self, seen: Watched) -> None:
        _until(lambda: not seen.listener.connections)
        with Client(seen.port), Client(seen.port), Client(seen.port):
            _until(lambda: len(seen.listener.connections) == 3)
            with Client(seen.port) as fourth, pytest.raises((ConnectionError, EOFError)):
                fourth.answer()
        _until(lambda: _refused(seen, "overloaded") == 1)


def _refused(seen: Watched, reason: str) -> float:
    return seen.metrics.total(seen.metrics.layout.wire[reason])


def _connections(seen: Watched) -> float:
    return seen.metrics.total(seen.metrics.layout.counts["bimodal_connections_total",])


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.soak
def test_rounds_of_many_connections_at_once_leave_no_memory_behind(files: Files) -> None:
    client = _client(files)
    with Server({**TRY_OUT, "tls": files.spec()}) as server:
        sizes = []
        for _ in range(5):
            with ExitStack() as held:
                for _ in range(900):
                    plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
                    secured = held.enter_context(client.wrap_socket(plain))
                    secured.sendall(b"GET /pid HTTP/1.1\r\nhost: test\r\n\r\n")
                    told = secured.recv(1000)
            time.sleep(PAUSE + 1)
            usage = processes.usage(json.loads(told.partition(b"\r\n\r\n")[2])["pid"])
            assert usage is not None
            sizes.append(usage.memory / MIB)
        print([round(size) for size in sizes])
        assert max(sizes) < sizes[0] + 8


# -- callers with certificates -----------------------------------------------------------------------------------------


def plainly(url: str, **options: Any) -> Any:
    with BimodalClient(url, retries=0, **options) as client:
        return client.predict([[1.0, 2.0]])


def in_a_loop(url: str, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, retries=0, **options) as client:
            return await client.predict([[1.0, 2.0]])

    return asyncio.run(run())


@pytest.mark.parametrize("ask", [plainly, in_a_loop])
@pytest.mark.parametrize("scheme", ["https", "grpcs"])
class TestMutual:
    def test_who_shows_a_certificate_is_answered(
        self, mutual: Server, authority: Authority, caller: tuple[str, str], ask: Callable[..., Any], scheme: str
    ) -> None:
        told = ask(f"{scheme}://localhost:{mutual.port}", verify=str(authority.path), cert=caller)
        assert told == [{"prediction": 3.0}]

    def test_who_shows_none_is_told_so(
        self, mutual: Server, authority: Authority, ask: Callable[..., Any], scheme: str
    ) -> None:
        url = f"{scheme}://localhost:{mutual.port}"
        with pytest.raises(ServerUnreachable, match=r"asks for a certificate of the caller"):
            ask(url, verify=str(authority.path))

    def test_one_of_another_authority_is_refused(
        self, mutual: Server, authority: Authority, ask: Callable[..., Any], scheme: str, tmp_path: Path
    ) -> None:
        stranger = Authority(tmp_path, "stranger").issue("caller", use="client")
        with pytest.raises(ServerUnreachable, match=r"asks for a certificate of the caller|does not know who signed"):
            ask(f"{scheme}://localhost:{mutual.port}", verify=str(authority.path), cert=tuple(map(str, stranger)))

    def test_files_that_are_wrong_are_named(
        self, mutual: Server, caller: tuple[str, str], ask: Callable[..., Any], scheme: str, pair: Pair
    ) -> None:
        url = f"{scheme}://localhost:{mutual.port}"
        with pytest.raises(UsageError, match=r"cert: /nowhere and .* cannot be read: No such file"):
            ask(url, cert=("/nowhere", caller[1]))
        with pytest.raises(UsageError, match="two pairs"):
            ask(url, cert=(caller[0], str(pair.key)))
        with pytest.raises(UsageError, match="the paths"):
            ask(url, cert=("a", "b", "c"))


def test_certificates_open_the_world_to_it(authority: Authority, files: Files) -> None:
    told = replace(files, client_ca=str(authority.path))
    with Server({**TRY_OUT, "tls": told.spec()}, host="0.0.0.0") as server:
        assert server.mutual
        assert server.url == f"https://127.0.0.1:{server.port}"
    with pytest.raises(UsageError, match="tls-client-ca"):
        Server({**TRY_OUT, "tls": files.spec()}, host="0.0.0.0")


def test_callers_are_not_taken_up_again(authority: Authority, files: Files) -> None:
    """No tickets: each connection shows its certificate anew."""
    told = replace(files, client_ca=str(authority.path)).context()
    assert told.num_tickets == 0
    assert told.options & ssl.OP_NO_TICKET


# -- renewal -----------------------------------------------------------------------------------------------------------


class TestRenewal:
    @pytest.fixture
    def mine(self, authority: Authority, pair: Pair, tmp_path: Path) -> Pair:
        """A copy of the pair, which a test may change."""
        copy = Pair(tmp_path / "mine.pem", tmp_path / "mine.key")
        copy.replace(pair)
        return copy

    def test_a_file_of_the_same_size_and_time_is_another(self, mine: Pair) -> None:
        files, times = Files(str(mine.cert), str(mine.key)), mine.cert.stat()
        before = files.stamp()
        time.sleep(0.02)  # what the system's clock of files tells apart
        mine.cert.write_bytes(mine.cert.read_bytes())
        os.utime(mine.cert, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert files.stamp() != before

    def test_by_signal(self, authority: Authority, mine: Pair) -> None:
        other = authority.issue("renewed", ["localhost"])
        with Server({**TRY_OUT, "tls": Files(str(mine.cert), str(mine.key)).spec()}) as server:
            held = _connected(server, authority)
            assert _serial(held) == mine.serial
            mine.replace(other)
            server.refresh()
            _until(lambda: _seen(server, authority) == other.serial)
            mine.key.write_text("no key")
            server.refresh()
            mine.cert.unlink()
            server.refresh()
            time.sleep(0.1)
            assert _seen(server, authority) == other.serial
            held.sendall(b"GET /nothing HTTP/1.1\r\nhost: test\r\n\r\n")  # it lives on
            assert held.recv(100).startswith(b"HTTP/1.1 204")
            held.close()

    def test_a_change_is_noticed_when_it_is_whole(
        self, authority: Authority, mine: Pair, caplog: pytest.LogCaptureFixture
    ) -> None:
        used: list[ssl.SSLContext] = []
        renewal = Renewal(Files(str(mine.cert), str(mine.key)), used.append, tells=True)
        renewal.look()
        assert len(used) == 1
        other = authority.issue("noticed", ["localhost"])
        mine.cert.write_bytes(other.cert.read_bytes())
        renewal.look()  # amid the change
        mine.key.write_bytes(other.key.read_bytes())
        renewal.look()
        assert len(used) == 1
        with caplog.at_level(logging.INFO):
            renewal.look()
            renewal.look()
        assert len(used) == 2
        assert caplog.messages == [f"the certificate of {mine.cert} is used from now on"]

    def test_a_broken_pair_changes_nothing(
        self, mine: Pair, authority: Authority, caplog: pytest.LogCaptureFixture
    ) -> None:
        used: list[ssl.SSLContext] = []
        renewal = Renewal(Files(str(mine.cert), str(mine.key)), used.append, tells=True)
        mine.key.write_bytes(authority.issue("unfit", ["localhost"]).key.read_bytes())
        for _ in range(4):
            renewal.look()
        assert len(used) == 1
        (told,) = caplog.messages  # once
        assert re.match(r"the certificate stays as it was: tls_key .* does not fit tls_cert", told)


def _connected(server: Server, authority: Authority) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=authority.path)
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    return context.wrap_socket(plain, server_hostname="localhost")


def _serial(secured: ssl.SSLSocket) -> int:
    return x509.load_der_x509_certificate(secured.getpeercert(True) or b"").serial_number


def _seen(server: Server, authority: Authority) -> int:
    with _connected(server, authority) as secured:
        return _serial(secured)


# -- what is wrong is told at the start --------------------------------------------------------------------------------


def test_the_certificate_is_judged_at_the_start(
    authority: Authority, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    der = tmp_path / "der.pem"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(Path(files.cert).read_text()))
    other = authority.issue("other", ["localhost"])
    long = authority.issue("long", ["localhost"], key=rsa.generate_private_key(65_537, 2048))
    sealed = authority.issue("sealed", password=b"word", key=rsa.generate_private_key(65_537, 2048))
    monkeypatch.setenv("WORD", "word")
    nameless = authority.issue("nameless")
    callers = authority.issue("callers", ["localhost"], use="client")
    secret = authority.issue("secret", ["localhost"], password=b"open sesame")
    for told, expected in (
        (Files("/nowhere.pem"), r"tls_cert /nowhere\.pem: there is no such file"),
        (replace(files, key="/nowhere.key"), r"tls_key /nowhere\.key: there is no such file"),
        (Files(str(tmp_path)), r"tls_cert .* cannot be read: Is a directory"),
        (Files(str(der), files.key), r"tls_cert .*der\.pem: there is no certificate in PEM form.*openssl x509"),
        (Files(files.cert), r"no private key in PEM form.*--tls-key FILE"),
        (replace(files, key=str(other.key)), r"tls_key .*other\.key does not fit tls_cert .*server\.pem"),
        (replace(files, key=str(long.key)), r"tls_key .*long\.key does not fit tls_cert .*server\.pem"),
        (Files(str(long.cert), files.key), r"tls_key .*server\.key does not fit tls_cert .*long\.pem"),
        (Files(files.cert, str(sealed.key), password="env:WORD"), r"tls_key .*sealed\.key does not fit tls_cert"),
        (Files(str(nameless.cert), str(nameless.key)), r"names no host \(subjectAltName\)"),
        (Files(str(callers.cert), str(callers.key)), r"is not for a server"),
        (Files(str(secret.cert), str(secret.key)), r"is encrypted; .*--tls-password env:NAME.*openssl pkey"),
        (Files(str(secret.cert), str(secret.key), password="open sesame"), r"reference, never the password itself"),
        (Files(str(secret.cert), str(secret.key), password="env:NOT_THERE"), r"variable NOT_THERE is not set"),
        (Files(str(secret.cert), str(secret.key), password=f"file:{der}"), r"cannot be decrypted; is tls_password"),
        (replace(files, client_ca="/nowhere.pem"), r"tls_client_ca /nowhere\.pem: there is no such file"),
        (replace(files, client_ca=files.key), r"tls_client_ca .*server\.key: no certificate in PEM form"),
    ):
        with pytest.raises(UsageError, match=expected) as raised:
            Certificate(told)
        assert "sesame" not in raised.value.message


def test_the_password_of_a_key(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = authority.issue("locked", ["localhost"], password=b"open sesame")
    monkeypatch.setenv("KEY_PASSWORD", "open sesame")
    (tmp_path / "password").write_text("open sesame\n")
    for reference in ("env:KEY_PASSWORD", f"file:{tmp_path / 'password'}"):
        Files(str(secret.cert), str(secret.key), password=reference).context()


def test_a_key_that_others_may_read_is_warned_of_and_one_that_they_may_write_to_refused(authority: Authority) -> None:
    pair = authority.issue("shown", ["localhost"])
    files = Files(str(pair.cert), str(pair.key))
    assert Certificate(files).warnings("localhost") == []
    pair.key.chmod(0o640)  # of a group that is there for it, as many systems have one
    assert Certificate(files).warnings("localhost") == []
    pair.key.chmod(0o644)
    (told,) = Certificate(files).warnings("localhost")
    assert told.endswith(f"which holds the private key: chmod 600 {pair.key}")
    pair.key.chmod(0o666)
    with pytest.raises(UsageError, match=r"others may write to tls_key .* chmod 600"):
        Certificate(files)


def test_what_callers_will_not_like_is_a_warning(authority: Authority) -> None:
    def warnings(host: str, names: list[str], days: float = 90) -> list[str]:
        pair = authority.issue("warned", names, days=days)
        return Certificate(Files(str(pair.cert), str(pair.key))).warnings(host)

    assert warnings("127.0.0.1", ["127.0.0.1"]) == []
    assert warnings("127.0.0.1", ["localhost"]) == []  # it is called by that name
    assert warnings("0.0.0.0", ["shop.example"]) == []
    (told,) = warnings("shop.example", ["*.shop.example", "other.example"])
    assert "is for *.shop.example, other.example, not for shop.example" in told
    (told,) = warnings("localhost", ["localhost"], days=-1)
    assert re.search("expired .* GMT: callers refuse it", told)
    (told,) = warnings("localhost", ["localhost"], days=3)
    assert re.search("expires .* GMT; renew it", told)


def test_names_are_judged_by_openssl(authority: Authority) -> None:
    pair = authority.issue("named", ["localhost", "*.shop.example", "10.1.2.3"])
    certificate = Certificate(Files(str(pair.cert), str(pair.key)))
    assert certificate.names == ["localhost", "*.shop.example", "10.1.2.3"]
    for host in ("localhost", "a.shop.example", "10.1.2.3"):
        assert certificate.covers(host)
    for host in ("shop.example", "a.b.shop.example", "10.1.2.4", "127.0.0.1"):
        assert not certificate.covers(host)
    assert certificate.host("127.0.0.1") == "localhost"
    assert certificate.host("10.1.2.4") == "10.1.2.4"
    assert not certificate.is_known()


def test_settings_need_a_certificate() -> None:
    assert Files.told({}) is None
    assert Files.told({"tls_cert": "", "tls_key": "a.pem"}) is None
    assert Files.told({"tls_cert": "a.pem"}) == Files(f"{os.getcwd()}/a.pem")
    for name in ("tls_key", "tls_client_ca", "tls_password"):
        with pytest.raises(UsageError, match=f"{name} is given without a certificate: add --tls-cert FILE"):
            Files.told({name: "a.pem"})


def test_files_of_a_configuration_stand_beside_it(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    for name, file in zip(("a.pem", "a.key"), pair, strict=True):
        (tmp_path / "conf" / name).write_bytes(file.read_bytes())
    (tmp_path / "conf" / "sums.py").write_text(MODEL)
    file = tmp_path / "conf" / "bimodal.toml"
    file.write_text('[server]\ntls_cert = "a.pem"\ntls_key = "a.key"\n\n[models.sums]\npath = "sums.py:Model"\n')
    told = prepare([file], {}, {}).spec(metrics=None)["tls"]
    assert Certificate(Files(**told)).path == str(tmp_path / "conf" / "a.pem")
