"""A page that a browser was led to gets nothing: neither by a name of its own for our address, nor by its origin."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimodal.realtime.hosts import Hosts, Origins, is_same
from tests.realtime.gate import Gate, opened
from tests.realtime.wire import Client

LOCAL = [b"localhost", b"localhost:8000", b"LOCALHOST.", b"127.0.0.1:80", b"127.9.9.9", b"[::1]:8000", b"[::1]"]
REBOUND = [
    b"evil.example", b"evil.example:8000", b"localhost.evil.example", b"127.0.0.1.evil.example", b"evil.localhost",
    b"0x7f.1", b"2130706433", b"127.1", b"", b"[", b"localhost:8000:1", b"a b", b"xn--lcalhost-9ua",
]  # fmt: skip


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_a_loopback_address_is_asked_by_its_own_names_alone(address: str) -> None:
    hosts = Hosts(address)
    assert [host for host in LOCAL if not hosts.allows(host)] == []
    refused = [*REBOUND, b"10.0.0.1", b"0.0.0.0", b"[::ffff:10.0.0.1]", b"8.8.8.8:8000", socket.gethostname().encode()]
    assert [host for host in refused if hosts.allows(host)] == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.1.2.3"])
def test_another_address_is_asked_by_any_literal_and_by_the_names_that_are_given(address: str) -> None:
    hosts = Hosts(address, ["models.shop.example", "*.wild.example"])
    taken = [*LOCAL, b"10.1.2.3:8000", b"203.0.113.7", b"[2001:db8::1]:8000", b"Models.Shop.Example:8000"]
    taken += [b"a.wild.example", b"a.b.WILD.example.", socket.gethostname().encode()]
    assert [host for host in taken if not hosts.allows(host)] == []
    refused = [*REBOUND, b"shop.example", b"x.models.shop.example", b"wild.example", b"notwild.example"]
    assert [host for host in refused if hosts.allows(host)] == []


def test_who_names_no_host_is_no_browser_and_a_star_stands_for_all() -> None:
    assert Hosts("127.0.0.1").allows(None)
    assert all(Hosts("127.0.0.1", ["*"]).allows(host) for host in REBOUND)


@given(st.binary(max_size=40))
def test_no_bytes_make_the_look_at_a_host_fail(host: bytes) -> None:
    assert Hosts("127.0.0.1").allows(host) in (True, False)
    assert is_same(b"http://" + host, host) in (True, False)


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        (b"http://localhost:8000", b"localhost:8000", True),
        (b"http://LOCALHOST:8000", b"localhost:8000", True),
        (b"https://shop.example", b"shop.example", True),  # a proxy ends TLS
        (b"https://shop.example", b"shop.example:443", True),
        (b"http://shop.example", b"shop.example:80", True),
        (b"http://[::1]:8000", b"[::1]:8000", True),
        (b"http://localhost:3000", b"localhost:8000", False),
        (b"http://localhost", b"localhost:8000", False),
        (b"https://shop.example", b"shop.example:80", False),
        (b"http://shop.example.evil", b"shop.example", False),
        (b"http://localhost:8000/x", b"localhost:8000", False),
        (b"null", b"null", False),
        (b"file://", b"", False),
        (b"chrome-extension://abc", b"abc", False),
        (b"", b"localhost", False),
        (b"http://localhost:8000", None, False),
    ],
)
def test_an_origin_is_the_server_itself_or_not(origin: bytes, host: bytes | None, same: bool) -> None:
    assert is_same(origin, host) is same


def test_a_page_in_clear_text_is_another_origin_than_a_server_that_speaks_tls() -> None:
    """Beside it a page by https may ask a server in clear text: a proxy ends TLS."""
    assert not is_same(b"http://shop.example", b"shop.example", secure=True)
    assert not is_same(b"http://localhost:8443", b"localhost:8443", secure=True)
    assert is_same(b"https://localhost:8443", b"localhost:8443", secure=True)
    assert is_same(b"https://localhost:8443", b"localhost:8443")
    fields = {b"origin": b"http://localhost:8443", b"host": b"localhost:8443"}
    assert not Origins(secure=True).allows("POST", fields)
    assert Origins().allows("POST", fields)


def headers(**fields: str) -> dict[bytes, bytes]:
    told = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return {b"host": b"localhost:8000", **told}


@pytest.mark.parametrize(
    ("method", "fields", "taken"),
    [
        ("POST", {}, True),  # curl, and every program
        ("POST", {"content_type": "text/plain"}, True),
        ("POST", {"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}, True),
        ("POST", {"sec_fetch_site": "same-origin"}, True),
        ("GET", {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, True),
        # a link on another page: what it gets is the reader's alone
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, True),
        # a form that another page sends by itself: text/plain and forms need no preflight
        ("POST", {"origin": "https://evil.example", "content_type": "text/plain"}, False),
        ("POST", {"origin": "null", "content_type": "application/x-www-form-urlencoded"}, False),
        ("POST", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, False),
        ("GET", {"origin": "https://evil.example"}, False),
        # <img>, <script>, <iframe>, fetch(…, {mode: "no-cors"}): no origin is sent with GET
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}, False),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, False),
        # another port of this machine, or a neighbour of our name
        ("POST", {"origin": "http://localhost:3000", "sec_fetch_site": "same-site"}, False),
        ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, False),
        ("GET", {"sec_fetch_site": "strange"}, False),
    ],
)
def test_pages_of_other_origins_may_not_ask(method: str, fields: dict[str, str], taken: bool) -> None:
    assert Origins().allows(method, headers(**fields)) is taken


def test_pages_of_a_listed_origin_may_ask() -> None:
    origins = Origins(["https://shop.example/"])
    assert origins.allows("POST", headers(origin="https://shop.example", sec_fetch_site="cross-site"))
    assert not origins.allows("POST", headers(origin="https://shop.example.evil", sec_fetch_site="cross-site"))
    assert not origins.allows("POST", headers(origin="null"))
    assert Origins(["*"]).allows("POST", headers(origin="null"))


# -- on the wire -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Without keys: whoever is on this machine may do everything, but no page of another origin."""
    folder = tmp_path_factory.mktemp("hosts")
    with opened(folder, keys=None, cors=["https://shop.example"], hosts=["models.lan"]) as gate:
        yield gate


def sent(gate: Gate, head: str, body: bytes = b"{}") -> Any:
    with Client(gate.port) as client:
        text = f"{head}content-length: {len(body)}\r\n\r\n"
        return client.send(text.encode(), body).answer()


@pytest.mark.parametrize(
    "path", ["/", "/health/live", "/predict", "/models", "/v2/repository/models/inline/unload", "/no"]
)
def test_a_rebound_name_gets_403_at_every_path(gate: Gate, path: str) -> None:
    for method in ("GET", "POST"):
        answer = sent(gate, f"{method} {path} HTTP/1.1\r\nhost: evil.example:{gate.port}\r\n")
        assert answer.status == 403
        assert answer.json["code"] == "forbidden"
        assert "--hosts NAME" in answer.json["error"]
        assert "evil" not in answer.json["error"]


def test_the_host_of_a_whole_address_counts_and_not_the_field_beside_it(gate: Gate) -> None:
    """RFC 9112, section 3.2.2."""
    for host in ("evil.example", f"evil.example:{gate.port}"):
        answer = sent(gate, f"POST http://{host}/predict HTTP/1.1\r\nhost: localhost\r\n")
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    asked = f"GET http://localhost:{gate.port}/models HTTP/1.1\r\nhost: "
    assert sent(gate, f"{asked}evil.example\r\n").status == 200
    rebound = f"GET http://evil.example/models HTTP/1.1\r\nhost: evil.example\r\norigin: http://localhost:{gate.port}"
    assert sent(gate, f"{rebound}\r\n").status == 403


def test_a_name_that_is_given_is_answered(gate: Gate) -> None:
    for host in ("models.lan", f"models.lan:{gate.port}", "127.0.0.1", "localhost"):
        assert sent(gate, f"GET /models HTTP/1.1\r\nhost: {host}\r\n").status == 200


def test_a_form_of_another_page_cannot_unload_a_model(gate: Gate) -> None:
    head = f"POST /v2/repository/models/inline/unload HTTP/1.1\r\nhost: localhost:{gate.port}\r\n"
    answer = sent(gate, f"{head}origin: https://evil.example\r\ncontent-type: text/plain\r\n")
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "--cors ORIGIN" in answer.json["error"]


def test_curl_without_a_content_type_goes_on_working(gate: Gate) -> None:
    head = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    assert sent(gate, head, b'{"input": [5.1, 3.5, 1.4, 0.2]}').json["prediction"]


def test_a_listed_origin_may_ask_and_read_and_knows_that_keys_may_be_sent(gate: Gate) -> None:
    head = "OPTIONS /predict HTTP/1.1\r\nhost: localhost\r\norigin: https://shop.example\r\n"
    preflight = sent(gate, f"{head}access-control-request-method: POST\r\n", b"")
    assert preflight.status == 204
    assert {"authorization", "x-api-key"} <= set(preflight.headers["access-control-allow-headers"].split(", "))
    answer = sent(gate, "GET /models HTTP/1.1\r\nhost: localhost\r\norigin: https://shop.example\r\n")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_with_keys_a_listed_origin_may_ask_what_it_may_send_and_read_why_it_was_refused(tmp_path: Path) -> None:
    with opened(tmp_path, cors=["https://shop.example"]) as gate:
        lines = "host: localhost\r\norigin: https://shop.example\r\n"
        asked = "access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n"
        assert sent(gate, f"OPTIONS /predict HTTP/1.1\r\n{lines}{asked}", b"").status == 204
        assert sent(gate, f"OPTIONS /predict HTTP/1.1\r\nhost: localhost\r\n{asked}", b"").status == 401
        answer = sent(gate, f"POST /predict HTTP/1.1\r\n{lines}")
        assert answer.status == 401
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_http2_and_grpc_look_at_the_authority(gate: Gate) -> None:
    with httpx.Client(http2=True, http1=False) as client:
        url = f"http://localhost:{gate.port}/models"
        assert client.get(url).status_code == 200
        assert client.get(url, headers={"host": "evil.example"}).status_code == 403
        assert client.get(url, headers={"origin": "https://evil.example"}).status_code == 403
    told = {}
    for name in ("localhost", "evil.example"):
        options = [("grpc.default_authority", f"{name}:{gate.port}")]
        with grpc.insecure_channel(f"127.0.0.1:{gate.port}", options) as channel:
            try:
                channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"")
                told[name] = grpc.StatusCode.OK
            except grpc.RpcError as error:
                told[name] = error.code()
    assert told == {"localhost": grpc.StatusCode.OK, "evil.example": grpc.StatusCode.PERMISSION_DENIED}
