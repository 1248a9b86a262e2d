"""Servers side by side, each in its own environment: one core for the server, one for the load, one row a request.

    python tasks.py bench peers                              all of them: about eleven minutes
    python tasks.py bench peers --with fastapi,mlserver      these and Bimodal
    python tasks.py bench peers --only mixed --seconds 1     linear or mixed; shorter loads

Environments are made where they are missing, below --environments (~/.cache/bimodal-bench without it): 4 GB for all.
Needs wrk and taskset (Debian: apt-get install wrk). Servers take turns, one at a time; each answers every row, checked
against the library, before and after its load. Bimodal runs first and last: the
ratios are those of its mean.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load, models, rivals, servers
from bench.load import Measure
from bench.models import Case
from bench.rivals import RIVALS, Rival
from bench.servers import Server
from conformance.environment import default_folder

CONNECTIONS = (1, 32, 128)
WARM = 1  # seconds of load before the first figure


@dataclass(frozen=True)
class Figures:
    """What one server did: by the number of connections; or why it did nothing."""

    title: str
    batches: bool
    seen: dict[int, Measure]
    failed: str = ""


def main() -> None:
    options = argparse.ArgumentParser("bench.peers", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--with", dest="chosen", default=",".join(RIVALS), help=f"of {', '.join(RIVALS)}")
    options.add_argument("--only", choices=("linear", "mixed"), action="append")
    options.add_argument("--environments", type=Path, default=default_folder())
    options.add_argument("--seconds", type=int, default=3, help="length of one load")
    asked = options.parse_args()
    unknown = set(asked.chosen.split(",")) - RIVALS.keys()
    if unknown:
        options.error(f"no server is called {', '.join(sorted(unknown))}; known are {', '.join(RIVALS)}")
    chosen = [RIVALS[name] for name in asked.chosen.split(",")]
    for case in (models.linear(), models.mixed()):
        if not asked.only or case.name in asked.only:
            show(case, list(compare(case, chosen, asked)))


def compare(case: Case, chosen: Iterable[Rival], asked: argparse.Namespace) -> Iterable[Figures]:
    """Bimodal, every server without batching and with, Bimodal again."""
    own = rivals.bimodal(case)
    yield measured(own, case, asked, batch=False)
    for rival in chosen:
        yield measured(rival, case, asked, batch=False)
        if rival.batches:
            yield measured(rival, case, asked, batch=True)
    yield measured(own, case, asked, batch=False)


def measured(rival: Rival, case: Case, asked: argparse.Namespace, *, batch: bool) -> Figures:
    """Its answers, its figures, its answers again. A server that cannot is told of in the table."""
    title = f"{rival.title}, batching" if batch else rival.title
    asking = rivals.bodies(rival, case)
    seen: dict[int, Measure] = {}
    print(f"{case.name}: {title}", file=sys.stderr, flush=True)
    try:
        with started(rival, case, asked.environments, batch=batch) as server:
            check(server, asking, case)
            load.press(server, 32, WARM, asking)
            for count in CONNECTIONS:
                seen[count] = load.press(server, count, asked.seconds, asking)
            check(server, asking, case)
        told = "; ".join(f"{count}: {each.rate:,.0f}/s, p50 {each.p50:.2f} ms" for count, each in seen.items())
        print(f"  {told}", file=sys.stderr, flush=True)
    except (SystemExit, OSError) as error:
        print(error, file=sys.stderr)
        return Figures(title, batch, seen, "failed, see above")
    return Figures(title, batch, seen)


def started(rival: Rival, case: Case, folder: Path, *, batch: bool) -> AbstractContextManager[Server]:
    if rival.name == "bimodal":
        return servers.bimodal(rival.title, case.model, body=case.bodies[0], runtime="exact")
    return rivals.serving(rival, case, folder, batch=batch)


def check(server: Server, asking: Iterable[bytes], case: Case) -> None:
    """Every row, once: the label must be the model's own."""
    for body, label in zip(asking, case.labels, strict=True):
        told = label_of(json.loads(servers.answer(server.url, body)))
        if told != [label]:
            raise SystemExit(f"{server.name} answers {told} where the model itself says {[label]}")


def label_of(answer: Any) -> list[Any]:
    """The labels of an answer, in whichever of the known shapes."""
    if isinstance(answer, dict):
        told = (
            answer["outputs"][0]["data"] if "outputs" in answer else answer.get("prediction", answer.get("predictions"))
        )
        return list(told or ())
    return list(answer)


def show(case: Case, figures: list[Figures]) -> None:
    """A table in Markdown; × is Bimodal's requests/s over the server's. Then the goals."""
    own, others = [figures[0], figures[-1]], figures[1:-1]
    print(f"\n{case.name}: {case.model.name}, one row a request\n")
    print("| server | connections | requests/s | Bimodal is × | p50, ms | p99, ms | not 2xx | broken |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in CONNECTIONS:
        rate = mean(own, count)
        for each in (*own, *others):
            seen = each.seen.get(count)
            if each.failed or seen is None:
                print(f"| {each.title} | {count} | {each.failed or 'no figure'} | | | | | |")
                continue
            times = f"{rate / seen.rate:,.1f}" if seen.rate else "-"
            line = f"{seen.rate:,.0f} | {times} | {seen.p50:.2f} | {seen.p99:.2f} | {seen.refused} | {seen.broken}"
            print(f"| {each.title} | {count} | {line} |", flush=True)
    for count in CONNECTIONS:
        print(f"\n{count} connections: {best(own, others, count)}", flush=True)


def mean(own: list[Figures], count: int) -> float:
    """Bimodal's requests/s."""
    rates = [each.seen[count].rate for each in own if count in each.seen]
    return sum(rates) / len(rates) if rates else 0.0


def best(own: list[Figures], others: list[Figures], count: int) -> str:
    """How often the best of the others goes into Bimodal's mean: without batching, and with."""
    rate = mean(own, count)
    told = []
    for batches, words in ((False, "without batching"), (True, "with")):
        able = [each for each in others if each.batches == batches and not each.failed and count in each.seen]
        if able:
            first = max(able, key=lambda each: each.seen[count].rate)
            times = rate / first.seen[count].rate if first.seen[count].rate else math.inf
            told.append(f"{times:,.1f} times the best {words} ({first.title})")
    return "; ".join(told)
