"""A repository that is given damaged files: what was served before goes on, and the reason is told (promise 36)."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bimodal import pack
from tests.formats import damage, mutants
from tests.models import CASES
from tests.realtime import damaging
from tests.realtime.test_repository import Shop
from tests.realtime.times import put

ROW = {"input": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]}


class Asking:
    """A caller of a model, one request after the other. failed: (begun, ended, what came)."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self.sent, self.failed = 0, list[tuple[float, float, str]]()
        self._ask, self._stopped = ask, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            self.sent += 1
            try:
                status = self._ask()
            except OSError as error:
                self.failed.append((begun, time.monotonic(), repr(error)))
            else:
                if status != 200:
                    self.failed.append((begun, time.monotonic(), str(status)))
            time.sleep(0.005)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "models" / "net" / "1").mkdir(parents=True)
    mutants.KINDS["lightgbm"][1](tmp_path / "models" / "net" / "1" / "model.txt")
    shop = Shop(tmp_path / "models", workers=1, features=None, runtime="native", load_timeout=60.0)
    yield shop
    shop.close()


def reloaded(shop: Shop, count: int, seed: int) -> Counter[str]:
    """Damaged files of LightGBM, one after the other, in the place of the one that is served, under calls."""
    file = shop.folder / "net" / "1" / "model.txt"
    whole = file.read_bytes()
    path = "/models/net/predict"
    first = shop.ask(path, ROW)
    assert first[0] == 200, first
    answers, chance = first[1]["prediction"], random.Random(seed)
    found: Counter[str] = Counter()
    damaged: list[tuple[float, float]] = []  # when a file was served that is damaged and loads all the same
    asking = Asking(lambda: shop.ask(path, ROW)[0])
    for _ in range(count):
        replace(file, damage.damaged(whole, chance))
        begun = time.monotonic()
        status, told = shop.load("net")
        if status == 200:
            found["loaded"] += 1
            replace(file, whole)
            assert shop.load("net")[0] == 200
            damaged.append((begun, time.monotonic()))
        else:
            found["refused"] += 1
            assert status == 500, told
            assert told["error"]
            state, reason = shop.states("net")["1"]
            assert (state, bool(reason)) == ("READY", True)
            assert shop.ask(path, ROW)[1]["prediction"] == answers
    asking.stop()
    within = [each for each in asking.failed if any(begin <= each[1] and each[0] <= end for begin, end in damaged)]
    found["requests"], found["failed of a damaged file that loads"] = asking.sent, len(within)
    assert [each for each in asking.failed if each not in within] == []
    assert asking.sent > count
    return found


def replace(file: Path, data: bytes) -> None:
    other = file.with_name(f"{file.name}.new")
    other.write_bytes(data)
    other.rename(file)


def test_the_model_before_goes_on_while_damaged_files_come(shop: Shop) -> None:
    found = reloaded(shop, 5, seed=5)
    assert found["refused"] >= 3


@pytest.mark.soak
def test_the_model_before_goes_on_for_hundreds(shop: Shop) -> None:
    found = reloaded(shop, 300, seed=36)
    print(dict(found))
    assert found["refused"] > 100


@pytest.mark.soak
def test_a_server_of_every_kind_of_file_goes_on_while_they_are_damaged() -> None:
    found = damaging.run(8.0, most=10_000, seed=36, workers=2)
    print(found)
    assert found.pop("processes") >= 3
    assert found.pop("alive")
    assert len(found) == len(mutants.KINDS)
    for each in found.values():
        assert each["refused"] > 0
        assert "FAILED" not in each


@pytest.mark.soak
def test_a_damaged_package_never_gets_as_far_as_its_parser(shop: Shop, tmp_path: Path) -> None:
    place = shop.folder / "packed" / "1"
    pack(CASES["linear"].model, place, sample=CASES["linear"].rows)
    assert shop.load("packed")[0] == 200
    chance = random.Random(36)
    files = [each for each in place.rglob("*") if each.is_file()]
    for number in range(200):
        kept = tmp_path / "kept"
        shutil.copytree(place, kept)
        file = files[number % len(files)]
        before = file.read_bytes()
        replace(file, damage.changed(before, chance))
        status, told = shop.load("packed")
        assert (status, "packed" in told["error"]) == (500, True), (file, told)
        assert shop.states("packed")["1"][0] == "READY"
        shutil.rmtree(place)
        kept.rename(place)
    assert shop.load("packed")[0] == 200


def test_a_file_that_hangs_while_it_is_loaded_keeps_nobody_waiting(tmp_path: Path) -> None:
    put(tmp_path / "slow" / "1", 2)
    shop = Shop(tmp_path, workers=1, load_timeout=5.0)
    try:
        assert shop.factor("/models/slow") == 2
        put(tmp_path / "slow" / "1", 3, "import time; time.sleep(600)")
        status, told = shop.load("slow")
        assert (status, "did not load within 5 s (load_timeout)" in told["error"]) == (500, True)
        assert "load_timeout" in shop.states("slow")["1"][1]
        assert shop.factor("/models/slow") == 2
    finally:
        shop.close()
