"""A booster run by the library that trained it, its answers as the outputs that were promised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from bimodal.errors import ModelFailed
from bimodal.field import Field
from bimodal.rows import Array, Rows
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.estimator import Feed, answered, refused

log = logging.getLogger("bimodal.model")
Ask = Callable[[Any, Sequence[str]], Mapping[str, Array]]


class Booster(Runtime):
    """feed: Rows as the data that the library takes. ask: the named outputs for such data."""

    name = "native"

    def __init__(self, feed: Feed, ask: Ask, fields: Sequence[Field]) -> None:
        self._feed = feed
        self._ask = ask
        self._fields = {each.name: each for each in fields}
        self._lock = Lock()  # not every booster predicts in several threads at once (dart does not)

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        answers = self._answers(rows, outputs)
        for name in outputs:
            if len(answers[name]) != rows.count:
                raise ModelFailed(f"the model gave {len(answers[name])} answers for {rows.count} rows")
        return Rows({name: answered(answers[name], self._fields[name]) for name in outputs}, rows.count)

    def _answers(self, rows: Rows, outputs: Sequence[str]) -> Mapping[str, Array]:
        try:
            data = self._feed(rows)
            with self._lock:
                return self._ask(data, outputs)
        except Exception as error:  # each library has errors of its own
            log.exception("the model raised")
            raise refused(error) from error
