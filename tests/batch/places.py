"""What the batch tests share: saved models, and a reader of every output format."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

COMMAND = [sys.executable, "-m", "bimodal"]


def shop(count: int = 300) -> pd.DataFrame:
    """Features with missing values, and columns that are none: an id, a date, a note that needs quotes."""
    random = np.random.default_rng(3)
    age = random.uniform(18, 90, count).round(1)
    age[::11] = np.nan
    return pd.DataFrame(
        {
            "id": [f"{number:04}" for number in range(count)],
            "age": age,
            "spent": random.normal(50, 20, count),
            "day": [f"2024-01-{1 + number % 28:02}" for number in range(count)],
            "plan": random.choice(["free", "pro", "team"], count),
            "note": [['plain', 'a, b', 'say "hi"', "NA", " x"][number % 5] for number in range(count)],
        }
    )  # fmt: skip


FEATURES = ["age", "spent", "plan"]


def mixed_pipeline(*, unknown: str = "error") -> Any:
    """A pipeline on named columns that refuses a plan it has not seen."""
    prepare = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "spent"]),
            ("texts", OneHotEncoder(handle_unknown=unknown), ["plan"]),
        ]
    )
    frame = shop()[FEATURES]
    return make_pipeline(prepare, LogisticRegression()).fit(frame, np.where(frame["spent"] > 50, "leaves", "stays"))


def expected(estimator: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """What the library itself answers, as the columns of an output."""
    answer = pd.DataFrame({"prediction": estimator.predict(frame[FEATURES])})
    for place, label in enumerate(estimator.classes_):
        answer[f"probability_{label}"] = estimator.predict_proba(frame[FEATURES])[:, place]
    return answer


def write(frame: pd.DataFrame, path: Path) -> Path:
    """The frame as a file of the format that the name tells."""
    name = path.name
    if ".csv" in name or ".tsv" in name:
        text = frame.to_csv(index=False, sep="\t" if ".tsv" in name else ",")
        _compress(text.encode(), path) if name.endswith((".gz", ".zst")) else path.write_text(text)
    elif "jsonl" in name:
        text = frame.to_json(orient="records", lines=True, double_precision=15)
        _compress(text.encode(), path) if name.endswith((".gz", ".zst")) else path.write_text(text)
    elif name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    elif name.endswith(".arrows"):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        frame.to_feather(path)
    return path


def _compress(data: bytes, path: Path) -> None:
    codec = pa.Codec("gzip" if path.suffix == ".gz" else "zstd")
    path.write_bytes(codec.compress(data, asbytes=True))


def read(path: Path) -> pd.DataFrame:
    """An output file, read by the library of its format; CSV with its texts as texts."""
    name = path.name
    data = path.read_bytes()
    if name.endswith((".gz", ".zst")):
        data = pa.CompressedInputStream(pa.BufferReader(data), "gzip" if name.endswith(".gz") else "zstd").read()
    if ".csv" in name or ".tsv" in name:
        told = dict.fromkeys(["id", "day", "note"], str)
        return pd.read_csv(io.BytesIO(data), sep="\t" if ".tsv" in name else ",", dtype=told, keep_default_na=False)
    if "jsonl" in name:
        return pd.DataFrame([json.loads(line) for line in data.decode().splitlines()])
    if name.endswith(".parquet"):
        table = arrow_parquet.read_table(pa.BufferReader(data))
    else:
        table = (pa.ipc.open_stream(data) if name.endswith(".arrows") else pa.ipc.open_file(data)).read_all()
    frame: pd.DataFrame = table.to_pandas()
    return frame


def lines(path: Path) -> list[dict[str, Any]]:
    """A file of JSON Lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(*words: object, cwd: Path, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command, run to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], cwd=cwd, input=data, capture_output=True, timeout=120, check=False
    )


def left_over(folder: Path) -> list[str]:
    """Hidden and temporary files in a folder."""
    return sorted(each.name for each in folder.iterdir() if each.name.startswith("."))


def texts(path: Path) -> list[list[str | None]]:
    """A CSV file as nothing but text, read by Arrow."""
    names = path.read_text().splitlines()[0].split(",")
    table = arrow_csv.read_csv(
        path, convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    )
    return [list(row.values()) for row in table.to_pylist()]
