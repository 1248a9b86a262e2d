"""Worker processes: started, killed, restarted, drained, and what their callers see of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bimodal.errors import BimodalError, ModelNotFound
from bimodal.realtime.http import DRAIN_QUIET
from bimodal.realtime.limits import Limits
from bimodal.realtime.server import Server
from bimodal.realtime.workers import error_of
from tests.realtime.test_http import wait_for
from tests.realtime.wire import PATIENCE, Client

TRY_OUT = {"app": "tests.realtime.wire:app"}
ROOT = str(Path(__file__).parents[2])


def pid_of_answer(port: int) -> int:
    with Client(port) as client:
        return int(client.get("/pid").answer().json["pid"])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_all_workers_answer() -> None:
    with Server(TRY_OUT, workers=2) as server:
        assert len(set(server.pids)) == 2
        assert {pid_of_answer(server.port) for _ in range(60)} == set(server.pids)
        pids = server.pids
    assert not any(map(is_running, pids))


def test_a_killed_worker_leaves_its_queue_of_connections_to_its_successor() -> None:
    with Server(TRY_OUT) as server:
        (old,) = server.pids
        os.kill(old, signal.SIGSTOP)
        clients = [Client(server.port).get("/pid") for _ in range(30)]
        os.kill(old, signal.SIGKILL)
        pids = set()
        for client in clients:
            with client:
                pids.add(client.answer().json["pid"])
        assert pids == set(server.pids) != {old}


def test_workers_killed_under_load_cost_only_what_they_had_in_hand() -> None:
    with Server(TRY_OUT, workers=2) as server:
        load = Load(server.port, callers=4, keep=False)
        for _ in range(3):
            load.goes_on(30)
            killed = server.pids[0]
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda killed=killed: len(server.pids) == 2 and killed not in server.pids)  # type: ignore[misc]  # bound at once
        load.goes_on(30)
        load.stop()
        assert load.lost <= 3 * 4  # each kill can hit at most the one request of each caller
        assert load.refused == 0


def test_a_worker_that_drains_under_load_loses_nothing() -> None:
    with Server(TRY_OUT, workers=2, grace=PATIENCE) as server:
        load = Load(server.port, callers=4, keep=True)
        load.goes_on(50)
        old = server.pids[0]
        os.kill(old, signal.SIGTERM)
        wait_for(lambda: len(server.pids) == 2 and old not in server.pids)
        load.goes_on(50)
        load.stop()
        assert (load.lost, load.refused) == (0, 0)


def test_an_error_at_the_start_is_raised_as_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "absent.py").write_text(
        "from bimodal.errors import ModelNotFound\nraise ModelNotFound('no such model')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelNotFound, match="no such model"):
        Server({"app": "absent:app"}, workers=2)


def test_another_exception_at_the_start_is_one_sentence() -> None:
    with pytest.raises(BimodalError, match="cannot start: ModuleNotFoundError: No module named 'nowhere'"):
        Server({"app": "nowhere:app"})


def test_a_worker_that_dies_before_it_is_ready_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BimodalError, match="ended before it was ready: signal SIGSEGV"):
        Server({"app": "dying:app"}, workers=2)


def test_a_worker_that_keeps_dying_is_restarted_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    (tmp_path / "shortlived.py").write_text(
        "import os, threading\n"
        f"open({str(starts)!r}, 'a').write('x')\n"
        "threading.Timer(0.4, os._exit, [3]).start()\n"
        "from tests.realtime.wire import app\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Server({"app": "shortlived:app"}):
        time.sleep(2)
        assert len(starts.read_text()) <= 7
        wait_for(lambda: len(starts.read_text()) >= 3)


def test_workers_end_with_a_parent_that_is_killed() -> None:
    parent = start_parent("print(json.dumps([server.port, *server.pids]), flush=True); time.sleep(60)")
    assert parent.stdout is not None
    port, *pids = json.loads(parent.stdout.readline())
    assert pid_of_answer(port) in pids
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not any(map(is_running, pids)))


def test_a_worker_that_hangs_is_killed_when_the_grace_is_over() -> None:
    server = Server(TRY_OUT, grace=0.1)
    (pid,) = server.pids
    os.kill(pid, signal.SIGSTOP)
    server.close()  # it waits for the worker, which does nothing more by itself
    assert not is_running(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_answers_what_is_in_flight(number: signal.Signals) -> None:
    parent = start_parent("print(json.dumps([server.port]), flush=True); server.wait()")
    assert parent.stdout is not None
    (port,) = json.loads(parent.stdout.readline())
    with Client(port) as client, Client(port) as unused:
        client.in_hand("/later1.0?done")
        wait_for(lambda: hears(parent.pid))
        parent.send_signal(number)
        wait_for(lambda: is_refused(port))
        answer = client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        assert unused.is_closed()
    assert parent.wait(PATIENCE) == 0
    parent.stdout.close()


def test_a_second_signal_ends_at_once() -> None:
    parent = start_parent("print(json.dumps([server.port, *server.pids]), flush=True); server.wait()")
    assert parent.stdout is not None
    port, *pids = json.loads(parent.stdout.readline())
    with Client(port) as client:
        client.in_hand("/never")
        wait_for(lambda: hears(parent.pid))
        parent.terminate()
        wait_for(lambda: is_refused(port))
        assert parent.poll() is None
        parent.terminate()
        assert parent.wait(PATIENCE) == 0
    parent.stdout.close()
    assert not any(map(is_running, pids))


def test_limits_reach_the_workers() -> None:
    with Server(TRY_OUT, limits=Limits(body_bytes=10)) as server, Client(server.port) as client:
        assert client.post("/echo", b"x" * 10).answer().status == 200
        assert client.post("/echo", b"x" * 11).answer().status == 413


def test_errors_are_found_by_their_code() -> None:
    assert type(error_of("model_not_found", "m")) is ModelNotFound
    unknown = error_of("from_the_future", "m")
    assert (type(unknown), unknown.code, unknown.message) == (BimodalError, "from_the_future", "m")


def start_parent(then: str) -> subprocess.Popen[bytes]:
    """A Python process of its own with a server of two workers."""
    code = (
        "import json, time\nfrom bimodal.realtime.server import Server\n"
        f"server = Server({TRY_OUT!r}, workers=2, grace={10 * PATIENCE})\n{then}\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)


def hears(pid: int) -> bool:
    """Whether it has come to `wait`, which takes SIGHUP last of its signals."""
    (caught,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGHUP - 1)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


class Load:
    """Callers that ask one request after the other, each on a connection of its own or (`keep`) on a kept one."""

    def __init__(self, port: int, *, callers: int, keep: bool) -> None:
        self.answered = self.lost = self.refused = 0
        self._port = port
        self._stopped = threading.Event()
        ask: Callable[[], None] = self._keep_asking if keep else self._ask_anew
        self._threads = [threading.Thread(target=self._run, args=(ask,)) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def goes_on(self, count: int) -> None:
        """Wait until so many more are answered."""
        wanted = self.answered + count
        wait_for(lambda: self.answered >= wanted)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, ask: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                ask()
            except ConnectionRefusedError:
                self.refused += 1
            except (EOFError, OSError):
                self.lost += 1

    def _ask_anew(self) -> None:
        with Client(self._port) as client:
            client.get("/later0.001?x").answer()
        self.answered += 1

    def _keep_asking(self) -> None:
        with Client(self._port) as client:
            answered = time.monotonic()
            while not self._stopped.is_set():
                asked = client.get("/later0.001?x")
                quiet = time.monotonic() - answered
                try:
                    answer = asked.answer()
                except (EOFError, OSError):
                    if quiet < DRAIN_QUIET / 2:
                        raise
                    break  # it was not heard of for so long that it counted as idle, and was closed as it asked
                answered = time.monotonic()
                self.answered += 1
                if "connection" in answer.headers:
                    break


def test_successors_take_over_under_load_and_no_request_is_lost() -> None:
    with Server(TRY_OUT, workers=1, grace=PATIENCE) as server:
        load = Load(server.port, callers=4, keep=False)
        kept = Load(server.port, callers=2, keep=True)
        for _ in range(3):
            load.goes_on(20)
            kept.goes_on(20)
            before = server.pids
            server.replace({**TRY_OUT, "anew": True})
            assert len(server.pids) == 1
            assert not set(before) & set(server.pids)
        load.stop()
        kept.stop()
        assert [(each.lost, each.refused) for each in (load, kept)] == [(0, 0), (0, 0)]
        wait_for(lambda: not is_running(before[0]))


def test_successors_that_cannot_start_leave_the_workers_as_they_are() -> None:
    with Server(TRY_OUT, workers=2) as server:
        before = server.pids
        with pytest.raises(BimodalError, match="No module named 'nowhere'"):
            server.replace({"app": "nowhere:app"})
        assert server.pids == before
        assert pid_of_answer(server.port) in before
        server.replace(TRY_OUT)
        assert not set(before) & set(server.pids)
