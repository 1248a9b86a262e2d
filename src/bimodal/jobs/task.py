"""Task: what one attempt of a run is told, and the words between it and the worker: a line of JSON each."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bimodal.config.tables import JobTable, ModelTable

READ = 1 << 16  # bytes taken from the socket at once


@dataclass(frozen=True)
class Task:
    """One attempt. job: the job's name; table, model: what stands in the file. models_name: what the model is called.
    run, due: of the run. settled: whether the parameters are those of an earlier attempt. memory, files: what the
    job's last successful run left. folder: relative paths are taken from there. state: the state folder. parent: the
    process that is not to be outlived. path: where Python finds modules.
    """

    job: str
    table: JobTable
    models_name: str
    model: ModelTable
    run: str
    due: float
    folder: str
    state: str
    parent: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    settled: bool = False
    memory: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    path: tuple[str, ...] = ()


class Channel:
    """One end of the socket between a worker and its child."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._read = bytearray()

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: Any) -> None:
        """Raises OSError where the other side is gone."""
        self._end.sendall(msgspec.json.encode(message) + b"\n")

    def receive(self) -> bytes | None:
        """The next line, whenever it comes; None: the other side is gone."""
        while b"\n" not in self._read:
            if not self._take():
                return None
        line, _, rest = bytes(self._read).partition(b"\n")
        self._read[:] = rest
        return line

    def waiting(self) -> Iterator[dict[str, Any]]:
        """The messages that are there, without waiting for more."""
        self._end.setblocking(False)
        try:
            while self._take():
                pass
        except BlockingIOError:
            pass  # all that was there has been taken
        finally:
            self._end.setblocking(True)
        *lines, rest = bytes(self._read).split(b"\n")
        self._read[:] = rest
        for line in lines:
            yield msgspec.json.decode(line)

    def close(self) -> None:
        self._end.close()

    def _take(self) -> bool:
        """Take what has come; False at the end."""
        try:
            data = self._end.recv(READ)
        except ConnectionError:
            return False
        self._read += data
        return bool(data)
