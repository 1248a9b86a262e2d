"""Portions: how many rows a model takes in one call; fewer are filled up, more are cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.rows import Array


@dataclass(frozen=True)
class Portions:
    """least and most: rows of one call; None where there is no most."""

    least: int = 1
    most: int | None = None

    @classmethod
    def of(cls, size: int | None) -> Portions:
        """A model that insists on this number of rows; None where it takes any."""
        return cls() if size is None else cls(size, size)

    def call(
        self, function: Callable[[Mapping[str, Array]], Sequence[Any]], feed: Mapping[str, Array], count: int
    ) -> list[Any]:
        """The function's results for all rows; the last row fills up a portion that is too small."""
        if self.least <= count <= (self.most or count):
            return list(function(feed))
        size = self.most or count
        parts = []
        for start in range(0, count, size):
            stop = max(min(start + size, count), start + self.least)
            places = np.minimum(np.arange(start, stop), count - 1)
            parts.append(function({name: values[places] for name, values in feed.items()}))
        return [_joined(pieces, count) for pieces in zip(*parts, strict=True)]


def _joined(parts: Sequence[Any], count: int) -> Any:
    if isinstance(parts[0], list):
        return [each for part in parts for each in part][:count]
    return np.concatenate(parts)[:count] if parts[0].ndim else parts[0]
