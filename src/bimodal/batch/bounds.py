"""Bounds: how many threads and models are at work, chunks under way and rows in a call: from what is measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from bimodal.batch.crew import MOST, Crew, processors
from bimodal.batch.memory import Peak
from bimodal.batch.options import Options
from bimodal.batch.pipeline import Bound
from bimodal.batch.scoring import Scored
from bimodal.batch.sources.contract import CHUNK_ROWS, Source
from bimodal.model import Model
from bimodal.rows import Rows

LARGE = 4 * CHUNK_ROWS  # rows from which on more processes are worth their start
LARGE_BYTES = 16 << 20
CALLS = (CHUNK_ROWS, 8192)  # rows of a call that are tried
GAIN = 0.9  # a smaller call must take less than this share of the time
SLOW = 10.0  # seconds of a chunk from which on it is predicted in several calls
CALL = 1.0  # seconds of each of them
COPIES = 4  # how often a chunk lies in memory at once, at most: as bytes, columns, Rows, answer
FULL, FREE = 0.92, 0.75  # shares of the ceiling: above one, less is done at once; below the other, more


@dataclass
class Measured:
    """What the first chunk told. chunk: bytes of a chunk under way. call_rows: rows of one call."""

    chunk: int = 0
    call_rows: int = CHUNK_ROWS


class Bounds:
    """What a run may do at once. Nothing here changes a byte of the result."""

    def __init__(self, options: Options, source: Source, model: Model, crew: Crew, peak: Peak) -> None:
        self._options, self._crew, self._peak = options, crew, peak
        self._proven = model.runtime.proven
        self.workers = options.workers or self._wanted(source)
        self.threads = self.workers if self._proven or self.workers == 1 else 2 * self.workers
        self._most = options.ahead or self.threads + 2
        self.ahead = Bound(1 if options.memory is not None else self._most)
        self.measured = Measured()
        self.problem: str | None = None  # why the ceiling is not kept

    def _wanted(self, source: Source) -> int:
        unknown = source.total_rows is None and source.total_bytes is None
        return min(processors(), MOST) if (is_large(source) or unknown) and not source.live else 1

    def begin(self) -> None:
        """Before the first chunk: further models start where no ceiling must be kept."""
        if self._options.memory is None:
            self._crew.grow(self.workers)

    def learn(self, scored: Scored, encoded: int) -> None:
        """From the first chunk: how much may be under way."""
        tables = scored.chunk.features.nbytes + scored.chunk.kept.nbytes + scored.table.nbytes
        self.measured.chunk = COPIES * tables + encoded
        if self._options.memory is None:
            return
        held = self._peak.look(now=True)
        spare = int(self._options.memory * FULL) - held
        if held > self._options.memory:
            allowed = f"--memory {self._options.memory / 1e6:.0f}MB"
            self.problem = f"a chunk at a time already takes {held / 1e6:.0f} MB, more than {allowed}; it goes on so"
        if not self._proven:
            each = max(held // 2, 1)  # a clone takes about what this process and the first model do together, by half
            clones = max(0, min(self.workers - 1, spare // each))
            self._crew.grow(1 + clones)
            spare -= clones * each
        self.ahead.limit = max(1, min(self._most, spare // max(self.measured.chunk, 1)))

    def keep(self) -> None:
        """Now and then: stay below the ceiling."""
        held = self._peak.look()
        if not self._peak.fresh:
            return
        pa.default_memory_pool().release_unused()  # Arrow's allocator holds on to freed pages: 70 MB here, measured
        ceiling = self._options.memory
        if ceiling is None:
            return
        if held > FULL * ceiling:
            self.ahead.limit -= 1
        elif held < FREE * ceiling and self.ahead.limit < self._most:
            self.ahead.limit += 1

    def told(self) -> str:
        """One sentence."""
        many = f"{self.workers} threads" if self._proven else f"up to {self.workers} processes"
        if self.workers == 1:
            many = "one thread" if self._proven else "one process"
        chunks = "1 chunk" if self.ahead.limit == 1 else f"{self.ahead.limit} chunks"
        return f"{many}, {chunks} at once, {self._options.call_rows or self.measured.call_rows:,} rows a call"


def quickest_call(model: Model, rows: Rows, outputs: tuple[str, ...]) -> int:
    """Rows of a call with which these rows are predicted fastest. For proven models alone: their bits do not depend on
    a row's neighbours.
    """
    best, least = CALLS[0], float("inf")
    for size in CALLS:
        started = time.perf_counter()
        for start in range(0, rows.count, size):
            model.run(rows.slice(start, min(start + size, rows.count)), outputs)
        seconds = time.perf_counter() - started
        if seconds < GAIN * least:
            best, least = size, seconds
    return best


def calm_call(run: Callable[[int], float]) -> int:
    """Rows of a call of a slow model that takes about CALL seconds; 0: it is fast enough for a whole chunk in one.

    run: predicts so many of the input's first rows and gives the seconds that it took.
    """
    run(1)  # what a model makes ready with its first call is not counted
    size, before = 1, CALL
    while (spent := run(size)) * CHUNK_ROWS / size > SLOW and size < CHUNK_ROWS:
        if spent > CALL or (spent > CALL / 4 and spent > 2 * before):
            return 1 << max(0, int(math.log2(max(CALL * size / spent, 1))))
        before = spent
        size *= 8
    return 0


def is_large(source: Source, times: int = 1) -> bool:
    """Whether the input is known to have LARGE rows, so many times over."""
    known, weight = source.total_rows, source.total_bytes
    if known is not None:
        return known >= times * LARGE
    return weight is not None and weight >= times * LARGE_BYTES
