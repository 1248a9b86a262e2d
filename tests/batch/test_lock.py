"""One output, one process: the second is told who has it; a lock ends with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bimodal.batch.lock import Lock
from bimodal.errors import OutputHeld, SinkError
from tests.batch.sinks.runs import CHUNKS, go, opened, result, work

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from tests.batch.sinks.runs import PLAN, SCHEMA, beside, chunk, mark, opened
sink = opened(Path(sys.argv[1]), "csv")
sink.hold(0, print)
sink.start(PLAN, "run")
sink.settle(SCHEMA, {})
sink.append(mark(0), sink.encode(chunk(0)), beside(0))
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is writing `out.csv`."""
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_has_the_output_and_goes_on_when_it_is_dead(tmp_path: Path) -> None:
    told: list[str] = []
    with holder(tmp_path) as process:
        sink = opened(tmp_path, "csv")
        with pytest.raises(OutputHeld) as caught:
            sink.hold(0.3, told.append)
        sink.release()
        who = f"process {process.pid} on {socket.gethostname()}, since 20"
        assert f"out.csv is being written by {who}" in str(caught.value)
        assert len(told) == 1
        assert who in told[0]
        process.kill()
        process.wait()
        begun = go(opened(tmp_path, "csv"))
    assert begun is not None
    assert begun.chunks == 1
    (tmp_path / "whole").mkdir()
    go(opened(tmp_path / "whole", "csv"))
    assert result(tmp_path, "csv") == result(tmp_path / "whole", "csv")


def test_who_waits_gets_the_output_when_it_is_free(tmp_path: Path) -> None:
    """The first one publishes and takes the folder away that the second one waits for."""
    first, second = opened(tmp_path, "csv"), opened(tmp_path, "csv")
    found: list[object] = []

    def wait() -> None:
        second.hold(60, found.append)
        found.append(second.published())
        second.release()

    thread = threading.Thread(target=wait)

    def begin(step: str) -> None:
        if step == f"chunk {CHUNKS - 1}":
            thread.start()
            while not found:
                time.sleep(0.01)

    go(first, after=begin)
    thread.join()
    assert "waiting up to 60 s" in str(found[0])
    assert found[1] is not None
    assert not work(tmp_path, "csv").exists()


def test_a_lock_on_a_folder_that_was_taken_away_is_none(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "work", "out"), Lock(tmp_path / "work", "out")
    first.take(0, print)
    (tmp_path / "work" / "holder").unlink()
    (tmp_path / "work").rmdir()
    assert first.held
    assert not first.stands
    second.take(0, print)
    assert second.stands
    assert not first.stands
    first.free()
    second.free()


def test_many_at_once_have_it_one_after_another(tmp_path: Path) -> None:
    """Each takes the folder away when it is done, as a publication does."""
    inside, most, done = [0], [0], []

    def work_once() -> None:
        lock = Lock(tmp_path / "work", "out")
        lock.take(60, lambda told: None)
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        inside[0] -= 1
        (tmp_path / "work" / "holder").unlink()
        (tmp_path / "work").rmdir()
        lock.free()
        done.append(1)

    threads = [threading.Thread(target=work_once) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (most[0], len(done)) == (1, 12)


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: int, how: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(SinkError, match=r"no locks \(flock\).*write to a local disk"):
        opened(tmp_path, "csv").hold(0, print)
