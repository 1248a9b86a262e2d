"""Open and closed loops of requests over HTTP/1.1, or of unary gRPC calls (`grpc://`), from a process of their own.

An open loop sends a request when it is due, whatever became of those before, and measures from that moment (no
coordinated omission): what waits for a connection, or for the generator itself, counts. `Outcome.lag` tells how late
the generator was, so that a busy machine is not taken for a slow server.

    outcome = Load(f"{server.url}/predict", 300, 5.0, [body], deadline_ms=500).run()
    with Load(url, 100, 10, bodies).begin() as running: ...; outcome = running.finish()
    together(Load(…), Load(f"{server.url}/health/live", 10, 5.0, even=True))   # side by side in one process
    peak(url, 16, 3.0, [body]).rate
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 10.0  # seconds: the server's own, where a request names none
PATIENCE = 1.0  # seconds after the deadline until a request counts as hanging
CONNECTIONS = 4000  # at most; what is due beyond waits for a free one, and its time counts

STAMP = b"@" * 18  # in a body: the moment of the deadline of its request, on the monotonic clock, as a number

RESET, HUNG, UNCONNECTED = 0, -1, -2  # in the place of a status: broken off, no answer in time, nobody there

Check = Callable[[int, bytes], bool]  # the number of the body that was sent, the body of the answer


class Record(NamedTuple):
    """One request. due: seconds since the beginning; lag: seconds until it was sent; latency: seconds from due to its
    answer. status: of HTTP, or RESET, HUNG, UNCONNECTED. body: the number of the one sent.
    """

    due: float
    lag: float
    latency: float
    status: int
    body: int


@dataclass
class Outcome:
    """What one load saw. began: on the monotonic clock. wrong: good answers that were not the expected ones; bare: 429
    and 503 without Retry-After; connections: that were opened.
    """

    seconds: float
    began: float = 0.0
    records: list[Record] = field(default_factory=list)
    wrong: int = 0
    bare: int = 0
    connections: int = 0

    @property
    def sent(self) -> int:
        return len(self.records)

    @cached_property
    def statuses(self) -> Counter[int]:
        return Counter([each.status for each in self.records])

    @property
    def resets(self) -> int:
        return self.statuses[RESET]

    @property
    def hangs(self) -> int:
        return self.statuses[HUNG]

    @property
    def unconnected(self) -> int:
        return self.statuses[UNCONNECTED]

    @cached_property
    def latencies(self) -> dict[int, list[float]]:
        """Seconds from due to answer, by status, sorted."""
        found: dict[int, list[float]] = {}
        for each in self.records:
            found.setdefault(each.status, []).append(each.latency)
        return {status: sorted(values) for status, values in found.items()}

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.statuses[200] - self.wrong) / self.seconds

    @property
    def lag(self) -> float:
        """The 99th percentile of the generator's own delay, in seconds."""
        return percentile(sorted([each.lag for each in self.records]), 99)

    def p(self, percent: float, *statuses: int) -> float:
        """Seconds within which so many of the answers with these statuses came; nan without any."""
        if len(statuses) == 1:
            return percentile(self.latencies.get(statuses[0], []), percent)
        return percentile(sorted(s for status in statuses for s in self.latencies.get(status, [])), percent)

    def own(self, percent: float, *statuses: int) -> float:
        """The same from when a request was sent: without the lag, which is long where others have the core."""
        return percentile(
            sorted([each.latency - each.lag for each in self.records if each.status in statuses]), percent
        )

    def between(self, start: float, stop: float) -> Outcome:
        """The part that was due then."""
        return Outcome(stop - start, self.began + start, [each for each in self.records if start <= each.due < stop])

    def told(self) -> str:
        lines = [f"{self.sent} sent in {self.seconds:g} s, {self.rate:.1f}/s good, lag p99 {self.lag * 1e3:.1f} ms"]
        for status, count in sorted(self.statuses.items()):
            lines.append(
                f"  {status}: {count}, p50 {self.p(50, status) * 1e3:.1f} p99 {self.p(99, status) * 1e3:.1f} ms"
            )
        return "\n".join([*lines, f"  {self.wrong} wrong, {self.bare} refusals without Retry-After"])


def percentile(values: Sequence[float], percent: float) -> float:
    """Of sorted values: the smallest that so many do not exceed."""
    return values[max(0, ceil(len(values) * percent / 100) - 1)] if values else float("nan")


@dataclass(frozen=True)
class Load:
    """Requests to one address.

    rate: a second, on average, at random moments (evenly with `even`). bodies: to POST in turn; none: GET. expected:
    what the body of a good answer holds (one for all, or one a body), or a function of a module that judges it.
    deadline_ms: sent as X-Request-Timeout-Ms. then: more (rate, seconds), one after the other. connections: of a closed
    loop, which knows no rate. core: that the generator is bound to.
    """

    url: str
    rate: float
    seconds: float
    bodies: Sequence[bytes] = ()
    deadline_ms: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    expected: bytes | Sequence[bytes] | Check | None = None
    then: Sequence[tuple[float, float]] = ()
    even: bool = False
    connections: int = 0
    most: int = CONNECTIONS
    core: int | None = None
    seed: int = 1

    def run(self) -> Outcome:
        """To the end."""
        return together(self)[0]

    def begin(self) -> Running:
        """Let it run while something else is done; use it in a `with`."""
        return Running([self])

    @property
    def whole(self) -> float:
        """Seconds from its first request to its last."""
        return self.seconds + sum(seconds for _, seconds in self.then)

    def stamped(self, request: bytes, sent: float) -> bytes:
        """With the moment of its deadline, where it wants one."""
        return request.replace(STAMP, b"%18.6f" % (sent + (self.deadline_ms or 0.0) / 1e3)) if self.stamps else request

    @property
    def stamps(self) -> bool:
        return any(STAMP in body for body in self.bodies)

    @property
    def patience(self) -> float:
        return (self.deadline_ms / 1e3 if self.deadline_ms else DEADLINE) + PATIENCE

    def dues(self) -> list[float]:
        """When the requests are due, in seconds since the beginning."""
        chance, found, start = random.Random(self.seed), [], 0.0
        for rate, seconds in ((self.rate, self.seconds), *self.then):
            due = start + (0.0 if self.even else chance.expovariate(rate))
            while due < start + seconds:
                found.append(due)
                due += 1 / rate if self.even else chance.expovariate(rate)
            start += seconds
        return found

    def requests(self) -> list[bytes]:
        """What is sent, in turn."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"host": parts.netloc, **({"content-type": "application/json"} if self.bodies else {})}
        if self.deadline_ms is not None:
            fields["x-request-timeout-ms"] = f"{self.deadline_ms:g}"
        fields |= {name.lower(): value for name, value in self.headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if not self.bodies:
            return [f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()]
        post = f"POST {path} HTTP/1.1\r\n{head}content-length: "
        return [f"{post}{len(body)}\r\n\r\n".encode() + body for body in self.bodies]


def together(*loads: Load) -> list[Outcome]:
    """Loads side by side from one process."""
    with Running(loads) as running:
        return running.finish_all()


def peak(
    url: str,
    connections: int,
    seconds: float,
    bodies: Sequence[bytes] = (),
    **options: Any,
) -> Outcome:
    """A closed loop: so many connections, on each one request after the other. Options: of Load."""
    return Load(url, 0.0, seconds, bodies, connections=connections, **options).run()


class Died(Exception):
    """The generator ended without figures; its words are what it wrote to standard error."""


class Running:
    """Loads in a process of their own, which begins as soon as it can. Raises Died."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self._loads = loads
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "tests.fire.generator"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed where its process is
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=ROOT, env=environment
        )
        assert self.process.stdin is not None
        pickle.dump(list(loads), self.process.stdin)
        self.process.stdin.close()
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"began\n":
            raise self._died()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def finish(self) -> Outcome:
        """Wait for its end."""
        return self.finish_all()[0]

    def finish_all(self) -> list[Outcome]:
        assert self.process.stdout is not None
        told = self.process.stdout.read()
        if self.process.wait(60):
            raise self._died()
        sys.stderr.write(self._said())
        return cast(list[Outcome], pickle.loads(told))

    def _died(self) -> Died:
        return Died(f"the generator of load ended with status {self.process.wait(60)}:\n{self._said()}")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")
