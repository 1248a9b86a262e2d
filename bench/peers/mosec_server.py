"""mosec: its Rust front and one Python worker; BATCH=1: batches of up to 64, filled for up to 5 ms."""

import os

import joblib
import pandas as pd
from mosec import Server, Worker

LINEAR = os.environ["CASE"] == "linear"
BATCH = os.environ["BATCH"] == "1"


class Predictor(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.model = joblib.load(os.environ["MODEL"])

    def forward(self, data):
        asked = data if BATCH else [data]
        rows = [each["input"] if LINEAR else each["rows"][0] for each in asked]
        labels = self.model.predict(rows if LINEAR else pd.DataFrame(rows)).tolist()
        answers = [{"prediction": [label]} for label in labels]
        return answers if BATCH else answers[0]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Predictor, num=1, **({"max_batch_size": 64, "max_wait_time": 5} if BATCH else {}))
    server.run()
