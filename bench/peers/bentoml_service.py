"""BentoML: a class with an API; BATCH=1 makes it batchable (adaptive batching, its own bounds)."""

import os

import bentoml
import joblib
import numpy as np
import pandas as pd

BATCH = os.environ["BATCH"] == "1"
OPTIONS = {"batchable": True, "max_batch_size": 128, "max_latency_ms": 1000} if BATCH else {}


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1000}, logging={"access": {"enabled": False}})
class Predictor:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    if os.environ["CASE"] == "linear":

        @bentoml.api(**OPTIONS)
        def predict(self, rows: np.ndarray) -> np.ndarray:
            return self.model.predict(rows)

    else:

        @bentoml.api(**OPTIONS)
        def predict(self, rows: list[dict]) -> list[int]:  # a batchable API of frames gave no answer
            return self.model.predict(pd.DataFrame(rows)).tolist()
