"""The cache: a model is verified once a machine, and again when anything changed on which its answers depend."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import msgspec
import pytest
from sklearn.tree import DecisionTreeClassifier

from bimodal.compile import cache as caches
from bimodal.compile.cache import Cache
from bimodal.compile.process import compiled
from bimodal.compile.report import FILE, Report
from bimodal.field import Field
from bimodal.formats.contract import Source
from tests.models import IRIS, NAMES

NAME = "0f" * 32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("tree") / "model.joblib"
    joblib.dump(DecisionTreeClassifier(random_state=0).fit(IRIS, NAMES), path)
    return Source(str(path))


@pytest.fixture(scope="module")
def done(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a compilation leaves it."""
    folder = tmp_path_factory.mktemp("done")
    assert compiled("sklearn", source, folder).runtimes == ("exact",)
    return folder


@pytest.fixture
def cache(tmp_path: Path, done: Path) -> Cache:
    """With that one entry."""
    made = Cache(tmp_path / "cache")
    folder = made.workspace()
    for each in done.iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    made.publish(NAME, folder)
    return made


def change(cache: Cache, **values: Any) -> None:
    folder = cache.folder / NAME
    msgspec.structs.replace(Report.load(folder), **values).save(folder)
    (folder / caches.SEAL).write_text(hashlib.sha256((folder / FILE).read_bytes()).hexdigest())


def test_what_was_published_is_found_and_opens(cache: Cache) -> None:
    found = Cache(cache.folder).find(NAME)
    assert found is not None
    report, folder = found
    assert report.open(folder, "exact").name == "exact"
    assert cache.find("ee" * 32) is None


def test_it_is_the_users_own(cache: Cache) -> None:
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert (cache.folder / NAME).stat().st_mode & 0o777 == 0o700


def test_another_version_of_a_library_is_another_model(cache: Cache) -> None:
    report, _ = cache.find(NAME) or pytest.fail("nothing was found")
    assert {"numpy", "scikit-learn", "skl2onnx", "onnxruntime"} <= set(report.dists)
    change(cache, dists={**report.dists, "scikit-learn": "1.0"})
    assert cache.find(NAME) is None


def test_a_library_that_was_absent_and_is_here_now_is_worth_another_try(cache: Cache) -> None:
    change(cache, dists={"skl2onnx": ""})
    assert cache.find(NAME) is None


@pytest.mark.parametrize("what", ["python", "processor", "bimodal", "kernels", "system"])
def test_another_place_is_another_machine(what: str, cache: Cache) -> None:
    report, _ = cache.find(NAME) or pytest.fail("nothing was found")
    assert what in report.place
    change(cache, place={**report.place, what: "other"})
    assert cache.find(NAME) is None


@pytest.mark.parametrize("file", ["exact.npz", FILE])
def test_a_damaged_entry_is_none(file: str, cache: Cache) -> None:
    path = cache.folder / NAME / file
    path.write_bytes(path.read_bytes()[:-10])
    assert cache.find(NAME) is None


def test_a_report_with_any_bit_flipped_is_none(cache: Cache) -> None:
    file = cache.folder / NAME / FILE
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.find(NAME) is None
    file.write_bytes(whole)
    assert cache.find(NAME) is not None


def test_a_crash_is_tried_again_after_a_day(cache: Cache) -> None:
    change(cache, settled=False)
    assert cache.find(NAME) is not None
    day_old = time.time() - 90_000
    os.utime(cache.folder / NAME / FILE, (day_old, day_old))
    assert cache.find(NAME) is None


def test_what_is_damaged_is_made_anew_and_what_is_there_is_not(cache: Cache, source: Source) -> None:
    (cache.folder / NAME / "exact.npz").write_bytes(b"")
    report, folder = cache.compiled(NAME, "sklearn", source)
    assert report.open(folder, "exact").name == "exact"
    nowhere = Source("/nowhere.joblib")
    assert cache.compiled(NAME, "sklearn", nowhere) == (report, folder)


def test_a_folder_of_anothers_is_left_alone(
    cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture, source: Source
) -> None:
    cache.folder.chmod(0o777)
    other = Cache(cache.folder)
    assert other.find(NAME) is None
    assert "other users can write" in caplog.text
    folder = other.workspace()
    assert other.publish(NAME, folder) == folder
    assert cache.folder not in folder.parents
    (tmp_path / "link").symlink_to(tmp_path)
    assert Cache(tmp_path / "link").find(NAME) is None


def test_two_processes_at_once_compile_once(tmp_path: Path, source: Source) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from bimodal.compile import cache, process
        from bimodal.formats.contract import Source
        compiled = cache.compiled
        def counted(*given, **more):
            Path({str(tmp_path)!r}, f"made-{{sys.argv[1]}}").touch()
            return compiled(*given, **more)
        cache.compiled = counted
        kept = cache.Cache(Path({str(tmp_path / "cache")!r}))
        report, folder = kept.compiled({NAME!r}, "sklearn", Source({source.path!r}))
        print(report.live, folder.name)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    running = [subprocess.Popen([*command, number], stdout=subprocess.PIPE, text=True) for number in "12"]
    assert [each.communicate(timeout=300)[0] for each in running] == [f"exact {NAME}\n"] * 2
    assert len(list(tmp_path.glob("made-*"))) == 1


def test_a_waiting_one_gives_up_when_it_is_no_longer_wanted(cache: Cache) -> None:
    cancel = threading.Event()
    passed = threading.Event()

    def wait() -> None:
        with cache.lock(NAME, cancel):
            passed.set()

    with cache.lock(NAME):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not passed.wait(0.3)
        cancel.set()
        assert passed.wait(60)
    thread.join()


def test_what_was_used_longest_ago_goes_first(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "MOST", 3)
    for number, name in enumerate(("aa", "bb", "cc", "dd")):
        folder = cache.workspace()
        (folder / FILE).write_bytes(b"{}")
        assert cache.find(NAME) is not None  # it is used in between
        os.utime(cache.publish(name, folder), (number, number))
    left = {each.name for each in cache.folder.iterdir() if each.is_dir()} - {"locks"}
    assert left == {NAME, "cc", "dd"}


def test_the_key_covers_what_decides_how_a_model_is_loaded(tmp_path: Path) -> None:
    code = tmp_path / "own"
    code.mkdir()
    (code / "steps.py").write_text("A = 1\n")
    base = Source("/a/model.joblib", (str(code),), (Field("x", "float64"),), ("x",))
    keys = [
        caches.key("d1", "sklearn", base),
        caches.key("d2", "sklearn", base),
        caches.key("d1", "skops", base),
        caches.key("d1", "sklearn", base, "onnx"),
        caches.key("d1", "sklearn", replace(base, sample=None)),
        caches.key("d1", "sklearn", replace(base, features=("y",))),
    ]
    (code / "steps.py").write_text("A = 2\n")
    keys.append(caches.key("d1", "sklearn", base))
    assert len(set(keys)) == len(keys)
    assert caches.key("d1", "sklearn", replace(base, path="/b/copy.joblib")) == keys[-1]


def test_the_users_folder(tmp_path: Path) -> None:
    assert caches.root({"BIMODAL_CACHE": "/c"}) == Path("/c")
    assert caches.root({"XDG_CACHE_HOME": "/x"}) == Path("/x/bimodal")
    assert caches.root({}) == Path.home() / ".cache" / "bimodal"


def test_the_report_is_plain_json(done: Path) -> None:
    values = json.loads((done / FILE).read_text())
    assert values["live"] == "exact"
