"""What a first user writes for the nightly run."""

import sys

import joblib
import pandas as pd

model_path, source, output = sys.argv[1:]
model = joblib.load(model_path)
data = pd.read_parquet(source)
data["prediction"] = model.predict(data)
data[["id", "prediction"]].to_parquet(output, index=False)
