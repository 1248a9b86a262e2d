"""An ONNX Runtime session: Rows in, Rows out, with as little Python in between as there can be."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bimodal.errors import ModelFailed
from bimodal.field import Field
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime

log = logging.getLogger("bimodal.model")


@dataclass(frozen=True)
class Port:
    """One input of a session. column: `[n, 1]`, a plain column to us. batch: the number of rows that it insists on."""

    name: str
    field: Field
    column: bool = False
    batch: int | None = None

    @property
    def scalar(self) -> bool:
        return not self.field.shape


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
        self._columns: tuple[str, ...] | None = None
        self.outputs = tuple(outputs)
        self.keys: tuple[Any, ...] | None = None
        first = self._ports[0]
        plain = len(self._ports) == 1 and not first.column and first.field.type != "string" and batch is None
        self._only = first.name if plain else None
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
        feed = {self._only: rows.array(self._only)} if self._only is not None else self._feed(rows)
        results = self._call(wanted, feed) if self._batch is None else self._in_batches(wanted, feed, rows.count)
        count = rows.count
        return Rows({name: self._column(value, count) for name, value in zip(outputs, results, strict=True)}, count)

    def _call(self, wanted: list[str], feed: Mapping[str, Any]) -> list[Any]:
        try:
            results: list[Any] = self._run(wanted, feed)
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            log.exception("the session raised")
            raise ModelFailed(
                f"the model raised {type(error).__name__} on these rows; the log has its traceback"
            ) from error
        return results

    def _feed(self, rows: Rows) -> dict[str, Array]:
        if self._columns is not None:
            only = self._ports[0]
            return {only.name: np.column_stack([rows.array(name) for name in self._columns]).astype(only.field.dtype)}
        feed = {}
        for port in self._ports:
            values = rows.array(port.name)
            feed[port.name] = values.reshape(-1, 1) if port.column else values
        return feed

    def _in_batches(self, wanted: list[str], feed: Mapping[str, Array], count: int) -> list[Any]:
        """A model exported for a fixed number of rows gets as many at a time; its last row fills up the last batch."""
        size = self._batch or 1
        parts = []
        for start in range(0, count, size):
            places = np.minimum(np.arange(start, start + size), count - 1)
            parts.append(self._call(wanted, {name: values[places] for name, values in feed.items()}))
        return [_joined([part[place] for part in parts], count) for place in range(len(wanted))]

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


def _joined(parts: Sequence[Any], count: int) -> Any:
    if isinstance(parts[0], list):
        return [each for part in parts for each in part][:count]
    return np.concatenate(parts)[:count]
