"""Nursery: a process that has imported the libraries and forks the processes of models for the tests.

The import of scikit-learn takes a processor for more than a second; a thousand models loaded in tests would spend half
an hour on it. What the fork runs is what `python -P -m bimodal.runtimes.child` runs, with the environment, the folder
and the standard error of whoever asks; it ends as any other, and its end is told. A process that is wanted with
another PYTHONPATH, or in a way that is not known here, is started as ever; so is all that tests start themselves
(commands, servers), and what tests start of models there. A test that is about the start itself asks for the fixture
`started_anew`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

MODULES = ("bimodal.runtimes.child", "bimodal.compile.child")  # what it can run
IMPORTED = (
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.tree",
    "skl2onnx",
    "bimodal.formats.sklearn",
    *MODULES,
)
SAME = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE")
LENGTH = 1 << 18  # bytes of the longest request: the environment
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# -- the side of the tests ---------------------------------------------------------------------------------------------


class Nursery:
    """Stands where `bimodal.runtimes.process` looks for the module `subprocess`. Its process starts when it is needed
    first."""

    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self) -> None:
        self.anew = False  # whether processes are started as ever
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def Popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes] | Forked:
        known = set(options) == {"pass_fds", "stdin", "stdout", "env", "cwd"} and options["stdout"] == 2
        if self.anew or not known or [*command[:3]] != [sys.executable, "-P", "-m"] or command[3] not in MODULES:
            return subprocess.Popen(command, **options)
        environment: Mapping[str, str] = options["env"]
        if any(environment.get(name) != self._environment().get(name) for name in SAME):
            return subprocess.Popen(command, **options)
        (fd,) = options["pass_fds"]
        return self._fork(command[3], fd, dict(environment), str(options["cwd"] or os.getcwd()))

    def _environment(self) -> dict[str, str]:
        """Its own, as it was at the start."""
        if self._process is None:
            self._start()
        return self._own

    def _start(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (mine, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LENGTH)
        self._own = {**os.environ, **ONE_THREAD}
        with theirs:
            command = [sys.executable, "-P", str(Path(__file__).resolve()), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=self._own, cwd="/")
        self._channel = mine

    def _fork(self, module: str, fd: int, environment: dict[str, str], folder: str) -> Forked:
        assert self._channel is not None
        end, theirs = os.pipe()
        request = json.dumps({"module": module, "environment": environment, "folder": folder}).encode()
        try:
            with self._lock:
                socket.send_fds(self._channel, [request], [fd, 2, theirs])
                return Forked(int(self._channel.recv(64)), end)
        finally:
            os.close(theirs)

    def close(self) -> None:
        """The process ends, and what it has forked with it."""
        if self._process is not None and self._channel is not None:
            self._channel.close()
            self._process.wait(10)


class Forked:
    """What is asked of a `subprocess.Popen`, of a process that another one has forked."""

    def __init__(self, pid: int, end: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._end = end
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
                self.returncode = int(os.read(self._end, 64) or -signal.SIGKILL)  # nothing: the nursery itself is gone
                os.close(self._end)
            return self.returncode

    def _readable(self, timeout: float | None) -> bool:
        watched = select.poll()
        watched.register(self._end, select.POLLIN)
        return bool(watched.poll(None if timeout is None else timeout * 1000))

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self._end)


# -- the process -------------------------------------------------------------------------------------------------------


def main(channel: socket.socket) -> None:
    """Forks for each request, tells how each one ended. Over when the tests are gone."""
    for name in IMPORTED:
        importlib.import_module(name)
    for name in MODULES:
        del sys.modules[name]  # it runs as `__main__`
    gc.collect()
    gc.freeze()
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    ends: dict[int, int] = {}  # of each child the pipe on which its end is told
    while True:
        ready, _, _ = select.select([channel.fileno(), ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _bury(ends)
        if channel.fileno() in ready and not _born(channel, ends):
            break
    for pid in ends:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while ends:
        _bury(ends, wait=True)


def _born(channel: socket.socket, ends: dict[int, int]) -> bool:
    request, fds, _, _ = socket.recv_fds(channel, LENGTH, 3)
    if not request:
        return False
    told = json.loads(request)
    pid = os.fork()
    if not pid:
        channel.close()
        _live(told, *fds)
    for fd in fds[:2]:
        os.close(fd)
    ends[pid] = fds[2]
    channel.send(str(pid).encode())
    return True


def _bury(ends: dict[int, int], *, wait: bool = False) -> None:
    while ends:
        pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
        if not pid:
            return
        end = ends.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody asks any more
            os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(end)


def _live(told: dict[str, Any], fd: int, errors: int, end: int) -> NoReturn:
    """What `python -P -m` does, and how it ends."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(end)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, errors), (2, errors)):
        os.dup2(file, number)
    os.close(errors)
    os.environ.clear()
    os.environ.update(told["environment"])
    os.chdir(told["folder"])
    time.tzset()
    sys.modules["numpy"].random.seed()  # as a process of its own has it; `random` sees to that itself
    sys.argv = [told["module"], str(fd)]
    code = 0
    try:
        runpy.run_module(told["module"], run_name="__main__", alter_sys=True)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:  # the interpreter's own last word on it
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
