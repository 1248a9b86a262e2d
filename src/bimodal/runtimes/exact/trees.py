"""Trees: decision trees, forests and boosted trees as flat tables of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed, NotCompiled
from bimodal.rows import Array, Rows
from bimodal.runtimes.exact import built
from bimodal.runtimes.exact.masks import CATEGORY, MISSING_RIGHT, WIDEST, ZERO_MISSING, Masks, Nodes
from bimodal.runtimes.exact.prepare import Prepare

NARROW = np.dtype([("threshold", "<f4"), ("link", "<u4")])  # link: step << 12 | column
WIDE = np.dtype([("threshold", "<f8"), ("column", "<u4"), ("step", "<u4")])
COLUMNS, STEPS, LEAVES = 1 << 12, 1 << 20, 1 << 22  # what a NARROW node can tell
CATEGORIES = 1 << 24  # beyond, float32 knows no integers
FLAGS = {"rounded": 1, "single": 2, "narrow": 4, "finite": 8, "complete": 16}
TABLES = {
    "kinds": "u1",
    "roots": "<i8",
    "firsts": "<i4",
    "columns": "<i4",
    "offsets": "<i8",
    "words": "<u4",
}  # and nodes, values and base, whose types differ


@dataclass(frozen=True)
class Tree:
    """One tree as its library tells it; node 0 is the root. All arrays have one entry a node.

    feature int32: the prepared column, -1 at a leaf. A row goes left where its value <= threshold (float64); a library
    that asks for < gives the next lower number of its own precision. nan_left bool: where a missing value goes.
    value [nodes, w]: what a leaf adds to the raw scores from `first` on. categories: by node, the integer categories
    that go left (all others go right, missing ones by nan_left). zero_missing bool: |value| <= 1e-35 goes as missing.

    A category is a value without its fraction; below 0 there is none (with `single`; else below or at -1).
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    nan_left: Array
    value: Array
    first: int = 0
    categories: Mapping[int, frozenset[int]] = field(default_factory=dict)
    zero_missing: Array | None = None


@dataclass(frozen=True)
class Trees:
    """Built from Trees by `build`; the fields are the tables that the kernel walks.

    nodes: of type NARROW or WIDE, siblings side by side, tree after tree. step: how far behind its parent the left
    child stands, 0 at a leaf, whose threshold is a NaN that carries the number of its row in values. kinds: one a node,
    or none where missing values just go left. roots [trees + 1], firsts [trees]: where each tree begins, and which
    score it adds to first. columns: the prepared columns that the nodes number. offsets, words: sets of categories, as
    bits; a node of kind CATEGORY has its set's number for a threshold.
    rounded: values are rounded to float32 before they are compared. refuses: "" · "infinite" · "missing" (both), what
    the library itself refuses.
    """

    nodes: Array
    kinds: Array
    roots: Array
    firsts: Array
    columns: Array
    values: Array
    base: Array
    offsets: Array
    words: Array
    width: int
    rounded: bool = False
    refuses: str = ""

    @classmethod
    def build(
        cls,
        trees: Sequence[Tree],
        base: Array,
        *,
        single: bool = False,
        rounded: bool = False,
        refuses: str = "",
        width: int | None = None,
    ) -> Trees:
        """base [k]: the raw scores to begin with, to which the trees are added one after another in float64, or in
        float32 with `single` (then the raw scores are float32 too, and so are the values compared).

        rounded: values are compared as float32, sums are float64. refuses: see Trees. width: how many prepared columns
        there are (by default as many as the trees know). Raises NotCompiled.
        """
        built.require()
        whole = _Whole.of(trees, len(base))
        columns = np.unique(whole.feature[whole.inner]).astype(np.int32)
        values, leaf = _distinct(whole.value.astype("<f4" if single else "<f8"))
        rounded = rounded or single
        nodes = whole.packed(columns, leaf, len(values), narrow=rounded)
        kinds = whole.kinds()
        return cls(
            nodes,
            kinds if kinds.any() else kinds[:0],
            whole.roots,
            np.array([tree.first for tree in trees], "<i4"),
            columns,
            values,
            np.ascontiguousarray(base, values.dtype),
            whole.offsets,
            whole.words,
            int(columns.max(initial=-1)) + 1 if width is None else width,
            rounded,
            refuses,
        )

    @property
    def single(self) -> bool:
        return bool(self.values.dtype == np.float32)

    @cached_property
    def kernel(self) -> Any:
        """The tables, checked. Raises ValueError where they are damaged."""
        flags = {"rounded": self.rounded, "single": self.single, "narrow": self.nodes.dtype == NARROW}
        flags |= {"finite": self.refuses != "", "complete": self.refuses == "missing"}
        tables = (self.nodes, self.kinds, self.roots, self.firsts, self.columns, self.values, self.base)
        kernel = built.kernels.Trees(
            *(np.ascontiguousarray(table).view("u1").reshape(-1) if table.size else table for table in tables),
            self.offsets,
            self.words,
            self.width,
            self.values.shape[1],
            sum(FLAGS[name] for name, on in flags.items() if on),
        )
        masks = Masks.of(self._unpacked(), len(self.columns)) if self._small() else None
        if masks is not None:
            kernel.masks(*masks.tables)
        return kernel

    def _small(self) -> bool:
        """Are all trees small enough for masks?"""
        return bool(np.diff(self.roots).max(initial=0) < 2 * WIDEST)

    def _unpacked(self) -> Nodes:
        """The nodes as plain columns. Their table is known to be sound."""
        nodes = self.nodes
        kind = self.kinds if len(self.kinds) else np.zeros(len(nodes), "u1")
        if nodes.dtype == NARROW:
            step = (nodes["link"] >> 12).astype(np.int64)
            leaf = nodes["threshold"].view("<u4") % LEAVES
            return Nodes(nodes["link"] % COLUMNS, nodes["threshold"], step, kind, leaf, self.roots)
        leaf = nodes["threshold"].view("<u8") % (1 << 32)
        return Nodes(nodes["column"], nodes["threshold"], nodes["step"].astype(np.int64), kind, leaf, self.roots)

    def __post_init__(self) -> None:
        if self.refuses not in ("", "infinite", "missing") or self.values.ndim != 2:
            raise ValueError("the tables of the trees are damaged")
        self.kernel  # noqa: B018  # checked at once

    def score(self, prepare: Prepare, rows: Rows) -> Array:
        """Raw scores [rows, k]."""
        matrix = prepare.matrix(rows)
        scores = np.empty((len(matrix), len(self.base)), self.values.dtype)
        try:
            self.kernel.score(matrix, scores)
        except ValueError as error:
            raise ModelFailed(f"the model takes no such rows: {error}") from error
        return scores

    def thresholds(self) -> Mapping[int, Array]:
        """By prepared column: its distinct thresholds and categories, sorted."""
        nodes = self._unpacked()
        column, threshold, inner = nodes.column, nodes.threshold.astype(float), nodes.step > 0
        chosen = nodes.kind & CATEGORY != 0
        found: dict[int, Array] = {}
        for place, name in enumerate(self.columns.tolist()):
            mine = inner & (column == place)
            sets = [self._categories(number) for number in np.unique(threshold[mine & chosen]).astype(int).tolist()]
            found[name] = np.unique(np.concatenate([threshold[mine & ~chosen], *sets]))
        return found

    def _categories(self, number: int) -> Array:
        words = self.words[self.offsets[number] : self.offsets[number + 1]]
        return np.nonzero(np.unpackbits(words.view("u1"), bitorder="little"))[0].astype(float)

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        names = ("nodes", "values", "base", *TABLES)
        values = {"width": self.width, "rounded": self.rounded, "refuses": self.refuses}
        return values, {name: getattr(self, name) for name in names}

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Trees:
        """Raises ValueError or KeyError where the tables are damaged."""
        built.require()
        tables = {name: arrays[name] for name in ("nodes", "values", "base", *TABLES)}
        kinds = {name: np.dtype(kind) for name, kind in TABLES.items()}
        real = tables["values"].dtype
        if tables["nodes"].dtype not in (NARROW, WIDE) or real not in (np.dtype("<f4"), np.dtype("<f8")):
            raise ValueError("the tables of the trees are of another type")
        kinds |= {"nodes": tables["nodes"].dtype, "values": real, "base": real}
        shaped = all(table.ndim == (2 if name == "values" else 1) for name, table in tables.items())
        if not shaped or any(table.dtype != kinds[name] for name, table in tables.items()):
            raise ValueError("the tables of the trees are of another type")
        return cls(
            **tables, width=int(values["width"]), rounded=bool(values["rounded"]), refuses=str(values["refuses"])
        )


# -- building ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Whole:
    """All trees as one table, in the order that the kernel walks: children behind their parents, siblings side by side.

    step [nodes]: how far behind its parent the left child stands, 0 at a leaf.
    """

    feature: Array
    threshold: Array
    step: Array
    nan_left: Array
    zero_missing: Array
    value: Array
    category: Array
    roots: Array
    offsets: Array
    words: Array

    @property
    def inner(self) -> Array:
        return self.step > 0

    @classmethod
    def of(cls, trees: Sequence[Tree], scores: int) -> _Whole:
        starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])
        feature = _joined([tree.feature for tree in trees], np.int64)
        inner = feature >= 0
        left, right = (
            _joined([getattr(tree, side) + start for tree, start in zip(trees, starts, strict=False)], np.int64)
            for side in ("left", "right")
        )
        owner = np.repeat(np.arange(len(trees)), np.diff(starts))
        _check(trees, owner, starts, inner, left, right, scores)
        order = _order(owner, starts[:-1], inner, left, right)
        place = np.zeros(len(feature), np.int64)
        place[order] = np.arange(len(order))
        step = np.where(inner[order], place[np.where(inner, left, 0)[order]] - np.arange(len(order)), 0)
        category, offsets, words = _sets(trees, starts)
        width = max((tree.value.shape[1] for tree in trees), default=1)
        zero = [np.zeros(len(tree.feature), bool) if tree.zero_missing is None else tree.zero_missing for tree in trees]
        return cls(
            feature[order],
            _joined([tree.threshold for tree in trees], np.float64)[order],
            step,
            _joined([tree.nan_left for tree in trees], bool)[order],
            _joined(zero, bool)[order],
            np.concatenate([np.zeros((0, width)), *(tree.value for tree in trees)])[order][step == 0],
            category[order],
            np.searchsorted(owner[order], np.arange(len(trees) + 1)).astype("<i8"),
            offsets,
            words,
        )

    def kinds(self) -> Array:
        chosen = self.inner & (self.category >= 0)
        kinds = np.where(self.inner & ~self.nan_left, MISSING_RIGHT, 0)
        kinds |= np.where(self.inner & self.zero_missing & ~chosen, ZERO_MISSING, 0)
        return np.asarray(kinds | np.where(chosen, CATEGORY, 0), "u1")

    def packed(self, columns: Array, leaf: Array, leaves: int, *, narrow: bool) -> Array:
        """The nodes as the kernel reads them: NARROW where float32 is all that is asked for and everything fits."""
        inner = self.inner
        column = np.where(inner, np.searchsorted(columns, self.feature), 0)
        threshold = np.where(self.category >= 0, self.category, self.threshold)
        if np.isnan(threshold[inner]).any():
            raise NotCompiled("a threshold of the trees is no number")
        if narrow:
            threshold = np.where(self.category >= 0, threshold, floor32(threshold))
        fits = len(columns) <= COLUMNS and self.step.max(initial=0) < STEPS and leaves <= LEAVES
        if narrow and fits and len(self.offsets) <= CATEGORIES:
            nodes = np.zeros(len(inner), NARROW)
            nodes["threshold"] = threshold
            nodes["threshold"].view("<u4")[~inner] = 0x7FC00000 | leaf
            nodes["link"] = self.step << 12 | column
            return nodes
        nodes = np.zeros(len(inner), WIDE)
        nodes["threshold"], nodes["column"], nodes["step"] = threshold, column, self.step
        nodes["threshold"].view("<u8")[~inner] = 0x7FF8000000000000 | leaf
        return nodes


def floor32(values: Array) -> Array:
    """The largest float32 that is not above each value: a float32 is <= the one where it is <= the other."""
    with np.errstate(over="ignore", under="ignore"):
        low = values.astype(np.float32)
    above = low > values
    low[above] = np.nextafter(low[above], np.float32(-np.inf))
    return low


def _joined(parts: Sequence[Array], kind: Any) -> Array:
    return np.concatenate([np.zeros(0, kind), *parts]).astype(kind)


def _check(
    trees: Sequence[Tree], owner: Array, starts: Array, inner: Array, left: Array, right: Array, scores: int
) -> None:
    """Raise NotCompiled where children or scores are not there."""
    for child in (left[inner], right[inner]):
        if ((child < starts[owner[inner]]) | (child >= starts[owner[inner] + 1])).any():
            raise NotCompiled("a tree is damaged: a child is out of its tree")
    widths = {tree.value.shape[1] for tree in trees}
    if len(widths) > 1 or any(not 0 <= tree.first <= scores - tree.value.shape[1] for tree in trees):
        raise NotCompiled("a tree is damaged: it adds to a score that is not there")
    if any(len(tree.feature) == 0 for tree in trees):
        raise NotCompiled("a tree is damaged: it has no root")


def _order(owner: Array, roots: Array, inner: Array, left: Array, right: Array) -> Array:
    """The nodes that can be reached, tree by tree, level by level, siblings side by side."""
    level = np.asarray(roots, np.int64)
    levels, reached = [level], len(level)
    while len(level):
        parents = level[inner[level]]
        level = np.stack([left[parents], right[parents]], axis=1).reshape(-1)
        levels.append(level)
        reached += len(level)
        if reached > len(inner):
            raise NotCompiled("a tree is damaged: a node has several parents")
    order = np.concatenate(levels)
    return np.asarray(order[np.argsort(owner[order], kind="stable")])


def _sets(trees: Sequence[Tree], starts: Array) -> tuple[Array, Array, Array]:
    """The number of each node's set of categories (-1: none), where the sets begin among the words, the words."""
    category = np.full(int(starts[-1]), -1, np.int64)
    words: list[Array] = []
    for tree, start in zip(trees, starts, strict=False):
        for node, left in tree.categories.items():
            category[start + node] = len(words)
            words.append(_bits(left))
    offsets = np.cumsum([0, *(len(each) for each in words)]).astype("<i8")
    return category, offsets, _joined(words, "<u4")


def _bits(categories: frozenset[int]) -> Array:
    """One bit a category, 32 a word."""
    if min(categories, default=0) < 0 or max(categories, default=0) >= CATEGORIES:
        raise NotCompiled("a category of the trees is out of range")
    flags = np.zeros((max(categories, default=-1) // 32 + 1) * 32, np.uint8)
    flags[list(categories)] = 1
    return np.packbits(flags, bitorder="little").view("<u4")


def _distinct(values: Array) -> tuple[Array, Array]:
    """Each row of values once, bit by bit, and which of them each row was."""
    rows = np.ascontiguousarray(values)
    if not rows.size:
        return rows, np.zeros(len(rows), np.int64)
    if rows.shape[1] == 1:
        kind = f"u{rows.itemsize}"
        found, place = np.unique(rows.view(kind).reshape(-1), return_inverse=True)
        return found.view(rows.dtype).reshape(-1, 1), place.reshape(-1)
    keys = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).reshape(-1)
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], place.reshape(-1)
