"""Connections of a Client: kept open, shared by threads, no more than a bound."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from time import monotonic

from bimodal.client.address import Address
from bimodal.client.failure import failure
from bimodal.client.patience import Cut, Patience, ended, not_reached
from bimodal.client.question import Answer, Question
from bimodal.client.reading import Reading, Written

REST = 1.0  # seconds after which an idle connection is looked at before it is used
PIECE = 1 << 18


class Connection:
    """One connection. Whoever has it, has it alone."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, patience: Patience) -> None:
        """Raises Cut, DeadlineExceeded."""
        try:
            made = socket.create_connection((address.host, address.port), timeout=patience.left)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = made if context is None else _secured(made, context, address.host)
        except TimeoutError:
            raise patience.late() from None
        except ssl.SSLCertVerificationError as error:
            raise patience.distrusted(error) from error
        except OSError as error:
            raise not_reached(error, address.host) from error
        self._reading = Reading()
        self._secure = context is not None
        self.used = False
        self.idle_since = 0.0

    def ask(self, request: bytes, patience: Patience, sink: Callable[[bytes], None] | None = None) -> Reading:
        """Send a request, read up to the end of its answer (with a sink: of its head). Raises Cut, DeadlineExceeded."""
        reading = self._reading
        reading.begin(sink)
        try:
            self._send(request, patience)
            while not (reading.headed if sink else reading.done):
                self.more(patience)
        except TimeoutError:
            raise patience.late() from None
        except OSError as error:
            raise ended(error, begun=reading.begun, stale=self.used, secure=self._secure) from error
        self.used = True
        return reading

    def next(self, patience: Patience) -> None:
        """Read more of an answer that has begun. Raises Cut, DeadlineExceeded."""
        try:
            self.more(patience)
        except TimeoutError:
            raise patience.late() from None
        except OSError as error:
            raise ended(error, begun=True) from error

    def _send(self, request: bytes, patience: Patience) -> None:
        self._socket.settimeout(patience.left)
        try:
            self._socket.sendall(request)
        except TimeoutError:
            raise
        except OSError:  # closed before all was sent: an answer that says why may be there
            try:
                self.more(patience)
            except ssl.SSLError as alert:
                raise ended(alert) from alert
            except (OSError, Cut):
                pass
            if not self._reading.begun:
                raise

    def more(self, patience: Patience) -> None:
        """Read what there is of an answer."""
        self._socket.settimeout(patience.left)
        data = self._socket.recv(PIECE)
        if not data:
            raise ended(None, begun=self._reading.begun, stale=self.used, secure=self._secure)
        self._reading.feed(data)

    @property
    def open(self) -> bool:
        """Whether the other side has not closed it while it was idle."""
        if isinstance(self._socket, ssl.SSLSocket):
            return False  # cannot be looked at without being read
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)  # its end, or bytes that nobody asked for
        except BlockingIOError:
            return True
        except OSError:
            pass  # it is broken: not open either
        return False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _secured(made: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(made, server_hostname=host)
    except BaseException:
        made.close()
        raise


class Pool:
    """At most `most` connections to one server; who finds none free waits for one, within its patience."""

    def __init__(self, address: Address, key: str | None, context: ssl.SSLContext | None, most: int) -> None:
        self._address = address
        self._context = context
        self._written = Written(address, key)
        self._most = most
        self._idle: list[Connection] = []
        self._count = 0
        self._free = threading.Condition()
        self._process = os.getpid()

    def ask(self, question: Question, patience: Patience) -> Answer:
        """One try. Raises Cut, DeadlineExceeded."""
        connection = self.take(patience, safe=question.safe)
        keep = False
        try:
            request = self._written.request(question, patience.left)
            reading = connection.ask(request, patience)
            keep = reading.keep
            return reading.answer
        finally:
            self.give(connection, keep=keep)

    def stream(self, question: Question, patience: Patience) -> Generator[bytes]:
        """One try of an answer in pieces: first nothing, once its head is good. Closing it closes the connection.
        The server is told the whole timeout, which each further piece has anew. Raises Cut, DeadlineExceeded, and the
        error that is answered.
        """
        connection = self.take(patience, safe=question.safe)
        pieces: list[bytes] = []
        keep = False
        try:
            reading = connection.ask(self._written.request(question, patience.timeout), patience, pieces.append)
            if not reading.streams:
                while not reading.done:
                    connection.next(patience)
                raise failure(Answer(reading.status, reading.headers, b"".join(pieces)), patience.place)
            yield b""
            while pieces or not reading.done:
                if not pieces:
                    connection.next(patience)
                given, pieces[:] = b"".join(pieces), []
                yield given
            keep = reading.keep
        finally:
            self.give(connection, keep=keep)

    def take(self, patience: Patience, *, safe: bool = True) -> Connection:
        """A connection that nobody else has."""
        with self._free:
            if self._process != os.getpid():  # after a fork: those of the parent are the parent's
                self._idle, self._count, self._process = [], 0, os.getpid()
            while True:
                while self._idle:
                    connection = self._idle.pop()
                    if (safe and monotonic() - connection.idle_since < REST) or connection.open:
                        return connection
                    connection.close()
                    self._count -= 1
                if self._count < self._most:
                    self._count += 1
                    break
                if not self._free.wait(patience.left):
                    raise patience.late()
        try:
            return Connection(self._address, self._context, patience)
        except BaseException:
            self._leave()
            raise

    def give(self, connection: Connection, *, keep: bool) -> None:
        """Give it back; keep: another may use it."""
        if not keep:
            connection.close()
            self._leave()
            return
        connection.idle_since = monotonic()
        with self._free:
            self._idle.append(connection)
            self._free.notify()

    def _leave(self) -> None:
        with self._free:
            self._count -= 1
            self._free.notify()

    def close(self) -> None:
        """Close the idle ones."""
        with self._free:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for connection in idle:
            connection.close()
