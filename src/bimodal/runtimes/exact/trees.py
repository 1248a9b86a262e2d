"""Trees: decision trees, forests and boosted trees as flat tables of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.prepare import Prepare


@dataclass(frozen=True)
class Tree:
    """One tree as its library tells it; node 0 is the root. All arrays have one entry a node.

    feature int32: the prepared column, -1 at a leaf. A row goes left where its value <= threshold (float64); a library
    that asks for < gives the next lower number of its own precision. nan_left bool: where a missing value goes.
    value [nodes, w]: what a leaf adds to the raw scores from `first` on. categories: by node, the integer categories
    that go left (all others go right, missing ones by nan_left). zero_missing bool: |value| <= 1e-35 goes as missing.
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
    """Built from Trees by `build`; the fields are the tables that the kernel walks."""

    @classmethod
    def build(cls, trees: Sequence[Tree], base: Array, *, single: bool = False) -> Trees:
        """base [k]: the raw scores to begin with, to which the trees are added one after another in float64, or in
        float32 with `single` (then the raw scores are float32 too, and so are the values compared)."""
        raise NotImplementedError

    def score(self, prepare: Prepare, rows: Rows) -> Array:
        """Raw scores [rows, k]."""
        raise NotImplementedError

    def thresholds(self) -> Mapping[int, Array]:
        """By prepared column: its distinct thresholds and categories, sorted."""
        raise NotImplementedError

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        raise NotImplementedError

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Trees:
        raise NotImplementedError
