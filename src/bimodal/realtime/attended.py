"""One worker process after the other in one place, as their supervisor (`workers.py`) sees them."""

from __future__ import annotations

import logging
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bimodal.realtime.control import Adopt, Leave, Order, States, Word, line, word
from bimodal.realtime.job import Job

log = logging.getLogger("bimodal.realtime")

DEAF = 5.0  # seconds that a worker may take to listen
STEADY = 2.0  # seconds of serving after which a worker counts as sound again: one that cannot serve lasts no longer
_PAUSE, _LONGEST_PAUSE = 0.05, 30.0  # seconds before a second restart; doubled at each death in a row
_MISSING, _DEATHS = 2.0, 3  # seconds, or deaths in a row, after which others take the connections of a worker


class Worker:
    """One worker process after the other, on the same listening sockets."""

    def __init__(self, number: int, listening: Sequence[socket.socket], job: Job) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.is_ready = False
        self.restart_at = self.kill_at = math.inf
        self.task = self.prepared = self.switched = 0  # the change that it was told of, that it prepared and has made
        self.told: States | None = None
        self.knows = 0  # the number of the states that it said it knows
        self.listening = listening
        self.why = ""  # it could not start
        self._adopted: set[int] = set()  # numbers of those whose connections it takes
        self._deaths = 0  # in a row
        self._gone_at = math.inf  # since when nobody serves here
        self._job = msgspec.structs.replace(job, worker=number)
        self._pause = 0.0
        self.ready_at = math.inf  # when it began to serve
        self._read = b""

    def successor(self, spec: dict[str, Any], count: int) -> Worker:
        """One of another spec, to run beside this one for a while. It has a number that none of the `count` workers
        has: what is kept by number (counters, what was collected) is kept by one process at a time.
        """
        number = (self.number + count) % (2 * count)
        return Worker(number, self.listening, msgspec.structs.replace(self._job, spec=spec))

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, or is about to."""
        return self.process is not None or self.restart_at < math.inf

    def start(self, stock: Mapping[str, Any] | None = None) -> None:
        """Start the process and give it its job. stock: what of a repository is served now."""
        self.restart_at = math.inf
        self.is_ready = False
        self.task = self.prepared = self.switched = 0
        self.told, self.knows = None, 0
        self._adopted = set()
        self._read = b""
        self.ready_at = math.inf
        self.control, theirs = socket.socketpair()
        fds = (theirs.fileno(), *(each.fileno() for each in self.listening))
        # -P: a file of the user's in the working directory must not stand in for a module of the standard library.
        command = [sys.executable, "-P", "-m", "bimodal.realtime.worker", *map(str, fds)]
        # A group of its own: Ctrl-C in the terminal is for the parent, which drains the workers.
        self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, process_group=0)
        theirs.close()
        job = (
            self._job if stock is None else msgspec.structs.replace(self._job, spec={**self._job.spec, "stock": stock})
        )
        try:
            self.control.sendall(msgspec.json.encode(job) + b"\n")
        except OSError:
            log.warning("worker %d ended as it was started", self.number)  # its burial follows

    def tell(self, told: Order, sockets: Sequence[socket.socket] = ()) -> None:
        """Say something to a worker that serves, and hand sockets over with it. One that does not listen for long
        hangs, and is ended.
        """
        if self.control is None:
            return
        try:
            self.control.settimeout(DEAF)
            data = line(told)
            sent = socket.send_fds(self.control, [data], [each.fileno() for each in sockets]) if sockets else 0
            self.control.sendall(data[sent:])
        except TimeoutError:
            log.error("worker %d does not listen; it is ended", self.number)
            self.kill()
        except OSError:
            log.warning("worker %d ended as it was spoken to", self.number)  # its burial follows

    def serves(self) -> None:
        """It is ready."""
        self.is_ready, self.ready_at, self._gone_at = True, time.monotonic(), math.inf

    def is_missing(self, now: float) -> bool:
        """Whether others should take its connections, at this time."""
        falls = self._deaths >= _DEATHS
        return falls and now - self.ready_at < STEADY if self.is_ready else falls or now - self._gone_at > _MISSING

    def look_after(self, missing: Mapping[int, Worker]) -> None:
        """Accept also for these, and for no others. What shares their sockets does so anyway."""
        for number in self._adopted - missing.keys():
            self.tell(Leave(number))
        for number in missing.keys() - self._adopted - {self.number}:
            sockets = [each for each in missing[number].listening if each not in self.listening]
            if sockets:
                self.tell(Adopt(number, len(sockets)), sockets)
        self._adopted = set(missing) - {self.number}

    def begin_again(self) -> None:
        """Whatever it is about to serve, start anew, now."""
        if self.process is not None:
            self.process.kill()
        elif self.restart_at < math.inf:
            self.restart_at = time.monotonic()

    def words(self) -> list[Word] | None:
        """What the worker has to say; None when it has ended."""
        assert self.control is not None
        try:
            data = self.control.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            return None
        *lines, self._read = (self._read + data).split(b"\n")
        return [word(each) for each in lines]

    def bury(self) -> str:
        """The process has ended, or is about to: wait for it, and say how it ended."""
        assert self.process is not None
        assert self.control is not None
        try:
            status = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.control.close()
        self.process = self.control = None
        self.is_ready = False
        self._gone_at = min(self._gone_at, time.monotonic())
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def restart_soon(self) -> float:
        """Start again, at once; after more deaths in a row later and later. The seconds until then."""
        now = time.monotonic()
        if now - self.ready_at > STEADY:
            self._pause, self._deaths = 0.0, 0
        pause, self._deaths = self._pause, self._deaths + 1
        self.restart_at = now + pause
        self._pause = min(2 * pause or _PAUSE, _LONGEST_PAUSE)
        return pause

    def close(self) -> None:
        """Listen no more, for it and its successors."""
        for listening in self.listening:
            listening.close()

    def terminate(self) -> None:
        """Have it drain, or, if it drains already, end."""
        self.restart_at = math.inf
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.restart_at = math.inf
        if self.process is not None:
            self.process.kill()
