"""What it costs to have a server guarded, watched and written down: throughput with each of it, and with all of it.

    python tasks.py bench guarded                     linear and mixed, five rounds of two seconds each
    python tasks.py bench guarded --only linear --seconds 4 --rounds 9 --connections 32
    python tasks.py bench guarded --answers           the processor time of a request, without a socket

One core for the server, one for the load (wrk), one row a request, every answer checked first. All servers run at once
and take turns within each round, in an order that changes from round to round; shown is the median over the rounds of
the ratio to the server with nothing on, in the same round. The goal: everything on costs at most 20 %. TLS is
told apart. Processor time a request is that of the server's processes: on a machine that others use it says more than
the throughput, which is its inverse where the core is the server's own. `--answers` leaves the sockets out, and tells
the event loop's time, that of the threads beside it, and that of finishing the files (Parquet): a busy machine says
little of anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import httpx
import uvloop

import bimodal
from bench import load, models, servers
from bench.guard import Wire
from bench.load import Measure
from bench.models import Case
from bench.servers import Server
from bimodal import keys
from bimodal.realtime.http import Connection
from bimodal.realtime.limits import Limits
from bimodal.realtime.listener import Listener
from bimodal.realtime.processes import children, usage
from bimodal.realtime.wiring import Wired, wire

NOTHING, EVERYTHING = "nothing", "everything"
TLS = "everything, TLS"
SETTLES = 0.3  # seconds in which a server writes down what it answered


@dataclass(frozen=True)
class Seen:
    """One load. cpu: seconds of the processor a request."""

    load: Measure
    cpu: float


@dataclass(frozen=True)
class Variant:
    """A server with some of it on. options: of `bimodal serve`; headers: that its callers send."""

    name: str
    options: tuple[str, ...] = ()
    headers: Mapping[str, str] | None = None
    secure: bool = False


def variants(folder: Path) -> list[Variant]:
    """Every switch alone, then all of them."""
    key = keys.add(folder / "keys.json", "bench", ("infer", "metrics"))
    sent = {"Authorization": f"Bearer {key}"}
    guard = ("--keys", str(folder / "keys.json"), "--hosts", "shop.example")

    def access(name: str) -> tuple[str, ...]:
        return "--access-log", str(folder / f"{name}.jsonl")

    def written(name: str) -> tuple[str, ...]:
        return "--prediction-log", str(folder / name)

    certificate = _certificate(folder)
    return [
        Variant(NOTHING),
        Variant("nothing, again"),
        Variant("keys and hosts", guard, sent),
        Variant("access log", access("access")),
        Variant("prediction log", written("log")),
        Variant("prediction log, 10 %", (*written("tenth"), "--prediction-log-sample", "0.1")),
        Variant(EVERYTHING, (*guard, *access("all"), *written("all")), sent),
        Variant("TLS", certificate, None, True),
        Variant(TLS, (*guard, *access("tls"), *written("tls"), *certificate), sent, True),
    ]


def _certificate(folder: Path) -> tuple[str, ...]:
    """The options of one that this machine signs itself, with an elliptic curve, as most are now."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    return "--tls-cert", str(cert), "--tls-key", str(key)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=("linear", "mixed"), action="append")
    options.add_argument("--seconds", type=int, default=2, help="length of one load")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--answers", action="store_true", help="answers alone, without a socket")
    options.add_argument("--requests", type=int, default=100_000, help="of a round of --answers")
    chosen = options.parse_args()
    if chosen.answers:
        with (
            TemporaryDirectory(prefix="bimodal-") as held,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(answers(Path(held), chosen))
        return
    for name in chosen.only or ("linear", "mixed"):
        compare(getattr(models, name)(), chosen)


def compare(case: Case, chosen: argparse.Namespace) -> None:
    with TemporaryDirectory(prefix="bimodal-") as folder, ExitStack() as stack:
        known = variants(Path(folder))
        running = [(each, stack.enter_context(begun(each, case))) for each in known]
        for each, server in running:
            check(each, server, case)
            load.press(server, chosen.connections, 1, case.bodies, headers=each.headers)
        runs: dict[str, list[Seen]] = {each.name: [] for each in known}
        for number in range(chosen.rounds):
            for each, server in [*running[number % len(running) :], *running[: number % len(running)]]:
                before = spent(server.pid)
                seen = load.press(server, chosen.connections, chosen.seconds, case.bodies, headers=each.headers)
                time.sleep(SETTLES)  # what is written later belongs to it
                runs[each.name].append(Seen(seen, (spent(server.pid) - before) / (seen.rate * chosen.seconds)))
        show(case.name, chosen, runs)
        for each, server in running:
            if "--prediction-log" in each.options:
                told(each, server)


def begun(variant: Variant, case: Case) -> Any:
    """A server on the compiled model, from its first answer on."""
    prove = [sys.executable, "-m", "bimodal", "inspect", str(case.model), "--runtime", "exact"]
    subprocess.run(prove, check=True, stdout=subprocess.DEVNULL)
    port = servers.free_port()
    scheme = "https" if variant.secure else "http"
    command = [sys.executable, "-m", "bimodal", "serve", str(case.model), "--port", str(port), "--workers", "1"]
    command += ["--runtime", "exact", *variant.options]
    return servers.running(variant.name, command, f"{scheme}://127.0.0.1:{port}/predict", watch=live)


def live(url: str) -> None:
    """Whether it answers: keys and certificates are not asked for here."""
    httpx.get(url.replace("/predict", "/health/live"), verify=False).raise_for_status()


def check(variant: Variant, server: Server, case: Case) -> None:
    """Every body of the load, once: the label must be the model's own."""
    with httpx.Client(verify=False, headers=dict(variant.headers or {})) as client:
        for body, label in zip(case.bodies, case.labels, strict=True):
            answer = client.post(server.url, content=body, headers={"content-type": "application/json"})
            if answer.json().get("prediction") != [label]:
                raise SystemExit(f"{variant.name} answers {answer.text} where the model itself says {[label]}")


def told(variant: Variant, server: Server) -> None:
    """What the log lacks."""
    with httpx.Client(verify=False, headers=dict(variant.headers or {})) as client:
        text = client.get(server.url.replace("/predict", "/metrics")).text
    counted = [line for line in text.splitlines() if line.startswith("bimodal_prediction_log_")]
    print(f"{variant.name}: {'; '.join(counted) or 'its key may not read the metrics'}")


def spent(pid: int) -> float:
    """Seconds of the processor that a process and those below it have taken."""
    own = usage(pid)
    return (0.0 if own is None else own.cpu) + sum([spent(each) for each in children(pid)])


def show(name: str, chosen: argparse.Namespace, runs: Mapping[str, Sequence[Seen]]) -> None:
    """A table in Markdown."""
    print(f"\n{name}, {chosen.connections} connections, {chosen.rounds} rounds of {chosen.seconds} s\n")
    print("| on | requests/s | × nothing | from, to | CPU a request, µs | × nothing | p50, ms | p99, ms | bad |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for each, seen in runs.items():
        rates = ratios(seen, runs[NOTHING])
        cpu = median(one.cpu / base.cpu for one, base in zip(seen, runs[NOTHING], strict=True))
        middle = Measure.middle([one.load for one in seen])
        figures = [f"{middle.rate:,.0f}", f"{median(rates):.2f}", f"{min(rates):.2f} – {max(rates):.2f}"]
        figures += [
            f"{median(one.cpu for one in seen) * 1e6:.1f}",
            f"{cpu:.2f}",
            f"{middle.p50:.2f}",
            f"{middle.p99:.2f}",
        ]
        print(f"| {each} | {' | '.join(figures)} | {middle.refused + middle.broken} |", flush=True)
    rate = median(ratios(runs[EVERYTHING], runs[NOTHING]))
    cpu = median(base.cpu / one.cpu for one, base in zip(runs[EVERYTHING], runs[NOTHING], strict=True))
    print(f"\neverything on costs {1 - rate:.0%} of the throughput, {1 - cpu:.0%} by processor time (goal: 20 %)")


@dataclass(frozen=True)
class Spent:
    """Microseconds of the processor a request: of the event loop, of other threads, of the end (what is left to write,
    and the files)."""

    loop: float
    beside: float
    end: float

    @property
    def whole(self) -> float:
        return self.loop + self.beside + self.end


async def answers(folder: Path, chosen: argparse.Namespace) -> None:
    """The same requests through the same app, wired anew for each round, with each of it on."""
    access = {"access_log": str(folder / "access"), "sample": 1.0, "peers": True, "traces": None}
    log = {"folder": str(folder / "log"), "sample": 1.0, "age": 60.0, "without": [], "models": {}, "alone": True}
    key, guard = keys.add(folder / "keys.json", "bench"), {"keys": str(folder / "keys.json")}
    ways: dict[str, dict[str, Any]] = {
        NOTHING: {},
        "keys and hosts": {"guard": guard},
        "access log": {"observe": access},
        "prediction log": {"record": log},
        EVERYTHING: {"guard": guard, "observe": access, "record": log},
    }
    case = models.linear()
    gc.set_threshold(50_000, 50, 100)  # as a worker has them
    sys.setswitchinterval(0.0005)
    with bimodal.load(case.model, runtime="exact") as model:
        runs: dict[str, list[Spent]] = {name: [] for name in ways}
        for turn in range(-1, chosen.rounds):
            for name in list(ways)[:: 1 if turn % 2 else -1]:
                wired = wire([model], Limits(), spec=ways[name])
                sent = f"authorization: Bearer {key}\r\n" if "guard" in ways[name] else ""
                body, requests = case.bodies[0], chosen.requests if turn >= 0 else 5000
                seen = await pressed(wired, body, sent, requests, chosen.connections)
                if turn >= 0:
                    runs[name].append(seen)
    print("| on | µs | loop | threads | end | more than nothing |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, found in runs.items():
        parts = [median(getattr(each, part) for each in found) for part in ("whole", "loop", "beside", "end")]
        more = median(one.whole - base.whole for one, base in zip(found, runs[NOTHING], strict=True))
        print(f"| {name} | {' | '.join([f'{part:.2f}' for part in parts])} | {more:+.2f} |")


async def pressed(wired: Wired, body: bytes, sent: str, requests: int, connections: int) -> Spent:
    """sent: what callers send with the body, a line each."""
    loop = asyncio.get_running_loop()
    listener = Listener(wired.app, Limits(), wired.methods, wired.guard)
    wired.attach(listener)
    said = f"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\n{sent}content-length: {len(body)}\r\n\r\n".encode() + body
    asking = [Connection(listener, loop) for _ in range(connections)]
    for each in asking:
        each.connection_made(cast(Any, Wire()))
    gc.collect()
    began, own = time.process_time(), time.thread_time()
    for _ in range(requests // connections):
        for each in asking:
            each.data_received(said)
        await asyncio.sleep(0)
    mine, whole = time.thread_time() - own, time.process_time() - began
    await wired.close()
    ended = time.process_time() - began
    for each in asking:
        each.connection_lost(None)
    return Spent(*[1e6 * part / requests for part in (mine, whole - mine, ended - whole)])


def ratios(seen: Sequence[Seen], base: Sequence[Seen]) -> list[float]:
    """Throughput over that of the other, round by round."""
    return [one.load.rate / other.load.rate for one, other in zip(seen, base, strict=True)]


if __name__ == "__main__":
    main()
