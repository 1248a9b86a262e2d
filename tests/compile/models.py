"""What the tests of compiling share: a saved model as its format loads it, and candidates that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from bimodal.compile.choose import Trial
from bimodal.compile.report import Report
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.sklearn import Sklearn
from bimodal.rows import Rows
from bimodal.runtimes.contract import Runtime


def load(model: Any, folder: Path) -> Loaded:
    joblib.dump(model, folder / "model.joblib")
    return Sklearn().load(Source(str(folder / "model.joblib")))


def tried(loaded: Loaded, folder: Path, wanted: str = "auto", sample: Rows | None = None) -> Report:
    """Compiled in this process."""
    begun = Report("sklearn", loaded.signature.told(), settled=False)
    return Trial(loaded, begun, folder, lambda _: None, lambda _: 0.0).run(sample, wanted)


class Changed(Runtime):
    """A runtime whose answers are changed by `change`, a method of a subclass."""

    name = "changed"

    def __init__(self, own: Runtime) -> None:
        self._own = own

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        answer = self._own.run(rows, outputs)
        return Rows({name: self.change(name, answer.array(name), rows) for name in answer})

    def change(self, name: str, values: Any, rows: Rows) -> Any:
        raise NotImplementedError


class Neighbourly(Changed):
    """Moves every number by one unit in its last place, except in a row that is alone."""

    def change(self, name: str, values: Any, rows: Rows) -> Any:
        return np.nextafter(values, np.inf) if values.dtype.kind == "f" and 1 < rows.count < 64 else values


class Swapped(Changed):
    """Gives the last class for the first."""

    def change(self, name: str, values: Any, rows: Rows) -> Any:
        return np.where(values == values.min(), values.max(), values) if name == "prediction" else values


class Single(Runtime):
    """The native model on numbers rounded to float32."""

    name = "single"

    def __init__(self, own: Runtime) -> None:
        self._own = own

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        most = float(np.finfo(np.float32).max)
        rounded = {name: np.clip(rows.array(name), -most, most).astype(np.float32) for name in rows}
        return self._own.run(Rows({name: values.astype(np.float64) for name, values in rounded.items()}), outputs)
