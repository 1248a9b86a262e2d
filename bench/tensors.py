"""What many rows a request cost beside the model: 1,000 rows of 30 numbers as binary tensors, Arrow, JSON.

    python tasks.py bench tensors
    python tasks.py bench tensors --rows 100 --calls 300

No socket: a request goes into the app and its answer comes out, in one process. Each figure is the median of calls that
take turns with the bare `predict` of scikit-learn (of an array; of a frame where the model has names) and with the same
call of Bimodal's own form of it. Answers are checked first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from bimodal import load
from bimodal.model import Model
from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.limits import Limits
from bimodal.realtime.wiring import wire
from bimodal.table import to_stream

FEATURES = 30
LENGTH = b"inference-header-content-length"
ARROW = b"application/vnd.apache.arrow.stream"

Body = tuple[str, dict[bytes, bytes], bytes]  # path, headers, body


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1000)
    options.add_argument("--calls", type=int, default=200)
    chosen = options.parse_args()
    draw = np.random.default_rng(0)
    values = draw.normal(size=(chosen.rows, FEATURES))
    labels = (values @ draw.normal(size=FEATURES) > 0).astype(int)
    frame = pd.DataFrame(values, columns=[f"f{place}" for place in range(FEATURES)])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    print(f"{chosen.rows:,} rows of {FEATURES} numbers\n")
    print("| model | way | µs | over scikit-learn's predict | over Bimodal's own |")
    print("| --- | --- | ---: | ---: | ---: |")
    with TemporaryDirectory() as folder:
        for name, given in (("array", values), ("frame", frame)):
            joblib.dump(pipeline.fit(given, labels), Path(folder, f"{name}.pkl"))
            with Told(load(Path(folder, f"{name}.pkl"))) as told:
                compare(told, pipeline, given, frame, chosen.calls)


class Told:
    """A model and its app on a loop of its own."""

    def __init__(self, model: Model) -> None:
        model.warm_up()
        self.model = model
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._app = wire([model], Limits()).app

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.close()
        self.model.close()

    def ask(self, asked: Body) -> Response:
        path, headers, body = asked

        async def answered() -> Response:
            answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            self._app(Request("POST", path, "", headers, body, monotonic()), answer.set_result)
            return await answer

        return self._loop.run_until_complete(answered())  # `run` of the runner sets signals at each call


def compare(told: Told, pipeline: Any, given: Any, frame: pd.DataFrame, calls: int) -> None:
    rows, _, _ = told.model.signature.check(frame.to_dict("records") if told.model.signature.named else given.tolist())
    ways: dict[str, Callable[[], Any]] = {
        "scikit-learn": lambda: pipeline.predict(given),
        f"Bimodal ({told.model.runtime_name})": lambda: told.model.run(rows),
    }
    right = pipeline.predict(given).tolist()
    for way, body in bodies(told.model, frame).items():
        answer = told.ask(body)
        if labels_of(answer) != right:
            raise SystemExit(f"{told.model.name}, {way}: other answers than the model's own")
        ways[way] = partial(told.ask, body)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(calls):
        for way, call in ways.items():
            start = perf_counter()
            call()
            times[way].append(perf_counter() - start)
    middle = {way: median(seen) * 1e6 for way, seen in times.items()}
    bare, own = list(middle.values())[:2]
    for way, micros in middle.items():
        print(f"| {told.model.name} | {way} | {micros:,.0f} | {micros / bare:.2f} | {micros / own:.2f} |", flush=True)


def bodies(model: Model, frame: pd.DataFrame) -> dict[str, Body]:
    infer, predict = f"/v2/models/{model.name}/infer", f"/models/{model.name}/predict"
    values = np.ascontiguousarray(frame.to_numpy())
    made = {"one binary tensor": _binary(infer, {"input": values})}
    if model.signature.named:
        made["a binary tensor a column"] = _binary(infer, {str(name): frame[name].to_numpy() for name in frame})
    made["Arrow at /predict"] = (predict, {b"content-type": ARROW}, to_stream(pa.Table.from_pandas(frame)))
    tensor = {"name": "input", "shape": list(values.shape), "datatype": "FP64", "data": values.ravel().tolist()}
    text = json.dumps({"inputs": [tensor], "outputs": [{"name": "prediction"}]}).encode()
    made["one JSON tensor"] = (infer, {b"content-type": b"application/json"}, text)
    return made


def _binary(path: str, arrays: dict[str, Any]) -> Body:
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), "FP64")
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    outputs = [InferRequestedOutput("prediction")]
    body, length = InferenceServerClient.generate_request_body(inputs, outputs=outputs)
    return path, {LENGTH: b"%d" % length, b"content-type": b"application/octet-stream"}, body


def labels_of(answer: Response) -> list[int]:
    if answer.content_type == ARROW:
        with pa.ipc.open_stream(answer.body) as reader:
            return list(reader.read_all().column("prediction").to_pylist())
    length = dict(answer.headers).get(LENGTH)
    if length is None:
        told: list[int] = json.loads(answer.body)["outputs"][0]["data"]
        return told
    result = InferenceServerClient.parse_response_body(answer.body, header_length=int(length))
    return list(result.as_numpy("prediction").tolist())


if __name__ == "__main__":
    main()
