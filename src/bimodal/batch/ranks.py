"""Ranks: numbers beyond any memory, in ascending order, each with how often it stands in two groups.

A chunk's numbers are sorted and packed (`pack`); `ascending` merges the packs of all chunks, a stretch of the order at
a time, and reads them again for each stretch. What needs ranks stands on that stream and is exact at any size: the area
under the ROC curve, the Kolmogorov-Smirnov statistic, quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SIGN = np.uint64(1 << 63)
BLOCK = 1_024  # different numbers that are packed together
PLANES = 16  # bytes of a number in a block: its distance to the last one 8, its count 4, that of the first group 4
STRETCH = 1 << 20  # different numbers that are in memory at once, about
SAFE = 2**62

Stretch = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]
"""Numbers as ascending keys without a repetition, how often each stands in the first group, and in both."""
Part = tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint32]]


class Pack(msgspec.Struct, array_like=True):
    """A chunk's numbers. lowest: the first key of each block, uint64. sizes: of the blocks, uint16. ends: of their
    bytes in `blocks`, uint32.
    """

    lowest: bytes
    sizes: bytes
    ends: bytes
    blocks: memoryview


Packs = Callable[[], Iterator[Pack]]


def keys_of(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Integers in the order of the numbers; the two zeros are one. No NaN."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def values_of(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The numbers of `keys_of`."""
    return np.where(keys & SIGN, keys ^ SIGN, ~keys).view(np.float64)


def pack(values: NDArray[np.float64], first: NDArray[np.bool_]) -> Pack:
    """values: [n], without NaN. first: which of them belong to the first group."""
    if not len(values):
        return Pack(b"", b"", b"", memoryview(b""))
    keys = keys_of(values)
    order = np.argsort(keys)
    keys, counts, ones = _merged(keys[order], np.ones(len(keys), np.int64), first[order].astype(np.int64))
    planes = _planes(keys, counts, ones)
    codec = pa.Codec("zstd", compression_level=1)
    starts = range(0, len(keys), BLOCK)
    blocks = [codec.compress(planes[:, start : start + BLOCK].tobytes(), asbytes=True) for start in starts]
    sizes = np.minimum(len(keys) - np.arange(0, len(keys), BLOCK), BLOCK).astype(np.uint16)
    ends = np.cumsum([len(each) for each in blocks], dtype=np.uint32)
    return Pack(keys[::BLOCK].tobytes(), sizes.tobytes(), ends.tobytes(), memoryview(b"".join(blocks)))


def ascending(packs: Packs, stretch: int = STRETCH) -> Iterator[Stretch]:
    """All numbers in their order. packs: all chunks', given anew for each stretch."""
    bounds = _bounds(packs, stretch)
    for low, high in zip([None, *bounds], [*bounds, None], strict=True):
        parts = [part for each in packs() for part in _between(each, low, high)]
        if not parts:
            continue
        keys, ones, counts = (np.concatenate([part[at] for part in parts]) for at in range(3))
        del parts
        order = np.argsort(keys, kind="stable")  # merges what is sorted already
        keys, ones, counts = keys[order], ones[order], counts[order]
        del order
        keys, counts, ones = _merged(keys, counts.astype(np.int64), ones.astype(np.int64))
        yield keys, ones, counts


def _bounds(packs: Packs, stretch: int) -> list[int]:
    """Where to cut the order, so that no stretch is much longer: at the blocks' beginnings, which are known of all."""
    lowest, chunks = [], 0
    for each in packs():
        lowest.append(np.frombuffer(each.lowest, np.uint64))
        chunks += 1
    if not lowest:
        return []
    known = np.sort(np.concatenate(lowest))
    every = max(stretch // BLOCK - chunks, stretch // BLOCK // 2, 1)  # of each chunk one block more may overlap
    cuts: list[int] = np.unique(known[every::every]).tolist()
    return cuts


def _between(given: Pack, low: int | None, high: int | None) -> Iterator[Part]:
    """The pack's numbers from low to below high."""
    lowest, sizes = np.frombuffer(given.lowest, np.uint64), np.frombuffer(given.sizes, np.uint16)
    ends = np.frombuffer(given.ends, np.uint32)
    start = 0 if low is None else max(int(np.searchsorted(lowest, np.uint64(low), "right")) - 1, 0)
    stop = len(lowest) if high is None else int(np.searchsorted(lowest, np.uint64(high), "left"))
    for at in range(start, stop):
        block = given.blocks[int(ends[at - 1]) if at else 0 : int(ends[at])]
        keys, ones, counts = _unpacked(block, lowest[at], int(sizes[at]))
        begin = 0 if low is None else int(np.searchsorted(keys, np.uint64(low), "left"))
        end = len(keys) if high is None else int(np.searchsorted(keys, np.uint64(high), "left"))
        if begin < end:
            yield keys[begin:end], ones[begin:end], counts[begin:end]


def _merged(
    keys: NDArray[np.uint64], counts: NDArray[np.int64], ones: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Sorted keys, each once, with the sums of what stands beside it."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    if len(starts) == len(keys):
        return keys, counts, ones
    return keys[starts], np.add.reduceat(counts, starts), np.add.reduceat(ones, starts)


def _planes(keys: NDArray[np.uint64], counts: NDArray[np.int64], ones: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bytes [PLANES, n], those of one weight side by side: most are zero."""
    steps = np.diff(keys, prepend=keys[:1])
    steps[::BLOCK] = 0
    columns = [steps, (counts - 1).astype(np.uint32), ones.astype(np.uint32)]
    return np.concatenate([each.view(np.uint8).reshape(len(keys), -1).T for each in columns])


def _unpacked(block: memoryview, lowest: np.uint64, size: int) -> Part:
    raw = pa.Codec("zstd").decompress(block, size * PLANES, asbytes=True)
    planes = np.frombuffer(raw, np.uint8).reshape(PLANES, size)
    steps, counts, ones = (np.ascontiguousarray(planes[a:b].T) for a, b in ((0, 8), (8, 12), (12, 16)))
    keys = np.cumsum(steps.view(np.uint64)[:, 0], dtype=np.uint64) + lowest
    return keys, ones.view(np.uint32)[:, 0], counts.view(np.uint32)[:, 0] + np.uint32(1)


# -- what stands on the order -----------------------------------------------------------------------------------------


def area(stretches: Iterator[Stretch]) -> float | None:
    """The area under the ROC curve of the first group against the second: how often a number of the first is larger
    than one of the second, a tie counting half. None where a group is empty.
    """
    doubled = below = firsts = 0
    for _, ones, counts in stretches:
        others = counts - ones
        here = int(ones.sum())
        before = np.cumsum(others) - others
        doubled += 2 * below * here + _dot(ones, 2 * before + others)
        below += int(others.sum())
        firsts += here
    return doubled / (2 * firsts * below) if firsts and below else None


def _dot(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    if int(one.sum()) * int(other.max(initial=0)) < SAFE:
        return int(one @ other)
    return sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))
