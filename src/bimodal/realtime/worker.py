"""One worker process: python -m bimodal.realtime.worker CONTROL_FD LISTENING_FD…

Reads its job (JSON, one line) from the control socket, builds the app, serves on the listening sockets it was given,
and says over the control socket that it is ready, or why it is not. SIGTERM drains, a second one ends at once; so does
the end of the control socket, which means that the parent is gone.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, cast

import msgspec

from bimodal.errors import BimodalError
from bimodal.realtime import lines
from bimodal.realtime.adoption import Adoption
from bimodal.realtime.calls import Methods
from bimodal.realtime.control import Adopt, Leave, order
from bimodal.realtime.exchange import App
from bimodal.realtime.grpc import NoMethods
from bimodal.realtime.guard import Guard
from bimodal.realtime.job import Job, Report
from bimodal.realtime.listener import Listener
from bimodal.realtime.tls import Files, Renewal

log = logging.getLogger("bimodal.realtime")

if sys.platform != "win32":
    import resource

_PR_SET_PDEATHSIG = 1
_SOCKETS = 64  # that one order may bring along
_FILES = 65_536  # open files a worker asks for


class Wired(Protocol):
    """A built app, with what must be closed after it."""

    @property
    def app(self) -> App: ...

    @property
    def methods(self) -> Methods: ...

    @property
    def guard(self) -> Guard | None:
        """Who may come in; None: everybody."""

    def attach(self, listener: Listener) -> None:
        """Let the listener count, and tell what it sees."""

    def linked(self, control: socket.socket) -> Callable[[bytes], None] | None:
        """What takes the lines that the parent says from now on."""

    @property
    def opened(self) -> asyncio.Event | None:
        """Set when callers may come; None where they may at once."""

    def drain(self) -> None:
        """The worker will end: no more is begun than what is asked from now on."""

    async def close(self) -> None: ...


class Found:
    """An app that is there already, named as module:attribute; it may have gRPC `methods`."""

    def __init__(self, name: str) -> None:
        module, _, attribute = name.partition(":")
        self.app = cast(App, getattr(importlib.import_module(module), attribute))
        self.methods: Methods = getattr(self.app, "methods", None) or NoMethods()
        self.opened: asyncio.Event | None = None
        self.guard: Guard | None = None

    def attach(self, listener: Listener) -> None:
        """Nothing of it is counted."""

    def linked(self, control: socket.socket) -> None:
        """It has no models that come and go."""

    def drain(self) -> None:
        """It holds no calls open."""

    async def close(self) -> None:
        """Nothing was opened for it."""


async def build(job: Job) -> Wired:
    """The app that the job asks for."""
    if "app" in job.spec:
        return Found(job.spec["app"])
    wiring = importlib.import_module("bimodal.realtime.wiring")
    return cast(Wired, await wiring.build(job.spec, job.limits, job.worker))


async def serve(job: Job, control: socket.socket, listening: Sequence[socket.socket]) -> None:
    """Build, report, serve until SIGTERM, drain."""
    stopping = asyncio.Event()
    _on_terminate(stopping)
    hears = Hears(asyncio.get_running_loop())
    threading.Thread(target=_watch, args=(control, hears), name="bimodal-parent", daemon=True).start()
    try:
        wired = await build(job)
        hears.take = wired.linked(control)
        if wired.opened is not None:
            _tell(control, Report(ready=True))  # to be told what to load
            await _either(stopping, wired.opened)
        listener = Listener(wired.app, job.limits, wired.methods, wired.guard)
        wired.attach(listener)
        _renewing(job, listener)
        await listener.start(*listening, tls=listener.tls)
        hears.adoption.begin(listener)
        for each in listening:
            each.close()  # the listener has a duplicate, and must be the only one to hold the port when it drains
    except Exception as error:
        if not isinstance(error, BimodalError):
            log.exception("worker %d cannot start", job.worker)
        _tell(control, _failure(error))
        raise SystemExit(1) from None
    gc.collect()
    gc.set_threshold(50_000, 50, 100)
    sys.setswitchinterval(0.0005)  # what works beside the event loop (a model that is loaded) lets it go on sooner
    gc.freeze()  # what exists by now stays: no collection needs to look at it again
    if wired.opened is None:
        _tell(control, Report(ready=True))
    await stopping.wait()
    wired.drain()
    await listener.drain(job.grace)
    await wired.close()


def main(control_fd: int, *listening_fds: int) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for fd in (control_fd, *listening_fds):
        os.set_inheritable(fd, False)  # the children of a worker must not keep its sockets open
    control = socket.socket(fileno=control_fd)
    listening = [socket.socket(fileno=fd) for fd in listening_fds]
    job = msgspec.json.decode(_line(control), type=Job)
    lines.begin(f"worker {job.worker}")
    _die_with(job.parent)
    _open_many()
    sys.path.extend(entry for entry in job.path if entry not in sys.path)
    run(_life(job, control, listening))


async def _life(job: Job, control: socket.socket, listening: Sequence[socket.socket]) -> None:
    """Serve, and leave: the thread of a model that is still being loaded would be waited for, and is of no use."""
    await serve(job, control, listening)
    atexit._run_exitfuncs()
    os._exit(0)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop, or on asyncio's own loop where there is no uvloop."""
    try:
        import uvloop  # no wheel for every platform
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)


def _on_terminate(stopping: asyncio.Event) -> None:
    """The first SIGTERM drains, the second ends the process."""

    def terminate() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)


def _renewing(job: Job, listener: Listener) -> None:
    """Have the listener use the job's certificate, and a changed one at SIGHUP or when its files are looked at."""
    if job.spec.get("tls") is None:
        return
    renewal = Renewal(Files(**job.spec["tls"]), partial(setattr, listener, "tls"), tells=job.worker == 0)
    loop = asyncio.get_running_loop()
    renewal.start(loop)
    loop.add_signal_handler(signal.SIGHUP, renewal.renew)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waits = [asyncio.ensure_future(each.wait()) for each in (one, other)]
    _, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in left:
        each.cancel()


def _failure(error: Exception) -> Report:
    if isinstance(error, BimodalError):
        return Report(ready=False, code=error.code, message=error.message)
    return Report(ready=False, code="error", message=f"the server cannot start: {type(error).__name__}: {error}")


def _tell(control: socket.socket, report: Report) -> None:
    try:
        control.sendall(msgspec.json.encode(report) + b"\n")
    except OSError:
        log.warning("the parent process is gone")


def _line(control: socket.socket) -> bytes:
    """The first line of what the parent sends."""
    read = bytearray()
    while not read.endswith(b"\n"):
        data = control.recv(65536)
        if not data:
            raise SystemExit(1)  # the parent ended before it said anything
        read += data
    return bytes(read)


class Hears:
    """Hands what the parent says to the event loop. take: what is said of models; None where that is of no interest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.take: Callable[[bytes], None] | None = None
        self.adoption = Adoption()
        self._loop = loop
        self._sockets: deque[socket.socket] = deque()  # that came, and belong to lines that come with or after them

    def sockets(self, fds: Sequence[int]) -> None:
        for fd in fds:
            os.set_inheritable(fd, False)
            self._sockets.append(socket.socket(fileno=fd))

    def line(self, told: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._hear, told)

    def _hear(self, told: bytes) -> None:
        said = order(told)
        if isinstance(said, Adopt):
            self.adoption.take(said, [self._sockets.popleft() for _ in range(said.count)])
        elif isinstance(said, Leave):
            self.adoption.take(said, ())
        elif self.take is not None:
            self.take(told)


def _watch(control: socket.socket, hears: Hears) -> None:
    """Take what the parent says, and end when it does."""
    rest = b""
    while True:
        data, fds, _, _ = socket.recv_fds(control, 65536, _SOCKETS)
        if not data:
            break
        hears.sockets(fds)
        *lines, rest = (rest + data).split(b"\n")
        for each in lines:
            hears.line(each)
    os._exit(1)


def _open_many() -> None:
    """Allow as many open files, and so connections, as the system lets this process have (within reason)."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _die_with(parent: int) -> None:
    """Have Linux kill this process when its parent ends, even if it hangs in native code that holds the GIL."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it ended before the call


if __name__ == "__main__":
    lines.begin("worker")
    main(*map(int, sys.argv[1:]))
