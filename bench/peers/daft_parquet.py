"""The nightly run in Daft: the model as a class that is made once a worker."""

import sys

import daft
import joblib
import pandas as pd
from daft import DataType, col

model_path, source, output = sys.argv[1:]
FEATURES = ["month", "day", "hour", "sched_dep_time", "dep_delay", "distance", "carrier", "origin", "dest"]


@daft.udf(return_dtype=DataType.int64(), batch_size=65_536)
class Predict:
    def __init__(self):
        self.model = joblib.load(model_path)

    def __call__(self, *columns):
        frame = pd.DataFrame(
            {name: column.to_arrow().to_pandas() for name, column in zip(FEATURES, columns, strict=True)}
        )
        return self.model.predict(frame)


table = daft.read_parquet(f"{source}/*.parquet")
table.select(col("id"), Predict(*(col(name) for name in FEATURES)).alias("prediction")).write_parquet(output)
