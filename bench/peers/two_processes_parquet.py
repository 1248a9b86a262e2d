"""The nightly run by hand: a pool of as many processes as there are processors, a file each."""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import joblib
import pandas as pd

model_path, source, output = sys.argv[1:]
loaded = {}


def predict(path):
    if "model" not in loaded:
        loaded["model"] = joblib.load(model_path)
    data = pd.read_parquet(path)
    data["prediction"] = loaded["model"].predict(data)
    data[["id", "prediction"]].to_parquet(Path(output) / path.name, index=False)


if __name__ == "__main__":
    Path(output).mkdir()
    with ProcessPoolExecutor() as pool:
        list(pool.map(predict, sorted(Path(source).glob("*.parquet"))))
