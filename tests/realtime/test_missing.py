"""A worker that does not come back: the others take its connections, and nobody hangs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from bimodal.realtime.control import Prepare, Prepared, Switch, Switched
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.reload import Reload
from bimodal.realtime.server import Server
from bimodal.realtime.standin import StandIn
from bimodal.realtime.stock import Stock
from bimodal.realtime.tally import Tally
from bimodal.realtime.tls import Files
from bimodal.realtime.workers import sealing
from tests.realtime.certificates import Authority
from tests.realtime.test_http import wait_for
from tests.realtime.test_workers import pid_of_answer
from tests.realtime.wire import PATIENCE


def test_connections_of_a_worker_that_cannot_start_are_taken_by_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "fragile.py").write_text(
        "import os\n"
        "from bimodal.errors import ModelError\n"
        f"if os.path.exists({str(broken)!r}): raise ModelError('it is broken')\n"
        "from tests.realtime.wire import app\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Server({"app": "fragile:app"}, workers=2) as server:
        dead, alive = server.pids
        broken.touch()
        os.kill(dead, signal.SIGKILL)
        assert {pid_of_answer(server.port) for _ in range(30)} == {alive}  # those that wait are taken in time
        wait_for(lambda: "worker 0 does not come back" in caplog.text)
        assert {pid_of_answer(server.port) for _ in range(30)} == {alive}
        wait_for(lambda: "cannot start again: it is broken; the next try is in" in caplog.text)
        broken.unlink()
        wait_for(lambda: "worker 0 takes its connections again" in caplog.text)
        pids = set(server.pids)
        assert len(pids) == 2
        assert {pid_of_answer(server.port) for _ in range(60)} == pids


FRAGILE = """
import os
from bimodal.errors import ModelError
if os.path.exists({broken!r}): raise ModelError("it is broken")
from tests.realtime.wire import app
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_where_no_worker_can_start_callers_are_told_so_at_once_until_one_does(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    (tmp_path / "frail.py").write_text(FRAGILE.format(broken=str(broken)))
    monkeypatch.syspath_prepend(tmp_path)
    counted, written = tmp_path / "metrics", tmp_path / "access.log"
    counters = Metrics(["churn"], counted, workers)
    seen = {"access_log": str(written), "peers": True}
    spec = {"app": "frail:app", "metrics": str(counted), "observe": seen}
    names = []
    with Server(spec, workers=workers) as server:
        broken.touch()
        for pid in server.pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "no worker serves" in caplog.text)
        for path in ("/health/ready", "/health/live", "/predict"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            connection.request("POST", path, b"x" * 1_000_000)
            response = connection.getresponse()
            assert (response.status, response.headers["connection"]) == (503, "close")
            assert 1 <= int(response.headers["retry-after"]) <= 30
            told = json.loads(response.read())
            assert (told["code"], bool(told["request_id"])) == ("unavailable", True)
            names.append(told["request_id"])
            connection.close()
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary("/test.Test/Echo")(b"", timeout=PATIENCE)
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as client:
            answer = client.get(f"http://127.0.0.1:{server.port}/health/ready")
            assert (answer.status_code, answer.http_version) == (503, "HTTP/2")
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            names.append(answer.headers["x-request-id"])
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as silent:
            assert silent.recv(100).startswith(b"HTTP/1.1 503 ")
        broken.unlink()
        wait_for(lambda: "takes its connections again" in caplog.text)
        assert pid_of_answer(server.port) in server.pids
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert {(line["status"], line["error"], line["route"], line["peer"]) for line in lines} == {
        (503, "unavailable", "", "127.0.0.1")
    }
    assert set(names) < {line["request_id"] for line in lines}
    assert [line["protocol"] for line in lines if line["method"] == "POST"] == ["HTTP/1.1"] * 3
    for metric in ('refusals_total{model="",reason="no_worker"}', 'requests_total{model="",route="other",code="503"}'):
        assert f"bimodal_{metric} {len(lines)}\n" in counters.text().decode()


def test_what_cannot_be_counted_or_written_keeps_nobody_from_an_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "pipe")
    seen = {"access_log": str(tmp_path / "pipe"), "peers": True}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stand_in = StandIn([listening], lambda: 1, Tally({"metrics": str(tmp_path / "gone"), "observe": seen}))
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as caller:
            caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert caller.recv(100).startswith(b"HTTP/1.1 503 ")
        stand_in.end()
    assert [each.getMessage().partition(":")[0] for each in caplog.records] == [
        "callers who are told 503 are not counted",
        "callers who are told 503 are not in the access log",
    ]


def test_over_tls_they_are_told_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken, authority = tmp_path / "broken", Authority(tmp_path)
    pair = authority.issue("server", ["localhost", "127.0.0.1"])
    (tmp_path / "sealed.py").write_text(FRAGILE.format(broken=str(broken)))
    monkeypatch.syspath_prepend(tmp_path)
    context = ssl.create_default_context(cafile=authority.path)
    with Server({"app": "sealed:app", "tls": Files(str(pair.cert), str(pair.key)).spec()}) as server:
        broken.touch()
        os.kill(server.pids[0], signal.SIGKILL)
        wait_for(lambda: "no worker serves" in caplog.text)
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)  # keeps nobody waiting
        for http2 in (False, True):
            with httpx.Client(http1=not http2, http2=http2, verify=context, timeout=PATIENCE) as client:
                answer = client.post(f"{server.url}/predict", content=b"" if http2 else b"x" * 300_000)
                assert (answer.status_code, answer.http_version) == (503, "HTTP/2" if http2 else "HTTP/1.1")
                assert 1 <= int(answer.headers["retry-after"]) <= 30
        with silent:
            assert silent.recv(100) == b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert not plain.recv(100).startswith(b"HTTP")
        broken.unlink()
        wait_for(lambda: "takes its connections again" in caplog.text)


def test_where_the_certificate_cannot_be_used_any_more_callers_over_tls_are_hung_up_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Authority(tmp_path).issue("server", ["127.0.0.1"])
    pair.cert.write_text("none")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stand_in = StandIn([listening], lambda: 1, Tally({}), sealing(Files(str(pair.cert), str(pair.key)).spec()))
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as caller:
            assert caller.recv(100) == b""
        stand_in.end()
    assert "callers over TLS are not told: tls_cert" in caplog.text


class Told:
    """A worker as a reload sees it. missing: it does not come back."""

    def __init__(self, *, missing: bool) -> None:
        self.is_ready, self.missing = not missing, missing
        self.task = self.prepared = self.switched = 0
        self.orders: list[object] = []

    def is_missing(self, now: float) -> bool:
        return self.missing

    def tell(self, told: object) -> None:
        self.orders.append(told)

    def begin_again(self) -> None:
        self.orders.append("begin again")


def test_a_reload_does_not_wait_for_a_worker_that_does_not_come_back_which_then_starts_with_it() -> None:
    stock = Stock({}, 0)
    reload = Reload(1, stock.away("gone"), stock)
    alive, dead = Told(missing=False), Told(missing=True)
    workers: Any = [alive, dead]
    reload.go_on(workers)
    assert [type(each) for each in alive.orders] == [Prepare]
    reload.take(workers[0], Prepared(1, [], []), workers)
    reload.go_on(workers)
    assert [type(each) for each in alive.orders] == [Prepare, Switch]
    assert dead.orders == ["begin again"]
    reload.take(workers[0], Switched(1), workers)
    reload.go_on(workers)
    assert reload.over
    assert reload.stock is not None  # what the other one starts with
