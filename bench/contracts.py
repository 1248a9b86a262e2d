"""The cost of a request in other people's words, beside the same row at `/predict`: the app alone, without a socket.

    python tasks.py bench contracts [--rounds 60]

The linear model in ONNX; 32 requests of one row in one turn of the event loop, which are predicted together. Processor
time a request, medians of the rounds, all forms in turn in each round. The answers are checked to be the model's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from statistics import median
from typing import Any

from bench import models
from bimodal import load
from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.limits import Limits
from bimodal.realtime.wiring import wire

TOGETHER = 32


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=60)
    rounds = options.parse_args().rounds
    case = models.linear()
    row = json.loads(case.bodies[0])["input"]
    with asyncio.Runner() as runner, load(case.onnx or case.model, name="linear") as model:
        runner.get_loop()
        app = wire([model], Limits()).app
        seen: dict[str, list[float]] = {name: [] for name in forms(row)}
        for _ in range(rounds):
            for name, (path, body) in forms(row).items():
                began = time.process_time()
                answers = runner.run(turn(app, path, json.dumps(body).encode()))
                seen[name].append((time.process_time() - began) / TOGETHER)
                if any(next(iter(json.loads(each.body).values())) != [case.labels[0]] for each in answers):
                    raise SystemExit(f"{name}: another answer than the model's")
    first = median(seen["/predict, input"])
    print("| a request of one row | processor time, µs | × /predict |\n| --- | ---: | ---: |")
    for name, costs in seen.items():
        print(f"| {name} | {median(costs) * 1e6:.1f} | {median(costs) / first:.2f} |")


def forms(row: list[float]) -> dict[str, tuple[str, Any]]:
    """The same row in each of the words: path, body."""
    names = [f"x{place}" for place in range(len(row))]
    return {
        "/predict, input": ("/predict", {"input": row}),
        "/v1/models/NAME:predict, instances": ("/v1/models/linear:predict", {"instances": [row]}),
        "/v1/models/NAME:predict, inputs": ("/v1/models/linear:predict", {"inputs": [row]}),
        "/invocations, instances": ("/invocations", {"instances": [row]}),
        "/invocations, dataframe_split": ("/invocations", {"dataframe_split": {"columns": names, "data": [row]}}),
        "/invocations, dataframe_records": (
            "/invocations",
            {"dataframe_records": [dict(zip(names, row, strict=True))]},
        ),
        "/invocations, input": ("/invocations", {"input": row}),
    }


async def turn(app: Any, path: str, body: bytes) -> list[Response]:
    """The answers to requests of one turn of the loop."""
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[Response]] = []
    for _ in range(TOGETHER):
        answers.append(loop.create_future())
        headers = {b"content-type": b"application/json"}
        app(Request("POST", path, "", headers, body, time.monotonic()), answers[-1].set_result)
    return list(await asyncio.gather(*answers))


if __name__ == "__main__":
    main()
