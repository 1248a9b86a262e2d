"""The start, in seconds: `bimodal serve` to its first answer, `import bimodal`.

    python tasks.py bench start [--rounds 5]

Byte code is compiled before, as it is after the first start. The Flask script of bench/peers stands beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from compileall import compile_dir
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench import models, servers
from bench.servers import Server


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    package = find_spec("bimodal")
    if package is None or package.origin is None:
        raise SystemExit("bimodal is not installed: pip install -e .")
    compile_dir(Path(package.origin).parent, quiet=2)
    case = models.linear()
    starts: dict[str, Callable[[], AbstractContextManager[Server]]] = {
        "Flask script": lambda: servers.flask("flask_linear", case.model, case.bodies[0]),
        "bimodal serve, native": lambda: servers.bimodal("native", case.model, body=case.bodies[0]),
    }
    if case.onnx:
        onnx = case.onnx
        starts["bimodal serve, ONNX"] = lambda: servers.bimodal("onnx", onnx, body=case.bodies[0])
    print("| from start to | seconds |\n| --- | ---: |")
    for name, start in starts.items():
        print(f"| first answer, {name} | {median(first_answer(start) for _ in range(rounds)):.2f} |", flush=True)
    bare = median(python("pass") for _ in range(rounds))
    imported = median(python("import bimodal") for _ in range(rounds))
    print(f"| end of `import bimodal`, Python itself left out | {imported - bare:.3f} |")


def first_answer(start: Callable[[], AbstractContextManager[Server]]) -> float:
    """Seconds until the first prediction came back, asked for every 50 ms."""
    began = time.perf_counter()
    with start():
        return time.perf_counter() - began


def python(code: str) -> float:
    """Seconds that Python needs for some code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
