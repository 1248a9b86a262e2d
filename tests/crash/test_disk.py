"""The model of a power cut knows what it should: each rule that a careful writer keeps is missed when it is broken."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.disk import Disk, all_done, read_log, replay, restore, states
from tests.crash.harness import build
from tests.crash.orders import Orders

CAREFUL = """
import os
os.mkdir("work")
file = os.open("work/new", os.O_WRONLY | os.O_CREAT, 0o600)
os.write(file, b"rows " * 100)
SYNC
folder = os.open(".", os.O_RDONLY)
os.fsync(folder)
os.rename("work/new", "out")
PUBLISH
done = os.open("done", os.O_WRONLY | os.O_CREAT, 0o600)
os.write(done, b"x")
os.fsync(done)
os.fsync(folder)
"""
ROWS = b"rows " * 100
AGAIN = "import contextlib\nwith contextlib.suppress(OSError): os.fsync(file)\nos.fsync(file)"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


def outcomes(shim: Path, home: Path, script: str, **orders: object) -> Iterator[dict[str, bytes]]:
    """What may stand in the folder after a power cut at any call of a script."""
    folder, log = home / "folder", home / "log"
    folder.mkdir()
    disk = Disk(folder)
    told = Orders(home / "orders")
    told.give(folder, log=log, **orders)  # type: ignore[arg-type]  # passed on as they are
    environment = {**os.environ, "LD_PRELOAD": str(shim), "BIMODAL_SHIM": str(home / "orders")}
    subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True)
    assert told["count"] >= 8
    for place, call in enumerate(read_log(log)):
        disk.do(call)
        for _, left in states(disk, place, 10):
            yield {Path(path).name: node.data for path, node in left.items() if not node.folder}


def careful(*, sync: str = "os.fsync(file)", publish: str = "os.fsync(folder)") -> str:
    return CAREFUL.replace("SYNC", sync).replace("PUBLISH", publish)


def torn(found: dict[str, bytes]) -> bool:
    """Whether there is half an output, or the mark of one that is not there."""
    return found.get("out", ROWS) != ROWS or ("done" in found and found.get("out") != ROWS)


def test_a_careful_writer_is_safe(shim: Path, tmp_path: Path) -> None:
    found = list(outcomes(shim, tmp_path, careful()))
    assert len(found) > 100
    assert not any(map(torn, found))
    assert any(each.get("out") == ROWS and each.get("done") == b"x" for each in found)
    assert any("out" not in each for each in found)


@pytest.mark.parametrize(
    ("script", "orders"),
    [
        (careful(sync="pass"), {}),
        (careful(publish="pass"), {}),
        (careful(sync=AGAIN), {"at": 4, "fault": "fail", "error": errno.EIO}),
    ],
    ids=["no fsync of the file", "no fsync of the folder", "a failed fsync tried again"],
)
def test_a_careless_writer_is_found_out(script: str, orders: dict[str, object], shim: Path, tmp_path: Path) -> None:
    assert any(map(torn, outcomes(shim, tmp_path, script, **orders)))


def test_what_was_left_can_be_put_back(shim: Path, tmp_path: Path) -> None:
    for _ in outcomes(shim, tmp_path, careful() + 'os.link("out", "second")\nos.truncate("out", 7)'):
        pass
    folder = tmp_path / "folder"
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir() if each.is_file()}
    disk = Disk(folder)
    restore(all_done(disk), folder)
    after = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir() if each.is_file()}
    assert after == before
    assert (folder / "second").samefile(folder / "out")
    assert (folder / "work").is_dir()


def test_a_log_is_the_whole_truth(shim: Path, tmp_path: Path) -> None:
    """Every call done on the model gives what really stands there."""
    for _ in outcomes(shim, tmp_path, careful() + 'os.link("out", "second")\nos.truncate("out", 7)\nos.rmdir("work")'):
        pass
    folder = tmp_path / "folder"
    real = {each.name: each.read_bytes() for each in folder.iterdir()}
    for each in folder.iterdir():
        each.unlink()
    disk = Disk(folder)
    replay(disk, read_log(tmp_path / "log"))
    told = {Path(path).name: node.data for path, node in all_done(disk).items() if not node.folder}
    assert told == real
