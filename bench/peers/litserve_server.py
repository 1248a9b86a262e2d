"""LitServe: a LitAPI on the processor; BATCH=1: batches of up to 64, filled for up to 5 ms."""

import os
import sys

import joblib
import litserve
import pandas as pd

LINEAR = os.environ["CASE"] == "linear"
BATCH = os.environ["BATCH"] == "1"


class Predictor(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request):
        return request["input"] if LINEAR else request["rows"][0]

    def predict(self, given):
        rows = given if BATCH else [given]
        return self.model.predict(rows if LINEAR else pd.DataFrame(rows)).tolist()

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"prediction": [output] if BATCH else output}


if __name__ == "__main__":
    options = {"max_batch_size": 64, "batch_timeout": 0.005} if BATCH else {}
    server = litserve.LitServer(Predictor(**options), accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error", access_log=False)
