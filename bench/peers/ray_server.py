"""Ray Serve: one replica behind its HTTP proxy; BATCH=1: @serve.batch, up to 64, filled for up to 5 ms."""

import logging
import os
import signal
import sys

os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # one core is little for its many processes
os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "60")

import joblib
import pandas as pd
import ray
from ray import serve
from starlette.requests import Request

LINEAR = os.environ["CASE"] == "linear"
BATCH = os.environ["BATCH"] == "1"
MODEL = os.environ["MODEL"]


class Predictor:
    def __init__(self) -> None:
        self.model = joblib.load(MODEL)

    def labels(self, rows):
        return self.model.predict(rows if LINEAR else pd.DataFrame(rows)).tolist()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def together(self, rows):
        return self.labels(rows)

    async def __call__(self, request: Request):
        body = await request.json()
        row = body["input"] if LINEAR else body["rows"][0]
        return {"prediction": [await self.together(row)] if BATCH else self.labels([row])}


def begin() -> None:
    """Ray's own processes, which it gives half a minute to come up: more often where the core is busy."""
    for attempt in range(4):
        try:
            ray.init(
                num_cpus=1,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                object_store_memory=100_000_000,
            )
        except Exception:  # what Ray raises has no closer type
            ray.shutdown()
            if attempt == 3:
                raise
        else:
            return


if __name__ == "__main__":
    begin()
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    deployment = serve.deployment(
        Predictor, num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    )
    serve.run(deployment.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
