"""A restart loses nothing: SIGTERM under load, the socket handed over to the next server (promise 6)."""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from pathlib import Path

import pytest

from tests.fire.callers import Caller, Callers, RemoteCaller, post
from tests.fire.handover import Handover
from tests.realtime.certificates import Authority

LIVE = "/inference.GRPCInferenceService/ServerLive"
LONGEST = 30.0  # seconds of a drain
MODEL = """
import os

class Model:
    def load(self):
        self.file = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def predict(self, rows: list[list[float]]) -> list[float]:
        os.write(self.file, b"." * len(rows))
        return [sum(row) for row in rows]
"""


def test_servers_follow_each_other_on_one_socket(tmp_path: Path) -> None:
    """While callers ask: what each has answered is what it has written down."""
    count = tmp_path / "count"
    command = [sys.executable, "-m", "tests.fire.counted"]
    with Handover(command, {"BIMODAL_TEST_COUNT": str(count)}) as served:
        echo, later = post("/echo", b"[1]"), post("/later0.1?x", b"")
        callers = Callers(
            *(Caller(served.port, echo, b"[1]".__eq__, pause) for pause in (0.01, 0.05, 1.5)),
            Caller(served.port, later, b"x".__eq__),
            Caller(served.port, echo, b"[1]".__eq__, 0.05, fresh=True),
            RemoteCaller(served.port, "/test.Test/Echo", b"[1]", b"[1]".__eq__, 0.02),
        )
        with callers:
            drains = [served.restart() for _ in range(3)]
            time.sleep(0.2)
    assert callers.failed == []
    assert max(drains) < LONGEST
    asked = [each for each in callers.all if isinstance(each, Caller)]
    assert min(each.answered for each in callers.all) > 3
    assert count.stat().st_size == sum(each.answered for each in asked)  # what was asked again had not been begun


@pytest.mark.soak
@pytest.mark.parametrize("secure", [False, True], ids=["clear text", "TLS"])
def test_fifty_restarts_under_load(tmp_path: Path, secure: bool) -> None:
    """`bimodal serve` itself. BIMODAL_TEST_TRIALS: another number of restarts."""
    count, model = tmp_path / "count", tmp_path / "sums.py"
    model.write_text(MODEL.format(path=str(count)))
    command = [sys.executable, "-m", "bimodal", "serve", f"{model}:Model", "--workers", "2"]
    authority = Authority(tmp_path)
    pair = authority.issue("server", ["localhost"])
    command += ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)] if secure else []
    tls = ssl.create_default_context(cafile=authority.path) if secure else None
    authorities = authority.path.read_bytes() if secure else None
    restarts = int(os.environ.get("BIMODAL_TEST_TRIALS", "50"))
    with Handover(command) as served:
        asked = post("/predict", json.dumps({"input": [[1, 2]]}).encode())
        before = count.stat().st_size if count.exists() else 0
        callers = Callers(
            *(Caller(served.port, asked, _is_right, pause, tls=tls) for pause in (0.0, 0.01, 0.01, 0.1, 0.5, 1.0, 1.5)),
            Caller(served.port, asked, _is_right, 0.05, fresh=True, tls=tls),
            *(
                RemoteCaller(served.port, LIVE, b"", b"\x08\x01".__eq__, pause, tls=authorities)
                for pause in (0.02, 1.0)
            ),
        )
        with callers:
            drains = [served.restart() for _ in range(restarts)]
            time.sleep(0.5)
    counted = sum(each.answered for each in callers.all if isinstance(each, Caller))
    done = count.stat().st_size - before
    print(
        f"{restarts} restarts, {callers.answered} answers, {len(callers.failed)} failed, {callers.again} asked again, "
        f"drains {min(drains):.1f} to {max(drains):.1f} s, {done} rows for {counted} answers"
    )
    assert callers.failed == []
    assert max(drains) < LONGEST


def _is_right(body: bytes) -> bool:
    return bool(json.loads(body)["prediction"] == [3.0])
