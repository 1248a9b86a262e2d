"""The nightly run in Ray Data on this machine."""

import sys

import joblib
import ray

model_path, source, output = sys.argv[1:]


class Predict:
    def __init__(self):
        self.model = joblib.load(model_path)

    def __call__(self, batch):
        return batch.assign(prediction=self.model.predict(batch))[["id", "prediction"]]


ray.init(include_dashboard=False, logging_level="error")
data = ray.data.read_parquet(source)
# Half a core each: two actors with a whole one would leave none for the tasks that read, and wait for ever.
data.map_batches(Predict, batch_format="pandas", batch_size=65_536, concurrency=2, num_cpus=0.5).write_parquet(output)
