"""Promise 38: every route, every method and every gRPC method is behind the guard, but for a list that stands here.

python tasks.py test tests/realtime/test_guard.py -m soak -s       # how long a wrong key takes: 100,000 tries
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import re
import secrets
import socket
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from scipy.stats import mannwhitneyu

from bimodal import keys
from bimodal.realtime.asgi import asgi
from bimodal.realtime.guard import Guard
from bimodal.realtime.head import parse
from bimodal.realtime.plain import STARTED
from bimodal.realtime.ring import Ring
from bimodal.realtime.scopes import Scopes
from bimodal.realtime.transfer import Exchange
from tests.realtime.gate import Clock, Gate, opened
from tests.realtime.wire import Answer, Client

OPEN = {  # to everybody, with GET and HEAD
    "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping", "/platform/health",
    "/", "/docs", "/chat",  # pages without a word of this server
    "/static/page.css", "/static/calls.js", "/static/index.js", "/static/docs.js", "/static/chat.js",
    "/static/icon.svg",
}  # fmt: skip
OPEN_CALLS = {
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
UNKNOWN = (
    "/predic", "/v2/nothing", "/v3", "/admin", "/static/../keys.json", "/static/secret", "//predict", "/predict/",
    "/PREDICT", "/models/inline/predict/x", "/v2/models/inline/infer/", "/%2e%2e/predict", "/models/nobody/predict",
    "/runs", "/jobs/", "/v2/repository/models/", "/v2/repository/index/", "/health/live/", "/health/", "/ping/x",
    "/models%2Finline%2Fpredict", "/v2/repository%2Findex", "/v2/repository/models%2finline/load",
    "/v2/models/inline/generate", "/v2/models/inline/generate_stream",  # of models that stream
)  # fmt: skip
STRANGERS = ("nothing", "wrong", "ended", "revoked", "digest", "half")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with opened(tmp_path_factory.mktemp("gate")) as gate:
        yield gate


def every_path(gate: Gate) -> list[str]:
    """All that the app answers, and much that it does not."""
    app = gate.wired.app
    begun = [f"{begin}{more}" for _, begin in app.begins for more in ("x", "inline/load", "nightly", "0a1b/result")]
    known = [path for _, path in app.routes] + app.streams
    return list(dict.fromkeys([*known, *begun, *UNKNOWN]))


def key_of(gate: Gate, who: str) -> str | None:
    right = gate.known["all"]
    made = {"nothing": None, "wrong": "bmk_" + "A" * 43, "digest": keys.digest(right.encode()), "half": right[:-1]}
    return made[who] if who in made else gate.known[who]


def ask(client: Client, method: str, path: str, key: str | None, *fields: bytes, body: bytes = b"{}") -> Answer:
    """One request; the connection stays, or another takes its place."""
    sent = (b"authorization: Bearer %b\r\n" % key.encode(), *fields) if key else fields
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n".encode()
    answer = client.send(head, *sent, b"\r\n", body).answer(bare=method == "HEAD")
    if answer.headers.get("connection") == "close":  # answered ahead of its body
        place = client.socket.getpeername()
        client.socket.close()
        client.socket = socket.create_connection(place, timeout=5)
    return answer


def told(answer: Answer) -> tuple[str, str]:
    """The code and the sentence of an error, also in OpenAI's shape."""
    error = answer.json["error"]
    return (answer.json["code"], error) if isinstance(error, str) else (error["code"], error["message"])


def needed(path: str) -> str:
    """The scope of a path, as docs/security.md has it: another table than the guard's."""
    if path == "/metrics" or re.fullmatch(r"/v2/models/(stats|.+/stats)", path):
        return "metrics"
    if re.match(r"/(jobs|runs|v2/repository/models)\b", path) or path.endswith("/runs"):
        return "admin"
    return "infer"


def test_the_walk_goes_everywhere(gate: Gate) -> None:
    paths = every_path(gate)
    parts = "predict infer generate invocations lookup jobs runs repository chat v1 ping metrics stats openapi versions"
    for part in [*parts.split(), "platform", "config"]:
        assert any(part in path for path in paths), part
    assert len(paths) > 80


@pytest.mark.parametrize("who", STRANGERS)
def test_who_has_no_live_key_gets_nothing_but_what_is_open(gate: Gate, who: str) -> None:
    key = key_of(gate, who)
    let_in = set()
    with Client(gate.port) as client:
        for path in every_path(gate):
            for method in METHODS:
                answer = ask(client, method, path, key)
                if answer.status != 401:
                    let_in.add((method, path))
                elif method != "HEAD":
                    assert told(answer)[0] == "unauthenticated"
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert key is None or key not in answer.body.decode()
    assert let_in == {(method, path) for method in ("GET", "HEAD") for path in OPEN}


@pytest.mark.parametrize("scope", keys.SCOPES)
def test_a_key_opens_its_scope_alone(gate: Gate, scope: str) -> None:
    key = gate.known[scope]
    routes = set(gate.wired.app.routes)
    with Client(gate.port) as client:
        for path in every_path(gate):
            for method in METHODS:
                answer = ask(client, method, path, key)
                assert answer.status != 401
                is_route = (method, path) in routes or (method == "HEAD" and ("GET", path) in routes)
                if method in ("GET", "HEAD") and path in OPEN:
                    assert answer.status == 200
                elif is_route and needed(path) == scope:
                    assert answer.status != 403, (method, path)
                elif not is_route and scope != "admin":
                    assert answer.status in (403, 404, 405), (method, path)
                elif is_route:
                    allowed = (answer.status, needed(path), scope) == (
                        404,
                        scope,
                        "infer",
                    )  # of a model that is not there
                    assert answer.status == 403 or allowed, (method, path)
                if answer.status == 403 and method != "HEAD":
                    assert told(answer)[0] == "forbidden"
                    assert not is_route or f"scope {needed(path)}" in told(answer)[1]


def test_who_has_a_key_is_told_what_is_not_there_and_what_a_route_takes(gate: Gate) -> None:
    with Client(gate.port) as client:
        for scope in ("infer", "metrics"):
            for path in ("/predic", "/nothing/at/all", "/v3"):
                answer = ask(client, "POST", path, gate.known[scope])
                assert (answer.status, told(answer)[0]) == (404, "not_found"), path
        for method in ("HEAD", "PUT", "OPTIONS", "TRACE", "GET"):
            answer = ask(client, method, "/predict", gate.known["infer"])
            assert (answer.status, answer.headers["allow"]) == (405, "POST"), method
            assert ask(client, method, "/predict", None).status == 401
        for method, path in (("GET", "/jobs"), ("POST", "/v2/repository/models/inline/unload"), ("PUT", "/jobs")):
            answer = ask(client, method, path, gate.known["infer"])
            assert answer.status == 403, (method, path)
            assert "--keys FILE` on the server" in told(answer)[1]


def test_who_sends_several_keys_is_told_so(gate: Gate) -> None:
    key = gate.known["infer"].encode()
    with Client(gate.port) as client:
        for fields in ((b"authorization: Basic eA==\r\n",), (b"authorization: Bearer %b\r\n" % key,)):
            answer = ask(client, "POST", "/predict", key.decode(), *fields)
            assert (answer.status, told(answer)[1].startswith("several keys were sent")) == (401, True)
        answer = ask(client, "POST", "/predict", None)
        assert "this needs an API key" in told(answer)[1]


def test_a_route_that_nobody_has_thought_of_is_closed(gate: Gate) -> None:
    """Whatever the app answers, and no table names, needs admin."""
    guard = Guard(ring=Ring(gate.file), scopes=Scopes())
    guard.answers = lambda method, path: path == "/new"
    for path, code in (("/new", "forbidden"), ("/nothing", None)):
        error = guard.request("POST", path, {b"x-api-key": gate.known["infer"].encode()}).error
        assert getattr(error, "code", None) == code


def test_a_key_with_all_scopes_is_never_turned_away(gate: Gate) -> None:
    with Client(gate.port) as client:
        for method, path in gate.wired.app.routes:
            assert ask(client, method, path, gate.known["all"]).status not in (401, 403), (method, path)


@pytest.mark.parametrize("who", ["nothing", "metrics"])
def test_http2_has_the_same_gate(gate: Gate, who: str) -> None:
    key = key_of(gate, who)
    fields = {"authorization": f"Bearer {key}"} if key else {}

    async def walk() -> dict[tuple[str, str], int]:
        async with httpx.AsyncClient(http2=True, http1=False, base_url=f"http://localhost:{gate.port}") as client:
            paths = [path for path in every_path(gate) if not path.startswith("//")]  # which is a host to the client
            asked = [(method, path) for path in paths for method in ("GET", "POST", "DELETE")]
            answers = []
            for start in range(0, len(asked), 64):
                part = [client.request(*each, headers=fields) for each in asked[start : start + 64]]
                answers += await asyncio.gather(*part)
            return {each: answer.status_code for each, answer in zip(asked, answers, strict=True)}

    let_in = {each for each, status in asyncio.run(walk()).items() if status not in (401, 403, 404, 405)}
    open_ = {("GET", path) for path in OPEN}
    measured = {(m, p) for m, p in gate.wired.app.routes if needed(p) == "metrics" and p not in OPEN and m == "GET"}
    assert let_in == (open_ | measured if who == "metrics" else open_)


def test_an_encoded_slash_is_no_separator_to_any_wire(gate: Gate) -> None:
    """RFC 3986, section 2.2: else it would pass what a proxy in front has to say of a path."""
    application = asgi(gate.wired.app, guard=gate.wired.guard)
    key = gate.known["all"]
    base = f"http://localhost:{gate.port}"
    known = [each for each in gate.wired.app.routes if each[1].count("/") > 1]
    known += [("POST", "/v2/repository/models/inline/load"), ("GET", "/jobs/nightly/runs")]
    asked = [(method, "%2f".join(path.rsplit("/", 1))) for method, path in known]
    asked += [(method, "/" + path[1:].replace("/", "%2F")) for method, path in known]
    assert len(asked) > 60

    async def walk(**wire: Any) -> set[int]:
        async with httpx.AsyncClient(base_url=base, headers={"x-api-key": key}, **wire) as client:
            return {(await client.request(*each)).status_code for each in asked}

    assert asyncio.run(walk()) == {404}
    assert asyncio.run(walk(http1=False, http2=True)) == {404}
    assert gate.do(walk(transport=httpx.ASGITransport(app=application))) == {404}


@pytest.mark.parametrize("who", ["nothing", "infer"])
def test_the_asgi_form_has_the_same_gate(gate: Gate, who: str) -> None:
    key = key_of(gate, who)
    application = asgi(gate.wired.app, guard=gate.wired.guard)
    sent: list[Any] = []

    async def status(method: str, path: str) -> int:
        headers = [(b"host", b"localhost"), *([(b"x-api-key", key.encode())] if key else [])]
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        sent.clear()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}"}

        async def send(message: Any) -> None:
            sent.append(message)

        await application(scope, receive, send)
        return int(sent[0]["status"])

    async def walk() -> set[tuple[str, str]]:
        closed = [path for path in every_path(gate) if who == "nothing" or needed(path) != "infer"]
        asked = [(method, path) for path in closed for method in ("GET", "POST", "DELETE")]
        return {each for each in asked if await status(*each) not in (401, 403, 404, 405)}

    assert gate.do(walk()) == ({("GET", path) for path in OPEN} if who == "nothing" else set())


# -- gRPC --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls(gate: Gate) -> list[str]:
    """As reflection lists the services, and their descriptors the methods; and as the table has them."""
    with grpc.insecure_channel(f"localhost:{gate.port}") as channel:
        keyed = grpc.intercept_channel(channel, Keyed(gate.known["infer"]))
        told = ProtoReflectionDescriptorDatabase(keyed)
        pool = DescriptorPool(told)
        listed = [
            f"/{name}/{method.name}" for name in told.get_services() for method in pool.FindServiceByName(name).methods
        ]
    table = gate.wired.methods
    assert set(table.unary) | set(table.streaming) <= set(listed)
    return [*listed, "/inference.GRPCInferenceService/Nothing", "/nobody/Nothing", "/predict"]


class Keyed(grpc.StreamStreamClientInterceptor):  # type: ignore[misc] # grpcio has no types
    """Sends a key with every call."""

    def __init__(self, key: str) -> None:
        self.metadata = (("authorization", f"Bearer {key}"),)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(details._replace(metadata=self.metadata), requests)


def call(channel: Any, path: str, metadata: Any) -> tuple[Any, str | None]:
    """The code of a call, and of its error."""
    try:
        for _ in channel.stream_stream(path)(iter([b""]), metadata=metadata, timeout=60):
            break
    except grpc.RpcError as error:
        told = dict(error.trailing_metadata() or ())
        return error.code(), told.get("x-error-code")
    return grpc.StatusCode.OK, None


@pytest.mark.parametrize("who", ["nothing", "wrong", "ended"])
def test_every_call_without_a_live_key_is_refused_but_for_health(gate: Gate, calls: list[str], who: str) -> None:
    key = key_of(gate, who)
    metadata = (("authorization", f"bearer {key}"),) if key else ()
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        told = {path: call(channel, path, metadata) for path in calls}
    refused = (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")
    assert {path for path, said in told.items() if said != refused} == OPEN_CALLS
    assert {told[path] for path in OPEN_CALLS} == {(grpc.StatusCode.OK, None)}


def test_a_call_needs_its_scope(gate: Gate, calls: list[str]) -> None:
    refused = (grpc.StatusCode.PERMISSION_DENIED, "forbidden")
    statistics_ = {"/inference.GRPCInferenceService/ModelStatistics"}
    changes = {path for path in calls if path.endswith(("ModelLoad", "ModelUnload"))}
    nothing = {path for path in calls if path.endswith("Nothing") or path == "/predict"}
    others = set(calls) - statistics_ - changes - nothing - OPEN_CALLS
    assert len(changes) == 4
    wants = {"infer": others, "metrics": statistics_, "admin": changes}
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        for scope, allowed in wants.items():
            metadata = (("x-api-key", gate.known[scope]),)
            told = {path: call(channel, path, metadata) for path in calls}
            assert {path for path, said in told.items() if said != refused} == allowed | nothing | OPEN_CALLS
            assert {told[path][0] for path in nothing} == {grpc.StatusCode.UNIMPLEMENTED}


# -- verdicts that end -------------------------------------------------------------------------------------------------


def test_a_kept_verdict_ends_with_its_key_and_with_a_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    clock = Clock(time.time())
    short = keys.add(file, "short", expires=100, now=datetime.fromtimestamp(clock.now, UTC))
    lasting = keys.add(file, "lasting")
    guard = Guard(ring=Ring(file, clock), scopes=Scopes(), clock=clock)

    def verdict(key: str) -> Any:
        return guard.request("POST", "/predict", {b"host": b"localhost", b"x-api-key": key.encode()})

    kept = verdict(short)
    assert kept.error is None
    assert kept.until - time.monotonic() == pytest.approx(100, abs=30)
    assert verdict(lasting).until == float("inf")
    clock.now += 100  # the clock was set: what was said counts no more
    guard.look()
    assert kept.generation != guard.generation
    assert verdict(short).error.code == "unauthenticated"
    kept = verdict(lasting)
    keys.revoke(file, "lasting")
    guard.look()
    assert kept.generation != guard.generation
    assert verdict(lasting).error.code == "unauthenticated"


def test_a_changed_file_counts_for_heads_that_were_let_in_before(gate: Gate) -> None:
    key = keys.add(gate.file, "guest")
    with Client(gate.port) as client:
        gate.look()
        assert [ask(client, "GET", "/models", key).status for _ in range(3)] == [200] * 3
        new = keys.rotate(gate.file, "guest")
        gate.look()
        assert [ask(client, "GET", "/models", each).status for each in (key, new)] == [200, 200]
        keys.revoke(gate.file, "guest", old=True)
        gate.look()
        assert [ask(client, "GET", "/models", each).status for each in (key, new, key)] == [401, 200, 401]
        keys.revoke(gate.file, "guest")
        gate.look()
        assert ask(client, "GET", "/models", new).status == 401


def test_a_damaged_file_leaves_the_keys_as_they_were_and_is_told_of_once(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    good = gate.file.read_bytes()
    with Client(gate.port) as client:
        for bad in (good[: len(good) // 2], b"", None):
            caplog.clear()
            if bad is None:
                gate.file.unlink()
            else:
                gate.file.write_bytes(bad)
            for _ in range(3):
                gate.look()
            assert ask(client, "GET", "/models", gate.known["all"]).status == 200
            assert len([each for each in caplog.messages if "the keys stay as they were" in each]) == 1
    gate.file.write_bytes(good)
    gate.file.chmod(0o600)
    gate.look()


# -- what goes on after its key has ended ------------------------------------------------------------------------------


def ended(gate: Gate, key: str, *, by: str) -> None:
    """End a key as an operator does, or as time does; the server notices by itself."""
    if by == "revoked":
        keys.revoke(gate.file, key)
    else:  # the file says that it ends now
        gate.file.write_text(
            re.sub(
                rf'("name": "{key}".*?"expires": )null', r'\1"2020-01-01T00:00:00Z"', gate.file.read_text(), flags=re.S
            )
        )


@pytest.mark.parametrize(
    ("method", "begins"),
    [("/inference.GRPCInferenceService/ModelStreamInfer", False), ("/grpc.health.v1.Health/Watch", True)],
)
@pytest.mark.parametrize("by", ["revoked", "expired"])
def test_an_open_call_ends_with_its_key(gate: Gate, method: str, begins: bool, by: str) -> None:
    name = f"{by}{len(method)}"
    key = keys.add(gate.file, name, ["infer"])
    gate.look()
    asked: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(f"localhost:{gate.port}") as channel:
        answers = channel.stream_stream(method)(
            iter(asked.get, None), metadata=(("authorization", f"Bearer {key}"),), timeout=60
        )
        asked.put(b"")
        next(answers)  # it is open
        ended(gate, name, by=by)
        with pytest.raises(grpc.RpcError) as raised:
            for _ in answers:
                pass
        asked.put(None)
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert dict(raised.value.trailing_metadata())["x-error-code"] == "unauthenticated"


def test_a_call_whose_key_has_an_end_is_judged_at_each_message(gate: Gate) -> None:
    """Between two sweeps too: what is fed after the end is not taken."""

    def messages() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b""

    for seconds in (1.0, 4.0, 16.0):  # one that has ended before its call began tells nothing
        key = keys.add(gate.file, f"brief{seconds:g}", ["infer"], expires=seconds)
        gate.look()
        with grpc.insecure_channel(f"localhost:{gate.port}") as channel:
            call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            answers: list[bytes] = []
            with pytest.raises(grpc.RpcError) as raised:
                answers.extend(call(messages(), metadata=(("x-api-key", key),), timeout=60))
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        if answers:
            break
    assert answers


LINE = b'{"input": [5.1, 3.5, 1.4, 0.2]}\n'


def test_lines_under_way_end_with_their_key(gate: Gate) -> None:
    """Of two callers with the same head: each is told."""
    key = keys.add(gate.file, "lines", ["infer"])
    gate.look()
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n"
    with Client(gate.port) as one, Client(gate.port) as other:
        seen = {one: b"", other: b""}
        for client in seen:
            client.send(head, b"content-type: application/x-ndjson\r\nx-api-key: %b\r\n\r\n" % key.encode())
            client.send(b"%x\r\n%b\r\n" % (len(LINE), LINE))
            while b"}\n" not in seen[client]:
                seen[client] += client.socket.recv(65_536)
        keys.revoke(gate.file, "lines")
        for client in seen:
            while more := client.socket.recv(65_536):
                seen[client] += more
            assert b'"code":"unauthenticated"' in seen[client]
            assert seen[client].endswith(b"0\r\n\r\n")


def test_lines_under_way_over_http2_end_with_their_key(gate: Gate) -> None:
    key = keys.add(gate.file, "lines2", ["infer"])
    gate.look()
    wire = H2Connection(H2Configuration(header_encoding=None))
    wire.initiate_connection()
    fields = [
        (":method", "POST"), (":path", "/predict"), (":scheme", "http"), (":authority", "localhost"),
        ("x-api-key", key), ("content-type", "application/x-ndjson"),
    ]  # fmt: skip
    wire.send_headers(1, fields)
    wire.send_data(1, LINE)
    body, over = b"", False
    with Client(gate.port) as client:
        client.send(wire.data_to_send())
        revoked = False
        while not over:
            for event in wire.receive_data(client.socket.recv(65_536)):
                body += event.data if isinstance(event, DataReceived) else b""
                over |= isinstance(event, StreamEnded)
            client.send(wire.data_to_send())
            if b"}\n" in body and not revoked:
                revoked = True
                keys.revoke(gate.file, "lines2")
    assert b'"code":"unauthenticated"' in body


def test_lines_in_another_server_end_with_their_key(gate: Gate) -> None:
    """The ASGI form, which has no sweep: judged at each message."""
    key = keys.add(gate.file, "lines3", ["infer"])
    gate.look()
    application = asgi(gate.wired.app, guard=gate.wired.guard)
    scope = {
        "type": "http", "method": "POST", "path": "/predict",
        "headers": [(b"host", b"localhost"), (b"x-api-key", key.encode()), (b"content-type", b"application/x-ndjson")],
    }  # fmt: skip
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == 2:
            keys.revoke(gate.file, "lines3")
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": LINE, "more_body": True}

    async def send(message: Any) -> None:
        """It is the end of the call that counts."""

    async def run() -> None:
        await application(scope, receive, send)

    gate.do(run())
    assert 2 <= asked < 100


@pytest.mark.parametrize("receiving", [True, False])
def test_an_upload_or_an_answer_under_way_ends_with_its_key(gate: Gate, receiving: bool) -> None:
    name = f"body{receiving}"
    key = keys.add(gate.file, name, ["infer"])
    gate.look()
    with Client(gate.port) as client:
        fields = b"host: localhost\r\nx-api-key: %b\r\ncontent-length: 100\r\n\r\n{" % key.encode()
        if receiving:
            client.send(b"POST /predict HTTP/1.1\r\n", fields)
            gate.do(asyncio.sleep(0.05))
            keys.revoke(gate.file, name)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")
            return
        exchange = under_way(gate, key)
        assert exchange.barred(time.monotonic()) is None
        keys.revoke(gate.file, name)
        gate.look()
        told = exchange.barred(time.monotonic())
        assert (told.status, told.code) == (401, "unauthenticated")


def under_way(gate: Gate, key: str) -> Any:
    """An answer in pieces that has begun: its question is whole."""

    class Wire:
        listener = gate.listener

        def is_receiving(self, exchange: Any) -> bool:
            return False

    head = parse(b"POST /predict HTTP/1.1\r\nhost: localhost\r\nx-api-key: %b\r\n\r\n" % key.encode(), 100)
    head.verdict = gate.wired.guard.request(head.method, head.path, head.headers)
    wire: Any = Wire()
    return Exchange(wire, head, False, time.monotonic(), state=STARTED)


def test_a_file_that_is_being_written_is_told_of_when_it_has_come_to_rest(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    good = gate.file.read_bytes()
    ring = Ring(gate.file)
    caplog.clear()
    for end in range(10, 60, 10):
        gate.file.write_bytes(good[:end])
        assert not ring.look()
    assert "the keys stay" not in caplog.text
    for _ in range(3):
        assert not ring.look()
    assert caplog.text.count("the keys stay") >= 1
    gate.file.write_bytes(good)
    assert ring.look()
    assert len(ring.keys) == len(keys.load(gate.file))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_running_server_keeps_its_keys_where_the_file_becomes_no_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "keys.json"
    key = keys.add(file, "shop")
    ring = Ring(file)
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    assert [ring.look() for _ in range(3)] == [False] * 3
    assert ring.find(key.encode())


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_refused_body_is_not_read(gate: Gate) -> None:
    """It is not waited for: the answer comes after the head, and the connection ends where a body is under way."""
    with Client(gate.port) as client:
        client.send(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
    with Client(gate.port) as client:
        client.send(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n")
        assert client.answer().status == 401
    with Client(gate.port) as client:  # nor invited
        client.send(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n")
        assert client.answer().status == 403


def test_a_refused_request_leaves_those_after_it_their_answers(gate: Gate) -> None:
    good = b"GET /models HTTP/1.1\r\nhost: localhost\r\nx-api-key: %b\r\n\r\n" % gate.known["infer"].encode()
    bad = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
    with Client(gate.port) as client:
        client.send(good, bad, good, bad, bad, good)
        assert [client.answer().status for _ in range(6)] == [200, 401, 200, 401, 401, 200]


def test_no_key_is_told_of(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    with Client(gate.port) as client:
        for who in ("wrong", "infer", "ended"):
            key = key_of(gate, who)
            ask(client, "POST", "/predict", key, body=b"boom")
            ask(client, "DELETE", "/jobs", key)
        metrics = ask(client, "GET", "/metrics", gate.known["metrics"]).body.decode()
    for key in (*gate.known.values(), "A" * 43):
        assert key not in metrics
        assert key not in caplog.text


@pytest.mark.soak
def test_how_long_a_wrong_key_takes_tells_nothing_of_the_right_one(tmp_path: Path) -> None:
    """Keys that share all but the end with a live one, and keys that share nothing: 100,000 tries, mixed at random."""
    file = tmp_path / "keys.json"
    right = keys.add(file, "right")
    for each in range(9):
        keys.add(file, f"other{each}")
    guard = Guard(ring=Ring(file))
    near = [right[:-1] + end for end in "ABCDEFGHIJKLMNOPQRSTU" if end != right[-1]][:20]
    far = [keys.PREFIX + secrets.token_urlsafe(keys.BYTES) for _ in near]
    asked = [{b"x-api-key": each.encode()} for pair in zip(near, far, strict=True) for each in pair]
    order = random.Random(1).choices(range(len(asked)), k=100_000)  # drawn before: what is timed is the same for all
    times = []
    for each in order:
        headers = asked[each]
        began = time.perf_counter_ns()
        guard.request("POST", "/predict", headers)
        times.append(time.perf_counter_ns() - began)
    kinds = [[spent for each, spent in zip(order, times, strict=True) if each % 2 == kind] for kind in (0, 1)]
    medians = [statistics.median(each) for each in kinds]
    chance = mannwhitneyu(*kinds).pvalue
    print(f"\nmedians {medians[0]:g} ns near, {medians[1]:g} ns far, of {len(times)}; Mann-Whitney p {chance:.3f}")
    assert chance > 0.001
    assert medians[0] == pytest.approx(medians[1], rel=0.01)
