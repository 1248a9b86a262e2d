"""Attempt: the process that tries a run once, as the worker sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bimodal.errors import SinkError
from bimodal.jobs.task import Channel, Task

STOPPING = 10.0  # seconds that a child has for ending resumably


class Attempt:
    """A child process, started at once. Its thread must live as long as it: Linux ties the child's life to it.

    why: for what it was told to stop (cancelled, timeout, lease, stop), None while nobody wants it to. What the model
    prints goes into `log`.
    """

    def __init__(self, task: Task, log: Path) -> None:
        self.why: str | None = None
        self.log = log
        self.began = time.monotonic()
        self._kill_at: float | None = None
        mine, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "bimodal.jobs.child", str(theirs.fileno())]
        with theirs, log.open("ab") as printed:
            # A group of its own: Ctrl-C in the terminal is for the parent, which ends its children resumably.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                process_group=0,
            )
        self._channel = Channel(mine)
        self.reply(task)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began

    def fileno(self) -> int:
        return self._channel.fileno()

    def messages(self) -> list[dict[str, Any]]:
        """What the child has said since the last time."""
        return list(self._channel.waiting())

    def reply(self, message: Any) -> None:
        """Tell the child something; one that is gone is noticed by `ended`."""
        try:
            self._channel.send(message)
        except OSError:
            return

    def stop(self, why: str) -> None:
        """Have it end as Ctrl-C would, and, if it does not, at once."""
        if self.why is None:
            self.why = why
            self._kill_at = time.monotonic() + STOPPING
            self._process.terminate()

    def kill(self, why: str) -> None:
        """End it at once; what is durable stays."""
        self.why = self.why or why
        self._process.kill()

    def look(self) -> None:
        """Kill it where it was told to stop and has had its time."""
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._process.kill()

    def how(self) -> str:
        """How the process ended."""
        status = self._process.wait()
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def close(self) -> None:
        self._process.wait()
        self._channel.close()
        with contextlib.suppress(OSError):
            if self.log.stat().st_size == 0:
                self.log.unlink()  # nothing was printed


def log_of(state: Path, run: str) -> Path:
    """Where what a run's processes print stands."""
    folder = state / "runs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder} cannot be made: {error.strerror or error}") from error
    return folder / f"{os.path.basename(run)}.log"
