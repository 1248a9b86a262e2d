"""The service in a running server: overload, crashes, deadlines, streams, metrics of several workers, drain."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bimodal.model import load
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server
from tests.realtime.test_http import wait_for
from tests.realtime.test_workers import is_refused
from tests.realtime.wire import HOST, PATIENCE, Client

MODELS = '''
import os, signal, time

class Slow:
    """50 ms a call and 5 ms a row."""
    inputs = {"x": float}
    outputs = {"prediction": float}
    def predict(self, rows):
        time.sleep(0.05 + 0.005 * len(rows["x"]))
        return {"prediction": rows["x"] * 10}

class Deadly:
    """Dies on 13, fails on 7."""
    inputs = {"x": float}
    outputs = {"prediction": float}
    def predict(self, rows):
        if (rows["x"] == 13).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        if (rows["x"] == 7).any():
            raise ValueError("no sevens")
        return {"prediction": rows["x"] * 10}

class Held:
    """Answers when it is let go."""
    inputs = {"x": float}
    outputs = {"prediction": float}
    def predict(self, rows):
        while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
            time.sleep(0.01)
        return {"prediction": rows["x"] * 10}
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    file = folder / "models.py"
    file.write_text(MODELS)
    with load(f"{file}:Deadly", name="deadly") as deadly, load(f"{file}:Slow", name="slow") as slow:
        specs = [deadly.spec(), slow.spec()]
    with Server({"models": specs, "metrics": str(folder / "metrics"), "workers": 2}, workers=2) as server:
        yield server


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that does not wait long for a body."""
    file = tmp_path_factory.mktemp("short") / "models.py"
    file.write_text(MODELS)
    with load(f"{file}:Deadly", name="deadly") as deadly:
        spec = {"models": [deadly.spec()]}
    with Server(spec, limits=Limits(body_timeout=0.5)) as server:
        yield server


def post(server: Server, path: str, body: Any, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()


def ask(server: Server, value: float, model: str = "deadly", **headers: str) -> tuple[int, dict[str, Any]]:
    status, answer, _ = post(server, f"/models/{model}/predict", {"input": {"x": value}}, **headers)
    return status, answer


def test_a_model_that_dies_costs_the_guilty_request_alone(server: Server) -> None:
    values = [float(n) for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = dict(zip(values, pool.map(lambda value: ask(server, value), values), strict=True))
    assert {value for value, (status, _) in answers.items() if status != 200} == {7.0, 13.0}
    assert answers[13.0][1]["code"] == "model_crashed"
    assert answers[7.0][1]["code"] == "model_failed"
    assert all(answers[value][1] == {"prediction": [10 * value]} for value in values if value not in (7, 13))
    assert ask(server, 1.0) == (200, {"prediction": [10.0]})


def test_overload_is_refused_at_once_and_the_others_are_answered(server: Server) -> None:
    def one(number: int) -> tuple[int, float, str | None]:
        start = time.monotonic()
        status, _, fields = post(server, "/models/slow/predict", {"rows": [{"x": 1.0}] * 10})
        return status, time.monotonic() - start, fields.get("retry-after")

    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(one, range(60)))
    counts = Counter(status for status, _, _ in answers)
    assert set(counts) == {200, 429}
    refusals = [(took, int(after or 0)) for status, took, after in answers if status == 429]
    assert all(after >= 1 for _, after in refusals)
    assert min(took for took, _ in refusals) < max(took for status, took, _ in answers if status == 200)


def test_a_deadline_of_the_caller_holds_while_the_model_works(server: Server) -> None:
    start = time.monotonic()
    body = {"rows": [{"x": 1.0}] * 600}  # more than 3 s
    status, answer, _ = post(server, "/models/slow/predict", body, **{"X-Request-Timeout-Ms": "200"})
    assert (status, answer["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - start < 3
    assert ask(server, 2.0, "slow") == (200, {"prediction": [20.0]})


def test_a_line_is_answered_before_the_next_is_sent(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.putrequest("POST", "/models/deadly/predict")
    connection.putheader("Content-Type", "application/x-ndjson")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.sock is not None
    reader = connection.sock.makefile("rb")

    def chunk(value: float) -> bytes:
        line = json.dumps({"x": value}).encode() + b"\n"
        return b"%x\r\n%b\r\n" % (len(line), line)

    def answer() -> Any:
        while True:
            line = reader.readline()
            if line.startswith(b"{"):
                return json.loads(line)

    for value in (1.0, 2.0):
        connection.sock.sendall(chunk(value))
        assert answer() == {"prediction": 10 * value}
    connection.sock.sendall(chunk(7.0))
    failed = answer()
    assert (failed["row"], failed["code"]) == (3, "model_failed")
    connection.sock.sendall(chunk(4.0) + b"0\r\n\r\n")
    assert answer() == {"prediction": 40.0}
    connection.close()


@pytest.mark.parametrize(("rest", "code"), [(b"", "request_timeout"), (b"no size\r\n", "malformed")])
def test_a_stream_that_stays_away_or_breaks_ends_with_an_error_line(
    server: Server, short: Server, rest: bytes, code: str
) -> None:
    with Client(server.port if rest else short.port) as client:
        client.send(b"POST /models/deadly/predict HTTP/1.1\r\n%bcontent-type: application/x-ndjson\r\n" % HOST)
        client.send(b'transfer-encoding: chunked\r\n\r\n13\r\n{"x": 1.0}\n{"x": 2.\r\n')
        client._until(b'{"prediction":10.0}\n\r\n')
        size, line, *end = client.send(rest).everything().split(b"\r\n")
        assert int(size, 16) == len(line)
        assert json.loads(line)["code"] == code
        assert end == [b"0", b"", b""]


def metric(server: Server, name: str, **labels: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return next(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_metrics_are_of_all_workers_and_outlive_one(server: Server) -> None:
    labels = {"model": "deadly", "route": "predict", "code": "200"}
    before = metric(server, "bimodal_requests_total", **labels)
    for _ in range(30):
        assert ask(server, 1.0)[0] == 200
    assert metric(server, "bimodal_requests_total", **labels) == before + 30
    os.kill(server.pids[0], signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if metric(server, "bimodal_requests_total", **labels) == before + 30 and len(server.pids) == 2:
                break
        except OSError:
            time.sleep(0.1)
    assert metric(server, "bimodal_requests_total", **labels) == before + 30


def test_what_was_taken_is_answered_when_the_server_ends(tmp_path: Path) -> None:
    file = tmp_path / "models.py"
    file.write_text(MODELS)
    go = tmp_path / "go"
    go.touch()  # while it is loaded it is tried
    with load(f"{file}:Held", name="held") as held:
        spec = {"models": [held.spec()]}
    answers: list[int] = []
    with Server(spec, limits=Limits(deadline=PATIENCE)) as server:
        go.unlink()
        callers = [threading.Thread(target=lambda: answers.append(ask(server, 1.0, "held")[0])) for _ in range(5)]
        for caller in callers:
            caller.start()
        wait_for(lambda: metric(server, "bimodal_requests_in_flight", model="held") == 5)
        end = threading.Thread(target=server.close)
        end.start()
        wait_for(lambda: is_refused(server.port))
        go.touch()
        end.join()
    for caller in callers:
        caller.join()
    assert answers == [200] * 5
