"""Masks: small trees without a walk, for many rows at once.

Each tree's leaves are numbered from left to right, a bit each. A node whose test fails rules out the leaves on its
left, so that of all bits that remain the first is the row's leaf. The tests need no order: they are done for many rows
side by side, one byte a row. For that, a column becomes bytes: how many of its thresholds lie below the value, which
orders values as the tests do, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bimodal.rows import Array

WIDEST = 256  # leaves of a tree
SPAN = 255  # thresholds that a byte tells apart
TESTS = np.dtype([("column", "<u2"), ("cut", "i1"), ("mask", "u1")])
BYTES = np.dtype([("column", "<i4"), ("low", "<i4"), ("set", "<i4"), ("kind", "<i4")])
MISSING_RIGHT, ZERO_MISSING, CATEGORY = 1, 2, 4  # kinds of node, as the kernel knows them


@dataclass(frozen=True)
class Nodes:
    """The nodes of all trees, unpacked. column, threshold, step, kind: as in Trees. leaf: the number of a leaf's row in
    values. roots [trees + 1]."""

    column: Array
    threshold: Array
    step: Array
    kind: Array
    leaf: Array
    roots: Array


@dataclass(frozen=True)
class Masks:
    """The tables of the kernel.

    cuts: each column's thresholds, ascending, filled up with infinity to one less than a power of two; starts
    [columns + 1]: where they begin. columns: the columns of bytes: of
    which column (or, of a set of categories, its number), from which threshold on. tests: the tests, plane after plane;
    planes [all planes + 1]: where each begins. trees [trees + 1]: each tree's first plane. A plane is eight leaves.
    leaves [all planes * 8]: the row of values of each leaf.
    """

    cuts: Array
    starts: Array
    columns: Array
    tests: Array
    planes: Array
    trees: Array
    leaves: Array

    @classmethod
    def of(cls, nodes: Nodes, used: int) -> Masks | None:
        """None where the trees are too large, or their thresholds too many."""
        low, left, leaves = _spans(nodes)
        if not len(leaves) or leaves.max() > WIDEST:
            return None
        inner = np.flatnonzero(nodes.step > 0)
        cuts, starts, rank = _cuts(nodes, inner, used)
        columns, place = _columns(nodes, inner, rank)
        if len(columns) >= 1 << 16 or np.diff(starts).max(initial=0) >= 1 << 16:
            return None
        trees = np.concatenate([[0], np.cumsum((leaves + 7) // 8)])
        owner = np.searchsorted(nodes.roots, np.arange(len(nodes.step)), side="right") - 1
        tests, planes = _tests(trees[owner[inner]], low[inner], left[inner], place, rank % SPAN - 128, int(trees[-1]))
        numbers = np.zeros(int(trees[-1]) * 8, "<u4")
        ends = np.flatnonzero(nodes.step == 0)
        numbers[trees[owner[ends]] * 8 + low[ends]] = nodes.leaf[ends]
        return cls(cuts, starts.astype("<i8"), columns, tests, planes.astype("<i8"), trees.astype("<i8"), numbers)

    @property
    def tables(self) -> tuple[Array, ...]:
        found = (self.cuts, self.starts, self.columns, self.tests, self.planes, self.trees, self.leaves)
        return tuple(table.view("u1") if table.size else table for table in found)


def _spans(nodes: Nodes) -> tuple[Array, Array, Array]:
    """Of each node its leftmost leaf and how many leaves are on its left side; of each tree how many leaves it has."""
    levels = [nodes.roots[:-1]]
    while len(levels[-1]):
        parents = levels[-1][nodes.step[levels[-1]] > 0]
        child = parents + nodes.step[parents]
        levels.append(np.stack([child, child + 1], axis=1).reshape(-1))
    under = np.ones(len(nodes.step), np.int64)
    low, left = np.zeros_like(under), np.zeros_like(under)
    for level in reversed(levels):
        parents = level[nodes.step[level] > 0]
        child = parents + nodes.step[parents]
        left[parents] = under[child]
        under[parents] = under[child] + under[child + 1]
    for level in levels:
        parents = level[nodes.step[level] > 0]
        child = parents + nodes.step[parents]
        low[child] = low[parents]
        low[child + 1] = low[parents] + left[parents]
    return low, left, under[nodes.roots[:-1]]


def _cuts(nodes: Nodes, inner: Array, used: int) -> tuple[Array, Array, Array]:
    """Each column's distinct thresholds, where they begin, and the place of each inner node's among them."""
    tested = np.flatnonzero(nodes.kind[inner] & CATEGORY == 0)
    column, threshold = nodes.column[inner][tested].astype(np.int64), nodes.threshold[inner][tested]
    order = np.lexsort((threshold, column))
    column, threshold = column[order], threshold[order]
    new = np.ones(len(order), bool)
    new[1:] = (column[1:] != column[:-1]) | (threshold[1:] != threshold[:-1])
    counts = np.bincount(column[new], minlength=used)
    begins = np.cumsum(counts) - counts
    rank = np.zeros(len(inner), np.int64)
    rank[tested[order]] = np.cumsum(new) - 1 - begins[column]
    sizes = (1 << np.ceil(np.log2(counts + 1)).astype(np.int64)) - 1
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cuts = np.full(int(starts[-1]), np.inf, nodes.threshold.dtype)
    cuts[starts[column[new]] + rank[tested[order]][new]] = threshold[new]
    return cuts, starts, rank


def _columns(nodes: Nodes, inner: Array, rank: Array) -> tuple[Array, Array]:
    """The columns of bytes, and which of them each inner node tests."""
    kind = nodes.kind[inner].astype(np.int64)
    chosen = kind & CATEGORY != 0
    keys = np.zeros(len(inner), BYTES)
    keys["column"], keys["kind"] = nodes.column[inner], kind
    keys["low"] = np.where(chosen, 0, rank // SPAN * SPAN)
    keys["set"] = np.where(chosen, nodes.threshold[inner], 0)
    columns, place = np.unique(keys, return_inverse=True)
    return columns, place.reshape(-1)


def _tests(first: Array, low: Array, left: Array, column: Array, cut: Array, count: int) -> tuple[Array, Array]:
    """One test for each inner node and plane of its left side. first: the first plane of its tree."""
    begin, end = low // 8, (low + left - 1) // 8
    many = end - begin + 1
    node = np.repeat(np.arange(len(low)), many)
    plane = begin[node] + np.arange(len(node)) - np.repeat(np.cumsum(many) - many, many)
    lower = np.maximum(low[node], plane * 8) - plane * 8
    upper = np.minimum((low + left)[node], plane * 8 + 8) - plane * 8
    tests = np.zeros(len(node), TESTS)
    tests["column"], tests["cut"] = column[node], cut[node]
    tests["mask"] = (1 << upper) - (1 << lower)
    where = first[node] + plane
    order = np.lexsort((column[node], where))
    return tests[order], np.searchsorted(where[order], np.arange(count + 1))
