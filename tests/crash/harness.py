"""Harness: a small run, made to fail at any call or moment, run again, and compared with one that nothing disturbed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
from sklearn.linear_model import LogisticRegression

from tests.crash.orders import Orders

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TRIALS = int(os.environ.get("BIMODAL_TEST_TRIALS", "1000"))  # of the long form of what is random
CHUNKS, ROWS = 12, 20  # a chunk never spans two files: small files are small chunks
BAD = (5, 77, 200)  # rows without a value that the model needs
KILLS = ("before", "after", "half")  # of a call
VOLATILE = {
    "run", "seconds", "stages", "memory", "rate", "started", "finished", "host", "output_file", "workers", "resumed",
    "status", "process",
}  # fmt: skip
MEMORY = Path("/dev/shm")  # a file system in memory: a thousand trials would wait for a real disk's fsync


def build(folder: Path) -> Path:
    """The shim, compiled."""
    library = folder / "shim.so"
    words = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(HERE / "shim.c")]
    subprocess.run(words, check=True)
    return library


def room() -> Path:
    """A new folder, in memory where that is possible."""
    return Path(tempfile.mkdtemp(prefix="bimodal-crash-", dir=MEMORY if MEMORY.is_dir() else None))


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), what it printed, how long it took."""

    code: int
    told: str
    seconds: float
    events: str = ""

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Running:
    """A command that the zygote has started."""

    def __init__(self, zygote: Zygote, process: int, out: Path, err: Path) -> None:
        self._zygote, self.process, self._out, self._err = zygote, process, out, err
        self._since = time.monotonic()

    def send(self, number: int) -> None:
        """A signal; a process that has ended meanwhile gets none."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, number)

    @property
    def told(self) -> str:
        """What it printed as errors and notes so far."""
        return self._err.read_text()

    def until_stopped(self) -> None:
        """Wait until a SIGSTOP has come through."""
        self._until(lambda: Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()[0] == "T")

    def until_told(self, word: str) -> None:
        self._until(lambda: word in self.told)

    def _until(self, true: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not true():
            assert time.monotonic() < until, self.told
            time.sleep(0.01)

    def wait(self) -> Ended:
        code = self._zygote.tell({"wait": self.process})
        return Ended(code, self.told, time.monotonic() - self._since, self._out.read_text())


class Zygote:
    """Starts commands at the cost of a fork, with the shim loaded."""

    def __init__(self, shim: Path, place: Path, environment: Mapping[str, str]) -> None:
        self._place, self._started = place, 0
        self.orders = Orders(place / "orders")
        variables = {
            **os.environ, **environment, "LD_PRELOAD": str(shim), "BIMODAL_SHIM": str(place / "orders"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote", str(place / "modules")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )

    def tell(self, told: Mapping[str, Any]) -> int:
        """A line to the zygote, and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        line = self._process.stdout.readline()
        assert line, f"the zygote ended: {self._process.poll()}"
        return int(line)

    def start(self, words: Sequence[str], folder: Path) -> Running:
        self._started += 1
        out, err = (self._place / f"{name}-{self._started % 4}" for name in ("out", "err"))
        process = self.tell({"words": [*words], "folder": str(folder), "out": str(out), "err": str(err)})
        return Running(self, process, out, err)

    def run(self, words: Sequence[str], folder: Path) -> Ended:
        return self.start(words, folder).wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


# -- what is predicted ------------------------------------------------------------------------------------------------


def rows(count: int = CHUNKS * ROWS, *, bad: Sequence[int] = BAD) -> pd.DataFrame:
    """An id, two features, a note of every kind of text; the rows in `bad` lack a feature."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame({"id": np.arange(count), "a": random.normal(size=count), "b": random.normal(size=count)})
    notes = ["plain", "a, b", 'say "hi"', "two\nlines", "naïve ☕", ""]
    frame["note"] = [notes[place % len(notes)] for place in range(count)]
    frame.loc[list(bad), "a"] = np.nan
    return frame


def save_model(path: Path, *, turned: bool = False) -> Path:
    """A model of two features. turned: with other answers."""
    frame = rows(bad=())
    label = np.where((frame["a"] + frame["b"] > 0) ^ turned, "yes", "no")
    joblib.dump(LogisticRegression().fit(frame[["a", "b"]], label), path)
    return path


def save_parts(folder: Path, frame: pd.DataFrame | None = None, *, chunks: int = CHUNKS) -> Path:
    """The rows as a folder of small files, each a chunk of its own."""
    frame = rows() if frame is None else frame
    folder.mkdir(parents=True)
    size = len(frame) // chunks
    for number in range(chunks):
        part = pa.Table.from_pandas(frame.iloc[number * size : (number + 1) * size], preserve_index=False)
        arrow_parquet.write_table(part, folder / f"part-{number:02}.parquet")
    return folder


# -- what comes out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a run leaves, without what differs from run to run: digests, the record, and the names in the folder."""

    output: str
    rejects: str
    record: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def differs(self, other: Outcome) -> str:
        """What is not as it is in the other, for the message of a failed check."""
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in ("output", "rejects", "names")]
        pairs += [(name, self.record.get(name), other.record.get(name)) for name in {**self.record, **other.record}]
        return "; ".join(f"{name}: {mine} instead of {its}" for name, mine, its in pairs if mine != its)


def digest(path: Path) -> str:
    """Of a file's bytes, or of all files of a folder with their names; empty where nothing stands."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.is_dir():
        return ""
    names = sorted(each for each in path.rglob("*") if each.is_file())
    return hashlib.sha256(b"".join(f"{each.relative_to(path)} {digest(each)}\n".encode() for each in names)).hexdigest()


class Place:
    """An output that is a file, or a folder of parts."""

    def __init__(self, name: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.name, self.words, self.environment = name, ("-o", name, *words), environment or {}
        self.stem = name.rstrip("/")

    def prepare(self, folder: Path) -> None:
        """Before a trial."""

    def outcome(self, folder: Path) -> Outcome:
        return Outcome(
            digest(folder / self.stem),
            digest(folder / f"{self.stem}.rejects.jsonl"),
            stable(folder / f"{self.stem}.run.json"),
            tuple(sorted(each.name for each in folder.iterdir())),
        )

    def published(self, folder: Path) -> str | None:
        """What a reader sees: the digest of the output, None where there is none."""
        return digest(folder / self.stem) or None


def stable(path: Path) -> dict[str, Any]:
    """A run record without its times and its run."""
    if not path.exists():
        return {}
    told = json.loads(path.read_text())
    return {name: value for name, value in told.items() if name not in VOLATILE}


class Bench:
    """A command, its reference, and trials of it. One folder, emptied before each trial."""

    def __init__(self, zygote: Zygote, place: Place, words: Sequence[str], home: Path) -> None:
        self.zygote, self.place, self.home = zygote, place, home
        self.words = ["predict", *words, *place.words]
        self.folder = home / "trial"
        self.earlier: dict[str, bytes] = {}
        self.fresh()
        ended = self.run()
        assert ended.code == 0, ended.told
        self.calls, self.seconds = self.zygote.orders["count"], ended.seconds
        self.reference = place.outcome(self.folder)
        self.marked = place.published(self.folder)

    def fresh(self) -> None:
        """An empty folder, or one with an earlier output."""
        self.zygote.orders.rest()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.place.prepare(self.folder)
        for name, data in self.earlier.items():
            (self.folder / name).write_bytes(data)

    def run(self, *more: str, words: Sequence[str] | None = None, **orders: Any) -> Ended:
        """The command, with these orders for the shim."""
        return self.start(*more, words=words, **orders).wait()

    def start(self, *more: str, words: Sequence[str] | None = None, **orders: Any) -> Running:
        self.zygote.orders.give(self.folder, **orders)
        return self.zygote.start([*(words or self.words), *more], self.folder)

    def finish(self, *more: str) -> Ended:
        """The same command again, undisturbed: it ends well, with what it would have been all along."""
        ended = self.run(*more)
        assert ended.code == 0, f"the resume failed: {ended.told}"
        self.check()
        return ended

    def check(self) -> None:
        found = self.place.outcome(self.folder)
        assert found == self.reference, found.differs(self.reference)

    def whole_or_none(self) -> bool:
        """What a reader finds is the whole output, or what was there before; whether it is the new one."""
        now = self.place.published(self.folder)
        before = hashlib.sha256(self.earlier[self.place.stem]).hexdigest() if self.earlier else None
        assert now in (self.marked, before), "a reader would find half an output"
        return now == self.marked


def disturb(bench: Bench, chance: random.Random, faults: Sequence[str] = KILLS, **orders: Any) -> bool:
    """A run that is killed at a call or at a moment; whether it was before its end."""
    if chance.random() < 0.5:
        ended = bench.run(at=chance.randint(1, bench.calls), fault=chance.choice(faults), **orders)
    else:
        running = bench.start(**orders)
        time.sleep(chance.uniform(0, bench.seconds))
        running.send(signal.SIGKILL)
        ended = running.wait()
    assert ended.killed or ended.code == 0, ended.told
    bench.whole_or_none()
    return ended.killed


def environment_of(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A cache and a history of its own."""
    return {"BIMODAL_CACHE": str(home / "cache"), "BIMODAL_STATE": str(home / "state"), **(more or {})}


def told(sentence: str) -> None:
    """A figure for docs/reliability.md, seen with `-s`."""
    print(f"\n  {sentence}", flush=True)


def calls_of(bench: Bench, points: int | None) -> Iterator[int]:
    """Calls to try: so many, spread over a run; without a number all there are and beyond, until the caller stops."""
    if points is None:
        yield from itertools.count(1)
    else:
        yield from sorted({1 + bench.calls * place // points for place in range(points)})


@contextlib.contextmanager
def workshop(environment: Mapping[str, str] | None = None) -> Iterator[tuple[Path, Zygote]]:
    """A room, and a zygote in it."""
    home = room()
    zygote = None
    try:
        (home / "control").mkdir()
        zygote = Zygote(build(home), home / "control", environment_of(home, environment))
        yield home, zygote
    finally:
        if zygote is not None:
            zygote.close()
        shutil.rmtree(home, ignore_errors=True)
