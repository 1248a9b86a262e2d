"""A worker that was killed is followed at once, and what was proven of its model is not proven again."""

from __future__ import annotations

import json
import math
import os
import signal
import urllib.request
from pathlib import Path

import bimodal
from bimodal.location import Location
from bimodal.realtime.attended import Worker
from bimodal.realtime.job import Job
from bimodal.realtime.limits import Limits
from bimodal.realtime.named import look
from bimodal.realtime.server import Server
from bimodal.realtime.stock import Held
from bimodal.verification import known
from tests.fire.killing import children, wait_ready
from tests.fire.successors import saved
from tests.realtime.test_http import wait_for


def runtime(server: Server) -> str:
    with urllib.request.urlopen(f"{server.url}/models", timeout=10) as answer:
        return str(json.load(answer)[0]["runtime"])


def test_what_follows_a_worker_begins_with_the_form_that_was_proven(tmp_path: Path) -> None:
    path = saved("light", tmp_path)
    with bimodal.load(path, runtime="auto") as model:
        model.warm_up()
    with bimodal.serve(path, port=0, runtime="auto") as server:
        pid = server.pids[0]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: server.pids not in ([], [pid]), 60)
        wait_ready(server, True)
        assert runtime(server) == "exact"  # at its first answer: not only when it was proven once more
        assert children(server.pids[0]) == []  # none loaded the model, none proves it


def test_a_copy_has_the_report_of_its_original_unless_its_bytes_or_its_code_are_others(tmp_path: Path) -> None:
    path = saved("light", tmp_path)
    (tmp_path / "beside.py").write_text("")
    original = Location.find(path, runtime="auto")
    with bimodal.load(path, runtime="auto") as model:
        model.warm_up()
    found = known(original)
    assert found is not None

    def copied() -> Location:
        (named,) = look([original.spec()])["light"]
        return Location.from_spec(Held.take(named, {}).spec)

    copy = copied()
    assert (copy.source.path != original.source.path, copy.source.code) == (True, (str(tmp_path),))
    assert known(copy) == found
    assert known(Location.find(path, runtime="auto", code=tmp_path)) is None  # named, so it counts
    path.write_bytes(path.read_bytes() + b"\0")
    assert known(copied()) is None


def test_the_first_restart_is_at_once_and_those_after_it_later_and_later() -> None:
    worker = Worker(0, (), Job({}, Limits(), 0, 0, 0.0, []))
    assert [worker.restart_soon() for _ in range(4)] == [0.0, 0.05, 0.1, 0.2]
    worker.ready_at = 0.0  # it has served for long
    assert worker.restart_soon() == 0.0
    worker.ready_at = math.inf
    assert worker.restart_soon() == 0.05
