"""A dry run: what a run would do, how long it would take and how much it would write, from a timed sample."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.report import rows
from bimodal.batch.scoring import Scored, Scorer
from bimodal.batch.sinks.contract import Sink
from bimodal.batch.sources.contract import Reading, Source
from bimodal.model import Model

KEYS = 20_000_000  # rows up to which a key is looked at: 8 bytes of memory each


@dataclass(frozen=True)
class Sample:
    """The first chunk, done once. bytes_done: of the source; size: of its part of the output, where it is known."""

    scored: Scored
    bytes_done: int
    size: int | None
    seconds: float


def sample(source: Source, scorer: Scorer, model: Model, sink: Sink) -> Sample | None:
    """Read, predict and encode the first chunk, twice, and time the second: the first one warms up. None: no rows."""
    best: Sample | None = None
    for _ in range(2):
        started = time.perf_counter()
        pieces = source.pieces(scorer.columns.reading)
        piece = next(pieces, None)
        if piece is None:
            return None
        scored = scorer.score(piece.load(), model)
        size = sink.weigh(scored.table)
        best = Sample(scored, piece.bytes_done, size, time.perf_counter() - started)
    return best


def expected_rows(source: Source, first: Sample) -> int | None:
    """How many rows there are, or about how many, by the bytes of the first ones."""
    if source.total_rows is not None:
        return source.total_rows
    if source.total_bytes is None or not first.bytes_done:
        return None
    return max(first.scored.chunk.count, first.scored.chunk.count * source.total_bytes // first.bytes_done)


def told(source: Source, first: Sample | None, workers: int) -> list[str]:
    """What is to be expected, in sentences."""
    if first is None:
        return ["the input has no rows; the output would have none"]
    count = expected_rows(source, first)
    if count is None:
        return ["how many rows will come is not known"]
    known = "" if source.total_rows is not None and source.counted else "about "
    many = first.scored.chunk.count
    chunks = max(1, math.ceil(count / many))
    seconds = first.seconds / many * count / workers
    written = f", {_bytes(first.size / many * count)} written" if first.size else ""
    pieces = "1 chunk" if chunks == 1 else f"{chunks:,} chunks"
    return [f"{known}{rows(count)} in {pieces}: about {_duration(seconds)} with {workers} at work{written}"]


def twice(source: Source, key: Sequence[str]) -> str:
    """Whether the key tells the rows of the input apart, in a sentence."""
    hashes: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
    seen, nulls = 0, 0
    for chunk in source.chunks(Reading({}, tuple(key), strict=False)):
        table = chunk.kept
        nulls += sum(int(column.null_count) for column in table.columns)
        hashes.append(_hashes(table))
        seen += table.num_rows
        if seen >= KEYS:
            break
    found = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
    double = len(found) - len(np.unique(found))
    named = ", ".join(key)
    looked = "" if seen < KEYS else f" (of the first {seen:,} rows)"
    if nulls:
        return f"the key {named} has {nulls:,} nulls{looked}, which tell no row: upsert would refuse them"
    if double:
        return (
            f"the key {named} is not unique{looked}: {double:,} rows have the key of another; upsert would refuse them"
        )
    return f"the key {named} is unique{looked}"


def _hashes(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """64 bits for each row: equal for equal keys; for others equal with a chance of one in 10**19."""
    mixed = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        texts = pc.fill_null(column.cast(pa.string()), "\0").combine_chunks()
        codes = np.fromiter((hash(text) for text in texts.to_pylist()), np.int64, len(texts)).view(np.uint64)
        mixed = (mixed ^ codes) * np.uint64(0x9E3779B97F4A7C15)
    return mixed


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
