"""Compiling a model in a process of its own: a crash of a parser, converter or model costs a sentence in the report."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal.compile.report import FILES, Report
from bimodal.errors import ModelCrashed, ModelError, retold
from bimodal.formats.contract import Source
from bimodal.rows import Rows
from bimodal.runtimes import aside, watch, wire
from bimodal.runtimes.isolation import APART, Isolation, slow
from bimodal.runtimes.process import Child
from bimodal.runtimes.wire import Line

if TYPE_CHECKING:
    import pyarrow as pa  # a server does without it

TIMEOUT = 600.0  # seconds for all that follows loading; what passed by then counts
MODULE = "bimodal.compile.child"
SAMPLE = "sample.arrow"  # the user's rows, on their way to the process
LOOK = 0.1  # seconds between looks whether it is still wanted


def compiled(
    kind: str,
    source: Source,
    folder: Path,
    *,
    sample: pa.Table | None = None,
    wanted: str = "auto",
    cancel: threading.Event | None = None,
    timeout: float = TIMEOUT,
    isolation: Isolation = APART,
) -> Report:
    """Compile the model, compare and time what came out; write what passed and the report into the folder.

    kind: the format's name. sample: rows of the user's, for the probes; not kept. wanted: auto (stop at the first form
    that passes and is faster), all, exact, onnx or native. cancel: when it is set, the process ends and what was found
    so far is the report (`settled` is False, as after a crash or at the time limit). timeout: seconds, from the moment
    when the model is loaded. isolation: what its process may hold, and how long it may take to load the model.

    Raises what loading the model raises, and ModelError where it was cancelled before that; everything that goes wrong
    later is told in the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sample is not None:
        _leave(sample, folder / SAMPLE)
    return _Watch(folder, cancel or threading.Event(), timeout, isolation).compiled(kind, source, wanted)


def _leave(sample: pa.Table, path: Path) -> None:
    import pyarrow as pa  # it is loaded already where a sample is given

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, sample.schema) as writer:
        writer.write_table(sample)


class _Stopped(Exception):
    """The process is to be ended: no longer wanted, or out of time."""


class _Watch:
    """The parent's side of one compilation."""

    def __init__(self, folder: Path, cancel: threading.Event, timeout: float, isolation: Isolation) -> None:
        self._folder, self._cancel, self._timeout = folder, cancel, timeout
        self._isolation = isolation
        self._until = time.monotonic() + isolation.load
        self._report: Report | None = None

    def compiled(self, kind: str, source: Source, wanted: str) -> Report:
        child = Child(MODULE)
        watch.over(child, self._isolation.allowed)
        if self._isolation.allowed is not None:
            child.socket.most = self._isolation.allowed
        if aside.wanted():
            aside.lower(child.process.pid)
        ask = {"format": kind, "source": msgspec.to_builtins(source), "folder": str(self._folder), "wanted": wanted}
        try:
            wire.send(child.socket, ask)
            while self._report is None or not self._report.settled:
                self._answer(child.socket, *self._next(child.socket))
            return self._report
        except _Stopped as stop:
            child.end()
            return self._unfinished(str(stop))
        except (EOFError, OSError) as error:
            fate = child.fate(error)
            if self._report is None:
                raise ModelCrashed(f"the process that loaded the model {fate}") from error
            return self._unfinished(f"the process that compiled it {fate}")
        finally:
            child.end()
            (self._folder / SAMPLE).unlink(missing_ok=True)

    def _next(self, channel: Line) -> tuple[dict[str, Any], Rows | None]:
        """The next message, unless it is no longer wanted."""
        channel.setblocking(False)
        arriving = wire.Arriving(channel, alone=False)  # one report may follow another before it is read
        while not arriving.read():
            channel.settimeout(LOOK)
            self._look()
            try:
                channel.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                continue
            finally:
                channel.setblocking(False)
        return arriving.message()

    def _look(self) -> None:
        if self._cancel.is_set():
            raise _Stopped("it was cancelled")
        if time.monotonic() > self._until:
            raise _Stopped(
                slow(self._isolation.load) if self._report is None else f"it took longer than {self._timeout:.0f} s"
            )

    def _answer(self, channel: Line, message: dict[str, Any], rows: Rows | None) -> None:
        if "error" in message:
            raise retold(message["error"])
        if rows is not None:
            channel.setblocking(True)
            wire.send(channel, {"count": rows.count})
            return
        if self._report is None:  # it is loaded
            self._until = time.monotonic() + self._timeout
        self._report = Report.decode(message["report"])

    def _unfinished(self, reason: str) -> Report:
        """What was found until then; what had not passed by then stays native."""
        if self._report is None:
            raise ModelError(f"the model was not compiled: {reason}")
        report = msgspec.structs.replace(self._report, note=f"stays {self._report.live} because {reason}")
        for name, file in FILES.items():
            if name not in report.runtimes:
                (self._folder / file).unlink(missing_ok=True)
        report.save(self._folder)
        return report
