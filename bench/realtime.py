"""Real time, side by side: one core for the server, one for the load, one row a request, answers checked first.

    python tasks.py bench realtime                 everything, three rounds of four seconds each
    python tasks.py bench realtime --only mixed    linear, mixed, infer (Open Inference) or empty
    python tasks.py bench realtime --seconds 2 --rounds 1

Needs wrk, taskset and nginx (Debian: apt-get install wrk nginx-light) and `pip install flask gunicorn`. All servers of
a table run at once, idle but for the one that is asked, and take turns in every round, so that a noisy neighbour hits
all alike. Believe the ratios of one run, not the figures of two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack

from bench import load, models, servers
from bench.load import Measure
from bench.models import Case
from bench.servers import Server

CONNECTIONS = (1, 32, 128)
TABLES = ("linear", "mixed", "infer", "empty")
Results = dict[tuple[str, int], Measure]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=TABLES, action="append")
    options.add_argument("--seconds", type=int, default=4, help="length of one load")
    options.add_argument("--rounds", type=int, default=3, help="loads for each figure, of which the median is shown")
    options.add_argument("--peers-alone", action="store_true", help="leave Bimodal out")
    chosen = options.parse_args()
    tables = chosen.only or TABLES
    if "linear" in tables:
        compare_models(models.linear(), chosen)
    if "mixed" in tables:
        compare_models(models.mixed(), chosen)
    if "infer" in tables:
        compare_protocols(models.linear(), chosen)
    if "empty" in tables:
        compare_empty(chosen)


def compare_models(case: Case, chosen: argparse.Namespace) -> None:
    """The same model behind every server."""
    with ExitStack() as stack:
        first = case.bodies[0]
        rivals = [
            stack.enter_context(servers.flask(f"flask_{case.name}", case.model, first)),
            stack.enter_context(servers.gunicorn(f"flask_{case.name}", case.model, first)),
        ]
        if not chosen.peers_alone:
            for runtime in ("native", "exact"):
                rival = servers.bimodal(f"Bimodal, {runtime}", case.model, body=first, runtime=runtime)
                rivals.append(stack.enter_context(rival))
        if case.onnx and not chosen.peers_alone:
            rivals.append(stack.enter_context(servers.bimodal("Bimodal, ONNX", case.onnx, body=first)))
        for server in rivals:
            check_answers(server, case)
        rivals.append(stack.enter_context(servers.nginx()))  # a fixed answer: what the wire alone allows
        results = measure(rivals, CONNECTIONS, case.bodies, chosen)
    show(f"{case.name}: {case.model.name}, one row a request", rivals, CONNECTIONS, results)


def compare_protocols(case: Case, chosen: argparse.Namespace) -> None:
    """The same rows as Open Inference JSON, all outputs answered, of the model as it was saved (in its exact form) and
    of the same in ONNX; `×` is over nginx with a fixed answer. Beside it a route without a model: what a lone request
    costs at least.
    """
    if case.onnx is None:
        raise SystemExit("the linear model is asked in ONNX")
    bodies = tuple(tensors(body) for body in case.bodies)
    forms = {} if chosen.peers_alone else {"exact": case.model, "auto": case.onnx}
    with ExitStack() as stack:
        rivals = [stack.enter_context(servers.nginx())]
        for runtime, model in forms.items():
            name, path = f"Bimodal, infer, {model.suffix[1:]}", f"/v2/models/{model.stem}/infer"
            infer = servers.bimodal(name, model, path, bodies[0], runtime)
            rivals.append(stack.enter_context(infer))
            for body, label in zip(bodies, case.labels, strict=True):
                outputs = json.loads(servers.answer(rivals[-1].url, body))["outputs"]
                if outputs[0]["data"] != [label]:
                    raise SystemExit(f"{rivals[-1].name} answers {outputs} where the model itself says {[label]}")
        results = measure(rivals, (1, 128), bodies, chosen)
        if not chosen.peers_alone:
            empty = stack.enter_context(servers.bimodal("Bimodal, /health/live", case.onnx, "/health/live"))
            results |= measure([empty], (1, 128), (), chosen)
            rivals.append(empty)
    show("Open Inference: linear, one row a request", rivals, (1, 128), results)


def tensors(body: bytes) -> bytes:
    """A body of `/predict` in the words of Open Inference."""
    row = json.loads(body)["input"]
    tensor = {"name": "input", "shape": [1, len(row)], "datatype": "FP64", "data": row}
    return json.dumps({"inputs": [tensor]}).encode()


def compare_empty(chosen: argparse.Namespace) -> None:
    """A route without a model, against nginx answering a fixed body."""
    with ExitStack() as stack:
        rivals = [stack.enter_context(servers.nginx())]
        if not chosen.peers_alone:
            model = models.linear().model
            rivals.append(stack.enter_context(servers.bimodal("Bimodal, /health/live", model, "/health/live")))
        results = measure(rivals, (128,), (), chosen)
    show("empty route", rivals, (128,), results)


def check_answers(server: Server, case: Case) -> None:
    """Every body of the load, once: the label must be the model's own."""
    for body, label in zip(case.bodies, case.labels, strict=True):
        told = json.loads(servers.answer(server.url, body))["prediction"]
        if told != [label]:
            raise SystemExit(f"{server.name} answers {told} where the model itself says {[label]}")


def measure(
    rivals: Sequence[Server], connections: Sequence[int], bodies: Sequence[bytes], chosen: argparse.Namespace
) -> Results:
    """Warm up each server, then let them take turns."""
    for server in rivals:
        load.press(server, 32, 1, bodies)
    runs: dict[tuple[str, int], list[Measure]] = {}
    for _ in range(chosen.rounds):
        for count in connections:
            for server in rivals:
                seen = load.press(server, count, chosen.seconds, bodies)
                runs.setdefault((server.name, count), []).append(seen)
    return {key: Measure.middle(seen) for key, seen in runs.items()}


def show(title: str, rivals: Sequence[Server], connections: Sequence[int], results: Results) -> None:
    """A table in Markdown; `×` is the throughput over that of the first server with as many connections."""
    print(f"\n{title}\n\n| server | connections | requests/s | × | p50, ms | p99, ms | not 2xx | broken |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in connections:
        base = results[rivals[0].name, count].rate
        for server in rivals:
            seen = results[server.name, count]
            times = f"{seen.rate / base:.2f}" if base else "-"
            figures = f"{seen.rate:,.0f} | {times} | {seen.p50:.2f} | {seen.p99:.2f} | {seen.refused} | {seen.broken}"
            print(f"| {server.name} | {count} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
