"""Progress of a run in rows and bytes: a bar on a terminal, plain lines elsewhere, events for programs."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from bimodal.batch.report import Report, rows
from bimodal.errors import UsageError

EVERY = 3.0  # seconds between plain lines and between events


class Progress:
    """Says nothing: the base of the others."""

    def begin(self, total_rows: int | None, total_bytes: int | None) -> None:
        """Before the first row; what is not known is None."""

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
        count = int(task.fields.get("rows", 0))
        elapsed = task.elapsed or 0.0
        pace = f", {count / elapsed:,.0f}/s" if elapsed > 0.5 else ""
        return Text(f"{rows(count)}{pace}")


class Bar(Progress):
    """A bar on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream)
        self._console = console
        self._bar = RichProgress(
            BarColumn(20),
            DownloadColumn(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: Any = None

    def begin(self, total_rows: int | None, total_bytes: int | None) -> None:
        self._task = self._bar.add_task("predicting", total=total_bytes, rows=0)
        self._bar.start()

    def note(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def update(self, read: int, rejected: int, done: int) -> None:
        self._bar.update(self._task, completed=done, rows=read)

    def end(self, report: Report | None) -> None:
        self._bar.stop()
        if report is not None:
            self.note(str(report))


class Lines(Progress):
    """A plain line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = self._last = time.monotonic()
        self._total: int | None = None

    def begin(self, total_rows: int | None, total_bytes: int | None) -> None:
        self._total = total_bytes
        self._started = self._last = time.monotonic()

    def note(self, sentence: str) -> None:
        self._stream.write(f"{sentence}\n")
        self._stream.flush()

    def update(self, read: int, rejected: int, done: int) -> None:
        now = time.monotonic()
        if now - self._last < EVERY:
            return
        self._last = now
        elapsed = now - self._started
        line = f"{rows(read)}, {read / elapsed:,.0f} rows/s"
        if self._total and done:
            left = elapsed * (self._total - done) / done
            line += f", {done / self._total:.0%} of {self._total / 1e6:,.1f} MB, {left:.0f} s left"
        self.note(f"{line}, {rejected:,} rejected" if rejected else line)

    def end(self, report: Report | None) -> None:
        if report is not None:
            self.note(str(report))


class Events(Progress):
    """A JSON object a line: note, progress, report."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0
        self._totals: dict[str, int | None] = {}

    def _say(self, event: str, **told: object) -> None:
        self._stream.write(msgspec.json.encode({"event": event, **told}).decode() + "\n")
        self._stream.flush()

    def begin(self, total_rows: int | None, total_bytes: int | None) -> None:
        self._totals = {"total_rows": total_rows, "total_bytes": total_bytes}
        self._say("begin", **self._totals)

    def note(self, sentence: str) -> None:
        self._say("note", text=sentence)

    def update(self, read: int, rejected: int, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY:
            self._last = now
            self._say("progress", rows=read, rejected=rejected, bytes=done, **self._totals)

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
