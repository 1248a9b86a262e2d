"""What calls of a model cost is measured on few of them: who answers meanwhile has the same processors."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from bimodal.field import Field
from bimodal.rows import Rows
from bimodal.runtimes import measuring
from bimodal.runtimes.contract import Runtime
from bimodal.signature import Signature

SIGNATURE = Signature((Field("a", "float64"),), (Field("prediction", "float64"),))


class Slow(Runtime):
    """row: seconds that one takes. called: numbers of rows. now: the time by its own clock."""

    name = "native"

    def __init__(self, row: float) -> None:
        self.called: list[int] = []
        self.now = 0.0
        self._row = row

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        self.called.append(rows.count)
        self.now += self._row * rows.count
        return Rows({"prediction": np.zeros(rows.count)})


@pytest.mark.parametrize(
    ("row", "calls"),
    [(0.0, [1] * 4 + [64] * 4), (0.005, [1] * 4 + [64] * 2), (0.02, [1] * 4 + [12] * 2), (0.3, [1, 1])],
)
def test_the_slower_a_model_the_less_it_is_called(
    row: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(row)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: slow.now))
    costs = measuring.measure(slow, SIGNATURE)
    assert slow.called == calls
    assert costs == pytest.approx({count: row * count for count in calls})
