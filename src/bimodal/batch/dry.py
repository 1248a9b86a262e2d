"""A dry run: what a run would do, how long it would take and how much it would write, from a timed sample."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bimodal.batch.report import rows, sized
from bimodal.batch.scoring import Scored, Scorer
from bimodal.batch.sinks.contract import Sink
from bimodal.batch.sources.contract import Chunk, Reading, Source
from bimodal.model import Model

LOOK = 1.0  # seconds for which the rows are counted
KEYS = 20_000_000  # rows up to which a key is looked at: 8 bytes of memory each


@dataclass(frozen=True)
class Sample:
    """The first rows of the first chunk, done once. whole: rows of that chunk. bytes_done: of the source, behind it;
    size: of these rows' part of the output, where it is known.
    """

    scored: Scored
    whole: int
    bytes_done: int
    size: int | None
    seconds: float


@dataclass(frozen=True)
class Expected:
    """What a run would do. rows_are: "exact", "about", or "at least" so many; None where nothing is known. seconds: of
    the run. bytes: of the output, None where it is not known. free: bytes where they would be written. rejected_share:
    of the rows that were tried.
    """

    rows: int | None
    rows_are: str | None
    chunks: int | None
    seconds: float | None
    bytes: int | None
    free: int | None
    workers: int
    tried: int
    rejected_share: float

    def told(self) -> list[str]:
        """The same in sentences."""
        if self.rows is None or self.chunks is None or self.seconds is None:
            return ["how many rows will come is not known"]
        if not self.rows:
            return ["the input has no rows; the output would have none"]
        known = "" if self.rows_are == "exact" else f"{self.rows_are} "
        written = f", {sized(self.bytes)} written" if self.bytes is not None else ""
        pieces = "1 chunk" if self.chunks == 1 else f"{self.chunks:,} chunks"
        first = f"{known}{rows(self.rows)} in {pieces}: about {_duration(self.seconds)} with {self.workers} at work"
        if self.bytes is None or self.free is None or self.bytes <= self.free:
            return [first + written]
        return [first + written, f"there is no room for that: {sized(self.free)} are free where it would be written"]


def sample(source: Source, scorer: Scorer, model: Model, sink: Sink, most: int = 0) -> Sample | None:
    """Read, predict and encode the first chunk, twice, and time the second: the first one warms up. None: no rows.
    most: rows of it that are tried, once, with a slow model; 0: all.
    """
    best: Sample | None = None
    for _ in range(1 if most else 2):
        started = time.perf_counter()
        piece = next(source.pieces(scorer.columns.reading), None)
        if piece is None:
            return None
        chunk = piece.load()
        whole = chunk.count
        scored = scorer.score(head(chunk, most) if most else chunk, model)
        best = Sample(scored, whole, piece.bytes_done, sink.weigh(scored.table), time.perf_counter() - started)
    return best


def expected(source: Source, reading: Reading, first: Sample | None, workers: int, place: Path | None) -> Expected:
    """From the first rows, and from looking through the input for a moment. place: where the output is written."""
    free = None if place is None else shutil.disk_usage(place).free
    if first is None:
        return Expected(0, "exact", 0, 0.0, 0, free, workers, 0, 0.0)
    many = first.scored.chunk.count
    share = len(first.scored.rejects) / many if many else 0.0
    count, how = _rows(source, reading, first)
    if count is None or not many:
        return Expected(None, None, None, None, None, free, workers, many, share)
    seconds = first.seconds / many * count / workers
    size = None if first.size is None else math.ceil(first.size / many * count)
    return Expected(count, how, max(1, math.ceil(count / first.whole)), seconds, size, free, workers, many, share)


def _rows(source: Source, reading: Reading, first: Sample) -> tuple[int | None, str | None]:
    """How many rows there are, and how well that is known."""
    if source.total_rows is not None and source.counted:
        return source.total_rows, "exact"
    if source.live:
        return None, None
    seen, done, whole = _look(source, reading)
    if whole:
        return seen, "exact"
    if source.total_bytes is not None and (done or first.bytes_done):
        part, size = (seen, done) if done else (first.whole, first.bytes_done)
        return max(seen, part * source.total_bytes // size), "about"
    believed = source.total_rows or 0
    return max(believed, seen), "about" if believed > seen else "at least"


def _look(source: Source, reading: Reading) -> tuple[int, int, bool]:
    """Rows and bytes up to where a moment's reading came, in whole chunks, and whether that was all."""
    until = time.monotonic() + LOOK
    seen, done, last = 0, 0, None
    for piece in source.pieces(reading):
        if last is not None:
            step = piece.first_row - last.first_row
            seen += step if step > 0 else last.load().count  # another file begins to count anew
            done = last.bytes_done
        last = piece
        if time.monotonic() >= until:
            return seen, done, False
    return seen + (0 if last is None else last.load().count), done, True


def rejected(first: Sample) -> str:
    """How many rows would be refused, in a sentence."""
    bad, many = len(first.scored.rejects), first.scored.chunk.count
    if bad and bad / many >= 0.001:
        return f"{bad / many:.1%} of the first {rows(many)} would be rejected"
    return f"{f'{bad:,}' if bad else 'none'} of the first {rows(many)} would be rejected"


def place_of(sink: Sink) -> Path | None:
    """The folder where the output is written on this machine, or the nearest above it; None: that is elsewhere."""
    path = sink.spool or sink.path
    return None if path is None else next((each for each in path.absolute().parents if each.is_dir()), None)


def head(chunk: Chunk, count: int) -> Chunk:
    """The chunk's first rows."""
    places = None if chunk.places is None else chunk.places[:count]
    last = chunk.row(min(count, chunk.features.num_rows) - 1) if chunk.features.num_rows else chunk.first_row
    return replace(
        chunk,
        features=chunk.features.slice(0, count),
        kept=chunk.kept.slice(0, count),
        places=places,
        rejects=tuple(bad for bad in chunk.rejects if bad.row <= last),
        records=None if chunk.records is None else chunk.records[:count],
    )


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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
