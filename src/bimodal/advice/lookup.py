"""Lookup: the embedded prediction store with as many keys as are asked for, and one key looked up after the other."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from bimodal.advice.figure import derived
from bimodal.advice.measured import Loads, Lookup
from bimodal.config.tables import StoreTable
from bimodal.predictions import open_reader, open_writer

MOST = 1_000_000  # keys
CALLS = 20_000
PART = 50_000


def measure(empty: Loads, keys: int, bodies: Sequence[bytes], outputs: Sequence[str], folder: Path) -> Lookup:
    """What a server gives that looks keys up: the time of a look, measured in this process, on top of the route without
    a model, measured over HTTP.
    """
    count = min(keys, MOST)
    look, slow = _looks(count, bodies, outputs, folder / "predictions")
    how = f"the route without a model, and {look * 1e6:.3g} µs to look one of {count:,} keys up, both measured"
    each = empty.cores / (1 / empty.saturated.per_core.number + look)
    return Lookup(
        derived(each, "requests/s", how),
        derived(empty.alone.p50.number + look, "s", how),
        derived(empty.alone.p99.number + slow, "s", how),
    )


def _looks(count: int, bodies: Sequence[bytes], outputs: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds of one look: the median and the 99th percentile of keys by lot."""
    table = StoreTable(job="advise", key="key")
    writer = open_writer(table, folder, job="advise", run="1", model="m/1", digest="0", kind="int", outputs=outputs)
    for start in range(0, count, PART):
        part = range(start, min(start + PART, count))
        writer.add(list(part), [bodies[key % len(bodies)] for key in part], [0] * len(part))
    writer.commit(time.time())
    chance, times = random.Random(0), []  # noqa: S311 - which keys are asked for is no secret
    reader = open_reader(table, folder)
    try:
        for key in chance.choices(range(count), k=CALLS):
            started = time.perf_counter()
            reader.look((key,))
            times.append(time.perf_counter() - started)
    finally:
        reader.close()
    times.sort()
    return times[len(times) // 2], times[int(0.99 * len(times))]
