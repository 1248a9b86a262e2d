"""A run without a model: chunks that are the same every time, into a sink, from wherever its journal says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bimodal.batch.marks import Begun, Beside, Mark
from bimodal.batch.sinks.contract import Sink
from bimodal.batch.sinks.outputs import output_of

KINDS = ["csv", "csv.gz", "tsv.zst", "jsonl", "jsonl.gz", "parquet", "arrow", "arrows", "parquet/", "csv.gz/", "arrow/"]
CHUNKS = 6
PLAN = {"key": "0123", "model": "churn"}
SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string()), ("score", pa.float64())])


def chunk(number: int) -> pa.Table:
    """A few rows, of which no two chunks have the same; the third has none."""
    count = 0 if number == 2 else 4 + number
    first = 100 * number
    notes = [["plain", 'a, "b"', None, "two\nlines"][(number + place) % 4] for place in range(count)]
    scores = [first / 7 + place for place in range(count)]
    return pa.table([list(range(first, first + count)), notes, scores], schema=SCHEMA)


def mark(number: int) -> Mark:
    rows, bad = chunk(number).num_rows, number % 2
    return Mark(number, {"chunk": number, "byte": 10 * number}, rows + bad, rows, bad)


def beside(number: int) -> Beside:
    return Beside(b'{"row":%d}\n' % number if number % 2 else b"", b"scored %d" % number)


def opened(folder: Path, kind: str, *, overwrite: bool = False) -> Sink:
    """The sink `out.KIND` in a folder (`out.KIND/` is a folder of parts)."""
    return output_of(f"{folder}/out.{kind}").sink(overwrite=overwrite)


def go(sink: Sink, *, chunks: int = CHUNKS, after: Callable[[str], None] = lambda step: None) -> Begun | None:
    """Everything that is not done yet, up to publication. after: called after each step. Gives what stood there."""
    sink.hold(0, lambda told: None)
    try:
        done, begun = sink.published(), sink.begun()
        if done is not None and begun is None:
            return None
        sink.resume(begun) if begun else sink.start(PLAN, "run 1")
        after("started")
        if begun is None or not begun.complete:
            sink.settle(SCHEMA, {"bimodal.plan": "0123"})
            after("settled")
            for number in range(begun.last.number + 1 if begun and begun.last else 0, chunks):
                sink.append(mark(number), sink.encode(chunk(number)), beside(number))
                after(f"chunk {number}")
            sink.complete()
            after("complete")
        sink.publish(report(chunks))
        after("published")
        return begun
    finally:
        sink.release()


def report(chunks: int = CHUNKS) -> dict[str, Any]:
    return {"plan": PLAN, "status": "complete", "read": sum(mark(number).read for number in range(chunks))}


def result(folder: Path, kind: str) -> dict[str, bytes]:
    """The files of an output: itself, or its parts, and its rejects."""
    out = folder / f"out.{kind.rstrip('/')}"
    found = {each.name: each.read_bytes() for each in out.iterdir()} if out.is_dir() else {"": out.read_bytes()}
    return {**found, "rejects": out.with_name(f"{out.name}.rejects.jsonl").read_bytes()}


def pictures(folder: Path, kind: str) -> Iterator[tuple[str, Path]]:
    """What a kill after each step leaves behind, each in a folder of its own."""
    shots: list[tuple[str, Path]] = []
    live = folder / "live"
    live.mkdir()

    def shoot(step: str) -> None:
        shot = folder / f"after {step}"
        shutil.copytree(live, shot)
        shots.append((step, shot))

    go(opened(live, kind), after=shoot)
    yield from shots


def work(folder: Path, kind: str) -> Path:
    """The work folder of an output."""
    return folder / f".out.{kind.rstrip('/')}.bimodal"
