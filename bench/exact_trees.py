"""Tree models: the exact engine beside the library, one thread, side by side in one run.

    python tasks.py bench exact_trees [--rows 1000000] [--train 100000] [--rounds 3] [--only forest]

Both give probabilities of the same rows, which must be equal to the last bit before any time counts. The library gets
its own matrix (what it does to check it is part of its time), the exact engine Rows of one vector column. One row: the
median of 300 calls a round; in bulk: one call a round. They take turns; the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from threadpoolctl import threadpool_limits

from bimodal.formats.contract import Source
from bimodal.formats.fitted import understand
from bimodal.formats.library import library
from bimodal.rows import Array, Rows
from bimodal.runtimes.exact.program import Exact

CALLS = 300
COLUMNS = 30
MODELS: dict[str, Callable[[], Any]] = {
    "HistGradientBoosting (100 trees)": lambda: HistGradientBoostingClassifier(early_stopping=False, random_state=0),
    "HistGradientBoosting (200 trees)": lambda: HistGradientBoostingClassifier(
        max_iter=200, early_stopping=False, random_state=0
    ),
    "LightGBM (200 trees)": lambda: library("lightgbm").LGBMClassifier(n_estimators=200, n_jobs=1, verbose=-1),
    "XGBoost (200 trees)": lambda: library("xgboost").XGBClassifier(n_estimators=200, n_jobs=1),
    "GradientBoosting (100 trees)": lambda: GradientBoostingClassifier(subsample=0.2, random_state=0),
    "RandomForest (100, depth 12)": lambda: RandomForestClassifier(100, max_depth=12, n_jobs=2, random_state=0),
    "RandomForest (100)": lambda: RandomForestClassifier(100, n_jobs=2, random_state=0),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--train", type=int, default=100_000, help="rows that the models are fitted on")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default="", help="models whose names hold this text")
    chosen = options.parse_args()
    rows, target = make_classification(chosen.train, COLUMNS, n_informative=15, random_state=0)
    many = np.random.default_rng(1).choice(rows, chosen.rows) if chosen.rows != chosen.train else rows
    print("| | one row, library | exact | times | in bulk, library | exact | times |\n| --- " + "| ---: " * 6 + "|")
    with threadpool_limits(1):
        for name, make in MODELS.items():
            if chosen.only.lower() in name.lower():
                print(line(name, make().fit(rows, target), many, chosen.rounds), flush=True)


def line(name: str, model: Any, many: Array, rounds: int) -> str:
    """One line of the table."""
    if getattr(model, "n_jobs", None) is not None:
        model.set_params(n_jobs=1)
    loaded = understand(model, Source(name))
    if loaded.lower is None:
        raise SystemExit(f"{name} has no exact form")
    exact = Exact(loaded.lower())
    one = many[:1]
    theirs: list[Callable[[], Any]] = [lambda: model.predict_proba(one), lambda: model.predict_proba(many)]
    ours: list[Callable[[], Any]] = [
        lambda: exact.run(Rows({"input": one}), ["probability"]).array("probability"),
        lambda: exact.run(Rows({"input": many}), ["probability"]).array("probability"),
    ]
    for their, our in zip(theirs, ours, strict=True):
        if not np.array_equal(their(), our()):
            raise SystemExit(f"{name}: not the library's own bits")
    cells = []
    for their, our, calls, unit in zip(theirs, ours, (CALLS, 1), (1e6, 1), strict=True):
        taken = [(seconds(their, min(calls, 50)), seconds(our, calls)) for _ in range(rounds)]
        library_, engine = (median(times) for times in zip(*taken, strict=True))
        shown = "{:,.1f} µs" if unit > 1 else "{:.2f} s"
        cells += [shown.format(library_ * unit), shown.format(engine * unit), f"{library_ / engine:,.1f}"]
    return f"| {name} | {' | '.join(cells)} |"


def seconds(call: Callable[[], Any], calls: int) -> float:
    """The median of so many calls."""
    spans = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        spans.append(time.perf_counter() - start)
    return median(spans)


if __name__ == "__main__":
    main()
