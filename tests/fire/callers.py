"""Callers who ask one question after the other, and count what goes wrong."""

from __future__ import annotations

import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

Judge = Callable[[bytes], bool]  # whether the body of an answer is right


class Caller(threading.Thread):
    """Asks over HTTP/1.1, on one connection for as long as it is open. pause: the most seconds between two questions;
    fresh: on a connection of its own each. tls: what the server's certificate is judged by.

    A question is asked again in one case alone, that of RFC 9112, section 9.3.1: the connection, which had answered
    before, was closed as it should be before a byte of this answer. A reset is a failure.
    """

    def __init__(
        self,
        port: int,
        request: bytes,
        right: Judge,
        pause: float = 0.0,
        *,
        fresh: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.answered = self.again = 0
        self.failed: list[str] = []
        self.over = threading.Event()
        self._port, self._request, self._right = port, request, right
        self._pause, self._fresh, self._tls = pause, fresh, tls
        self._socket: socket.socket | None = None

    def run(self) -> None:
        while not self.over.is_set():
            self._ask()
            self.over.wait(random.uniform(0, self._pause))
        self._close()

    def _ask(self) -> None:
        read = bytearray()
        for _ in range(2):
            used = self._socket is not None and not self._is_closed()
            try:
                if not used:
                    self._connect()
                self._exchange(read)
            except EOFError:
                self._close()
                if used and not read:
                    self.again += 1
                    continue
                self.failed.append(f"closed after {bytes(read)!r}")
            except OSError as error:
                self._close()
                self.failed.append(repr(error))
            return

    def _connect(self) -> None:
        self._close()
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            self._socket = self._tls.wrap_socket(self._socket, server_hostname="localhost")

    def _exchange(self, read: bytearray) -> None:
        assert self._socket is not None
        self._socket.sendall(self._request)
        while b"\r\n\r\n" not in read:
            self._more(read)
        head, _, body = bytes(read).partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            self._more(read)
            body = bytes(read).partition(b"\r\n\r\n")[2]
        if head[9:12] != b"200" or not self._right(body):
            self.failed.append(f"{head!r} {body!r}")
        else:
            self.answered += 1
        if self._fresh or fields.get(b"connection") == b"close":
            self._close()

    def _more(self, read: bytearray) -> None:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            raise EOFError
        read += data

    def _is_closed(self) -> bool:
        """Whether the other side has closed it meanwhile."""
        assert self._socket is not None
        return bool(select.select([self._socket], [], [], 0)[0])

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class RemoteCaller(threading.Thread):
    """Asks over gRPC, as grpcio does by itself: one channel, no policy of tries. tls: the authorities (PEM)."""

    def __init__(
        self, port: int, method: str, message: bytes, right: Judge, pause: float = 0.0, *, tls: bytes | None = None
    ) -> None:
        super().__init__()
        self.answered = self.again = 0
        self.failed: list[str] = []
        self.over = threading.Event()
        place, options = f"localhost:{port}", [("grpc.enable_retries", 0)]
        self._channel: Any = (
            grpc.insecure_channel(place, options)
            if tls is None
            else grpc.secure_channel(place, grpc.ssl_channel_credentials(tls), options)
        )
        self._call = self._channel.unary_unary(method)
        self._message, self._right, self._pause = message, right, pause

    def run(self) -> None:
        while not self.over.is_set():
            try:
                answer = self._call(self._message, timeout=20)
            except grpc.RpcError as error:
                self.failed.append(repr(error))
            else:
                self.answered += 1
                if not self._right(answer):
                    self.failed.append(repr(answer))
            self.over.wait(random.uniform(0, self._pause))
        self._channel.close()


class Callers:
    """Many at once, for as long as the block lasts."""

    def __init__(self, *callers: Caller | RemoteCaller) -> None:
        self.all = callers

    @property
    def answered(self) -> int:
        return sum(each.answered for each in self.all)

    @property
    def again(self) -> int:
        return sum(each.again for each in self.all)

    @property
    def failed(self) -> list[str]:
        return [told for each in self.all for told in each.failed]

    def __enter__(self) -> Self:
        for each in self.all:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.all:
            each.over.set()
        for each in self.all:
            each.join()


def post(path: str, body: bytes) -> bytes:
    """A request of HTTP/1.1."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body
