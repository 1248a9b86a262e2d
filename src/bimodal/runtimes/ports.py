"""Port: one input of a model of tensors, and how rows reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bimodal.field import Field
from bimodal.rows import Array, Rows


@dataclass(frozen=True)
class Port:
    """One input of a model of tensors.

    column: `[n, 1]` there, a plain column to us. bare: `[n]` there, a vector of one to us. batch: the number of rows
    that it insists on.
    """

    name: str
    field: Field
    column: bool = False
    batch: int | None = None
    bare: bool = False

    @property
    def scalar(self) -> bool:
        return not self.field.shape

    def shaped(self, values: Array) -> Array:
        """The column as the model takes it."""
        if self.column:
            return values.reshape(-1, 1)
        return values.reshape(-1) if self.bare else values


def feed(ports: Sequence[Port], rows: Rows, columns: Sequence[str] | None = None) -> dict[str, Array]:
    """The model's inputs by name. columns: those that make up the one vector that it takes."""
    if columns is None:
        return {port.name: port.shaped(rows.array(port.name)) for port in ports}
    (only,) = ports
    stacked = np.column_stack([rows.array(name) for name in columns]).astype(only.field.dtype)
    return {only.name: only.shaped(stacked)}
