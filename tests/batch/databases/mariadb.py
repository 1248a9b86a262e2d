"""A MariaDB server of the tests' own, in memory, behind a Unix socket; and a writer that can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
from pymysql.connections import Connection

from bimodal.batch.databases.opening import open_sink
from bimodal.batch.marks import Beside, Mark
from bimodal.batch.sinks.contract import Sink

MEMORY = Path("/dev/shm")
CHUNKS, ROWS = 6, 40


class Server:
    """mariadbd in a folder. Killed at the end, as nothing of it is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        program = shutil.which("mariadb-install-db") or "/usr/bin/mariadb-install-db"
        made = subprocess.run(
            [program, "--no-defaults", f"--datadir={self.folder / 'data'}", "--auth-root-authentication-method=normal",
             "--skip-test-db", *self._user()],
            capture_output=True, text=True,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
        program = shutil.which("mariadbd", path=path) or shutil.which("mysqld", path=path) or "mariadbd"
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [program, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--socket={self.socket}",
                 "--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
                 "--innodb-flush-log-at-trx-commit=2", "--max-allowed-packet=64M",
                 "--character-set-server=utf8mb4", *self._user()],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 60
        while not self._listens():
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as tried:
            return tried.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        """As the kernel would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.socket.unlink(missing_ok=True)

    def _user(self) -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    def address(self, table: str = "", **options: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"mysql://root@localhost/shop?unix_socket={self.socket}{more}" + (f"#{table}" if table else "")

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """PyMySQL's own cursor, in `shop`, in autocommit."""
        connection = pymysql.connect(unix_socket=str(self.socket), user="root", charset="utf8mb4", autocommit=True)
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS shop")
            cursor.execute("USE shop")
            yield cursor

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """PyMySQL's own values: nothing of ours."""
        with self.connected() as cursor:
            for each in statements:
                cursor.execute(each)
            return list(cursor.fetchall())


@contextlib.contextmanager
def served() -> Iterator[Server]:
    """A server that runs, and an empty database `shop`."""
    with tempfile.TemporaryDirectory(prefix="maria", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        server = Server(Path(folder))
        server.install()
        server.start()
        try:
            server.ask()
            yield server
        finally:
            server.kill()


def chunk(number: int) -> pa.Table:
    """The rows of a chunk: a key, a text, a score."""
    keys = range(number * ROWS, (number + 1) * ROWS)
    words = [None if key % 7 == 0 else f"wörter 🦉 '{key}\\" for key in keys]
    return pa.table({"id": pa.array(keys, pa.int64()), "word": words, "score": [key / 3 for key in keys]})


def expected() -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for number in range(CHUNKS) for row in chunk(number).to_pylist()]


def die_at(place: int, sent: bool, address: str, mode: str, key: Sequence[str], told: Any) -> None:
    """A run that kills itself at a command of its publication: before it is sent, or before its answer is read."""
    real = Connection._execute_command
    commands = 0

    def counted(self: Any, command: int, sql: Any) -> None:
        nonlocal commands
        at = told.value == CHUNKS and commands == place
        commands += told.value == CHUNKS
        if at and not sent:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, command, sql)
        if at:
            time.sleep(0.02)  # the server takes it up
            os.kill(os.getpid(), signal.SIGKILL)

    Connection._execute_command = counted
    write(address, mode, key, told)


class Proxy:
    """Between a writer and the server: cuts the connection at some COMMITs, `before` or `after` the server has them, or
    it gets them `late`."""

    def __init__(self, server: Server, cut: Callable[[int], str | None]) -> None:
        self.socket = server.folder / "p"
        self._server, self._cut, self._commits = server.socket, cut, 0
        self.cuts = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.socket))
        self._listening.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                for work in (self._up, self._down):
                    self._threads.append(threading.Thread(target=work, args=(client, server)))
                    self._threads[-1].start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            while data := client.recv(1 << 20):
                word = None
                if data[4:] == b"\x03COMMIT":
                    word = self._cut(self._commits)
                    self.cuts += word is not None
                    self._commits += 1
                if word in ("after", "late"):
                    client.shutdown(socket.SHUT_RDWR)
                if word == "late":
                    time.sleep(0.15)  # the writer is back by then
                if word != "before":
                    server.sendall(data)
                if word is not None:
                    time.sleep(0.02)  # the server takes it up
                    break
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), server:
            while data := server.recv(1 << 20):
                client.sendall(data)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._threads:
            each.join(10)
        self.socket.unlink()


def write(address: str, mode: str, key: Sequence[str] = (), told: Any = None) -> None:
    """A run, from its beginning or from where an earlier one was killed. told: set as each step begins."""
    sink = open_sink(address, mode=mode, key=tuple(key))
    sink.hold(30, lambda sentence: None)
    try:
        if sink.published("plan") is None:
            go_on(sink, told)
    finally:
        sink.release()


def go_on(sink: Sink, told: Any = None) -> None:
    begun = sink.begun()
    if begun is None:
        sink.start({"key": "plan"}, f"{time.time_ns():x}"[-12:])
    else:
        sink.resume(begun)
    if begun is None or begun.schema is None:
        sink.settle(chunk(0).schema, {})
    done = -1 if begun is None or begun.last is None else begun.last.number
    if begun is None or not begun.complete:
        for number in range(done + 1, CHUNKS):
            if told is not None:
                told.value = number
            rows = chunk(number)
            mark = Mark(number, {"chunk": number}, ROWS, ROWS, 0)
            sink.append(mark, sink.encode(rows), Beside())
        sink.complete()
    if told is not None:
        told.value = CHUNKS
    sink.publish({"plan": {"key": "plan"}, "predicted": ROWS * CHUNKS})
