"""The processes that run models, as the process that asks them sees them: started anew, or forked from one that has
loaded the model and answers nobody itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from bimodal.errors import ModelCrashed, ModelHung
from bimodal.hidden import names
from bimodal.rows import Rows
from bimodal.runtimes import starter, wire
from bimodal.runtimes.exits import Life, Process
from bimodal.runtimes.wire import Garbled, Line

BUFFER = 1 << 20
CALM = {  # one thread a child unless the user says otherwise: side by side they would only wait for each other
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # Arrow's, which pandas loads: it would only forbid a fork
}
SECRET = ("KEY", "KEYS", "PASSWORD", "SECRET", "TOKEN")  # last words of our own variables that no model is to read
PATIENCE = 5.0  # seconds in which the process that forks others answers
_LEAVING = 0.2  # seconds in which a process that closed its connection is gone, unless it goes on without one


class Child:
    """One child process and the socket to it. module: what it runs, on the socket's number. taken: a process that runs
    already, and the socket to it.

    reason: why this process ended it, in words. hung: it gave no answer.
    """

    def __init__(
        self,
        module: str = "bimodal.runtimes.child",
        *,
        work: str | None = None,
        taken: tuple[Process, Line] | None = None,
    ) -> None:
        process, mine = taken or _started(module, work)
        self.process: Process = process
        self.socket = mine
        self.life = Life(process, mine)
        self.reason = ""
        self.hung = False
        self.streaming = False
        self._left = False
        self._control: Line | None = None
        self.end = weakref.finalize(self, _end, os.getpid(), self.life, mine)

    def alive(self) -> bool:
        return not self._left and self.process.poll() is None

    def kill(self, reason: str = "", *, hung: bool = False) -> None:
        """End it at once; reason: told to those whose calls it had."""
        self.reason, self.hung = self.reason or reason, self.hung or hung
        self.process.kill()

    def begin_streams(self) -> None:
        """Hand the child a socket of its own over which the sockets of streams will come."""
        self._control, theirs = _pair()
        self.end.detach()
        self.end = weakref.finalize(self, _end, os.getpid(), self.life, self.socket, self._control)
        with theirs:
            wire.send(self.socket, {"op": "streams"})
            socket.send_fds(self.socket, [b"c"], [theirs.fileno()])

    def stream(self) -> Line:
        """A new socket whose other end the child answers a stream on. Raises OSError where it is gone."""
        assert self._control is not None, "the model does not stream"
        mine, theirs = _pair(self.socket.most)
        try:
            self.life.add(mine)
            socket.send_fds(self._control, [b"s"], [theirs.fileno()])
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        return mine

    async def call(
        self, loop: asyncio.AbstractEventLoop, message: dict[str, Any], rows: Rows
    ) -> tuple[dict[str, Any], Rows | None]:
        """Send and receive without blocking the loop. The socket must be non-blocking; one call at a time."""
        await self._send(loop, wire.framed(self.socket, message, rows))
        arriving = wire.Arriving(self.socket)
        arrived: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.socket.fileno(), _take_in, arriving, arrived)
        try:
            await arrived
        finally:
            loop.remove_reader(self.socket.fileno())
        return arriving.message()

    async def _send(self, loop: asyncio.AbstractEventLoop, buffers: Sequence[bytes | memoryview]) -> None:
        """In one piece where it is small: the child is woken once."""
        data = b"".join(buffers)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await loop.sock_sendall(self.socket, memoryview(data)[sent:])

    def fate(self, cause: Exception | None = None) -> str:
        """How the child ended, in words. One that goes on without its connection is of no use, and is ended. cause:
        what its connection came to.
        """
        if isinstance(cause, Garbled):
            self.kill("wrote something else than its answer into its connection")
        closed = False
        try:
            code = self.process.wait(_LEAVING)
        except subprocess.TimeoutExpired:
            closed = not self.reason
            self.process.kill()
            code = self.process.wait()
        if self.reason:
            return self.reason
        if closed:
            return "closed its connection"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def crash(self, cause: Exception | None = None) -> ModelCrashed:
        """Why there is no answer. cause: what its connection came to."""
        fate = self.fate(cause)
        self.leave()
        return (ModelHung if self.hung else ModelCrashed)(f"the process that ran the model {fate}")

    def leave(self) -> None:
        """End it, and all that it has started in its group, and wait for none of it."""
        self._left = True
        self.kill()
        self.socket.shut()
        threading.Thread(target=self._leave, name="bimodal-leave", daemon=True).start()

    def _leave(self) -> None:
        self.process.wait()
        self.life.sweep()
        self.end()  # not before: it is called, and waited for, where this process ends meanwhile


class Mother:
    """A process that has loaded the model and answers nobody: it forks those that do, which share its memory.

    It is of use only where a fork is a whole process: without threads, and without files or connections that both
    would share (`child.py` says so when it has loaded).
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self._lock = threading.Lock()
        child.socket.settimeout(PATIENCE)

    def alive(self) -> bool:
        return self.child.alive()

    def fork(self) -> Child:
        """A child that has loaded the model. Raises OSError, EOFError where it cannot be had."""
        mine, theirs = _pair(self.child.socket.most)
        try:
            with theirs, self._lock:
                wire.send(self.child.socket, {"op": "fork"})
                socket.send_fds(self.child.socket, [b"f"], [theirs.fileno()])
                header, _ = wire.receive(self.child.socket)
            forked = Child(taken=(Forked(header["pid"], self), mine))
            if self.child.streaming:
                forked.streaming = True
                forked.begin_streams()
        except (OSError, EOFError):
            mine.close()
            self.child.kill()  # what it says next would be taken for the answer to another question
            raise
        return forked

    def status(self, pid: int) -> int:
        """How a process ended that it forked."""
        try:
            with self._lock:
                wire.send(self.child.socket, {"op": "status", "pid": pid})
                header, _ = wire.receive(self.child.socket)
        except (OSError, EOFError):
            return -signal.SIGKILL  # as the kernel ends it with its mother
        return int(header["status"])


class Forked:
    """A process that is another's child: as much of `subprocess.Popen` as is asked of it."""

    def __init__(self, pid: int, mother: Mother) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._mother = mother
        self._file = os.pidfd_open(pid)  # its mother keeps the number until it was asked for the status
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._file)

    def poll(self) -> int | None:
        if self.returncode is None and self._ended(0.0):
            with self._lock:
                if self.returncode is None:
                    self.returncode = self._mother.status(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._file, signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        if self.returncode is not None:
            return True
        watched = select.poll()
        watched.register(self._file, select.POLLIN)
        return bool(watched.poll(None if timeout is None else timeout * 1000))


def _pair(most: int = wire.MOST) -> tuple[Line, socket.socket]:
    """Two ends of a private connection. most: bytes of the longest answer."""
    mine, theirs = socket.socketpair()
    for end in (mine, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return Line(mine.detach(), most), theirs


def _started(module: str, work: str | None) -> tuple[Process, Line]:
    mine, theirs = _pair()

    def start() -> Process:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what the model prints must not end up among the predictions
            env=environment(os.environ),
            cwd=work,
            process_group=0,  # what a model signals to its group is for its own processes
        )

    with theirs:
        return starter.call(start), mine


def environment(ours: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """What a child gets of ours: what is secret of our own settings, and what they refer to as a secret, is left out;
    what else is not ours stays, a model may need it.
    """
    left = names(ours)
    return {**CALM, **{name: value for name, value in ours.items() if not is_secret(name) and name not in left}}


def is_secret(name: str) -> bool:
    """Whether a variable is one of ours that holds, or leads to, a key or a password."""
    return name.startswith("BIMODAL_") and name.rpartition("_")[2] in SECRET


def _take_in(arriving: wire.Arriving, arrived: asyncio.Future[None]) -> None:
    """Called when the socket can be read."""
    if arrived.done():
        return
    try:
        if arriving.read():
            arrived.set_result(None)
    except (EOFError, OSError) as error:
        arrived.set_exception(error)


def _end(parent: int, life: Life, *channels: socket.socket) -> None:
    """parent: the process that it is a child of; in a fork of that one it is not ended."""
    for channel in channels:
        channel.close()  # the child reads the end of its input and leaves
    if os.getpid() != parent:
        return
    try:
        life.process.wait(0.5)
    except subprocess.TimeoutExpired:
        life.process.kill()
        life.process.wait()
    life.sweep()
