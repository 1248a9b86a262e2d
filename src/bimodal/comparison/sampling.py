"""Sampling: some rows of a source, spread evenly where their number is known, else the first ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.batch.sources.contract import Chunk


class Sample:
    """Which rows are wanted. The same rows every time."""

    def __init__(self, wanted: int | None, total: int | None) -> None:
        self._wanted, self._total = wanted, total

    def whole(self, start: int) -> bool:
        """Whether nothing is wanted from this row on (rows count from 0 through the source)."""
        return self._wanted is not None and self._total is None and start >= self._wanted

    def of(self, chunk: Chunk, start: int) -> Chunk:
        """The wanted rows of a chunk whose first row is this one of the source."""
        if self._wanted is None or (self._total is not None and self._wanted >= self._total):
            return chunk
        rows = np.arange(start, start + chunk.count)
        if self._total is None:
            return taken(chunk, rows < self._wanted)
        return taken(chunk, (rows + 1) * self._wanted // self._total > rows * self._wanted // self._total)


def taken(chunk: Chunk, wanted: NDArray[np.bool_]) -> Chunk:
    """These rows of a chunk. wanted: [count], the refused ones counted."""
    places = np.arange(chunk.features.num_rows) if chunk.places is None else chunk.places
    good = wanted[places]
    at = np.flatnonzero(good)
    mask = pa.array(good)
    return replace(
        chunk,
        features=chunk.features.filter(mask),
        kept=chunk.kept.filter(mask) if chunk.kept.num_columns else chunk.kept,
        rejects=tuple(bad for bad in chunk.rejects if wanted[bad.row - chunk.first_row]),
        places=places[good].astype(np.int64),
        raw=lambda place: chunk.raw(int(at[place])),
        records=None if chunk.records is None else [chunk.records[place] for place in at.tolist()],
    )
