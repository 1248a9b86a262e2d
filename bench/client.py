"""Clients, calls to one `bimodal serve`: Client and AsyncClient over HTTP and gRPC, and what else there is.

    python tasks.py bench client [--seconds 2] [--rounds 5]

Every client asks for one row (the linear model) and checks the answer; then an array of 1,000 rows. The plain ones ask
one call after the other, the asynchronous ones 32 at once. All clients take turns in each round, in one process on one
core, the server on the other; medians of the rounds, and ratios to the first line. The processor time is the client's
own: it tells more than the rate on a machine that has other work. `http.client` is what Client stood on before.
Needs `pip install requests httpx aiohttp "tritonclient[all]"`; those that are not there are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench import models, servers
from bimodal import AsyncClient, Client

TOGETHER = 32
HEAD = "| calls/s | × the first | processor time, µs |\n| --- | ---: | ---: | ---: |"
Plain = Callable[[], Any]
Seen = tuple[float, float]  # calls a second, seconds of the processor a call
Loop = Callable[[], Coroutine[Any, Any, Any]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--rounds", type=int, default=5)
    told = options.parse_args()
    case = models.linear()
    row = json.loads(case.bodies[0])["input"]
    with servers.bimodal("bimodal", case.onnx or case.model, body=case.bodies[0]) as server:
        if hasattr(os, "sched_setaffinity"):
            with suppress(OSError):
                os.sched_setaffinity(0, {servers.LOAD_CORE})
        place = server.url.removesuffix("/predict")
        expected = [case.labels[0]]
        many = np.tile(np.array(row), (1000, 1))
        print(f"| one call after the other {HEAD}")
        table(plain(place, row, expected), told.rounds, told.seconds, rate)
        print(f"\n| {TOGETHER} calls at once, on asyncio {HEAD}")
        with asyncio.Runner() as runner:
            asks, closes = runner.run(looped(place, row, expected))
            table(asks, told.rounds, told.seconds, lambda ask, seconds: runner.run(rate_of(ask, seconds)))
            for close in closes:
                runner.run(close())
        print(f"\n| an array of 1,000 rows {HEAD}")
        table(arrays(place, many, expected), told.rounds, told.seconds, rate)


def table(asks: dict[str, Any], rounds: int, seconds: float, measure: Callable[[Any, float], Seen]) -> None:
    """Print a line for each client."""
    rates: dict[str, list[Seen]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            rates[name].append(measure(ask, seconds / rounds))
    first = median(each for each, _ in next(iter(rates.values())))
    for name, seen in rates.items():
        middle, cost = (median(each) for each in zip(*seen, strict=True))
        print(f"| {name} | {middle:,.0f} | {middle / first:.2f} | {cost * 1e6:,.0f} |", flush=True)


def rate(ask: Plain, seconds: float) -> Seen:
    """Calls a second, one after the other."""
    ask()
    began, busy, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        ask()
        count += 1
    return count / (time.perf_counter() - began), (time.process_time() - busy) / count


async def rate_of(ask: Loop, seconds: float) -> Seen:
    """Calls a second, many at once."""
    await ask()
    until, count = time.perf_counter() + seconds, 0

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await ask()
            count += 1

    began, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*[caller() for _ in range(TOGETHER)])
    return count / (time.perf_counter() - began), (time.process_time() - busy) / count


def plain(place: str, row: list[float], expected: list[Any]) -> dict[str, Plain]:
    """The clients that block, over one connection each."""
    client, remote = Client(place), Client(place.replace("http", "grpc"))
    body = json.dumps({"input": row}).encode()
    asks: dict[str, Plain] = {
        "Client, HTTP": lambda: client.predict(row)["prediction"],
        "Client, gRPC": lambda: remote.predict(row)["prediction"],
        "http.client (Client before)": bare(place, body),
    }
    requests, httpx = found("requests"), found("httpx")
    if requests:
        session = requests.Session()
        asks["requests"] = lambda: session.post(f"{place}/predict", data=body).json()["prediction"]
    if httpx:
        pooled = httpx.Client()
        asks["httpx"] = lambda: pooled.post(f"{place}/predict", content=body).json()["prediction"]
    asks |= triton(place, np.array([row]))
    return checked(asks, expected)


def bare(place: str, body: bytes) -> Plain:
    """The standard library's connection, as the first Client used it."""
    connection = http.client.HTTPConnection(urlsplit(place).netloc)

    def ask() -> Any:
        connection.request("POST", "/predict", body, {"content-type": "application/json"})
        return json.loads(connection.getresponse().read())["prediction"]

    return ask


def triton(place: str, array: Any) -> dict[str, Plain]:
    """NVIDIA's client, with binary tensors."""
    asks: dict[str, Plain] = {}
    with Client(place) as ours:
        name = ours.models()[0]
        tensor = ours.metadata(name)["inputs"][0]["name"]
    for wire in ("http", "grpc"):
        module = found(f"tritonclient.{wire}")
        if module is None:
            continue
        client = module.InferenceServerClient(urlsplit(place).netloc)

        def ask(module: Any = module, client: Any = client) -> Any:
            given = module.InferInput(tensor, array.shape, "FP64")
            given.set_data_from_numpy(array)
            wanted = [module.InferRequestedOutput("prediction")]
            return client.infer(name, [given], outputs=wanted).as_numpy("prediction")[: len(array)].tolist()

        asks[f"tritonclient, {wire.upper().replace('GRPC', 'gRPC')}"] = ask
    return asks


async def looped(place: str, row: list[float], expected: list[Any]) -> tuple[dict[str, Loop], list[Loop]]:
    """The clients of asyncio, and what closes them."""
    client, remote = AsyncClient(place), AsyncClient(place.replace("http", "grpc"))
    body = json.dumps({"input": row}).encode()

    async def ours() -> Any:
        return (await client.predict(row))["prediction"]

    async def over_grpc() -> Any:
        return (await remote.predict(row))["prediction"]

    asks: dict[str, Loop] = {"AsyncClient, HTTP": ours, "AsyncClient, gRPC": over_grpc}
    closes: list[Loop] = [client.close, remote.close]
    httpx, aiohttp = found("httpx"), found("aiohttp")
    if aiohttp:
        session = aiohttp.ClientSession(headers={"content-type": "application/json"})

        async def by_aiohttp() -> Any:
            async with session.post(f"{place}/predict", data=body) as answer:
                return json.loads(await answer.read())["prediction"]

        asks["aiohttp"] = by_aiohttp
        closes.append(session.close)
    if httpx:
        pooled = httpx.AsyncClient()

        async def by_httpx() -> Any:
            return (await pooled.post(f"{place}/predict", content=body)).json()["prediction"]

        asks["httpx"] = by_httpx
        closes.append(pooled.aclose)
    for name, ask in asks.items():
        if await ask() != expected:
            raise SystemExit(f"{name}: another answer than the model's")
    return asks, closes


def arrays(place: str, many: Any, expected: list[Any]) -> dict[str, Plain]:
    """1,000 rows a call, as each client sends them best; JSON beside it."""
    client, remote = Client(place), Client(place.replace("http", "grpc"))
    rows = many.tolist()
    asks: dict[str, Plain] = {
        "Client, HTTP, a NumPy array (binary tensor)": lambda: client.predict(many).tolist(),
        "Client, gRPC, a NumPy array": lambda: remote.predict(many).tolist(),
        "Client, HTTP, a list of lists (JSON)": lambda: [each["prediction"] for each in client.predict(rows)],
    }
    return checked({**asks, **triton(place, many)}, expected * len(many))


def checked(asks: dict[str, Plain], expected: list[Any]) -> dict[str, Plain]:
    """The same; who gives another answer than the model's ends the comparison."""
    for name, ask in asks.items():
        if ask() != expected:
            raise SystemExit(f"{name}: another answer than the model's")
    return asks


def found(module: str) -> Any:
    """A library, if it is there."""
    try:
        return import_module(module)
    except ImportError:
        print(f"{module} is not installed and left out", file=sys.stderr)
        return None


if __name__ == "__main__":
    main()
