"""What the tests of the exact engine share: a model as Bimodal takes it, and the same compiled."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bimodal import table
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.fitted import understand
from bimodal.rows import Array, Rows
from bimodal.runtimes.estimator import Estimator
from bimodal.runtimes.exact.program import Exact, Program
from bimodal.signature import Signature, require


@dataclass(frozen=True)
class Pair:
    """loaded: the model with its own library. exact: the same compiled."""

    loaded: Loaded
    exact: Exact

    @classmethod
    def of(cls, model: Any) -> Pair:
        loaded = understand(model, Source("model"))
        assert loaded.lower is not None
        return cls(loaded, Exact(loaded.lower()))

    @property
    def signature(self) -> Signature:
        return self.loaded.signature

    @property
    def program(self) -> Program:
        return self.exact.program

    @property
    def outputs(self) -> list[str]:
        return [each.name for each in self.signature.outputs]

    def rows(self, data: Any) -> Rows:
        """A frame or an array as the model's Rows, all good."""
        if hasattr(data, "iloc"):
            arrow = table.from_frame(data)
            rows, _, problems = table.Binding.bind(self.signature, arrow.column_names).rows(arrow)
        else:
            rows, _, problems = self.signature.check(list(data))
        require(problems)
        return rows

    def both(self, data: Any) -> tuple[Rows, Rows]:
        """The library's answers and the compiled ones."""
        rows = data if isinstance(data, Rows) else self.rows(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.loaded.runtime.run(rows, self.outputs), self.exact.run(rows, self.outputs)

    def agree(self, data: Any) -> None:
        """The library's own bits where the Program is steady; else its labels, and numbers near its own."""
        theirs, ours = self.both(data)
        for name in self.outputs:
            same(theirs.array(name), ours.array(name), exactly=self.program.steady)

    def prepared(self, data: Any) -> None:
        """The columns that reach the last estimator of a pipeline, bit by bit."""
        rows = data if isinstance(data, Rows) else self.rows(data)
        native = self.loaded.runtime
        assert isinstance(native, Estimator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of unknown categories where it drops one
            theirs = native.model[:-1].transform(native.feed(rows))
        theirs = np.asarray(theirs.toarray() if hasattr(theirs, "toarray") else theirs, float)
        assert np.array_equal(theirs, self.program.prepare.matrix(rows), equal_nan=True)

    def alone(self, data: Any, sizes: Sequence[int] = (1, 7)) -> None:
        """A row's bits do not depend on its neighbours."""
        rows = data if isinstance(data, Rows) else self.rows(data)
        whole = self.exact.run(rows, self.outputs)
        for size in sizes:
            parts = [self.exact.run(rows.slice(at, at + size), self.outputs) for at in range(0, rows.count, size)]
            for name in self.outputs:
                same(whole.array(name), np.concatenate([part.array(name) for part in parts]))

    def kept(self, folder: Path) -> Exact:
        """Saved and loaded: the same file from the same Program."""
        self.program.save(folder / "a.npz")
        loaded = Program.load(folder / "a.npz")
        loaded.save(folder / "b.npz")
        assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()
        return Exact(loaded)


def same(theirs: Array, ours: Array, *, exactly: bool = True) -> None:
    assert theirs.dtype == ours.dtype
    assert theirs.shape == ours.shape
    if theirs.dtype == object:
        assert theirs.tolist() == ours.tolist()
    elif exactly or theirs.dtype.kind != "f":
        assert np.array_equal(theirs, ours, equal_nan=theirs.dtype.kind == "f")
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)
