"""What the model answered to a batch, on its way to the callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.rows import Array, Dictionary, Rows


class Answer:
    """The outputs of one batch, on their way to the callers."""

    def __init__(self, outputs: Rows, given: Rows, *, single: bool = False) -> None:
        """single: there are several rows, each that of another request."""
        self.single = single
        self.outputs = outputs
        self.given = given
        self._lists: list[tuple[str, list[Any]]] | None = None
        self.notes: Any = None  # what a door makes once for all answers of a batch
        self.made: dict[object, Any] = {}  # the same, by door: several may answer one batch

    @property
    def lists(self) -> list[tuple[str, list[Any]]]:
        """Each output as a Python list, made once a batch. Raises ModelFailed where JSON cannot tell the answer.

        NaN stands for a missing value in both directions: where the row given held one, it is answered as null.
        Any other NaN, and infinity, is a failure of the model, which no number of JSON may hide.
        """
        if self._lists is None:
            self._lists = [(name, self.array(name).tolist()) for name in self.outputs]
        return self._lists

    @property
    def names(self) -> Iterable[str]:
        """Of the outputs."""
        return self.outputs._columns

    def part(self, start: int, stop: int) -> Answer:
        """The answer for some of the rows."""
        return Answer(self.outputs.slice(start, stop), self.given.slice(start, stop))

    def array(self, name: str) -> Array:
        """One output, all of which JSON can tell. Raises ModelFailed."""
        column = self.outputs._columns[name]
        array = column.decode() if isinstance(column, Dictionary) else column
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            strange = np.isinf(array) | (np.isnan(array) & ~self._holes.reshape(-1, *[1] * (array.ndim - 1)))
            if strange.any():
                row = int(np.argwhere(strange)[0][0]) + 1
                raise ModelFailed(
                    f"row {row}: the model answered no finite number in {name!r}, which JSON cannot tell; "
                    "CSV, Arrow and Parquet can",
                    row=row,
                    column=name,
                )
        return array

    @property
    def _holes(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The rows that were given with a missing value: bool [n]."""
        holes = np.zeros(self.given.count, bool)
        for column in self.given.values():
            if isinstance(column, Dictionary):
                holes |= column.codes < 0
            elif column.dtype.kind == "f":
                holes |= np.isnan(column.reshape(len(column), -1)).any(axis=1)
            elif column.dtype == object:
                holes |= np.array([value is None or value != value for value in column.reshape(len(column), -1)[:, 0]])
            elif column.dtype.kind == "M":
                holes |= np.isnat(column)
        return holes
