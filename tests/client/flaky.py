"""A server that behaves badly on purpose: each request gets the next of its acts; it counts what it got."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Self

Act = Callable[[socket.socket], bool]  # True: the connection stays open
PATIENCE = 60.0  # seconds after which a caller who should have left has not


def answer(status: str = "200 OK", body: bytes = b"{}", *headers: str) -> Act:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers]

    def act(connection: socket.socket) -> bool:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return True

    return act


def refuse(status: str, code: str, *headers: str) -> Act:
    """An error of the server."""
    return answer(status, b'{"error":"why","code":"%b","request_id":"1"}' % code.encode(), *headers)


def hang_up(connection: socket.socket) -> bool:
    """Close without a byte."""
    return False


def reset(connection: socket.socket) -> bool:
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return False


def half(connection: socket.socket) -> bool:
    """A part of an answer, then the end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")
    return False


def stall(connection: socket.socket) -> bool:
    """No answer at all, until the caller leaves."""
    connection.settimeout(PATIENCE)
    connection.recv(1)
    return False


def and_leave(act: Act) -> Act:
    """The act, then the end of a connection that seemed to stay."""

    def acted(connection: socket.socket) -> bool:
        act(connection)
        return False

    return acted


class Flaky:
    """Use it in a `with` block. requests: the heads that came, each with its body; connections: how many were made.
    context: for TLS.
    """

    def __init__(self, *acts: Act, context: ssl.SSLContext | None = None) -> None:
        self._acts: Sequence[Act] = acts
        self._context = context
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = self.most = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open += 1
                self.most = max(self.most, self.open)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                while self._acted(connection):
                    pass
            except OSError:
                pass  # the caller left
            connection.close()
        with self._lock:
            self.open -= 1

    def _acted(self, connection: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            data = connection.recv(65536)
            if not data:
                return False
            request += data
        head, _, body = request.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        with self._lock:
            place = len(self.requests)
            self.requests.append(head + b"\r\n\r\n" + body)
        return self._acts[min(place, len(self._acts) - 1)](connection)
