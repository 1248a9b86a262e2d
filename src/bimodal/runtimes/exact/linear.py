"""Linear: raw scores as weighted sums, in the library's own order of summation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.prepare import Prepare


@dataclass(frozen=True)
class Linear:
    """weights: float64 [k, width]; intercept: float64 [k]."""

    weights: Array
    intercept: Array

    def score(self, prepare: Prepare, rows: Rows) -> Array:
        """Raw scores [rows, k]: columns from left to right, the intercept last.

        Raises ModelFailed where a number of theirs leaves the range of float64 while it is prepared: the library takes
        no infinity there either.
        """
        out = np.empty((rows.count, len(self.weights)))
        finite = prepare.kernel.sums(rows._columns, self.weights, self.intercept, out)
        if not finite:
            _require_finite(prepare.matrix(rows))
        return out

    def thresholds(self) -> Mapping[int, Array]:
        return {}

    def told(self) -> tuple[dict[str, Any], dict[str, Array]]:
        return {}, {"weights": self.weights, "intercept": self.intercept}

    @classmethod
    def retold(cls, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Linear:
        weights = np.ascontiguousarray(arrays["weights"], np.float64)
        intercept = np.ascontiguousarray(arrays["intercept"], np.float64)
        if weights.ndim != 2 or intercept.shape != weights.shape[:1]:
            raise ValueError("weights and intercept of different sizes")
        return cls(weights, intercept)


def _require_finite(prepared: Array) -> None:
    """A sum may overflow; what is summed may not."""
    good = np.isfinite(prepared).all(axis=1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0]) + 1
        raise ModelFailed(
            f"row {row}: a number becomes infinite while it is prepared; the model takes no such", row=row
        )
