"""Shift: how far a number moved between two models, row by row and as a distribution; exact at any size."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from bimodal.batch.ranks import Pack, Stretch, ascending, pack, values_of
from bimodal.batch.sums import exact_sum, mean

QUANTILES = (0.5, 0.9, 0.99)
BINS = 10  # of the population stability index: the old model's deciles
LEAST = 1e-4  # the share that an empty bin counts as
LENGTH = 8  # bytes before each piece
DECODE = msgspec.msgpack.Decoder(Pack).decode


@dataclass(frozen=True)
class Shift:
    """One number of both models. rows: in which both have it.

    old, new: the means. mean: of new less old; mean_absolute, p50, p90, p99, largest: of its magnitude. ks: the
    Kolmogorov-Smirnov statistic of the two distributions. psi: their population stability index over the old model's
    deciles, an empty bin counted as 0.0001. None where there are no rows.
    """

    name: str
    rows: int
    old: float | None = None
    new: float | None = None
    mean: float | None = None
    mean_absolute: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    largest: float | None = None
    ks: float | None = None
    psi: float | None = None


class Bytes:
    """Pieces of bytes in a temporary file, to be read again and again."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="bimodal-")  # noqa: SIM115 - closed by close

    def add(self, data: bytes) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(len(data).to_bytes(LENGTH, "little") + data)

    def __call__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while length := self._file.read(LENGTH):
            yield self._file.read(int.from_bytes(length, "little"))

    def close(self) -> None:
        self._file.close()


class Spool:
    """Packs in a temporary file: 5 to 8 bytes a number."""

    def __init__(self) -> None:
        self._bytes = Bytes()

    def add(self, given: Pack) -> None:
        self._bytes.add(msgspec.msgpack.encode(given))

    def __call__(self) -> Iterator[Pack]:
        return map(DECODE, self._bytes())

    def close(self) -> None:
        self._bytes.close()


class Moving:
    """Gathers one number of both models, chunk by chunk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._rows = self._old = self._new = self._sum = self._magnitude = 0
        self._both, self._steps = Spool(), Spool()

    def add(self, old: NDArray[np.float64], new: NDArray[np.float64]) -> None:
        """Rows of both models side by side; those without a finite number on both sides are left out."""
        sound = np.isfinite(old) & np.isfinite(new)
        old, new = old[sound], new[sound]
        steps = new - old
        self._rows += len(old)
        self._old += exact_sum(old)
        self._new += exact_sum(new)
        self._sum += exact_sum(steps)
        self._magnitude += exact_sum(np.abs(steps))
        self._both.add(pack(np.concatenate([old, new]), np.arange(2 * len(old)) < len(old)))
        self._steps.add(pack(np.abs(steps), np.ones(len(steps), bool)))

    def told(self) -> Shift:
        count = self._rows
        if not count:
            return Shift(self.name, 0)
        old, new, step, magnitude = (mean(each, count) for each in (self._old, self._new, self._sum, self._magnitude))
        p50, p90, p99, largest = quantiles(ascending(self._steps), count, (*QUANTILES, 1.0))
        ks, psi = distance(ascending(self._both), count)
        return Shift(self.name, count, old, new, step, magnitude, p50, p90, p99, largest, ks, psi)

    def close(self) -> None:
        self._both.close()
        self._steps.close()


def quantiles(stretches: Iterator[Stretch], count: int, wanted: Sequence[float]) -> list[float]:
    """Quantiles of `count` numbers, between two of them by proportion (as NumPy's default)."""
    spots = [(count - 1) * each for each in wanted]
    places = sorted({place for spot in spots for place in (math.floor(spot), math.ceil(spot))})
    found: dict[int, float] = {}
    done = 0
    for keys, _, counts in stretches:
        ends = np.cumsum(counts) + done
        for place in places:
            if done <= place < ends[-1]:
                found[place] = float(values_of(keys[[np.searchsorted(ends, place, "right")]])[0])
        done = int(ends[-1])
    told = []
    for spot in spots:
        low, high = found[math.floor(spot)], found[math.ceil(spot)]
        told.append(low + (high - low) * (spot - math.floor(spot)))
    return told


def distance(stretches: Iterator[Stretch], count: int) -> tuple[float, float]:
    """The Kolmogorov-Smirnov statistic and the population stability index of two groups of `count` numbers each."""
    widest = olds = news = 0
    ranks = [-(-count * each // BINS) for each in range(1, BINS)]  # the ends of the old model's deciles
    cuts: list[tuple[int, int]] = []
    for _, ones, counts in stretches:
        old, new = np.cumsum(ones) + olds, np.cumsum(counts - ones) + news
        widest = max(widest, int(np.abs(old - new).max()))
        for rank in ranks:
            if olds < rank <= old[-1]:
                at = int(np.searchsorted(old, rank))
                cuts.append((int(old[at]), int(new[at])))
        olds, news = int(old[-1]), int(new[-1])
    ends = [*dict.fromkeys(cuts), (olds, news)]
    return widest / count, stability(ends, count)


def stability(ends: Sequence[tuple[int, int]], count: int) -> float:
    """The population stability index. ends: of each bin, how many of either group lie up to its end."""
    total, before = 0.0, (0, 0)
    for end in dict.fromkeys(ends):
        old, new = (max((here - there) / count, LEAST) for here, there in zip(end, before, strict=True))
        total += (new - old) * math.log(new / old)
        before = end
    return total
