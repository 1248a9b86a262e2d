"""Linear: raw scores as weighted sums, in the library's own order of summation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.prepare import Prepare


@dataclass(frozen=True)
class Linear:
    """weights: float64 [k, width]; intercept: float64 [k]."""

    weights: Array
    intercept: Array

    def score(self, prepare: Prepare, rows: Rows) -> Array:
        """Raw scores [rows, k]: columns from left to right, the intercept last."""
        raise NotImplementedError

    def thresholds(self) -> Mapping[int, Array]:
        return {}

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        raise NotImplementedError

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Linear:
        raise NotImplementedError
