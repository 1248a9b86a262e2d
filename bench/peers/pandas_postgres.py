"""What a first user writes for the nightly run on a table. With "copy" for the model: the reading and writing alone."""

import sys

import joblib
import pandas as pd
from sqlalchemy import create_engine

model_path, url, source, output = sys.argv[1:]
engine = create_engine(url)
data = pd.read_sql(f"SELECT * FROM {source}", engine)
data["prediction"] = 0 if model_path == "copy" else joblib.load(model_path).predict(data)
data[["id", "prediction"]].to_sql(output, engine, index=False, if_exists="fail")
