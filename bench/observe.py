"""What it costs to be seen from outside: the same server without, with an access log, and with traces.

    python tasks.py bench observe                    four rounds of two seconds each
    python tasks.py bench observe --rounds 8 --connections 128

A compiled linear model, one row a request, wrk on the other core. All servers run at once, idle but for the one that is
asked, and take turns in every round. `×` is the median over the rounds of the throughput over that of the first server
in the same round; µs is the worker's own processor time for each request, its threads among it (the median of the
rounds), and × behind it that of the first server over it: on a machine that others use too, believe this one. The
collector of the spans takes what it gets, and reads nothing of it. Needs wrk and taskset.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import load, models, servers
from bench.load import Measure
from bench.models import Case
from bench.servers import Server

CPU = "bimodal_process_cpu_seconds_total{"
ASKED = "bimodal_requests_total{"


class Collector(BaseHTTPRequestHandler):
    """Takes spans."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *told: object) -> None:
        """Nothing."""


@contextmanager
def collector() -> Iterator[str]:
    """The address of one that runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=2, help="length of one load")
    options.add_argument("--rounds", type=int, default=4, help="loads of each server, of which the median is shown")
    options.add_argument("--connections", type=int, default=32)
    chosen = options.parse_args()
    case = models.linear()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        address = stack.enter_context(collector())
        ways: dict[str, tuple[list[str], str]] = {
            "off": ([], ""),
            "access log": (["--access-log", str(folder / "all.log")], ""),
            "access log, 10 % of the good answers": (
                ["--access-log", str(folder / "some.log"), "--access-log-sample", "10%"],
                "",
            ),
            "traces, 1 %": (["--traces", address], "0.01"),
            "traces, 100 %": (["--traces", address], "1"),
            "access log, traces of 1 %": (["--access-log", str(folder / "both.log"), "--traces", address], "0.01"),
        }
        rivals = [stack.enter_context(serving(name, case, *way)) for name, way in ways.items()]
        show(rivals, measured(rivals, case.bodies, chosen))
        for each in sorted(folder.iterdir()):
            print(f"{each.name}: {each.stat().st_size / 1e6:.0f} MB")


@contextmanager
def serving(name: str, case: Case, options: Sequence[str], share: str) -> Iterator[Server]:
    """`bimodal serve` with one worker and these options. share: of the requests that are traced."""
    port = servers.free_port()
    command = [sys.executable, "-m", "bimodal", "serve", str(case.model), "--port", str(port), "--runtime", "exact"]
    environment = {**servers.ONE_THREAD, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
    url = f"http://127.0.0.1:{port}/predict"
    with servers.running(name, [*command, *options], url, body=case.bodies[0], environment=environment) as server:
        yield server


Runs = dict[str, list[tuple[Measure, float]]]  # with microseconds of the processor for each request


def measured(rivals: Sequence[Server], bodies: Sequence[bytes], chosen: argparse.Namespace) -> Runs:
    """Each server's loads, round by round."""
    for each in rivals:
        load.press(each, chosen.connections, 1, bodies)
    runs: Runs = {each.name: [] for each in rivals}
    for turn in range(chosen.rounds):
        for each in rivals[:: 1 if turn % 2 else -1]:
            before = counted(each, CPU), counted(each, ASKED)
            seen = load.press(each, chosen.connections, chosen.seconds, bodies)
            spent, asked = counted(each, CPU) - before[0], counted(each, ASKED) - before[1]
            runs[each.name].append((seen, 1e6 * spent / asked))
    return runs


def show(rivals: Sequence[Server], runs: Runs) -> None:
    print("| | requests/s | × | µs | × | p99, ms | not 2xx | lines dropped | spans exported | dropped |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    first = runs[rivals[0].name]
    for each in rivals:
        mine, middle = runs[each.name], Measure.middle([seen for seen, _ in runs[each.name]])
        ratio = median([run.rate / base.rate for (run, _), (base, _) in zip(mine, first, strict=True)])
        spent = median([micros for _, micros in mine])
        less = median([micros for _, micros in first]) / spent
        names = ("access_log_dropped", "spans_exported", "spans_dropped")
        counts = [counted(each, f"bimodal_{name}_total ") for name in names]
        told = " | ".join([f"{count:,.0f}" for count in counts])
        cells = f"{middle.rate:,.0f} | {ratio:.3f} | {spent:.1f} | {less:.3f} | {middle.p99:.2f} | {middle.refused}"
        print(f"| {each.name} | {cells} | {told} |")


def counted(server: Server, name: str) -> float:
    """The samples of its /metrics that begin so, together."""
    text = servers.answer(server.url.removesuffix("/predict") + "/metrics").decode()
    return sum([float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)])


if __name__ == "__main__":
    main()
