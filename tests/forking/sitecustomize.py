"""Where the environment names a nursery, the processes of models come from there (see tests/nursery.py).

Python imports this file at its start, because its folder stands in the PYTHONPATH of what tests run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

NAMED = "BIMODAL_NURSERY"  # the environment's name for the socket of the nursery
MODULES = ("bimodal.runtimes.child", "bimodal.compile.child")  # what it can run
OPTIONS = {"pass_fds", "stdin", "stdout", "env", "cwd", "process_group"}  # that it knows
LENGTH = 1 << 18  # bytes of the longest request: the environment
Started = subprocess.Popen  # as it was


class Popen(Started):  # type: ignore[type-arg] # its text or bytes are the caller's
    """The process that is asked for: forked where that is possible."""

    def __new__(cls, command: Any, *_: Any, **options: Any) -> Any:
        forked = _forked(command, options) if cls is Popen else None
        return object.__new__(cls) if forked is None else forked


def _forked(command: Any, options: dict[str, Any]) -> Forked | None:
    place = os.environ.get(NAMED)
    if place is None or set(options) != OPTIONS or options["stdout"] != 2:
        return None
    if not isinstance(command, list) or command[:3] != [sys.executable, "-P", "-m"] or command[3] not in MODULES:
        return None
    request = {"words": command, "environment": dict(options["env"]), "folder": str(options["cwd"] or os.getcwd())}
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LENGTH)
    channel.connect(place)
    socket.send_fds(channel, [json.dumps(request).encode()], [*options["pass_fds"], 2])
    pid = int(channel.recv(64))
    if pid:
        return Forked(pid, channel)
    channel.close()
    return None  # it is not as the nursery is


class Forked:
    """What is asked of a `subprocess.Popen`, of a process that the nursery has forked."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._channel = channel
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        return self._told(0.0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._told(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def _told(self, timeout: float | None) -> int | None:
        """How it ended, as soon as that is told, or after the timeout None."""
        with self._lock:
            if self.returncode is None and self._readable(timeout):
                self.returncode = int(self._channel.recv(64) or -signal.SIGKILL)  # nothing: the nursery itself is gone
                self._channel.close()
            return self.returncode

    def _readable(self, timeout: float | None) -> bool:
        watched = select.poll()
        watched.register(self._channel, select.POLLIN)
        return bool(watched.poll(None if timeout is None else timeout * 1000))

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


if __name__ == "sitecustomize" and NAMED in os.environ:
    subprocess.Popen = Popen  # type: ignore[misc,assignment] # for what this process starts
