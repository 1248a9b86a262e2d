"""A package that is changed between its check and its use: what was checked is what answers."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import bimodal
from bimodal import package
from bimodal.errors import PackageDamaged
from bimodal.secluded import Copy, is_exposed

ROWS = np.array([[1.0], [2.0]])


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A package of a model that answers as it is asked, and beside it `other.pkl`, of one that answers ten times that;
    both are files of the same length."""
    for name, factor in (("model", 1.0), ("other", 10.0)):
        joblib.dump(LinearRegression().fit(ROWS, ROWS[:, 0] * factor), tmp_path / f"{name}.pkl")
    made = bimodal.pack(tmp_path / "model.pkl", tmp_path / "packed", sample=ROWS, runtime="native")
    assert (tmp_path / "model.pkl").stat().st_size == (tmp_path / "other.pkl").stat().st_size
    return made


def test_what_is_exposed(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    (place / "file").write_text("x")
    assert not is_exposed(tmp_path, ["a/b/file"])
    assert not is_exposed(Path("/"), ["etc/hostname"])
    for each, mode in ((place / "file", 0o666), (place, 0o777), (tmp_path / "a", 0o775), (tmp_path, 0o703)):
        before = each.stat().st_mode
        each.chmod(mode)
        assert is_exposed(tmp_path, ["a/b/file"]), each
        assert is_exposed(place, ["file"]), each
        each.chmod(before)
    place.chmod(0o1777)  # as /tmp
    assert not is_exposed(tmp_path, ["a/b/file"])
    if os.geteuid() == 0:
        os.chown(place / "file", 65534, -1)
        assert is_exposed(tmp_path, ["a/b/file"])


def test_a_copy_is_the_users_own_and_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"content")
    copy = Copy(tmp_path, ["a/b"])
    path = copy.path
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "a" / "b").read_bytes() == b"content"
    del copy
    assert not path.exists()


@pytest.mark.parametrize("exposed", [True, False])
def test_a_swap_after_the_check(packed: Path, exposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only its owner can write, who could do worse, the folder itself is read: so this test can fail."""
    packed.chmod(0o777 if exposed else 0o755)
    opened = package.open

    def swapping(path: str | Path) -> package.Package:
        found = opened(path)
        _swap(packed, packed.parent / "other.pkl")
        return found

    monkeypatch.setattr(package, "open", swapping)
    with bimodal.load(packed) as model:
        assert model.predict(ROWS).tolist() == pytest.approx([1.0, 2.0] if exposed else [10.0, 20.0])


def test_a_copy_that_is_damaged_names_the_package(packed: Path) -> None:
    packed.chmod(0o777)
    _swap(packed, packed.parent / "other.pkl")
    with pytest.raises(PackageDamaged, match=f"{packed}: model/model.pkl is not as it was packed: its SHA-256"):
        bimodal.load(packed)


def test_swaps_at_any_time(packed: Path) -> None:
    assert _swapped(packed, loads=2, swaps=20) >= 20


@pytest.mark.soak
def test_ten_thousand_swaps(packed: Path) -> None:
    print(f"{_swapped(packed, loads=50, swaps=10_000)} swaps")


def _swapped(packed: Path, loads: int, swaps: int) -> int:
    """Load while the model's file is swapped to and fro; how often it was. What is loaded is what was packed."""
    packed.chmod(0o777)
    refused = done = 0
    with _swapping(packed) as count:
        while done < loads or refused < 3 or count[0] < swaps:
            try:
                model = bimodal.load(packed)
            except PackageDamaged:
                refused += 1
            else:
                with model:
                    assert model.predict(ROWS).tolist() == pytest.approx([1.0, 2.0])
                done += 1
    return count[0]


@contextmanager
def _swapping(packed: Path) -> Iterator[list[int]]:
    count, over = [0], threading.Event()
    good = packed.parent / "model.pkl"

    def swap() -> None:
        while not over.wait(random.uniform(0, 0.004)):
            _swap(packed, packed.parent / "other.pkl" if count[0] % 2 else good)
            count[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


def _swap(packed: Path, other: Path) -> None:
    """Another file in the place of the model's, in one step."""
    with tempfile.NamedTemporaryFile(dir=packed.parent, delete=False) as beside:
        beside.write(other.read_bytes())
    os.rename(beside.name, packed / "model" / "model.pkl")
