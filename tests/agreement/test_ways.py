"""The same rows four ways (REST, gRPC, a file in batch, Python), in pieces of any size: the same bits.

The full form, 10,000 rows of eight kinds of model: `python tasks.py test tests/agreement/test_ways.py -m soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bimodal import scenes, scenes_grpc
from bimodal.batch.run import predict_file
from bimodal.model import Model
from bimodal.rows import Array, Rows
from bimodal.signature import require
from tests.agreement.test_bits import KINDS, engine, frame

OUTPUTS = ["probability"]
SIZES = (1, 7, 64, 333, 1000)


def rows_of(model: Model, count: int) -> Rows:
    """As many different rows: those of the training, their numbers moved."""
    base = frame()
    table = pd.concat([base] * (count // len(base) + 1), ignore_index=True).head(count)
    moved = np.random.default_rng(33).normal(1.0, 0.1, (count, 2))
    table[["age", "income"]] = (table[["age", "income"]] * moved).round(6)
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    rows, _, problems = model.signature.check(records)
    require(problems)
    return rows


def ways(model: Model, rows: Rows, sizes: tuple[int, ...], folder: Path) -> Iterator[tuple[str, Array]]:
    """Every way with its answers, float64 [rows, classes]."""
    for size in sizes:
        parts = [rows.slice(at, at + size) for at in range(0, rows.count, size)]
        yield f"Python, {size}", np.concatenate([model.run(each, OUTPUTS).array("probability") for each in parts])
        yield f"REST, {size}", scenes.over_http(model, rows, OUTPUTS, size, 64).array("probability")
        for raw in (True, False):
            answer = scenes_grpc.over_grpc(model, rows, OUTPUTS, size, 64, raw=raw)
            yield f"gRPC, {size}, raw: {raw}", answer.array("probability")
    for kind in ("csv", "parquet"):
        null = scenes.write(rows, model.signature, folder / f"rows.{kind}")
        predict_file(
            model, folder / f"rows.{kind}", folder / f"{kind}.parquet", outputs=OUTPUTS, keep="none", na=[null]
        )
        columns = pq.read_table(folder / f"{kind}.parquet").columns
        yield f"batch, {kind}", np.column_stack([each.to_numpy() for each in columns])


def agree(name: str, count: int, sizes: tuple[int, ...], folder: Path) -> int:
    """Compare all ways; how many answers were the same, bit for bit."""
    _, model = engine(name, folder)
    rows = rows_of(model, count)
    expected = np.ascontiguousarray(model.run(rows, OUTPUTS).array("probability")).view(np.uint64)
    compared = 0
    for way, answer in ways(model, rows, sizes, folder):
        assert (np.ascontiguousarray(answer).view(np.uint64) == expected).all(), (name, way)
        compared += count
    return compared


@pytest.mark.parametrize("name", ["dense linear", "lightgbm"])
def test_the_same_rows_get_the_same_bits_four_ways(name: str, tmp_path: Path) -> None:
    assert agree(name, 150, (1, 64), tmp_path) == 150 * 10


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_ten_thousand_rows_get_the_same_bits_four_ways(name: str, tmp_path: Path) -> None:
    assert agree(name, 10_000, SIZES, tmp_path) == 10_000 * (4 * len(SIZES) + 2)
