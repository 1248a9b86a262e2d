"""Progress of a run in rows and bytes: a bar on a terminal, plain lines elsewhere, events for programs."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from bimodal.batch.report import Report, rows, sized
from bimodal.errors import UsageError

EVERY = 3.0  # seconds between plain lines
OFTEN = 0.5  # seconds between events
SLOW = 1.0  # seconds after which a stage is told of


class Progress:
    """Says nothing: the base of the others."""

    def begin(self, total_rows: int | None, total_bytes: int | None, done: int = 0) -> None:
        """Before the first row; what is not known is None. done: rows that an interrupted run had done."""

    def stage(self, name: str) -> None:
        """What begins now, in a few words: opening the input, loading the model, predicting, publishing …"""

    def note(self, sentence: str) -> None:
        """Something that was recognised or decided."""

    def update(self, read: int, rejected: int, done: int) -> None:
        """read, rejected: rows so far; done: bytes of the input so far."""

    def end(self, report: Report | None) -> None:
        """The run is over; without a report, it failed."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        count, before = int(task.fields.get("rows", 0)), int(task.fields.get("before", 0))
        elapsed = task.elapsed or 0.0
        pace = f", {(count - before) / elapsed:,.0f}/s" if elapsed > 0.5 and count > before else ""
        return Text(f"{rows(count)}{pace}" if count else "")


class Bar(Progress):
    """A bar on a terminal, there from the first stage on."""

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream)
        self._console = console
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(20),
            DownloadColumn(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, rows=0)

    def stage(self, name: str) -> None:
        self._bar.update(self._task, description=name)
        self._bar.start()

    def begin(self, total_rows: int | None, total_bytes: int | None, done: int = 0) -> None:
        self._bar.reset(self._task, total=total_bytes, rows=done, before=done)

    def note(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def update(self, read: int, rejected: int, done: int) -> None:
        self._bar.update(self._task, completed=done, rows=read)

    def end(self, report: Report | None) -> None:
        self._bar.stop()
        if report is not None:
            self.note(str(report))


class Pace:
    """How fast a run is, and how long it still takes."""

    def __init__(self, total_rows: int | None = None, total_bytes: int | None = None, before: int = 0) -> None:
        self.total_rows, self.total_bytes = total_rows, total_bytes
        self._before, self._began, self._bytes = before, time.monotonic(), 0

    def at(self, read: int, done: int) -> dict[str, float | int | None]:
        """rate: rows a second. share: of the whole, from 0 to 1. left: seconds."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = max(read - self._before, 0) / elapsed
        whole = self.total_bytes if self.total_bytes and done else self.total_rows
        so_far = done if self.total_bytes and done else read
        share = min(so_far / whole, 1.0) if whole else None
        left = None
        if share is not None and rate:
            rest = (1 - share) * (read / share) if share else 0.0  # rows to come, by the share of what is done
            left = rest / rate
        return {"rate": round(rate, 1), "share": share, "left": left}


class Lines(Progress):
    """Plain lines: a stage that lasts, then where it stands every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = time.monotonic()
        self._pace = Pace()
        self._timer: threading.Timer | None = None

    def stage(self, name: str) -> None:
        self._quiet()
        self._timer = threading.Timer(SLOW, self.note, (f"{name} …",))
        self._timer.daemon = True
        self._timer.start()

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def begin(self, total_rows: int | None, total_bytes: int | None, done: int = 0) -> None:
        self._pace = Pace(total_rows, total_bytes, done)
        self._last = time.monotonic()

    def note(self, sentence: str) -> None:
        self._stream.write(f"{sentence}\n")
        self._stream.flush()

    def update(self, read: int, rejected: int, done: int) -> None:
        self._quiet()
        now = time.monotonic()
        if now - self._last < EVERY:
            return
        self._last = now
        pace, total = self._pace.at(read, done), self._pace.total_rows
        line = f"{read:,} of {rows(total)}" if total else rows(read)
        line += f", {pace['rate']:,.0f} rows/s"
        if pace["share"] is not None:
            size = f" of {sized(self._pace.total_bytes)}" if self._pace.total_bytes and done else ""
            line += f", {pace['share']:.0%}{size}"
        if pace["left"] is not None:
            line += f", {pace['left']:.0f} s left"
        self.note(f"{line}, {rejected:,} rejected" if rejected else line)

    def end(self, report: Report | None) -> None:
        self._quiet()
        if report is not None:
            self.note(str(report))


class Events(Progress):
    """A JSON object a line: stage, begin, note, progress, report."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0
        self._pace = Pace()

    def _say(self, event: str, **told: object) -> None:
        self._stream.write(msgspec.json.encode({"event": event, **told}).decode() + "\n")
        self._stream.flush()

    def stage(self, name: str) -> None:
        self._say("stage", name=name)

    def begin(self, total_rows: int | None, total_bytes: int | None, done: int = 0) -> None:
        self._pace = Pace(total_rows, total_bytes, done)
        self._say("begin", total_rows=total_rows, total_bytes=total_bytes, rows=done)

    def note(self, sentence: str) -> None:
        self._say("note", text=sentence)

    def update(self, read: int, rejected: int, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= OFTEN:
            self._last = now
            totals = {"total_rows": self._pace.total_rows, "total_bytes": self._pace.total_bytes}
            self._say("progress", rows=read, rejected=rejected, bytes=done, **totals, **self._pace.at(read, done))

    def end(self, report: Report | None) -> None:
        if report is not None:
            self._say("report", **report.told())


def chosen(told: str | Progress | None, *, data_on_stdout: bool) -> Progress:
    """ "auto": a bar or lines on standard error; "json": events on standard output, or on standard error where the data
    goes to standard output; "quiet" or None: nothing.
    """
    if isinstance(told, Progress):
        return told
    if told in (None, "quiet"):
        return Progress()
    if told == "json":
        return Events(sys.stderr if data_on_stdout else sys.stdout)
    if told == "auto":
        return Bar(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)
    raise UsageError(f"progress={told!r}: it is 'auto', 'json', 'quiet' or a Progress")
