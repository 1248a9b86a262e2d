"""A predict() that somebody wrote: called with named columns, a frame or an array; its answers checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bimodal.errors import BimodalError, ModelFailed
from bimodal.field import Field
from bimodal.rows import Array, Rows
from bimodal.runtimes import estimator as native
from bimodal.runtimes.contract import Runtime

log = logging.getLogger("bimodal.model")


class Python(Runtime):
    """Calls predict() with what `feed` makes of the rows."""

    name = "native"

    def __init__(self, predict: Callable[[Any], Any], feed: native.Feed) -> None:
        self._predict = predict
        self._feed = feed
        self._outputs: dict[str, Field] = {}

    def promise(self, outputs: Sequence[Field]) -> None:
        """What every answer has to hold."""
        self._outputs = {each.name: each for each in outputs}

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        given = self.answer(rows)
        absent = [name for name in outputs if name not in given]
        if absent:
            raise ModelFailed(f"the model gave no {absent[0]}; it gave {', '.join(given)}")
        return Rows({name: _promised(given[name], self._outputs.get(name)) for name in outputs}, rows.count)

    def answer(self, rows: Rows, *, made_up: bool = False) -> dict[str, Array]:
        """All outputs, each with one answer a row. Raises ModelFailed; of made-up rows with the model's own words."""
        try:
            given = self._predict(self._feed(rows))
            named = {str(name): _array(values) for name, values in _named(given).items()}
        except BimodalError:
            raise
        except Exception as error:  # the user's own code raises what it likes
            if made_up:
                raise ModelFailed(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
            log.exception("predict raised")
            raise native.refused(error) from error
        if not named:
            raise ModelFailed("predict() gave nothing, an answer without outputs; it must give one answer for each row")
        for name, values in named.items():
            if values.ndim == 0 or len(values) != rows.count:
                many = len(values) if values.ndim else "no list of"
                raise ModelFailed(
                    f"predict() gave {many} answers as {name} for {rows.count} rows; it must give one for each"
                )
        return named


def feed(fields: Sequence[Field], wants: str) -> native.Feed:
    """wants: `rows` (named arrays), `frame` (pandas), `array` (2-D float64), `stacked` (named columns as an array)."""
    if wants == "array":
        return native.vector(fields[0].name)
    if wants == "stacked":
        return native.stacked([each.name for each in fields])
    if wants == "frame":
        names = frozenset(each.name for each in fields)
        return native.Frame(fields, dict.fromkeys(names, float("nan")), names)
    return lambda rows: Rows({name: rows.array(name) for name in rows}, rows.count)


def _named(given: Any) -> Mapping[str, Any]:
    """predict()'s answer as named outputs; a bare one is `prediction`."""
    if isinstance(given, Rows):
        return {name: given.array(name) for name in given}
    if isinstance(given, Mapping):
        return given
    if hasattr(given, "columns") and hasattr(given, "to_dict"):
        return {name: given[name] for name in given.columns}
    if isinstance(given, list | tuple) and given and all(isinstance(each, Mapping) for each in given):
        return {name: [each[name] for each in given] for name in given[0]}
    if given is None:
        raise ModelFailed("predict() returned nothing; it must give one answer for each row")
    return {"prediction": given}


def _array(values: Any) -> Array:
    """Texts and mixed values as objects, all else as NumPy has it."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    return array.astype(object) if array.dtype.kind in "US" else array


def _promised(values: Array, each: Field | None) -> Any:
    return values if each is None or each.type == "any" else native.answered(values, each)
