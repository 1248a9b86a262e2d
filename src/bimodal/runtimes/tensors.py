"""A model of tensors (PyTorch, Keras), called by a function from named arrays to named arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bimodal.errors import BimodalError, ModelFailed
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.portions import Portions
from bimodal.runtimes.ports import Port, feed

log = logging.getLogger("bimodal.model")
Call = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class Tensors(Runtime):
    """Feeds the ports, cuts and fills up where the model insists on a number of rows, checks the answers."""

    name = "native"

    def __init__(
        self, call: Call, ports: Sequence[Port], portions: Portions, columns: Sequence[str] | None = None
    ) -> None:
        self.call = call
        self.ports = tuple(ports)
        self.portions = portions
        self._columns = None if columns is None else tuple(columns)

    def with_columns(self, names: Sequence[str]) -> Tensors:
        """The same for a vector that comes as named columns."""
        return Tensors(self.call, self.ports, self.portions, names)

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        given = self.answer(rows)
        return Rows({name: _checked(name, given, rows.count) for name in outputs}, rows.count)

    def answer(self, rows: Rows) -> dict[str, Array]:
        """All that the model gives. Raises ModelFailed."""
        names: tuple[str, ...] = ()

        def called(inputs: Mapping[str, Array]) -> Sequence[Any]:
            nonlocal names
            given = self.call(inputs)
            names = tuple(given)
            return list(given.values())

        try:
            arrays = self.portions.call(called, self._fed(rows), rows.count)
        except BimodalError:
            raise
        except Exception as error:  # the model's own code raises what it likes
            log.exception("the model raised")
            raise ModelFailed(
                f"the model raised {type(error).__name__} on these rows; the log has its traceback"
            ) from error
        return dict(zip(names, map(_plain, arrays), strict=True))

    def _fed(self, rows: Rows) -> dict[str, Array]:
        """Arrays of the ports' types, each a copy: Rows are frozen, and a model may write into what it is given."""
        given = feed(self.ports, rows, self._columns)
        return {port.name: np.array(given[port.name], port.field.dtype, order="C") for port in self.ports}


def _plain(values: Array) -> Array:
    """`[n, 1]` is a plain column."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _checked(name: str, given: Mapping[str, Array], count: int) -> Array:
    if name not in given:
        raise ModelFailed(f"the model gave no {name}; it gave {', '.join(given)}")
    values = given[name]
    if values.ndim == 0 or len(values) != count:
        many = len(values) if values.ndim else "no"
        raise ModelFailed(f"the model gave {many} answers as {name} for {count} rows")
    return values
