"""Zygote: processes that write to a database and are killed, forked from one that has everything imported already."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from bimodal.batch.databases.address import ADAPTERS
from tests.batch.databases.writing import write

ROOT = Path(__file__).parent.parent.parent.parent


class Zygote:
    """Starts in a second, forks in milliseconds."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.batch.databases.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: Any, after: float | None = None) -> int:
        """The exit code of `write` in a process of its own; killed after so many seconds, if it is not done by then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        timer = threading.Timer(after if after is not None else 60, _kill, [child])
        timer.start()
        code = int(self._process.stdout.readline())
        timer.cancel()
        timer.join()
        return code

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it is done in this moment
        os.kill(child, signal.SIGKILL)


def _serve() -> None:
    """A line of arguments in; the child's number, then its exit code out."""
    for module, _ in ADAPTERS.values():
        importlib.import_module(f"bimodal.batch.databases.{module}")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _act(json.loads(line))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _act(arguments: list[Any]) -> None:
    try:
        url, mode, key, *others = arguments
        write(url, mode, tuple(key), *others)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve()
