"""A supervisor that holds a listening socket, as systemd does, and has one server after the other serve on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds for a server to be ready, or to end
# The variable names the process that it is meant for, which is known only once that is there.
BEGIN = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Handover:
    """The socket, and the server that is to be asked now."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.listening.getsockname()[1]
        self._command = command
        self._environment = dict(environment or {})
        self._folder = tempfile.TemporaryDirectory(prefix="bm")  # short: a socket's name is bounded
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(f"{self._folder.name}/told")
        self._told.settimeout(PATIENCE)
        self.process = self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self.process)
        self.listening.close()
        self._told.close()
        self._folder.cleanup()

    def start(self) -> subprocess.Popen[bytes]:
        """A server that is ready."""
        fd = self.listening.fileno()
        told = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "NOTIFY_SOCKET": f"{self._folder.name}/told"}
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", BEGIN, str(fd), *self._command],
            pass_fds=(fd,),
            env={**os.environ, "PYTHONPATH": path, **told, **self._environment},
        )
        while self._told.recv(100) != b"READY=1":
            pass  # the end of an earlier one
        return process

    def restart(self) -> float:
        """Another server takes over. Seconds from the signal to the end of the old one."""
        old, self.process = self.process, self.start()
        return end(old)


def end(process: subprocess.Popen[bytes]) -> float:
    """SIGTERM; seconds until it has ended, as it should."""
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
    return time.monotonic() - begun
