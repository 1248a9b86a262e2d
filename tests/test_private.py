"""Private folders: gone with their owner, however that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bimodal.private import PrivateFolder

HOLD = "from bimodal.private import PrivateFolder; kept = PrivateFolder(); print(kept.path, flush=True); input()"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_one_of_a_process_that_was_killed_goes_when_the_next_is_made() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        place = Path(process.stdout.readline().strip())
        (place / "metrics").write_text("1")
        PrivateFolder()
        assert (place / "metrics").exists(), "its owner lives"
        process.kill()
    assert place.exists()
    PrivateFolder()
    assert not place.exists()


def test_one_goes_with_the_last_who_refers_to_it(elsewhere: Path) -> None:
    one, other = PrivateFolder(), PrivateFolder()
    assert set(map(str, elsewhere.iterdir())) == {one.path, other.path}
    del one
    assert list(map(str, elsewhere.iterdir())) == [other.path]


def test_what_is_not_such_a_folder_stays(elsewhere: Path) -> None:
    (elsewhere / "bimodal-private-file").write_text("a file")
    (elsewhere / "folder").mkdir()
    (elsewhere / "bimodal-private-link").symlink_to(elsewhere / "folder")
    PrivateFolder()
    assert len(list(elsewhere.iterdir())) == 3


LAID = """
from bimodal.formats import desk
import os, tempfile
with desk.laid():
    place = tempfile.gettempdir()
    open(os.path.join(place, "left"), "w").close()
print(place, flush=True)
input()
"""


def test_so_does_the_folder_of_a_file_that_was_read() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", LAID], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        place = Path(process.stdout.readline().strip())
        PrivateFolder()
        assert place.exists(), "a model may need what is in it"
        process.kill()
    PrivateFolder()
    assert not place.exists()
