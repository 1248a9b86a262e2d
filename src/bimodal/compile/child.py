"""The process that compiles a model: `python -m bimodal.compile.child FD`, started by `compile/process.py` alone.

It says what it found after every step, so that a crash loses only what came after it.
"""

from __future__ import annotations

import logging
import os
import signal
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import msgspec

from bimodal import formats
from bimodal.compile.choose import Trial, distributions
from bimodal.compile.place import place
from bimodal.compile.process import SAMPLE
from bimodal.compile.report import Report, plain
from bimodal.errors import BimodalError, told
from bimodal.formats import guard
from bimodal.formats.contract import Loaded, Source
from bimodal.rows import Rows
from bimodal.runtimes import wire
from bimodal.runtimes.confine import confine
from bimodal.runtimes.own import Own
from bimodal.runtimes.process import measure

NICE = 10
SAMPLED = 4096  # rows of the user's sample that are used
HOPS = 30


def main() -> None:
    guard.install()  # before any code but ours
    os.nice(NICE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTTOU, signal.SIGTTIN):  # the parent decides when it ends
        signal.signal(number, signal.SIG_IGN)
    confine()
    logging.disable(logging.CRITICAL)  # what a model raises on made-up rows is no news to anyone
    warnings.simplefilter("ignore")
    parent = Parent(Own(int(sys.argv[1])))
    _compile(parent, parent.receive())
    os._exit(0)  # at once: a library's clean-up at exit has nothing to save here


class Parent:
    """The other end; where it is gone, so is this process."""

    def __init__(self, channel: Own) -> None:
        self._channel = channel

    def send(self, message: dict[str, Any], rows: Rows | None = None) -> None:
        try:
            wire.send(self._channel, message, rows)
        except ConnectionError:
            os._exit(0)

    def receive(self) -> dict[str, Any]:
        try:
            return wire.receive(self._channel)[0]
        except (EOFError, ConnectionError):
            os._exit(0)

    def tell(self, report: Report) -> None:
        self.send({"report": report.encode(), "settled": report.settled})

    def hop(self, rows: Rows) -> float:
        """Seconds for rows to get there and a word to come back: what callers of a native model pay."""
        spans = []
        for _ in range(HOPS):
            start = time.perf_counter()
            self.send({"echo": True}, rows)
            self.receive()
            spans.append(time.perf_counter() - start)
        return statistics.median(spans)


def _compile(parent: Parent, header: dict[str, Any]) -> None:
    folder = Path(header["folder"])
    try:
        loaded = formats.named(header["format"]).load(Source.retold(header["source"]))
    except BimodalError as error:
        parent.send({"error": told(error)})
        return
    sample, warned = _sample(folder / SAMPLE, loaded)
    report = Report(
        header["format"],
        loaded.signature.told(),
        dict(loaded.versions),
        (*loaded.warnings, *warned),
        msgspec.to_builtins(loaded.facts, enc_hook=plain),
        _costs(loaded),
        dists=distributions(),
        place=place(),
        settled=False,
    )
    parent.tell(report)
    done = Trial(loaded, report, folder, parent.tell, parent.hop).run(sample, header["wanted"])
    done.save(folder)
    parent.tell(done)


def _sample(path: Path, loaded: Loaded) -> tuple[Rows | None, tuple[str, ...]]:
    """The user's rows as the model takes them, without those that it does not take; and what is to be told of them."""
    if not path.exists():
        return None, ()
    import pyarrow as pa  # of use for a sample alone, and installed where there is one

    from bimodal.table import Binding

    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all().slice(0, SAMPLED)
        rows, _, _ = Binding.bind(loaded.signature, table.column_names).rows(table)
    except (BimodalError, pa.ArrowException) as error:
        return None, (f"the sample's rows are not among the probes ({error})",)
    finally:
        path.unlink()
    return rows, ()


def _costs(loaded: Loaded) -> dict[int, float]:
    if loaded.signature.open:
        return {}
    try:
        return measure(loaded.runtime, loaded.signature)
    except BimodalError:  # it refuses made-up rows: nothing is known of what calls cost
        return {}


if __name__ == "__main__":
    main()
