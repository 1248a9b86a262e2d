"""HTTPS and mTLS beside clear text: the same compiled model, one core for each server, one for the load.

    python tasks.py bench tls                         three rounds of three seconds each
    python tasks.py bench tls --seconds 1 --rounds 1

Needs wrk, taskset and openssl. Kept: 32 connections that stay open (wrk). New: each request on a connection of its own
(wrk, 8 at a time; sessions are resumed where both sides can). wrk has no certificates of callers, so mTLS is asked from
Python, as the others once more: a request on a kept connection, and one with its connection, one after the other. The
processor time is the server's alone. Believe the ratios of one run, not the figures of two.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from urllib.request import Request, urlopen

from bench import models, servers
from bench.load import Measure, press
from bench.lookup import processor
from bench.models import Case
from bench.servers import ONE_THREAD, Server

KEPT, NEW = 32, 8
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
NAMES = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")


@dataclass(frozen=True)
class Seen:
    """One load: what wrk tells, and the server's microseconds of processor time for each request."""

    measure: Measure
    used: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=3, help="length of one load")
    options.add_argument("--rounds", type=int, default=3, help="loads for each figure, of which the median is shown")
    options.add_argument("--asked", type=int, default=300, help="requests from Python in each round")
    chosen = options.parse_args()
    case = models.linear()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        certify(folder)
        ways = {
            "clear text": stack.enter_context(bimodal("clear text", case, folder)),
            "HTTPS": stack.enter_context(bimodal("HTTPS", case, folder, "tls")),
            "mTLS": stack.enter_context(bimodal("mTLS", case, folder, "tls", "callers")),
        }
        show_loads([ways["clear text"], ways["HTTPS"]], case, chosen)
        show_lone(ways, case, folder, chosen)


def certify(folder: Path) -> None:
    """Certificates of the server and of a caller, each its own authority."""
    for name in ("server", "caller"):
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(["openssl", "req", "-x509", *CURVE, *NAMES, *files], check=True, capture_output=True)


@contextmanager
def bimodal(name: str, case: Case, folder: Path, *security: str) -> Iterator[Server]:
    """`bimodal serve` with one worker and the exact engine."""
    port = servers.free_port()
    command = [sys.executable, "-m", "bimodal", "serve", str(case.model), "--port", str(port), "--runtime", "exact"]
    if "tls" in security:
        command += ["--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key")]
    if "callers" in security:
        command += ["--tls-client-ca", str(folder / "caller.pem")]
    context = trust(folder) if security else None
    watch = partial(answered, case, context)
    url = f"http{'s' if security else ''}://localhost:{port}/predict"
    with servers.running(name, command, url, environment=ONE_THREAD, watch=watch) as server:
        yield server


def trust(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "server.pem")
    context.load_cert_chain(folder / "caller.pem", folder / "caller.key")
    return context


def answered(case: Case, context: ssl.SSLContext | None, url: str) -> None:
    with urlopen(Request(url, case.bodies[0], {"content-type": "application/json"}), timeout=30, context=context) as it:
        if not it.read().startswith(b'{"prediction":['):
            raise SystemExit(f"{url} does not predict")


def show_loads(told: Sequence[Server], case: Case, chosen: argparse.Namespace) -> None:
    loads: dict[str, Callable[[Server, int], Measure]] = {
        f"{KEPT} kept": lambda server, seconds: press(server, KEPT, seconds, case.bodies),
        f"{NEW} new": lambda server, seconds: press(server, NEW, seconds, case.bodies, headers={"Connection": "close"}),
    }
    runs: dict[tuple[str, str], list[Seen]] = {}
    for turn in range(chosen.rounds + 1):
        for load, pressed in loads.items():
            for server in told:
                before = processor(server.pid)
                measure = pressed(server, 1 if not turn else chosen.seconds)
                used = (processor(server.pid) - before) / (measure.rate * (chosen.seconds if turn else 1)) * 1e6
                if turn:  # the first is to warm up
                    runs.setdefault((load, server.name), []).append(Seen(measure, used))
    print("| connections | | requests/s | × | p50, ms | p99, ms | CPU, µs | × | refused, broken |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for load in loads:
        base: tuple[float, float] | None = None
        for server in told:
            seen = Measure.middle([each.measure for each in runs[load, server.name]])
            used = median(each.used for each in runs[load, server.name])
            base = base or (seen.rate, used)
            print(
                f"| {load} | {server.name} | {seen.rate:,.0f} | {seen.rate / base[0]:.2f} | {seen.p50:.2f} "
                f"| {seen.p99:.2f} | {used:.1f} | {used / base[1]:.2f} | {seen.refused}, {seen.broken} |",
                flush=True,
            )


def show_lone(ways: dict[str, Server], case: Case, folder: Path, chosen: argparse.Namespace) -> None:
    context = trust(folder)
    kinds = ("kept", "with its connection")
    runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(chosen.rounds):
        for kind in kinds:
            for name, server in ways.items():
                seen = ask(server, case, context if name != "clear text" else None, chosen.asked, fresh=kind != "kept")
                runs.setdefault((kind, name), []).append(seen)
    print("\n| a request | | p50, µs | × | CPU of the server, µs |")
    print("| --- | --- | ---: | ---: | ---: |")
    for kind in kinds:
        base = median(each[0] for each in runs[kind, "clear text"])
        for name in ways:
            p50, used = (median(each[place] for each in runs[kind, name]) for place in (0, 1))
            print(f"| {kind} | {name} | {p50:.0f} | {p50 / base:.2f} | {used:.0f} |", flush=True)


def ask(server: Server, case: Case, context: ssl.SSLContext | None, count: int, *, fresh: bool) -> tuple[float, float]:
    """The median of the requests' microseconds, and the server's processor time for each."""
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    body = case.bodies[0]
    request = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    seen, held = [], None if fresh else connect(port, context)
    before = processor(server.pid)
    for _ in range(count):
        start = perf_counter()
        connection = held or connect(port, context)
        connection.sendall(request)
        if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{server.name} does not answer")
        seen.append(perf_counter() - start)
        if fresh:
            connection.close()
    used = processor(server.pid) - before
    if held is not None:
        held.close()
    return 1e6 * median(seen), 1e6 * used / count


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made if context is None else context.wrap_socket(made, server_hostname="localhost")


if __name__ == "__main__":
    main()
