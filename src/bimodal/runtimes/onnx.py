"""An ONNX Runtime session: Rows in, Rows out, with as little Python in between as there can be."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.portions import Portions
from bimodal.runtimes.ports import Port, feed

log = logging.getLogger("bimodal.model")


class Onnx(Runtime):
    """A session of ONNX Runtime.

    outputs: our names, in the model's order. keys: the classes, where it answers maps from class to probability.
    """

    name = "onnx"
    proven = True
    releases_gil = True

    def __init__(
        self, session: Any, ports: Sequence[Port], outputs: Mapping[str, str], *, batch: int | None = None
    ) -> None:
        self._session = session
        self._run = session.run
        self._ports = tuple(ports)
        self._names = dict(outputs)
        self._batch = batch
        self._portions = Portions.of(batch)
        self._columns: tuple[str, ...] | None = None
        self.outputs = tuple(outputs)
        self.keys: tuple[Any, ...] | None = None
        first = self._ports[0]
        shaped = first.column or first.bare or first.field.type == "string" or batch is not None
        self._only = first.name if len(self._ports) == 1 and not shaped else None
        self._asked: dict[tuple[str, ...], list[str]] = {}

    def with_columns(self, names: Sequence[str]) -> Onnx:
        """The same for a vector that comes as named columns."""
        other = Onnx(self._session, self._ports, self._names, batch=self._batch)
        other.keys = self.keys
        other._columns = tuple(names)
        other._only = None
        return other

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        wanted = self._asked.get(tuple(outputs))
        if wanted is None:
            wanted = self._asked[tuple(outputs)] = [self._names[name] for name in outputs]
        count = rows.count
        if self._only is not None:
            results = self._call(wanted, {self._only: rows.array(self._only)})
        else:
            given = feed(self._ports, rows, self._columns)
            results = self._portions.call(lambda part: self._call(wanted, part), given, count)
        return Rows({name: self._column(value, count) for name, value in zip(outputs, results, strict=True)}, count)

    def _call(self, wanted: list[str], inputs: Mapping[str, Any]) -> list[Any]:
        try:
            results: list[Any] = self._run(wanted, inputs)
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            log.exception("the session raised")
            raise ModelFailed(
                f"the model raised {type(error).__name__} on these rows; the log has its traceback"
            ) from error
        return results

    def _column(self, values: Any, count: int) -> Array:
        if isinstance(values, list):
            values = self._unmapped(values)
        if not isinstance(values, np.ndarray) or values.ndim == 0 or len(values) != count:
            given = len(values) if isinstance(values, np.ndarray) and values.ndim else "no"
            raise ModelFailed(f"the model gave {given} answers for {count} rows")
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values

    def _unmapped(self, values: list[Any]) -> Array:
        """A list of maps from class to probability (ZipMap) as an array."""
        if not values or not isinstance(values[0], dict):
            return np.array(values)
        if self.keys is None:
            self.keys = tuple(values[0])
        keys = self.keys
        return np.array([[each[key] for key in keys] for each in values], np.float32)
