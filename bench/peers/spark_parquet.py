"""The nightly run in Spark on this machine."""

import os
import sys

import joblib
from pyspark.sql import SparkSession

model_path, source, output = sys.argv[1:]


def predict(batches):
    model = joblib.load(model_path)
    for batch in batches:
        yield batch.assign(prediction=model.predict(batch))[["id", "prediction"]]


os.environ["PYSPARK_PYTHON"] = sys.executable
spark = SparkSession.builder.master("local[*]").config("spark.driver.memory", "4g").getOrCreate()
spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 65_536)
spark.read.parquet(source).mapInPandas(predict, "id long, prediction long").write.parquet(output)
spark.stop()
