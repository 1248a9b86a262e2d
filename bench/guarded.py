"""What it costs to have a server guarded, watched and written down: throughput with each of it, and with all of it.

    python tasks.py bench guarded                     linear and mixed, five rounds of two seconds each
    python tasks.py bench guarded --only linear --seconds 4 --rounds 9 --connections 32

One core for the server, one for the load (wrk), one row a request, every answer checked first. All servers run at once
and take turns within each round, in an order that changes from round to round; shown is the median over the rounds of
the ratio to the server with nothing on, in the same round. The goal: everything on costs at most 20 %. TLS is
told apart. Processor time a request is that of the server's processes: on a machine that others use it says more than
the throughput, which is its inverse where the core is the server's own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench import load, models, servers
from bench.load import Measure
from bench.models import Case
from bench.servers import Server
from bimodal import keys
from bimodal.realtime.processes import children, usage

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
    chosen = options.parse_args()
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


def ratios(seen: Sequence[Seen], base: Sequence[Seen]) -> list[float]:
    """Throughput over that of the other, round by round."""
    return [one.load.rate / other.load.rate for one, other in zip(seen, base, strict=True)]


if __name__ == "__main__":
    main()
