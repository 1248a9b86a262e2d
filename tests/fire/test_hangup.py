"""SIGHUP has a server look again, whenever it comes: a deploy script does not know whether the server is ready yet."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fire.test_reload import wait, write

SLOW = """
import time
from pathlib import Path

Path({begun!r}).touch()
while not Path({go!r}).exists():
    time.sleep(0.05)
"""


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of the signal."""
    (caught,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("command", ["serve", "up"])
def test_one_that_comes_while_the_model_loads_ends_nothing_and_is_remembered(tmp_path: Path, command: str) -> None:
    begun, go, file = tmp_path / "begun", tmp_path / "go", tmp_path / "times.py"
    write(file, 1, SLOW.format(begun=str(begun), go=str(go)))
    (tmp_path / "bimodal.toml").write_text("[models.times]\npath = 'times.py'\nfeatures = ['x']\n")
    asked = [str(file), "--features", "x"] if command == "serve" else []
    line = [sys.executable, "-m", "bimodal", command, *asked, "--port", "0"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait(lambda: catches(process.pid, signal.SIGHUP) or begun.exists())
            assert not begun.exists(), "it is taken before any model is loaded"
            process.send_signal(signal.SIGHUP)
            wait(begun.exists)
            process.send_signal(signal.SIGHUP)
            go.touch()
            assert process.stdout is not None
            assert b"serving times" in process.stdout.readline()
            told = b""
            while b"is looked at again" not in told:
                assert process.stderr is not None
                told = process.stderr.readline()
                assert told, "it ended"
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0
