"""The access log's file: whole lines, written by a thread, never waited for by a request.

Several processes may append to one file: each write is of whole lines, to a file that is open for appending. A file
that was moved away (logrotate) is opened anew before the next write; so a signal needs nothing more. What cannot be
written, or comes faster than it is written, is dropped and counted; another thread tells of it, since the one that
writes may be held by a reader who does not read.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from select import PIPE_BUF, select
from time import monotonic

from bimodal.errors import UsageError

log = logging.getLogger("bimodal.realtime")

STANDARD = "-"
HELD = 8 * 2**20  # bytes of lines that wait; more are dropped
PIECE = 2**18  # bytes of one write
PAUSE = 0.05  # seconds from one write to the next, in which lines gather
PARTING = 2.0  # seconds in which the last lines are written
STANDARD_ERROR = 2

Count = Callable[[int, int], None]


def check(path: str) -> None:
    """Raises UsageError where the log cannot be opened. What is there and no file is not tried: a pipe would wait."""
    if path != STANDARD and (not os.path.exists(path) or os.path.isfile(path) or os.path.isdir(path)):
        os.close(_opened(path))


class AccessLog:
    """path: "-" is standard output. count: told of lines written and of lines dropped, from a thread.

    Raises UsageError where the file cannot be opened.
    """

    def __init__(self, path: str, count: Count = lambda written, dropped: None) -> None:
        self._path = path
        self._count = count
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = self._gone = 0  # bytes that were taken, and that wait no more
        self._taken = self._dropped = 0  # lines that wait or waited, and those for which there was no room
        self._written = self._failed = 0  # lines that were written, and that could not be
        self._well = 0  # lines that were lost when all that waited had been written
        self._reason: OSError | None = None  # why lines were lost, where writing failed
        self._fails = False  # and does so still
        self._stale = False  # whether the file of that name could not be opened anew
        self._told = False  # that lines are lost
        self._past = 0  # lines that were lost before, and told
        self._ends = self._ended = False
        self._wake, self._news = threading.Event(), threading.Event()
        self._file = _opened(path)
        self._piece = PIECE if stat.S_ISREG(os.fstat(self._file).st_mode) else PIPE_BUF
        self._thread = threading.Thread(target=self._run, name="bimodal-access-log", daemon=True)
        self._thread.start()
        self._teller = threading.Thread(target=self._tell_all, name="bimodal-access-log-told", daemon=True)
        self._teller.start()

    def put(self, text: bytes, count: int) -> None:
        """Take whole lines, so many. Called from one thread."""
        if self._size - self._gone + len(text) > HELD:
            self._dropped += count
            self._news.set()
            return
        self._taken += count
        self._size += len(text)
        self._waiting.append((count, text))
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what there is, for a while."""
        self._ends = True
        self._wake.set()
        self._thread.join(PARTING)
        self._ended = True
        self._news.set()
        self._teller.join(PARTING)

    # In the thread that writes

    def _run(self) -> None:
        pause, written = threading.Event(), -PAUSE
        while True:
            self._wake.wait()
            if not self._ends:
                pause.wait(written + PAUSE - monotonic())  # none after a rest: a killed worker loses what waits
            self._wake.clear()
            ends = self._ends
            self._write_all()
            written = monotonic()
            if ends and not self._waiting:
                os.close(self._file)
                return

    def _write_all(self) -> None:
        try:
            self._renew()
            self._stale = False
        except OSError as error:
            self._stale = True
            self._lose(error)
        while self._waiting:
            count, text = self._gathered()
            if self._write(text):
                self._written += count
            else:
                self._failed += count
            self._gone += len(text)
        if not self._fails:
            self._well = self._lost
        self._news.set()

    def _gathered(self) -> tuple[int, bytes]:
        """Lines for one write: as many as fit in a piece."""
        count, text = self._waiting.popleft()
        texts, size = [text], len(text)
        while self._waiting and size + len(self._waiting[0][1]) <= self._piece:
            more, text = self._waiting.popleft()
            texts.append(text)
            count, size = count + more, size + len(text)
        return count, b"".join(texts)

    def _write(self, text: bytes) -> bool:
        try:
            for piece in _pieces(text, self._piece):
                _write_whole(self._file, piece)
        except OSError as error:
            self._lose(error)
            return False
        self._fails = self._stale
        return True

    def _lose(self, error: OSError) -> None:
        self._reason, self._fails = error, True

    def _renew(self) -> None:
        """Open the file of that name anew, where it is another one by now."""
        if self._path == STANDARD:
            return
        mine = os.fstat(self._file)
        with suppress(FileNotFoundError):
            there = os.stat(self._path)
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                return
        fresh = _open(self._path)
        os.close(self._file)
        self._file = fresh

    # In the thread that tells

    @property
    def _lost(self) -> int:
        return self._dropped + self._failed

    def _tell_all(self) -> None:
        pause = threading.Event()
        written = lost = 0  # that were counted
        while True:
            self._news.wait()
            self._news.clear()
            ended = self._ended
            left = self._taken - self._written - self._failed if ended else 0
            seen = self._written, self._lost + left
            if seen != (written, lost):
                self._count(seen[0] - written, seen[1] - lost)
                written, lost = seen
            self._tell(lost, ended=ended)
            if ended:
                return
            pause.wait(PAUSE)

    def _tell(self, lost: int, *, ended: bool) -> None:
        """A line at the first loss, and one when all is written again, or never will be. lost: lines by now."""
        well = not self._fails and self._well >= lost
        begins = not self._told and (lost > self._past or self._fails)
        if not (begins or (self._told and (well or ended))):
            return
        if not _is_heard():
            self._news.set()
            return
        if begins:
            why = self._reason or f"over {HELD >> 20} MiB wait to be written"
            log.error("access log %s: %s; lines are dropped, and counted, until it can be written", self._path, why)
        self._told = True
        if well:
            log.warning("access log %s: it is written again; %d lines were dropped", self._path, lost - self._past)
            self._told, self._past, self._reason = False, lost, None
        elif ended:
            log.error("access log %s: it ends; %d lines were dropped", self._path, lost - self._past)


def _is_heard() -> bool:
    """Whether standard error takes a line: one to where nobody reads would hold whoever logs after it."""
    try:
        return bool(select([], [STANDARD_ERROR], [], 0)[1])
    except OSError:
        return True  # it is closed; logging deals with that


def _opened(path: str) -> int:
    try:
        return _open(path)
    except OSError as error:
        raise UsageError(f"access_log {path}: {error.strerror}; name a file that can be written") from None


def _open(path: str) -> int:
    if path == STANDARD:
        return os.dup(1)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _pieces(text: bytes, most: int) -> list[bytes]:
    """The lines of a text in pieces of at most so many bytes, a longer line in one of its own."""
    pieces, start = [], 0
    while len(text) - start > most:
        stop = text.rfind(b"\n", start, start + most) + 1 or text.find(b"\n", start) + 1
        pieces.append(text[start:stop])
        start = stop
    return [*pieces, text[start:]] if start < len(text) else pieces


def _write_whole(file: int, text: bytes) -> None:
    """Write it to the end, also where the system takes it in parts. Raises OSError."""
    end = monotonic() + PARTING
    while text:
        try:
            text = text[os.write(file, text) :]
        except BlockingIOError:
            if monotonic() > end:
                raise
            threading.Event().wait(PAUSE)
