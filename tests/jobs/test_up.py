"""`bimodal up`: server, scheduler and worker in one; it drains, and what it gave back goes on."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bimodal.config import Config, read
from bimodal.errors import UsageError
from bimodal.jobs.up import Choice, Up
from tests.jobs.desk import Desk, children, gone, until

TEXT = """
[jobs.often]
model = "doubled"
input = "in.csv"
output = "sqlite:///shop.db#scores"
mode = "append"
every = "2 s"
overlap = "queue"
priority = "normal"

[[jobs.often.notify]]
on = ["success"]
command = ["sh", "-c", "echo $BIMODAL_RUN >> told"]
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path, TEXT)
    made.rows("in.csv", range(5))
    return made


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def ended(process: subprocess.Popen[str]) -> int:
    """Drain it, and see that nothing stays behind."""
    stopped(process)
    return process.returncode


def stopped(process: subprocess.Popen[str]) -> str:
    """What it has logged, once it is drained."""
    below = children(process.pid)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert all(map(gone, below))
    return log


def test_what_callers_need_is_told(tmp_path: Path) -> None:
    """Where it listens, TLS, certificates and keys, as `bimodal serve` tells them."""
    running = Up.__new__(Up)
    running.config, running.choice = Config(tmp_path), Choice()
    server: Any = SimpleNamespace(
        models=("doubled",), url="https://localhost:8443", grpc="localhost:8443", secure=True, mutual=True,
        listens="0.0.0.0:8443 (all interfaces)", keys="/etc/keys.json",
    )  # fmt: skip
    running.server = server
    assert list(running.told())[:5] == [
        "serving doubled at https://localhost:8443",
        "listens on 0.0.0.0:8443 (all interfaces)",
        "gRPC at localhost:8443 (TLS)",
        "callers show a certificate (mTLS)",
        "callers need a key of /etc/keys.json",
    ]


def test_models_are_served_and_jobs_run_when_they_are_due(desk: Desk) -> None:
    running = desk.start("up", "--port", "0")
    said = lines(running, 5)
    assert "serving doubled at http://127.0.0.1:" in said[0]
    assert said[1].startswith("gRPC at 127.0.0.1:")
    assert ["scheduler and worker: 1 job\n", "often" in said[3], "state: " in said[4]] == [said[2], True, True]
    url = said[0].split(" at ")[1].strip()
    asked = urllib.request.Request(f"{url}/models/doubled/predict", b'{"rows": [{"n": 21}]}')
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert json.load(answer) == {"prediction": [42.0]}
    found: list[Any] = until(lambda: desk.state("SELECT id FROM bimodal_jobs_runs WHERE status = 'succeeded'"), 60)
    until(lambda: (desk.folder / "told").exists())
    log = stopped(running)
    assert running.returncode == 0
    assert re.search(rf"often: run {found[0][0]} succeeded, 5 rows predicted, [\d.]+ s\n", log)
    assert found[0][0] in (desk.folder / "told").read_text().split()
    ((succeeded,),) = desk.state("SELECT count(*) FROM bimodal_jobs_runs WHERE status = 'succeeded'")
    assert desk.sql("SELECT count(*) FROM scores") == [(5 * succeeded,)]


def test_a_run_under_way_is_given_back_and_costs_no_retry(desk: Desk) -> None:
    desk.write(TEXT.replace('every = "2 s"', "retries = 0"))
    slow = desk.mark("slow")
    desk.command("jobs", "run", "often", "--no-wait")
    running = desk.start("up", "--only", "worker")
    until(lambda: desk.state("SELECT 1 FROM bimodal_jobs_runs WHERE parameters LIKE '%digest%'"), 60)
    assert ended(running) == 0
    assert desk.state("SELECT status, lease_until FROM bimodal_jobs_runs") == [("queued", None)]
    slow.unlink()
    running = desk.start("up", "--only", "worker")
    until(lambda: desk.state("SELECT 1 FROM bimodal_jobs_runs WHERE status = 'succeeded'"), 60)
    assert ended(running) == 0
    assert desk.sql("SELECT count(*) FROM scores") == [(5,)]


@pytest.mark.parametrize(
    ("text", "choice", "told"),
    [
        ("", Choice(only="scheduler"), "has no job"),
        (TEXT, Choice(at_once=0), "one at least"),
    ],
)
def test_what_cannot_be_run_is_refused(text: str, choice: Choice, told: str, desk: Desk) -> None:
    desk.write(text)
    with pytest.raises(UsageError, match=told):
        Up(read(desk.folder / "bimodal.toml"), choice)


def test_a_part_alone_says_so(desk: Desk) -> None:
    up = Up(read(desk.folder / "bimodal.toml"), Choice(only="scheduler"))
    up.start()
    try:
        assert next(up.told()) == "scheduler: 1 job"
        assert up.server is None
    finally:
        up.close()


def test_a_model_that_is_replaced_is_served_and_no_request_fails(desk: Desk) -> None:
    """One that cannot be loaded leaves the one before in its place."""
    model = desk.folder / "model.py"
    running = desk.start("up", "--port", "0", "--only", "server")
    url = lines(running, 1)[0].split(" at ")[1].strip()
    answers: list[Any] = []
    before = ""
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            answers.append(asked(url))

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        until(lambda: answers)
        text, first = model.read_text(), named(url)
        put(model, text.replace("* 2", "* 3"))
        until(lambda: first not in (names := [named(url) for _ in range(20)]) and len(set(names)) == 1, 60)
        served = named(url)
        put(model, "raise ImportError('broken')\n")
        assert running.stderr is not None
        while "cannot be served; the one before goes on" not in (line := running.stderr.readline()):
            assert line, "it ended"
            before += line
        assert (answers[-1], named(url)) == (63.0, served)
        put(model, text)
        until(lambda: answers[-1] == 42.0, 60)
    finally:
        enough.set()
        caller.join()
        log = before + stopped(running)
    assert set(answers) == {42.0, 63.0}
    assert "doubled is served as it is now" in log


def put(path: Path, text: str) -> None:
    """As a deployment does: whole, in one step."""
    started = path.with_suffix(".new")
    started.write_text(text)
    started.replace(path)


def asked(url: str) -> Any:
    """The answer, or what kept it from coming."""
    request = urllib.request.Request(f"{url}/models/doubled/predict", b'{"rows": [{"n": 21}]}')
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["prediction"][0]
    except OSError as error:
        return repr(error)


def named(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/models/doubled", timeout=30) as answer:
        return json.load(answer)["version"]


def test_a_state_folder_that_is_removed_is_made_anew(desk: Desk) -> None:
    running = desk.start("up", "--port", "0", "--only", "scheduler")
    worker = desk.start("up", "--only", "worker")
    done = "SELECT 1 FROM bimodal_jobs_runs WHERE status = 'succeeded'"
    try:
        until(lambda: known(desk) and desk.state(done), 60)
        shutil.rmtree(desk.folder / ".bimodal", ignore_errors=True)
        until(lambda: known(desk) and desk.state(done), 60)
    finally:
        assert [ended(each) for each in (running, worker)] == [0, 0]


def known(desk: Desk) -> bool:
    """Whether there is a state yet."""
    there = (desk.folder / ".bimodal/state.db").exists()
    return there and desk.state("SELECT 1 FROM sqlite_master WHERE name = 'bimodal_jobs_runs'") != []
