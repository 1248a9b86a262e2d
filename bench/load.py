"""Closed-loop load from one core, by wrk (Debian: apt-get install wrk)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.servers import LOAD_CORE, Server, pinned

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Measure:
    """What one run of the load saw: requests a second, milliseconds, answers that were no 2xx, broken connections."""

    rate: float
    p50: float
    p99: float
    refused: int
    broken: int

    @staticmethod
    def middle(runs: Sequence[Measure]) -> Measure:
        """The median of each figure; refusals and breaks are summed, for one is too many."""
        return Measure(
            median(run.rate for run in runs),
            median(run.p50 for run in runs),
            median(run.p99 for run in runs),
            sum(run.refused for run in runs),
            sum(run.broken for run in runs),
        )


def press(
    server: Server,
    connections: int,
    seconds: float,
    bodies: Sequence[bytes] = (),
    paths: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> Measure:
    """Keep so many connections busy for so long, one request after the other on each. bodies: to POST in turn; paths:
    to GET in turn; without either the server's own. headers: sent with each.
    """
    with TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if bodies:
            listed = Path(folder, "bodies")
            listed.write_bytes(b"\n".join(bodies) + b"\n")
            environment["BODIES"] = str(listed)
        if paths:
            listed = Path(folder, "paths")
            listed.write_text("\n".join(paths) + "\n")
            environment["PATHS"] = str(listed)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
        command += [word for name, value in (headers or {}).items() for word in ("-H", f"{name}: {value}")]
        command.append(server.url)
        done = subprocess.run(
            pinned(command, LOAD_CORE), env=environment, capture_output=True, text=True, check=True, cwd=folder
        )
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    return Measure(seen["requests"] / seen["seconds"], seen["p50"], seen["p99"], seen["refused"], seen["broken"])
