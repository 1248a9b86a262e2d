"""What takes the place of a process that died: forked where that is sound, else loaded beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from bimodal.errors import ModelCrashed, ModelError, Unavailable, UsageError
from bimodal.location import Location
from bimodal.model import Model
from bimodal.rows import Rows
from bimodal.runtimes import memory, process, spare
from bimodal.runtimes.isolation import Isolation
from bimodal.runtimes.process import ProcessRuntime, Report
from bimodal.runtimes.spare import outlook
from bimodal.signature import Signature
from tests.fire.killing import children
from tests.models import CASES, IRIS
from tests.runtimes.test_process import MOODY as PLAIN
from tests.runtimes.test_process import alive

pytestmark = pytest.mark.usefixtures("started_anew")

GREEDY = """
        if (x == 18).any():
            ctypes.memset(ctypes.create_string_buffer(2**30), 1, 2**30)
"""
MOODY = PLAIN.replace("        if (x == 17)", f"{GREEDY}        if (x == 17)")
KINDS = """
import pathlib, socket, threading
from moody import Moody as Plain

HERE = pathlib.Path(__file__).parent

def count():
    with open(HERE / "loaded", "a") as file:
        file.write("x")

class Counted(Plain):
    def load(self):
        count()

class Threaded(Counted):
    def load(self):
        count()
        threading.Thread(target=threading.Event().wait, daemon=True).start()

class Connected(Counted):
    def load(self):
        count()
        self.ends = socket.socketpair()
"""
Opened = Callable[..., Model]


def rows(*values: float) -> Rows:
    return Rows({"x": np.array(values)})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    (tmp_path / "moody.py").write_text(MOODY)
    (tmp_path / "kinds.py").write_text(KINDS)
    models: list[Model] = []

    def open_(name: str, wish: str = "auto", **options: Any) -> Model:
        models.append(Model.open(Location.find(f"{tmp_path}/kinds.py:{name}", spare=wish, **options)))
        return models[-1]

    yield open_
    for model in models:
        model.close()


def runtime(model: Model) -> ProcessRuntime:
    assert isinstance(model.runtime, ProcessRuntime)
    return model.runtime


def loads(folder: Path) -> int:
    return len((folder / "loaded").read_text())


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def test_a_model_without_threads_is_loaded_once_and_forked(opened: Opened, tmp_path: Path) -> None:
    model = opened("Counted")
    (mother,) = [each for each in children(os.getpid()) if runtime(model).pid in children(each)]
    assert runtime(model).spare == "forked, shares its memory"
    pids = set()
    for _ in range(3):
        pids.add(runtime(model).pid)
        with pytest.raises(ModelCrashed, match="SIGSEGV"):
            model.run(rows(13))
        assert model.run(rows(1)).array("prediction").tolist() == [2.0]
    assert len(pids | {runtime(model).pid}) == 4
    assert loads(tmp_path) == 1
    os.kill(mother, signal.SIGKILL)  # it takes its fork along; then the model is loaded anew, and forked
    wait(lambda: not alive(mother))
    wait(lambda: not runtime(model)._child.alive())
    assert model.run(rows(2)).array("prediction").tolist() == [4.0]
    assert loads(tmp_path) == 2
    last = runtime(model).pid
    model.close()
    assert not alive(last)


@pytest.mark.parametrize(
    ("name", "reason"), [("Threaded", "have started 1 threads"), ("Connected", "holds 2 files or connections open")]
)
def test_what_a_fork_would_break_is_loaded_beside_it(
    name: str, reason: str, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spare, "LATER", 0.0)
    model = opened(name)
    assert runtime(model).spare.startswith("a second process, ")
    assert reason in runtime(model).spare
    wait(lambda: runtime(model)._succession.ready)
    assert loads(tmp_path) == 2
    with pytest.raises(ModelCrashed):
        model.run(rows(14))
    assert model.run(rows(1)).array("prediction").tolist() == [2.0]
    wait(lambda: runtime(model)._succession.ready)  # another one, for the next time
    assert loads(tmp_path) == 3


def test_a_second_process_is_kept_only_where_there_is_memory_for_it(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spare, "LATER", 0.0)
    monkeypatch.setattr(memory, "free", lambda: 20_000_000)
    model = opened("Threaded")
    assert runtime(model).spare.startswith("none: its libraries have started 1 threads, and a second one would take")
    assert "spare = always" in model.warnings[-1]
    assert runtime(opened("Threaded", "always")).spare.startswith("a second process")
    assert runtime(opened("Threaded", "never")).spare == "none: not asked for"
    with pytest.raises(ModelCrashed):
        model.run(rows(14))
    assert model.run(rows(1)).array("prediction").tolist() == [2.0]


def test_settings_are_judged_before_anything_is_loaded() -> None:
    assert Isolation.of("always", "600MB") == Isolation("always", 600_000_000)
    for spare_, size in (("sometimes", None), ("auto", 0), ("auto", "much")):
        with pytest.raises(UsageError, match=r"one of auto, always, never|model_memory 0|no size"):
            Isolation.of(spare_, size)


def test_a_second_process_is_not_put_on_a_device_unless_it_is_wished_for() -> None:
    told = Report(
        Signature((), ()), {}, (), {}, {}, hindrance="its libraries have started 4 threads", holds=1, device=True
    )
    assert outlook(told).endswith("threads, and a second one would take memory of the same device")
    assert outlook(replace(told, device=False)).startswith("a second process")


def test_who_wants_more_memory_than_allowed_is_told_of_the_setting(opened: Opened) -> None:
    model = opened("Counted", model_memory=400_000_000)
    with pytest.raises(ModelCrashed, match=r"more than the 400 MB of memory that it may hold \(model_memory\)"):
        model.run(rows(18))
    assert model.run(rows(1)).array("prediction").tolist() == [2.0]


def test_a_process_that_holds_too_much_is_ended_from_outside(opened: Opened) -> None:
    with pytest.raises(ModelCrashed, match=r"that loaded the model wanted more than the 1 MB .* \(model_memory\)"):
        opened("Counted", model_memory=1_000_000)


LOADS = """
import time
from moody import Moody

class Hung(Moody):
    def load(self):
        time.sleep(600)

class Grown(Moody):
    def load(self):
        held = []
        while True:
            held.append(bytearray(2**23))
            time.sleep(0.003)
"""


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("Hung", {"load_timeout": 1.0}, r"did not load within 1 s \(load_timeout\)"),
        ("Grown", {"model_memory": 300_000_000}, r"that loaded the model wanted more than the 300 MB of memory"),
    ],
)
def test_what_hangs_or_grows_while_it_is_loaded_is_ended(
    name: str, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Such as the parser of a damaged file."""
    (tmp_path / "moody.py").write_text(PLAIN)
    (tmp_path / "loads.py").write_text(LOADS)
    location = Location.from_spec(Location.find(f"{tmp_path / 'loads.py'}:{name}", **options).spec())
    with pytest.raises((ModelError, ModelCrashed), match=reason):
        Model.open(location, background=False)


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_a_model_has_some_time_to_load(wrong: float) -> None:
    with pytest.raises(UsageError, match=r"load_timeout .*: a model needs some"):
        Isolation.of("never", None, wrong)


def test_a_call_waits_for_a_process_only_so_long(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the model is gone, so that no process takes over: less and less often it is tried again."""
    monkeypatch.setattr(spare, "PAUSES", (0.3, 0.3))
    monkeypatch.setattr(process, "WAIT", 0.3)
    model = opened("Counted", "never")

    async def calls() -> None:
        code = (tmp_path / "kinds.py").read_text()
        (tmp_path / "kinds.py").unlink()
        with pytest.raises(ModelCrashed):
            await model.run_async(rows(14))
        with pytest.raises(Unavailable, match="is being replaced"):
            await model.run_async(rows(1))
        assert not runtime(model).available
        (tmp_path / "kinds.py").write_text(code)
        until = time.monotonic() + 60
        while not runtime(model).available:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        assert (await model.run_async(rows(1))).array("prediction").tolist() == [2.0]

    asyncio.run(calls())


def test_a_model_of_scikit_learn_is_forked_with_all_that_it_has_loaded(tmp_path: Path) -> None:
    """Its libraries start no threads that would forbid it."""
    joblib.dump(CASES["logistic"].model, tmp_path / "flowers.pkl")
    found = Location.find(tmp_path / "flowers.pkl", spare="auto", runtime="native")
    with Model.open(found, background=False) as model:
        assert runtime(model).spare == "forked, shares its memory"
        before = model.predict(IRIS)
        os.kill(runtime(model).pid, signal.SIGKILL)
        wait(lambda: not runtime(model)._child.alive())
        np.testing.assert_array_equal(model.predict(IRIS), before)
