"""The prediction store: a million keys looked up in process, over HTTP beside the empty route, while editions flip.

    python tasks.py bench lookup                   everything, three rounds of four seconds each
    python tasks.py bench lookup --keys 100000 --seconds 1 --rounds 1

Needs wrk and taskset, as `bench realtime`. SQLite (the standard library's, a table WITHOUT ROWID, read-only, its pages
mapped into memory) stands beside the file of our own. In process the figure is the time of one look from Python; over
HTTP the empty route and the lookups are those of one server with one worker, which take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import bimodal
from bench import load, memory, models, servers
from bench.load import Measure
from bench.servers import Server
from bimodal.client import Client
from bimodal.predictions.contract import Edition
from bimodal.predictions.embedded import EmbeddedReader
from bimodal.predictions.embedded_writer import EmbeddedWriter

PIECE = 50_000
CONNECTIONS = (32, 128)
OUTPUTS = ("prediction", "probability")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--keys", type=int, default=1_000_000)
    options.add_argument("--seconds", type=int, default=4, help="length of one load")
    options.add_argument("--rounds", type=int, default=3, help="loads for each figure, of which the median is shown")
    chosen = options.parse_args()
    with TemporaryDirectory(prefix="bimodal-lookup-") as folder:
        compare_stores(Path(folder), chosen.keys)
        measure_server(Path(folder), chosen)


# -- in process -------------------------------------------------------------------------------------------------------


def body(key: int, run: str) -> bytes:
    return b'"prediction":"%b","probability":[%.17g,%.17g]' % (run.encode(), key / 1e7, 1 - key / 1e7)


def fill(folder: Path, count: int, run: str, digest: str = "d") -> float:
    """Seconds to build an edition; the bodies are made before."""
    writer = EmbeddedWriter(folder, Edition(0, "job", run, "linear/1", digest, 0.0, "int", OUTPUTS, True, 0))
    took = 0.0
    for start in range(0, count, PIECE):
        keys = list(range(start, min(start + PIECE, count)))
        bodies = [body(key, run) for key in keys]
        began = time.perf_counter()
        writer.add(keys, bodies, keys)
        took += time.perf_counter() - began
    began = time.perf_counter()
    writer.commit(time.time())
    return took + time.perf_counter() - began


def fill_sqlite(path: Path, count: int) -> float:
    took = 0.0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE results (key INTEGER PRIMARY KEY, mark INTEGER, body BLOB) WITHOUT ROWID")
        for start in range(0, count, PIECE):
            rows = [(key, key, body(key, "r1")) for key in range(start, min(start + PIECE, count))]
            began = time.perf_counter()
            connection.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
            connection.commit()
            took += time.perf_counter() - began
    return took


def compare_stores(folder: Path, count: int) -> None:
    builds = [fill(folder / "own", count, "r1"), fill_sqlite(folder / "results.db", count)]
    reader = EmbeddedReader(folder / "own")
    connection = sqlite3.connect(f"file:{folder / 'results.db'}?mode=ro", uri=True)
    connection.execute(f"PRAGMA mmap_size = {1 << 32}")
    find = connection.cursor()

    def own(key: int) -> object:
        return reader.look((key,))[1][0]

    def table(key: int) -> object:
        return find.execute("SELECT body, mark FROM results WHERE key = ?", (key,)).fetchone()

    draw = random.Random(1)
    present = [draw.randrange(count) for _ in range(50_000)]
    assert all(own(key).body == table(key)[0] for key in present[:1000])  # type: ignore[attr-defined,index] # found
    times: dict[str, list[float]] = {}
    for _ in range(5):
        for name, look in (("own", own), ("table", table)):
            times.setdefault(name, []).append(_each(look, present))
            times.setdefault(f"{name}, absent", []).append(_each(look, [count + key for key in present]))
    sizes = [sum(each.stat().st_size for each in (folder / "own").iterdir()), (folder / "results.db").stat().st_size]
    print(f"\n{count:,} keys in process\n\n| | one key, µs | an absent one, µs | built in, s | size, MB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, store, built, size in zip(("mapped file", "SQLite"), ("own", "table"), builds, sizes, strict=True):
        one, absent = (median(times[each]) * 1e6 for each in (store, f"{store}, absent"))
        print(f"| {name} | {one:.2f} | {absent:.2f} | {built:.2f} | {size / 1e6:.0f} |", flush=True)
    reader.close()
    connection.close()


def _each(look: Callable[[int], object], keys: list[int]) -> float:
    began = time.perf_counter()
    for key in keys:
        look(key)
    return (time.perf_counter() - began) / len(keys)


# -- over HTTP --------------------------------------------------------------------------------------------------------

SERVE = """
import os, sys
from pathlib import Path
from bimodal.config.tables import StoreTable
from bimodal.realtime.serving import serve, store
model, folder, port, note = sys.argv[1:]
Path(note).write_text(str(os.getpid()))
stores = {"linear": store(StoreTable("job", "id"), folder)} if folder else {}
serve(model, port=int(port), workers=1, runtime="native", stores=stores).wait()
"""


@contextmanager
def served(folder: str, note: Path) -> Iterator[Server]:
    """note: where the server's process writes its id."""
    port = servers.free_port()
    command = [sys.executable, "-c", SERVE, str(models.linear().model), folder, str(port), str(note)]
    with servers.running("Bimodal", command, f"http://127.0.0.1:{port}/health/live") as server:
        yield server


def measure_server(folder: Path, chosen: argparse.Namespace) -> None:
    with bimodal.load(models.linear().model, runtime="native", background=False) as model:
        digest = model.digest
    fill(folder / "linear", chosen.keys, "r1", digest)
    notes = [folder / "bare", folder / "full"]
    draw = random.Random(2)
    keys = [draw.randrange(chosen.keys) for _ in range(2000)]
    with served("", notes[0]), served(str(folder / "linear"), notes[1]) as server:
        root = server.url.removesuffix("/health/live")
        post = Server("POST /models/linear/lookup", f"{root}/models/linear/lookup")
        get = Server("GET /models/linear/lookup/KEY", f"{root}/models/linear/lookup/{keys[0]}")
        paths = [f"/models/linear/lookup/{key}" for key in keys]
        empty = Server("empty route", server.url)
        bodies = [b'{"key":%d}' % key for key in keys]
        assert json.loads(servers.answer(get.url))["source"] == "batch"
        everything(root, chosen.keys)
        results: dict[tuple[str, int], list[Measure]] = {}
        costs: dict[tuple[str, int], list[float]] = {}
        for _ in range(chosen.rounds):
            for count in CONNECTIONS:
                for each, sent, asked in ((empty, (), ()), (get, (), paths), (post, bodies, ())):
                    before = processor(int(notes[1].read_text()))
                    seen = load.press(each, count, chosen.seconds, sent, asked)
                    used = processor(int(notes[1].read_text())) - before
                    results.setdefault((each.name, count), []).append(seen)
                    costs.setdefault((each.name, count), []).append(used / (seen.rate * chosen.seconds))
        show(results, costs)
        sizes = [memory.proportional_size(int(each.read_text())) / 1e6 for each in notes]
        print(
            f"\nmemory of the server after every key was asked for: {sizes[1]:.0f} MB; without a store {sizes[0]:.0f}"
        )
        flips(folder / "linear", root, chosen, (keys, digest))


def everything(root: str, count: int) -> None:
    """Ask for every key, so that all pages are there."""
    with Client(root) as client:
        for start in range(0, count, 5000):
            client.lookup(list(range(start, min(start + 5000, count))))


def processor(session: int) -> float:
    """Seconds of all cores that the processes of a session have used: what a busy machine disturbs least."""
    ticks = 0
    for process in memory.family(session):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def show(results: dict[tuple[str, int], list[Measure]], costs: dict[tuple[str, int], list[float]]) -> None:
    """× is of requests a second, × CPU the empty route's processor time a request over this one's."""
    print("\none worker\n\n| route | connections | requests/s | × | CPU, µs | × CPU | p50, ms | p99, ms | failed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (name, count), runs in results.items():
        seen = Measure.middle(runs)
        ratio = median(run.rate / base.rate for run, base in zip(runs, results["empty route", count], strict=True))
        cost, empty = median(costs[name, count]), median(costs["empty route", count])
        figures = f"{cost * 1e6:.1f} | {empty / cost:.2f} | {seen.p50:.2f} | {seen.p99:.2f}"
        failed = seen.refused + seen.broken
        print(f"| {name} | {count} | {seen.rate:,.0f} | {ratio:.2f} | {figures} | {failed} |", flush=True)


def flips(folder: Path, root: str, chosen: argparse.Namespace, known: tuple[list[int], str]) -> None:
    """Under load, commit one edition after the other; a client checks each answer's parts against one another."""
    keys, digest = known
    faults, asked, seen = list[object](), 0, set[str]()
    stop = threading.Event()

    def ask() -> None:
        nonlocal asked
        with Client(root) as client:
            while not stop.is_set():
                answers = client.lookup(keys[:50])
                asked += 1
                runs = {each["run"] for each in answers} | {each["prediction"] for each in answers}
                seen.update(runs)
                if len(runs) != 1:
                    faults.append(runs)

    def commit() -> None:
        for number in range(2, 6):
            fill(folder, chosen.keys, f"r{number}", digest)
        stop.set()

    threads = [threading.Thread(target=ask), threading.Thread(target=commit)]
    for each in threads:
        each.start()
    runs: list[Measure] = []
    bodies = [b'{"key":%d}' % key for key in keys]
    while not stop.is_set():
        runs.append(load.press(Server("", f"{root}/models/linear/lookup"), 32, 2, bodies))
    for each in threads:
        each.join()
    told = Measure.middle(runs)
    print(
        f"\n4 flips of {chosen.keys:,} keys under load: {asked:,} answers of 50 keys, {len(faults)} mixed, "
        f"{len(seen)} editions seen; wrk: {told.rate:,.0f}/s, p99 {told.p99:.2f} ms, {told.refused} not 2xx, "
        f"{told.broken} broken"
    )


if __name__ == "__main__":
    main()
