"""A compiled package without the training library: installed size, start to the first answer, memory of a worker.

    python tasks.py bench package [--rounds 5]

A fresh virtual environment gets Bimodal with its plain dependencies, none of the libraries that train models. There the
package of the mixed pipeline (five numbers, four texts, a linear model) serves. Times are those of a machine with
nothing else to do; `CPU` is what parent and worker used together until the first answer, whatever else ran (Linux).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import bimodal
from bench import models, servers

ROOT = Path(__file__).resolve().parent.parent
LOOK = 0.01  # seconds between two looks whether the server answers
ASKED = 500  # requests before the memory is read
TOOLS = ("pip", "setuptools", "wheel")  # what every virtual environment may have
SIZES = """
import json, importlib.metadata as metadata
sizes = {}
for each in metadata.distributions():
    places = {each.locate_file(file) for file in each.files or ()}
    sizes[each.name] = sum(place.stat().st_size for place in places if place.is_file())
print(json.dumps(sizes))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    case = models.mixed()
    with tempfile.TemporaryDirectory(prefix="bimodal-bench-") as folder:
        python = environment(Path(folder))
        package = bimodal.pack(case.model, Path(folder, "mixed.bimodal"), runtime="exact")
        print("| installed | MB |\n| --- | ---: |")
        for name, size in installed(python).most_common():
            print(f"| {name} | {size / 1e6:.1f} |")
        report("the plain dependencies", python, package, case, rounds)
        subprocess.run([python, "-m", "pip", "install", "-q", "pyarrow"], check=True, stderr=subprocess.DEVNULL)
        report("with the extra `batch`", python, package, case, rounds)


def report(title: str, python: Path, package: Path, case: models.Case, rounds: int) -> None:
    sizes = installed(python)
    starts, burnt, memories = [], [], []
    for _ in range(rounds):
        with serving(python, package, case.bodies[0]) as (seconds, process, url):
            burnt.append(sum(used(each) for each in (process.pid, *children(process.pid))))
            for number in range(ASKED):
                place = number % len(case.bodies)
                answer = json.loads(servers.answer(url, case.bodies[place]))
                assert answer == {"prediction": [case.labels[place]]}, answer
            starts.append(seconds)
            memories.append(worker_memory(process.pid))
    print(f"\n| a compiled package, {title} | |\n| --- | ---: |")
    print(f"| installed, MB | {sum(sizes.values()) / 1e6:.0f} |")
    print(f"| process start to the first answer, s (median of {rounds}) | {median(starts):.2f} |")
    print(f"| CPU until then, parent and worker, s (median, least) | {median(burnt):.2f}, {min(burnt):.2f} |")
    print(f"| worker, proportional set size after {ASKED} requests, MB | {median(memories) / 1e6:.0f} |", flush=True)


def environment(folder: Path, *extra: str) -> Path:
    """A new virtual environment with Bimodal of this checkout; the path of its Python."""
    source = folder / "source"
    listed = ["git", "ls-files", "-co", "--exclude-standard", "src", "pyproject.toml", "README.md", "LICENSE"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", source, *extra], check=True, stderr=subprocess.DEVNULL)
    return python


def installed(python: Path) -> Counter[str]:
    """Bytes of every distribution, the installer's own left out."""
    told = subprocess.run([python, "-c", SIZES], capture_output=True, text=True, check=True).stdout
    return Counter({name: size for name, size in json.loads(told).items() if name.lower() not in TOOLS})


@contextmanager
def serving(python: Path, package: Path, body: bytes) -> Iterator[tuple[float, Any, str]]:
    """A server of the package: seconds until its first answer, its process, its address."""
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}/predict"
    began = time.perf_counter()
    process = subprocess.Popen(
        [python, "-m", "bimodal", "serve", package, "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                servers.answer(url, body)
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("the server ended before its first answer") from None
                time.sleep(LOOK)
        yield time.perf_counter() - began, process, url
    finally:
        process.terminate()
        process.wait()


def worker_memory(parent: int) -> int:
    """Bytes of the largest child's proportional set size: the worker that answers."""
    return max(proportional(each) for each in children(parent))


def children(parent: int) -> list[int]:
    lists = Path(f"/proc/{parent}/task").glob("*/children")  # each thread's own
    return [int(child) for each in lists for child in each.read_text().split()]


def used(process: int) -> float:
    """Seconds of CPU that the process's threads have used."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def proportional(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
