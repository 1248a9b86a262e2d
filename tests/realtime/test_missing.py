"""A worker that does not come back: the others take its connections, and nobody hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bimodal.realtime.server import Server
from tests.realtime.test_http import wait_for
from tests.realtime.test_workers import pid_of_answer


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
