"""The nightly run in Polars: a lazy scan, the model batch by batch, one file."""

import sys
from pathlib import Path

import joblib
import polars as pl

model_path, source, output = sys.argv[1:]
model = joblib.load(model_path)


def predict(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.select("id").with_columns(pl.Series("prediction", model.predict(batch.to_pandas())))


schema = {"id": pl.Int64, "prediction": pl.Int64}
lazy = pl.scan_parquet(f"{source}/*.parquet").map_batches(predict, schema=schema, streamable=True)
lazy.sink_parquet(Path(output))
