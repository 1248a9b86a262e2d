"""Judged: both models measured against a target, on the rows that both predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bimodal.batch.quality import measure, scored_of
from bimodal.batch.sources.contract import MISSING
from bimodal.batch.targets import MISSING_CODE, kind_of, labels_of, numbers_of
from bimodal.comparison.result import Qualities
from bimodal.comparison.shift import Bytes
from bimodal.comparison.side import Said, Side
from bimodal.table import arrow_column


class Judged:
    """Gathers what the measures need, and counts the rows that only one of the models has right."""

    def __init__(self, target: str, old: Side, new: Side, mark: str) -> None:
        self._target, self._mark = target, mark
        self._sides = (old, new)
        self._scored = (Bytes(), Bytes())
        self._better = self._worse = 0
        self._single = True

    def add(self, old: Said, new: Said) -> None:
        column = old.kept.column(self._target)
        right = []
        for side, said, scored in zip(self._sides, (old, new), self._scored, strict=True):
            answer = side.answer(said.results)
            missing = side.columns.reading.missing or MISSING
            scored.add(scored_of(column, answer, side.signature, missing=missing, mark=self._mark))
            if "prediction" in answer and answer.array("prediction").ndim == 1:
                right.append(self._distance(column, answer.array("prediction"), side))
        self._single = self._single and len(right) == 2
        if self._single:
            self._better += int((right[1] < right[0]).sum())
            self._worse += int((right[1] > right[0]).sum())

    def _distance(self, column: pa.ChunkedArray, prediction: NDArray[Any], side: Side) -> NDArray[np.float64]:
        """How far from the target each prediction is: of labels 0 or 1; NaN where that is not known."""
        signature = side.signature
        missing = side.columns.reading.missing or MISSING
        if side.kind == "numbers":
            numbers = numbers_of(column, missing, self._mark).values
            distance: NDArray[np.float64] = np.abs(prediction.astype(np.float64) - numbers)
            return distance
        classes = signature.classes or ()
        kind = kind_of(classes, signature.output("prediction").type)
        right = labels_of(column, classes, kind, missing)
        given = labels_of(arrow_column(prediction), classes, kind, ())
        names = {name: len(classes) + at for at, name in enumerate(dict.fromkeys([*right.strange, *given.strange]))}
        one, other = (
            np.array([*range(len(classes)), *(names[name] for name in each.strange), MISSING_CODE])[each.codes]
            for each in (right, given)
        )
        wrong: NDArray[np.float64] = (one != other).astype(np.float64)
        wrong[(right.codes == MISSING_CODE) | (given.codes == MISSING_CODE)] = np.nan
        return wrong

    def told(self) -> Qualities | None:
        """None where no row was compared."""
        pairs = zip(self._sides, self._scored, strict=True)
        old, new = (measure(scored, side.signature, self._target) for side, scored in pairs)
        if old is None or new is None:
            return None
        single = self._single
        return Qualities(old, new, self._better if single else None, self._worse if single else None)

    def close(self) -> None:
        for each in self._scored:
            each.close()
