"""Triton by PyTriton, the model in Triton's Python backend; BATCH=1: the dynamic batcher, up to 64 rows, up to 5 ms."""

import os
import sys

import joblib
import numpy as np
import pandas as pd
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

LINEAR = os.environ["CASE"] == "linear"
BATCH = os.environ["BATCH"] == "1"
NUMBERS = ("month", "hour", "distance", "air_time", "dep_delay")
TEXTS = ("carrier", "origin", "dest", "tailnum_maker")

model = joblib.load(os.environ["MODEL"])


@batch
def linear(**given):
    return {"prediction": model.predict(given["input"]).reshape(-1, 1)}


@batch
def mixed(**columns):
    texts = {name: np.char.decode(columns[name].reshape(-1).astype(bytes), "utf-8") for name in TEXTS}
    numbers = {name: columns[name].reshape(-1) for name in NUMBERS}
    return {"prediction": model.predict(pd.DataFrame({**numbers, **texts})).reshape(-1, 1)}


if __name__ == "__main__":
    http = int(sys.argv[1])
    config = TritonConfig(http_port=http, allow_grpc=False, allow_metrics=False, http_address="127.0.0.1")
    batcher = DynamicBatcher(max_queue_delay_microseconds=5000) if BATCH else None
    inputs = [Tensor(name="input", dtype=np.float64, shape=(30,))]
    if not LINEAR:
        inputs = [Tensor(name=name, dtype=np.float64, shape=(1,)) for name in NUMBERS]
        inputs += [Tensor(name=name, dtype=np.bytes_, shape=(1,)) for name in TEXTS]
    with Triton(config=config) as server:
        server.bind(
            model_name="model",
            infer_func=linear if LINEAR else mixed,
            inputs=inputs,
            outputs=[Tensor(name="prediction", dtype=np.int64, shape=(1,))],
            config=ModelConfig(
                batching=True, max_batch_size=64 if BATCH else 1, **({"batcher": batcher} if BATCH else {})
            ),
            strict=False,
        )
        server.serve()
