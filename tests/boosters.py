"""Tables for boosted models, and what a booster's own `predict` says of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bimodal import formats
from bimodal.formats.contract import Loaded, Source
from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.program import Program

WIDTH = 5


@cache
def numbers(count: int = 800) -> Array:
    """Five columns of numbers, one in twelve missing."""
    random = np.random.default_rng(3)
    table = random.normal(size=(count, WIDTH))
    table[random.random(table.shape) < 0.08] = np.nan
    return table


@cache
def sums() -> Array:
    """A target that hangs on the numbers."""
    known = np.nan_to_num(numbers())
    noise: Array = np.random.default_rng(4).normal(size=len(known))
    return np.asarray(known[:, 0] + known[:, 1] * known[:, 2] + noise)


@cache
def frame(count: int = 600) -> pd.DataFrame:
    """Numbers beside pandas' categories of texts and of integers, in an order of their own; some missing."""
    random = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "age": random.normal(40, 9, count).round(1),
            "visits": random.integers(0, 9, count),
            "city": pd.Categorical(
                random.choice(["Oslo", "Lima", "Pune", "Ede"], count), ["Pune", "Oslo", "Ede", "Lima"]
            ),
            "zone": pd.Categorical(random.choice([10, 20, 30], count)),
        }
    )
    table.loc[::9, "age"] = np.nan
    table.loc[::11, "city"] = np.nan
    return table


@cache
def kinds() -> Array:
    """Three classes that hang on the frame."""
    table = frame()
    found: Array = ((table["age"].fillna(0) > 40) ^ (table["city"] == "Oslo")).to_numpy().astype(int)
    return found + (table["zone"] == 20).to_numpy()


def loaded(path: Path, **told: Any) -> Loaded:
    return formats.recognise(str(path)).load(Source(str(path), **told))


def rows_of(table: pd.DataFrame, names: Sequence[str]) -> Rows:
    """The frame as Rows: texts as objects, None where missing."""
    return Rows({name: _column(table[name]) for name in names})


def _column(series: pd.Series[Any]) -> Array:
    values = series.astype(object)
    if all(isinstance(value, str) for value in values.dropna()):
        return values.where(values.notna(), None).to_numpy(object)
    return values.astype(float).to_numpy()


def near(program: Program, table: Array) -> Array:
    """The table, then rows at the program's own thresholds, one ulp off them in float64 and float32, and at numbers
    that are hard to compare."""
    pieces = [table]
    for column, found in program.core.thresholds().items():
        cuts = found[np.isfinite(found) & (np.abs(found) < 3e38)][:40]
        single = cuts.astype(np.float32)
        up, down = np.float32(np.inf), np.float32(-np.inf)
        odd = [0.0, -0.0, 5e-324, 1e-45, -1e-45, 1e-40, 1e-35, -1e-35, 1.0000000180025095e-35, -1.0000000180025095e-35]
        values = np.concatenate(
            [
                cuts,
                np.nextafter(cuts, np.inf),
                np.nextafter(cuts, -np.inf),
                np.nextafter(single, up).astype(float),
                np.nextafter(single, down).astype(float),
                np.array([*odd, 3e38, -3e38, 2.0**24 + 1, 2.0**53 + 1, np.nan]),
            ]
        )
        piece = np.resize(table, (len(values), table.shape[1])).copy()
        piece[:, column] = values
        pieces.append(piece)
    return np.concatenate(pieces)


def same(one: Array, other: Array) -> bool:
    """The same type and the same bits."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
