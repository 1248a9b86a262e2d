"""What it costs to be seen from outside: the same server without, with an access log, and with traces.

    python tasks.py bench observe                    four rounds of two seconds each
    python tasks.py bench observe --rounds 8 --connections 128
    python tasks.py bench observe --answers        answers alone, without a socket

A compiled linear model, one row a request, wrk on the other core. All servers run at once, idle but for the one that is
asked, and take turns in every round. `×` is the median over the rounds of the throughput over that of the first server
in the same round; µs is the worker's own processor time for each request, its threads among it (the median of the
rounds), and × behind it that of the first server over it: on a machine that others use too, believe this one, and
`--answers` more (processor time, all threads; the best of forty turns, which the ways take one after the other). The
collector of the spans takes what it gets, and reads nothing of it. Needs wrk and taskset.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, process_time
from types import SimpleNamespace
from typing import cast

import uvloop
from opentelemetry.sdk.trace.export import SpanExportResult

from bench import load, models, servers
from bench.load import Measure
from bench.models import Case
from bench.servers import Server
from bimodal.realtime.access import AccessLog
from bimodal.realtime.exchange import Response
from bimodal.realtime.head import parse
from bimodal.realtime.http import Connection
from bimodal.realtime.note import Note
from bimodal.realtime.observer import Observer
from bimodal.realtime.rendering import Rendering
from bimodal.realtime.service import timing
from bimodal.realtime.spans import Exports
from bimodal.realtime.tracing import sampler_of
from bimodal.realtime.transfer import Exchange

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
    options.add_argument("--answers", action="store_true", help="answers alone, without a socket")
    chosen = options.parse_args()
    if chosen.answers:
        with TemporaryDirectory() as held, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(answers(Path(held)))
        return
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


class Discarding:
    """An exporter that takes everything."""

    def export(self, spans: Sequence[object]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


class Routes:
    """One route."""

    mounted = 0

    def template(self, method: str, path: str) -> str:
        return path


class Nowhere:
    """A connection whose answers are thrown away."""

    body = None
    peer = b',"peer":"127.0.0.1"'

    def __init__(self, observer: Observer | None) -> None:
        self.listener = SimpleNamespace(rendering=Rendering(), draining=False, observer=observer, metrics=None)

    def put(self, exchange: Exchange, data: bytes) -> None: ...

    def advance(self) -> None: ...


async def answers(folder: Path) -> None:
    """Microseconds of an answer on its way to the wire, 32 of one call together, without and with what watches it."""

    def made(*, log: bool = False, share: float = 1.0, traced: str = "") -> Observer:
        kept = AccessLog(str(folder / f"{log}{share}{traced}")) if log else None
        spans = Exports(None, {}, lambda exported, dropped: None, Discarding()) if traced else None
        sampler = sampler_of("traceidratio", traced) if traced else None
        return Observer(Routes(), kept, share=share, sampler=sampler, spans=spans)

    ways: dict[str, Observer | None] = {
        "off": None,
        "access log": made(log=True),
        "access log, 10 % of the good answers": made(log=True, share=0.1),
        "traces, 1 %": made(traced="0.01"),
        "traces, 100 %": made(traced="1"),
        "access log, traces of 1 %": made(log=True, traced="0.01"),
    }
    nowhere = {name: Nowhere(observer) for name, observer in ways.items()}
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(40):
        for name, connection in nowhere.items():
            seen[name].append(await spent(connection))
    for name, observer in ways.items():
        print(f"| {name} | {min(seen[name]):.2f} | +{min(seen[name]) - min(seen['off']):.2f} |")
        if observer is not None:
            observer.close()


async def spent(connection: Nowhere, turns: int = 400) -> float:
    """Microseconds of the processor for each answer."""
    head = parse(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n", 100)
    began = process_time()
    for _ in range(turns):
        stages = (1e-5, 1e-5, 1e-4, 1e-4, 1e-5)
        timed = timing(stages)
        headers = (b"x-model", b"linear/123456789abc"), timed
        note = Note("linear", "123456789abc", "", stages, timed[1])
        for _ in range(32):
            exchange = Exchange(cast(Connection, connection), head, False, monotonic())
            exchange(Response(200, b'{"prediction":[1]}', b"application/json", headers, note))
        await asyncio.sleep(0)
    return 1e6 * (process_time() - began) / turns / 32


def counted(server: Server, name: str) -> float:
    """The samples of its /metrics that begin so, together."""
    text = servers.answer(server.url.removesuffix("/predict") + "/metrics").decode()
    return sum([float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)])


if __name__ == "__main__":
    main()
