"""Cutting: a proxy before a PostgreSQL server that cuts a connection where a COMMIT goes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path


class Proxy:
    """Listens on a port of this machine. way: `before` (the COMMIT never gets there), `after` (it is done, and no
    answer comes), `killed` (it gets there, and the connection's process is ended at the same time by `end`).
    """

    def __init__(self, folder: str, end: Callable[[], None]) -> None:
        self._server = Path(folder) / ".s.PGSQL.5432"
        self._end = end
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._lock = threading.Lock()
        self._left, self._way = -1, ""
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self, left: int, way: str) -> None:
        """Let so many COMMITs pass, then cut one, then none any more."""
        with self._lock:
            self._left, self._way = left, way

    @property
    def done(self) -> bool:
        """Whether it was cut."""
        return self._left < 0

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._threads:
            each.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                cutting = threading.Event()
                for work in (self._up, self._down):
                    self._threads.append(threading.Thread(target=work, args=(client, server, cutting), daemon=True))
                    self._threads[-1].start()

    def _up(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with contextlib.suppress(OSError), client:
            while data := client.recv(1 << 16):
                way = self._turn() if b"COMMIT\0" in data else ""
                if way == "before":
                    break
                if way == "after":
                    cutting.set()
                server.sendall(data)
                if way == "killed":
                    self._end()
            _shut(server)

    def _down(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with contextlib.suppress(OSError), server:
            while data := server.recv(1 << 16):
                if cutting.is_set():  # the answer to the COMMIT
                    break
                client.sendall(data)
        _shut(client)

    def _turn(self) -> str:
        with self._lock:
            self._left -= 1
            return self._way if self._left == -1 else ""


def _shut(side: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other end was quicker
        side.shutdown(socket.SHUT_RDWR)
