"""The process that compiles a model: `python -m bimodal.compile.child FD`, started by `compile/process.py` alone.

It says what it found after every step, so that a crash loses only what came after it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import statistics
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from bimodal import formats
from bimodal.compile.choose import Trial
from bimodal.compile.process import SAMPLE
from bimodal.compile.report import Report, plain
from bimodal.errors import BimodalError, told
from bimodal.formats.contract import Loaded, Source
from bimodal.rows import Rows
from bimodal.runtimes import wire
from bimodal.runtimes.child import leave_with_parent
from bimodal.runtimes.process import measure
from bimodal.table import Binding

NICE = 10
SAMPLED = 4096  # rows of the user's sample that are used
HOPS = 30


def main() -> None:
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when it ends
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)  # what a model raises on made-up rows is no news to anyone
    warnings.simplefilter("ignore")
    channel = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=leave_with_parent, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):
        header, _ = wire.receive(channel)
        _compile(channel, header)
    os._exit(0)  # at once: a library's clean-up at exit has nothing to save here


def _compile(channel: socket.socket, header: dict[str, Any]) -> None:
    folder = Path(header["folder"])
    try:
        loaded = formats.named(header["format"]).load(msgspec.convert(header["source"], Source))
    except BimodalError as error:
        wire.send(channel, {"error": told(error)})
        return
    sample, warned = _sample(folder / SAMPLE, loaded)
    report = Report(
        header["format"],
        loaded.signature.told(),
        dict(loaded.versions),
        (*loaded.warnings, *warned),
        msgspec.to_builtins(loaded.facts, enc_hook=plain),
        _costs(loaded),
        settled=False,
    )
    _tell(channel, report)

    def tell(step: Report) -> None:
        _tell(channel, step)

    def hop(rows: Rows) -> float:
        return _hop(channel, rows)

    done = Trial(loaded, report, folder, tell, hop).run(sample, header["wanted"])
    done.save(folder)
    _tell(channel, done)


def _tell(channel: socket.socket, report: Report) -> None:
    wire.send(channel, {"report": report.encode(), "settled": report.settled})


def _hop(channel: socket.socket, rows: Rows) -> float:
    """Seconds for rows to reach the parent and its word to come back: what a native model's callers pay."""
    spans = []
    for _ in range(HOPS):
        start = time.perf_counter()
        wire.send(channel, {"echo": True}, rows)
        wire.receive(channel)
        spans.append(time.perf_counter() - start)
    return statistics.median(spans)


def _sample(path: Path, loaded: Loaded) -> tuple[Rows | None, tuple[str, ...]]:
    """The user's rows as the model takes them, without those that it does not take; and what is to be told of them."""
    if not path.exists():
        return None, ()
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
