"""The nightly run in Dask on this machine."""

import sys

import dask.dataframe as dd
import joblib
import pandas as pd

model_path, source, output = sys.argv[1:]
model = joblib.load(model_path)


def predict(frame):
    return pd.DataFrame({"id": frame["id"], "prediction": model.predict(frame)})


if __name__ == "__main__":
    data = dd.read_parquet(source)
    meta = {"id": "int64", "prediction": "int64"}
    data.map_partitions(predict, meta=meta).to_parquet(
        output, write_index=False, compute_kwargs={"scheduler": "processes"}
    )
