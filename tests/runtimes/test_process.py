"""A model in a child process: its crash costs an error, never the process that called it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bimodal.errors import ModelCrashed, ModelError, ModelFailed
from bimodal.model import Model, load
from bimodal.rows import Rows
from bimodal.runtimes import exits, process, wire

pytestmark = pytest.mark.usefixtures("started_anew")

MOODY = """
import ctypes, os, sys, time

class Moody:
    inputs = {"x": float}
    outputs = {"prediction": float, "pid": int}

    def predict(self, rows):
        x = rows["x"]
        if (x == 13).any():
            ctypes.string_at(0)
        if (x == 14).any():
            os._exit(3)
        if (x == 15).any():
            raise ValueError("the secret is 4711")
        if (x == 16).any():
            return x[:-1]
        if (x == 17).any():
            time.sleep(60)
        print("the model prints")
        return {"prediction": x * 2, "pid": [os.getpid()] * len(x)}
"""


@pytest.fixture
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr(process, "WAIT", 60.0)  # a call on the loop waits for the next process, however slow its start
    (tmp_path / "moody.py").write_text(MOODY)
    with load(f"{tmp_path}/moody.py:Moody") as model:
        yield model


def rows(*values: float) -> Rows:
    return Rows({"x": np.array(values)})


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_model_runs_in_another_process(moody: Model) -> None:
    answer = moody.run(rows(1, 2), ("prediction", "pid"))
    assert answer.array("prediction").tolist() == [2.0, 4.0]
    assert answer.array("pid")[0] != os.getpid()


@pytest.mark.parametrize(("value", "fate"), [(13, "was killed by SIGSEGV"), (14, "ended with exit code 3")])
def test_after_a_crash_the_next_call_finds_a_new_process(moody: Model, value: float, fate: str) -> None:
    with pytest.raises(ModelCrashed, match=fate):
        moody.run(rows(1, value))
    assert moody.run(rows(1)).array("prediction").tolist() == [2.0]


def test_after_a_crash_the_next_call_on_the_loop_finds_a_new_process(moody: Model) -> None:
    async def calls() -> list[float]:
        with pytest.raises(ModelCrashed, match="SIGSEGV"):
            await moody.run_async(rows(13))
        answers = await asyncio.gather(*(moody.run_async(rows(value)) for value in (1, 2, 3)))
        return [float(answer.array("prediction")[0]) for answer in answers]

    assert asyncio.run(calls()) == [2.0, 4.0, 6.0]


def test_a_process_that_died_between_two_calls_harms_none(moody: Model) -> None:
    pid = int(moody.run(rows(1), ("pid",)).array("pid")[0])
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert moody.run(rows(4)).array("prediction").tolist() == [8.0]


def test_a_cancelled_call_does_not_answer_the_next_one(moody: Model) -> None:
    async def calls() -> float:
        slow = asyncio.create_task(moody.run_async(rows(17)))
        await asyncio.sleep(0.2)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        return float((await moody.run_async(rows(5))).array("prediction")[0])

    assert asyncio.run(calls()) == 10.0


ENDING = """
import asyncio, os, signal, sys, time
from pathlib import Path
import msgspec
import numpy as np
import uvloop
from bimodal.model import load
from bimodal.rows import Rows
from bimodal.runtimes import wire

file = Path(__file__)


class Model:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def __init__(self):
        time.sleep(300 if file.with_suffix(".slow").exists() else 0)

    def predict(self, rows):
        time.sleep(0.0 if (rows["x"] == 0).all() else 300)
        return {"prediction": rows["x"]}


class Talk:
    inputs = {"x": float}
    outputs = {"prediction": float}

    def predict(self, rows):
        while True:
            time.sleep(0.01)
            yield {"prediction": [1.0]}


async def ending(model, what):
    rows = Rows({"x": np.array([1.0])})
    if what == "revival":
        file.with_suffix(".slow").touch()
        os.kill(model.runtime.pid, signal.SIGKILL)
        while model.runtime.available:
            await asyncio.sleep(0.01)
    elif what == "call":
        called = asyncio.create_task(model.run_async(rows))
        await asyncio.sleep(0.3)
    else:
        pieces = await model.runtime.stream_async(rows, ("prediction",), lambda: None)
        await anext(pieces)
        reading = asyncio.create_task(everything(pieces))
        await asyncio.sleep(0.3)


async def everything(pieces):
    async for _ in pieces:
        pass


if __name__ == "__main__":
    what, kind = sys.argv[1:]
    made = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[kind]
    with load(f"{file}:{'Talk' if what == 'stream' else 'Model'}") as model:
        began = time.monotonic()
        with asyncio.Runner(loop_factory=made) as runner:
            runner.run(ending(model, what))
    print(time.monotonic() - began)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("what", ["call", "revival", "stream"])
def test_a_loop_ends_at_once_and_quietly_whatever_is_under_way(what: str, loop: str, tmp_path: Path) -> None:
    file = tmp_path / "ending.py"
    file.write_text(ENDING)
    asked = [sys.executable, "-W", "default", str(file), what, loop]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=250, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert float(told.stdout) < 120  # what is under way takes 300 s


def test_an_error_of_the_model_is_told_without_its_data(moody: Model) -> None:
    with pytest.raises(ModelFailed) as caught:
        moody.run(rows(15))
    assert "ValueError" in str(caught.value)
    assert "4711" not in str(caught.value)
    assert moody.run(rows(1)).count == 1


def test_answers_must_be_as_many_as_rows(moody: Model) -> None:
    with pytest.raises(ModelFailed, match="1 answer"):
        moody.run(rows(1, 16))


def test_closing_ends_the_process(moody: Model) -> None:
    pid = int(moody.run(rows(1), ("pid",)).array("pid")[0])
    moody.close()
    assert not alive(pid)


def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(MOODY)
    script = f"""
        import time
        import numpy as np
        from bimodal import Rows, load
        model = load({str(tmp_path / "moody.py") + ":Moody"!r})
        print(int(model.run(Rows({{"x": np.array([1.0])}}), ("pid",)).array("pid")[0]), flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


def test_a_process_whose_parent_is_gone_while_it_loads_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.5)\n" + MOODY)
    with load(f"{tmp_path}/slow.py:Moody") as model:
        source = model.location.source
    mine, theirs = socket.socketpair()
    ours = wire.Line(mine.detach())
    command = [sys.executable, "-P", "-m", "bimodal.runtimes.child", str(theirs.fileno())]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
    wire.send(ours, {"op": "load", "format": "python", "source": msgspec.to_builtins(source), "memory": None})
    ours.close()
    theirs.close()
    assert child.communicate(timeout=60)[1] == ""
    assert child.returncode == 0


def test_a_model_that_kills_its_process_on_loading_is_told(tmp_path: Path) -> None:
    (tmp_path / "fatal.py").write_text("import os\nos._exit(7)\n")
    with pytest.raises((ModelCrashed, ModelError), match="exit code 7"):
        load(f"{tmp_path}/fatal.py:Model")


HAUNTED = """
import ctypes, multiprocessing, os, time
from pathlib import Path

HERE = Path(__file__).parent
HOW = {how!r}

def loop():
    while True:
        time.sleep(1)

def begin():
    if HOW == "multiprocessing":
        helper = multiprocessing.get_context("fork").Process(target=loop, daemon=True)
        helper.start()
        return helper.pid
    pid = os.fork()
    if not pid:
        loop()
    return pid

class Haunted:
    inputs = {{"x": float}}
    outputs = {{"prediction": float, "helper": int}}
    helper = 0

    def __init__(self):
        if {early}:
            self.helper = begin()

    def predict(self, rows):
        self.helper = self.helper or begin()
        if (rows["x"] == 13).any():
            ctypes.string_at(0)
        if (rows["x"] == 17).any():
            time.sleep(60)
        return {{"prediction": rows["x"] * 2, "helper": [self.helper] * len(rows["x"])}}
"""


@pytest.mark.parametrize("asked", [True, False], ids=["told", "waited"])
@pytest.mark.parametrize("early", [True, False], ids=["init", "call"])
@pytest.mark.parametrize("how", ["multiprocessing", "fork"])
def test_a_process_that_the_model_has_started_keeps_no_call_waiting(
    how: str, early: bool, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not asked:  # a system that does not tell of the end of a process by a file
        monkeypatch.setattr(exits, "_file", lambda pid: None)
    (tmp_path / "haunted.py").write_text(HAUNTED.format(how=how, early=early))
    with load(f"{tmp_path}/haunted.py:Haunted") as model:
        helper = int(model.run(rows(1), ("helper",)).array("helper")[0])
        assert alive(helper)
        with pytest.raises(ModelCrashed, match="SIGSEGV"):
            model.run(rows(13))
        assert model.run(rows(3)).array("prediction").tolist() == [6.0]
        with pytest.raises(ModelCrashed, match="SIGSEGV"):
            asyncio.run(model.run_async(rows(13)))
        assert model.run(rows(4)).array("prediction").tolist() == [8.0]
        until = time.monotonic() + 60
        while alive(helper):
            assert time.monotonic() < until, "it goes on"
            time.sleep(0.02)


def test_what_a_model_raises_is_told_also_where_it_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(
        "class Half:\n    inputs = {'x': float}\n\n    def predict(self, rows):\n        raise KeyError('\\ud800')\n"
    )
    with load(f"{tmp_path}/half.py:Half") as model, pytest.raises(ModelFailed, match="raised KeyError") as caught:
        model.run(rows(1))
    assert str(caught.value.said).startswith("KeyError")


SHY = """
import ctypes, os, time

class Crash:
    inputs = {"x": float}

    def predict(self, rows):
        if (rows["x"] == 0).any():
            ctypes.string_at(0)
        return rows["x"] * 2

class Hang(Crash):
    def predict(self, rows):
        if (rows["x"] == 0).any():
            time.sleep(1000)
        return rows["x"] * 2

class Broken(Crash):
    def __init__(self):
        os._exit(3)
"""


@pytest.mark.parametrize(("name", "fate"), [("Crash", "was killed by SIGSEGV"), ("Hang", "no answer within 2 s")])
def test_a_model_that_dies_of_a_made_up_row_is_loaded_without_one(name: str, fate: str, tmp_path: Path) -> None:
    (tmp_path / "shy.py").write_text(SHY)
    with load(f"{tmp_path}/shy.py:{name}", timeout=2) as shy:
        assert fate in shy.warnings[-1]
        assert shy.run(rows(1, 2)).array("prediction").tolist() == [2.0, 4.0]
        (clone,) = shy.clones(1)
        with clone:
            assert clone.run(rows(3)).array("prediction").tolist() == [6.0]


def test_a_model_that_dies_while_it_loads_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "shy.py").write_text(SHY)
    with pytest.raises(ModelCrashed, match="the process that loaded the model ended with exit code 3"):
        load(f"{tmp_path}/shy.py:Broken")


def test_a_process_that_ends_with_its_parent_is_told_to_nobody() -> None:
    """What waits for it may be slower than the parent's own end."""
    script = (
        "import atexit, time\n"
        "atexit.register(time.sleep, 1.0)\n"  # comes last
        "from bimodal.runtimes import exits\n"
        "from bimodal.runtimes.children import Child\n"
        "take = exits.Exits._take\n"
        "exits.Exits._take = lambda self, file: time.sleep(0.3) or take(self, file)\n"
        "child = Child()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
