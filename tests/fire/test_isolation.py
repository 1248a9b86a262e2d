"""Promises 1 to 4: a model that crashes, exits, hangs or eats memory costs its own request an error, and nothing else.

The long forms, with their figures (10 minutes each, on a machine of their own):

    python -m tests.fire.killing children 600    a model's process is killed every 2 s under 70 % load
    python -m tests.fire.killing beside 180      the same beside a server of which nothing is killed
    python -m tests.fire.killing workers 60      a process that holds connections is killed every 10 s
    python -m tests.fire.killing poison 60       1,000 times a row that kills, among good ones
    python tasks.py test tests/fire/test_isolation.py -m soak -s     all of them, judged
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

import bimodal
from bimodal.realtime.server import Server
from tests.fire import killing
from tests.fire.killing import Killer, all_runners, ask, body, children, deaths, is_dead, runners, wait_ready, workers
from tests.fire.load import Load, Outcome, together

MEMORY = 500_000_000
BUSY = (429, 503, 504)  # what a machine that others use adds; the long forms allow none of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mortal")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BIMODAL_NURSERY", raising=False)  # processes are started as a user's are
        with bimodal.serve(killing.model(folder), port=0, workers=2, model_memory=MEMORY) as running:
            yield running


class Caller:
    """Asks for the same harmless row on one connection, again and again, in a thread."""

    def __init__(self, server: Server) -> None:
        self.statuses: list[int] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._connection.connect()
        first = self._connection.sock
        while not self._over.is_set():
            self._connection.request("POST", "/predict", body(4.0), {"content-type": "application/json"})
            with self._connection.getresponse() as answer:
                told = answer.read()
                self.statuses.append(answer.status if answer.status != 200 or b"[8.0]" in told else -1)
            assert self._connection.sock is first, "the connection was closed"

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()


# -- kinds of dying ----------------------------------------------------------------------------------------------------

SUDDEN = {
    1: "SIGSEGV",
    2: "exit code 3",
    3: "SIGABRT",
    4: "SIGSEGV",
    6: "model_memory",
    7: "closed its connection",
    12: "SIGSEGV",
    13: "wrote",
}


def test_whatever_a_model_dies_of_its_own_request_alone_hears_of_it(server: Server) -> None:
    with Caller(server) as caller:
        for deed, sentence in SUDDEN.items():
            status, told = ask(server, float(deed), deed)
            assert (status, told["code"]) == (500, "model_crashed"), told
            assert sentence in told["error"]
        for deed in (5, 8):  # it holds the GIL for ever; it is stopped
            status, told = ask(server, float(deed), deed, within=0.3)
            assert (status, told["code"]) == (504, "deadline_exceeded"), told
        time.sleep(1.2)  # by then it was killed
        assert ask(server, 3.0) == (200, {"prediction": [6.0]})
    assert caller.statuses.count(200) > 10
    assert set(caller.statuses) == {200}


def test_a_model_that_signals_its_group_signals_its_own_processes_alone(server: Server) -> None:
    """As libraries do that end what they have started."""
    before = workers(server)
    with Caller(server) as caller:
        for _ in range(2):
            status, told = ask(server, 209.0, 9)
            assert (status, told["code"]) == (500, "model_crashed"), told
            assert "SIGKILL" in told["error"]
        assert ask(server, 210.0, 10) == (200, {"prediction": [420.0]})  # when it ends is its parent's to decide
    assert set(caller.statuses) == {200}
    assert workers(server) == before


@pytest.mark.parametrize("deed", [11, 12])
def test_what_a_model_has_started_ends_with_its_process(server: Server, folder: Path, deed: int) -> None:
    assert ask(server, 200.0 + deed, deed)[0] == 500
    end = time.monotonic() + 60
    while not is_dead(int((folder / "helper").read_text())):
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.05)


def test_a_model_that_forks_and_comes_back_twice_answers_once(server: Server) -> None:
    with Caller(server) as caller:
        for x in range(20):
            assert ask(server, float(x), 14) == (200, {"prediction": [2.0 * x]})
    assert set(caller.statuses) == {200}


def test_callers_of_grpc_hear_the_same_and_keep_their_connection(server: Server) -> None:
    client = InferenceServerClient(f"127.0.0.1:{server.port}")

    def infer(x: float, deed: int, within: float | None = None) -> Any:
        tensors = [InferInput("x", [1], "FP64"), InferInput("deed", [1], "INT64")]
        tensors[0].set_data_from_numpy(np.array([x]))
        tensors[1].set_data_from_numpy(np.array([deed]))
        return client.infer("Model", tensors, client_timeout=within).as_numpy("prediction").tolist()

    try:
        assert infer(1.0, 0) == [2.0]
        for deed, sentence in SUDDEN.items():
            with pytest.raises(InferenceServerException, match=sentence) as caught:
                infer(100.0 + deed, deed)
            assert caught.value.status() == str(grpc.StatusCode.INTERNAL)
            assert infer(1.0, 0) == [2.0]
        with pytest.raises(InferenceServerException) as caught:
            infer(105.0, 8, within=0.3)
        assert caught.value.status() == str(grpc.StatusCode.DEADLINE_EXCEEDED)
        assert infer(2.0, 0) == [4.0]
    finally:
        client.close()


# -- promise 1 ---------------------------------------------------------------------------------------------------------


def test_processes_of_models_that_are_killed_cost_no_connection_and_hardly_an_answer(server: Server) -> None:
    with Killer(lambda: all_runners(server), 0.25) as killer:
        outcome = killing.under_load(server, 2.0, 60)
    assert killer.killed >= 4
    assert outcome.resets == outcome.hangs == outcome.unconnected == outcome.wrong == 0
    assert outcome.statuses[500] <= 2, outcome.told()  # whose second process was killed too
    assert set(outcome.statuses) <= {200, 500, *BUSY}
    assert outcome.statuses[200] >= 0.5 * outcome.sent, outcome.told()


@pytest.mark.soak
def test_ten_minutes_of_kills(server: Server) -> None:
    with Killer(lambda: all_runners(server), 2.0) as killer:
        outcome = killing.under_load(server, 600.0, 280, deadline_ms=1000)
    print(killer.killed, outcome.told())
    assert killer.killed > 250
    assert outcome.resets == outcome.hangs == outcome.unconnected == outcome.wrong == 0
    assert outcome.statuses[200] >= 0.999 * outcome.sent
    assert max(each.latency for each in outcome.records) <= 1.1


# -- promise 2 ---------------------------------------------------------------------------------------------------------


def poisoned(server: Server, seconds: float, count: float, rate: float) -> tuple[Outcome, Outcome]:
    bodies, expected = killing.harmless()
    url = f"{server.url}/predict"
    bad, good = together(
        Load(url, count / seconds, seconds, [body(77.0, 1)], deadline_ms=2000),
        Load(url, rate, seconds, bodies, expected=expected, deadline_ms=2000),
    )
    return bad, good


def test_a_row_that_kills_is_tried_twice_and_then_no_more(server: Server, folder: Path) -> None:
    before = len(deaths(folder))
    bad, good = poisoned(server, 1.5, 60, 40)
    assert bad.statuses[500] > 0
    assert set(bad.statuses) <= {500, *BUSY}
    assert set(good.statuses) <= {200, *BUSY}
    assert good.statuses[200] >= 0.5 * good.sent, good.told()
    assert good.resets == good.hangs == good.wrong == 0
    assert 2 <= len(deaths(folder)) - before <= 2 * len(workers(server))  # each worker finds out for itself


@pytest.mark.soak
def test_a_thousand_poisoned_requests(server: Server, folder: Path) -> None:
    before = len(deaths(folder))
    bad, good = poisoned(server, 50.0, 1000, 200)
    print(len(deaths(folder)) - before, bad.told(), good.told())
    assert set(bad.statuses) == {500}
    assert good.statuses[200] >= 0.999 * good.sent
    assert good.resets == good.hangs == good.wrong == 0
    assert len(deaths(folder)) - before <= 2 * len(workers(server))


# -- promise 3 ---------------------------------------------------------------------------------------------------------


def test_a_model_without_a_living_process_is_not_ready_until_it_has_one(tmp_path: Path) -> None:
    path = killing.model(tmp_path)
    with bimodal.serve(path, port=0, spare="never") as alone:
        (code,) = tmp_path.glob("*.py")
        kept = code.read_text()
        code.unlink()
        for each in children(workers(alone)[0]):
            os.kill(each, signal.SIGKILL)
        wait_ready(alone, False)
        status, told = ask(alone, 1.0)
        assert (status, told["code"]) == (503, "unavailable")
        assert _model_is_ready(alone) is False
        code.write_text(kept)
        wait_ready(alone, True)
        assert ask(alone, 1.0) == (200, {"prediction": [2.0]})


def _model_is_ready(server: Server) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        ask_ready = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
        name = b"\x0a\x05Model"  # field 1, a text of five letters
        return bool(ask_ready(name, timeout=10) == b"\x08\x01")


def test_a_worker_that_is_killed_takes_its_processes_along(server: Server) -> None:
    worker = workers(server)[0]
    family = [each for child in children(worker) for each in (child, *children(child))]
    assert len(family) >= 2  # one that has loaded the model, and its fork
    os.kill(worker, signal.SIGKILL)
    until = time.monotonic() + 60
    while any(not killing.is_dead(each) for each in family):
        assert time.monotonic() < until, "a process of the model is left"
        time.sleep(0.02)
    while len(workers(server)) < 2 or not all(map(runners, workers(server))):
        assert time.monotonic() < until + 60
        time.sleep(0.02)
    wait_ready(server, True)
    assert ask(server, 1.0) == (200, {"prediction": [2.0]})
