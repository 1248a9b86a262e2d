"""KServe's Python server, the V1 protocol (`instances`), one worker. It has no batching of its own (a sidecar has)."""

import os
import sys

import joblib
import pandas as pd
from kserve import Model, ModelServer

LINEAR = os.environ["CASE"] == "linear"


class Predictor(Model):
    def __init__(self) -> None:
        super().__init__("model")
        self.model = joblib.load(os.environ["MODEL"])
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        rows = payload["instances"]
        return {"predictions": self.model.predict(rows if LINEAR else pd.DataFrame(rows)).tolist()}


if __name__ == "__main__":
    server = ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1, access_log_format="")
    server.start([Predictor()])
