"""Damaging: a server's models are replaced by damaged files, one after the other, while callers ask for all of them.

`python -m tests.realtime.damaging --files 1000` starts `bimodal serve` on a repository of bare files, a model of each
kind, and prints a line of JSON: what became of the files, and of the requests. A damaged file that loads all the same
is served, since nothing tells it from a whole one; the whole one is put back at once, and what was asked meanwhile is
counted apart. The processes of models are forked from one that has imported their libraries (tests/nursery.py): a
thousand imports would take most of an hour. `--anew` starts them as a user's are.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bimodal.realtime import processes
from tests.formats.damage import changed
from tests.formats.mutants import KINDS
from tests.nursery import nursery

VALUES = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
PAUSE = 0.05  # seconds between two requests of a caller
PATIENCE = 90.0  # seconds for an answer
LIBRARIES = ("xgboost", "lightgbm", "catboost", "onnxruntime", "skops.io")  # beside scikit-learn
WORKER = b"bimodal.realtime.worker"  # in its command line
LOADING = 60  # seconds in which a model must be loaded: on a busy machine seven at once take a while
RELOADING = 900.0  # seconds for a reload: in each worker a file may hang while it is read, and then when it is tried


def ask(port: int, path: str, body: Any, patience: float = PATIENCE) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


class Caller(threading.Thread):
    """Asks a model, one request after the other. given: (begun, ended, status, the prediction or None)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.given: list[tuple[float, float, int, Any]] = []
        self.over = threading.Event()
        self._model = model

    def run(self) -> None:
        while not self.over.wait(PAUSE):
            begun = time.monotonic()
            try:
                status, told = self._model.ask()
            except OSError:
                status, told = 0, {}
            self.given.append((begun, time.monotonic(), status, told.get("prediction")))


@dataclass
class Model:
    """One of the repository. damaged: from when to when a damaged file of it may have been served. longest: seconds of
    a reload.
    """

    port: int
    name: str
    file: Path
    whole: bytes
    answer: Any = None
    found: Counter[str] = field(default_factory=Counter)
    damaged: list[tuple[float, float]] = field(default_factory=list)
    longest: float = 0.0

    def ask(self) -> tuple[int, Any]:
        return ask(self.port, f"/models/{self.name}/predict", {"input": VALUES})

    def load(self, data: bytes) -> tuple[int, Any]:
        other = self.file.with_name(".new")
        other.write_bytes(data)
        other.rename(self.file)
        begun = time.monotonic()
        answer = ask(self.port, f"/v2/repository/models/{self.name}/load", {}, RELOADING)
        self.longest = max(self.longest, time.monotonic() - begun)
        return answer

    def state(self) -> tuple[str, str]:
        _, index = ask(self.port, "/v2/repository/index", {})
        return next((each["state"], each["reason"]) for each in index if each["name"] == self.name)

    def damage(self, chance: random.Random) -> None:
        begun = time.monotonic()
        status, told = self.load(changed(self.whole, chance))
        if status == 200:
            self.found["loaded"] += 1
            status, told = self.load(self.whole)
            assert status == 200, told
            self.damaged.append((begun, time.monotonic()))
            return
        self.found["refused"] += 1
        state, reason = self.state()
        assert (status, state, bool(reason), bool(told["error"])) == (500, "READY", True, True), (state, reason, told)
        status, told = self.ask()
        assert (status, told["prediction"]) == (200, self.answer), told

    def judge(self, given: Sequence[tuple[float, float, int, Any]]) -> None:
        for begun, ended, status, prediction in given:
            apart = any(begin <= ended and begun <= end for begin, end in self.damaged)
            if status == 200 and prediction == self.answer:
                self.found["answered"] += 1
            elif not apart:
                self.found["FAILED"] += 1
            elif status == 200 and isinstance(prediction, list) and len(prediction) == 1:
                self.found["answered otherwise by a damaged file"] += 1
            else:
                self.found[f"{status} of a damaged file"] += 1


def measure(port: int, files: Mapping[str, Path], minutes: float, most: int, seed: int) -> list[Model]:
    models = [Model(port, name_of(kind), file, file.read_bytes()) for kind, file in files.items()]
    for each in models:
        status, told = each.ask()
        assert status == 200, told
        each.answer = told["prediction"]
    callers = [Caller(each) for each in models]
    for caller in callers:
        caller.start()
    chance, until = random.Random(seed), time.monotonic() + 60 * minutes
    try:
        for each in itertools.islice(itertools.cycle(models), most):
            if time.monotonic() > until:
                break
            each.damage(chance)
    finally:
        for caller in callers:
            caller.over.set()
        for caller in callers:
            caller.join()
    for each, caller in zip(models, callers, strict=True):
        each.judge(caller.given)
    return models


def name_of(kind: str) -> str:
    return kind.replace(" ", "_")


def places(folder: Path, kinds: Sequence[str]) -> dict[str, Path]:
    return {kind: folder / name_of(kind) / "1" / KINDS[kind][0] for kind in kinds}


def run(
    minutes: float, most: int, seed: int, *, workers: int = 2, kinds: Sequence[str] = tuple(KINDS)
) -> dict[str, Any]:
    """All of it. The figures of each model, and whether the processes of the server are those it began with."""
    with tempfile.TemporaryDirectory() as place:
        files = places(Path(place), kinds)
        for kind, file in files.items():
            file.parent.mkdir(parents=True)
            KINDS[kind][1](file)
        command = [sys.executable, "-m", "bimodal", "serve", place, "--port", "0", "--runtime", "native"]
        command += ["--workers", str(workers), "--load-timeout", str(LOADING)]
        with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(b":", 1)[1])
            try:
                before = _alive(server.pid)
                models = measure(port, files, minutes, most, seed)
                lives = all(processes.lives(pid, born) for pid, born in before.items())
            finally:
                server.terminate()
    return {"processes": len(before), "alive": lives, **{each.name: figures(each) for each in models}}


def figures(model: Model) -> dict[str, float]:
    return {**model.found, "longest": round(model.longest, 1)}


def _alive(server: int) -> dict[int, int]:
    """The server and its workers, not the processes of models, which come and go: number and birth of each."""
    inside = [pid for pid in processes.children(server) if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes()]
    found = {pid: processes.usage(pid) for pid in (server, *inside)}
    return {pid: usage.born for pid, usage in found.items() if usage is not None}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="at most")
    parser.add_argument("--files", type=int, default=1000, help="at most")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=36)
    parser.add_argument("--anew", action="store_true", help="the processes of models are started as a user's are")
    told = parser.parse_args(arguments)
    with nullcontext(dict[str, str]()) if told.anew else nursery(*LIBRARIES) as environment:
        os.environ.update(environment)
        begun = time.monotonic()
        found = run(told.minutes, told.files, told.seed, workers=told.workers, kinds=told.kinds)
    print(json.dumps({"seconds": round(time.monotonic() - begun), **found}))


if __name__ == "__main__":
    main()
