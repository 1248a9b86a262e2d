"""gRPC, side by side: one core for the server, one for the load, one row a call, answers checked first.

    python tasks.py bench grpc                        three rounds of four seconds each
    python tasks.py bench grpc --seconds 2 --rounds 1
    python tasks.py bench grpc --peer NAME=HOST:PORT  one more server, which serves bench/data/linear.onnx already

Needs h2load and taskset (Debian: apt-get install nghttp2-client) and `pip install "tritonclient[grpc]"`. The load is 8
connections with 16 calls each in flight, with and without a deadline; the row is the same in all calls. Servers take
turns in every round. Believe the ratios of one run, not the figures of two.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from bench import models, servers
from bench.lookup import processor
from bench.models import Case
from bench.servers import LOAD_CORE, ONE_THREAD, PEERS, Server, pinned

METHOD = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS, STREAMS = 8, 16
DEADLINE = ("-H", "grpc-timeout: 5S")
DECODE: Any = service_pb2.ModelInferResponse.FromString


@dataclass(frozen=True)
class Loaded:
    """Calls a second, their mean time in milliseconds, processor time of each in µs, calls that failed."""

    rate: float
    mean: float
    used: float
    failed: int


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=4, help="length of one load")
    options.add_argument("--rounds", type=int, default=3, help="loads for each figure, of which the median is shown")
    options.add_argument("--peer", action="append", default=[], metavar="NAME=HOST:PORT", help="one more server")
    chosen = options.parse_args()
    case = models.linear()
    assert case.onnx is not None, "the linear model has an ONNX file"
    with ExitStack() as stack:
        rivals = [
            stack.enter_context(peer("grpc.aio", case.onnx)),
            stack.enter_context(bimodal("Bimodal, ONNX", case.onnx)),
            stack.enter_context(bimodal("Bimodal, exact", case.model, "exact")),
        ]
        rivals += [Server(*told.split("=", 1)) for told in chosen.peer]
        sizes = {server.name: check_answers(server, case) for server in rivals}
        runs: dict[tuple[str, bool], list[Loaded]] = {}
        for turn in range(chosen.rounds + 1):
            for deadline in (False, True):
                for server in rivals:
                    seen = press(server, case, 1 if not turn else chosen.seconds, sizes[server.name], deadline)
                    if turn:  # the first is to warm up
                        runs.setdefault((server.name, deadline), []).append(seen)
    show(rivals, runs)


def request(case: Case, place: int) -> bytes:
    """The ModelInferRequest of one of the rows."""
    row = np.asarray(json.loads(case.bodies[place])["input"], dtype=np.float64)
    asked = service_pb2.ModelInferRequest(model_name="linear")
    asked.inputs.add(name="input", datatype="FP64", shape=(1, len(row)))
    asked.raw_input_contents.append(row.tobytes())
    return bytes(asked.SerializeToString())


def check_answers(server: Server, case: Case) -> int:
    """Every row, once: the label must be the model's own. Returns the bytes of an answer to the first row."""
    size = 0
    with grpc.insecure_channel(server.url) as channel:
        call: Any = channel.unary_unary(METHOD, None, None)
        for place, label in enumerate(case.labels):
            told = call(request(case, place), timeout=10)
            found = DECODE(told)
            at = next(at for at, each in enumerate(found.outputs) if each.datatype == "INT64")
            if list(np.frombuffer(found.raw_output_contents[at], np.int64)) != [label]:
                raise SystemExit(f"{server.name} does not answer what the model itself says")
            size = size or len(told)
    return size


def press(server: Server, case: Case, seconds: float, size: int, deadline: bool) -> Loaded:
    """One load. A call that failed has no message: it is seen in the bytes that came."""
    with TemporaryDirectory() as folder:
        body = Path(folder, "body")
        message = request(case, 0)
        body.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        command = ["h2load", f"-D{seconds}", f"-c{CONNECTIONS}", f"-m{STREAMS}", "-t1", "-d", str(body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", *(DEADLINE if deadline else ())]
        command.append(f"http://{server.url}{METHOD}")
        before = processor(server.pid) if server.pid else 0.0
        done = subprocess.run(pinned(command, LOAD_CORE), capture_output=True, text=True, check=True)
        used = processor(server.pid) - before if server.pid else 0.0
    rate = _number(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    count = _number(r"requests: (\d+) total", done.stdout)
    good = _number(r"(\d+) succeeded", done.stdout)
    came = _number(r"\((\d+)\) data", done.stdout)
    missing = max(0.0, count - came / (size + 5))
    mean = re.search(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s)", done.stdout)
    assert mean is not None, done.stdout
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}[mean[2]]
    return Loaded(rate, float(mean[1]) * scale, used / max(count, 1) * 1e6, int(max(count - good, missing)))


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, f"h2load says something else:\n{text}"
    return float(found[1])


def show(rivals: Sequence[Server], runs: dict[tuple[str, bool], list[Loaded]]) -> None:
    """A table in Markdown; × is the rate over that of the first server with the same calls, × CPU the first server's
    processor time of a call over this one's."""
    print(f"\n| server | deadline | calls/s | × | CPU, µs | × CPU | mean, ms | failed |\n| --- | --- |{' ---: |' * 6}")
    for deadline in (False, True):
        base = median(each.rate for each in runs[rivals[0].name, deadline])
        spent = median(each.used for each in runs[rivals[0].name, deadline])
        for server in rivals:
            seen = runs[server.name, deadline]
            rate, mean = median(each.rate for each in seen), median(each.mean for each in seen)
            used = median(each.used for each in seen)
            told = f"{rate:,.0f} | {rate / base:.2f} | {used:.1f} | {spent / used if used else 0:.2f} | {mean:.2f} | "
            told += str(sum(each.failed for each in seen))
            print(f"| {server.name} | {'5 s' if deadline else '–'} | {told} |", flush=True)


@contextmanager
def bimodal(name: str, model: Path, runtime: str = "auto") -> Iterator[Server]:
    """`bimodal serve`, on the port of HTTP."""
    with servers.bimodal(name, model, "/health/live", runtime=runtime) as server:
        yield Server(name, server.url.split("/")[2], server.pid)


@contextmanager
def peer(name: str, model: Path) -> Iterator[Server]:
    """The same handler on grpc.aio."""
    port = servers.free_port()
    environment = {**ONE_THREAD, "MODEL": str(model), "PORT": str(port)}
    with servers.started([sys.executable, str(PEERS / "grpc_linear.py")], environment) as process:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
        yield Server(name, f"127.0.0.1:{port}", process.pid)


if __name__ == "__main__":
    main()
