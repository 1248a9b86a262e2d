"""What reading model files under the guard costs: processor time of loading a pickle, with the guard and without.

    python tasks.py bench reading [--rounds 9]

In one process, where all libraries are imported before: what is left is the reading itself. With and without take
turns; shown are medians, and the median over the rounds of their ratio. The guard hears Python tell of each class, and
judges each name once a file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from bench import models
from bimodal.formats import guard
from bimodal.formats.contract import Source


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    rounds = options.parse_args().rounds
    print("| file | without, ms | with, ms | ratio |\n| --- | ---: | ---: | ---: |")
    with TemporaryDirectory() as folder:
        for name, file in files(Path(folder)).items():
            bare, held = timed(partial(joblib.load, file), partial(guarded, file), rounds)
            ratio = median(one / other for one, other in zip(held, bare, strict=True))
            print(f"| {name} | {median(bare) * 1e3:.1f} | {median(held) * 1e3:.1f} | {ratio:.2f} |", flush=True)


def files(folder: Path) -> dict[str, Path]:
    rows, truth = make_classification(2000, 20, random_state=0)
    made: dict[str, Any] = {
        "random forest of 200 trees": RandomForestClassifier(200, random_state=0).fit(rows, truth),
        "gradient boosting of 200 trees": GradientBoostingClassifier(n_estimators=200, random_state=0).fit(rows, truth),
        "array of 8 MB": np.zeros(10**6),
    }
    found = {"scaler and logistic regression": models.linear().model}
    for name, model in made.items():
        found[name] = folder / f"{len(found)}.joblib"
        joblib.dump(model, found[name])
    return found


def guarded(file: Path) -> Any:
    with guard.reading(Source(str(file))):
        return joblib.load(file)


def timed(bare: Callable[[], Any], held: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Processor seconds of each, in turns; the first turn counts for nothing."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for work, spent in zip((bare, held), found, strict=True):
            begun = time.process_time()
            work()
            if turn:
                spent.append(time.process_time() - begun)
    return found


if __name__ == "__main__":
    main()
