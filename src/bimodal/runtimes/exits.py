"""Exits: the ends of processes that run models, as the system tells of them.

That a connection ends when the process at its other end does is not enough: what the model has started holds that end
open too, and goes on. So each process is watched by a file of its own (pidfd), and its connections are shut when it
has ended. Where the system has no such files, a thread waits for each.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
import time
import weakref
from typing import Protocol

from bimodal.runtimes.wire import Line

TIDY = 0.2  # seconds in which what is left of a process's group may leave by itself: some tidy up behind it
_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


class Process(Protocol):
    """What is asked of a process."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...


class Life:
    """A process that was just started, the group that it leads, and the lines to it."""

    def __init__(self, process: Process, line: Line) -> None:
        self.process = process
        self.lines: weakref.WeakSet[Line] = weakref.WeakSet([line])
        self.file = _file(process.pid)
        self._lock = threading.Lock()
        self._over = False
        if self.file is not None:
            weakref.finalize(self, os.close, self.file).atexit = False  # it may be waited for to the very end
        watch(self)

    def add(self, line: Line) -> None:
        """Raises BrokenPipeError where the process has ended."""
        with self._lock:
            if self._over:
                raise BrokenPipeError
            self.lines.add(line)

    def end(self) -> None:
        """The process has ended: so does every call to it."""
        with self._lock:
            self._over = True
        for line in list(self.lines):
            line.shut()

    def sweep(self) -> None:
        """End what a process that is gone had started in its group."""
        until = time.monotonic() + TIDY
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left, or nothing of ours
            while time.monotonic() < until:
                self._signal(0)
                time.sleep(0.01)
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """To the group: by the file, since the number may be another group's when nothing of this one is left."""
        if self.file is not None:
            try:
                signal.pidfd_send_signal(self.file, number, None, _GROUP)
            except OSError as error:
                if error.errno != errno.EINVAL:  # else the system is older
                    raise
            else:
                return
        os.killpg(self.process.pid, number)


def _file(pid: int) -> int | None:
    with contextlib.suppress(OSError, AttributeError):  # another system, or one that forbids it
        return os.pidfd_open(pid)
    return None


class Exits:
    """The thread that waits for all of a process; one that was forked from it makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._lives: dict[int, Life] = {}  # by their files

    def watch(self, life: Life) -> None:
        """Have it ended when its process does."""
        if life.file is None or not hasattr(select, "epoll"):
            threading.Thread(target=_wait, args=(life,), name="bimodal-exit", daemon=True).start()
            return
        with self._lock:
            if self._process != os.getpid():
                self._process, self._lives, self._epoll = os.getpid(), {}, select.epoll()
                threading.Thread(target=self._run, name="bimodal-exits", daemon=True).start()
            self._lives[life.file] = life
            self._epoll.register(life.file, select.EPOLLIN)

    def _run(self) -> None:
        while True:
            for file, _ in self._epoll.poll():
                self._take(file).end()

    def _take(self, file: int) -> Life:
        with self._lock:
            self._epoll.unregister(file)
            return self._lives.pop(file)


def _wait(life: Life) -> None:
    life.process.wait()
    life.end()


watch = Exits().watch  # of this process
