"""Pinned: damaged packages, opened as a server, its workers and a repository open them.

`python -m tests.formats.pinned KIND COUNT SEED` has `bimodal pack` make a package of a model, then damages one file of
it after the other: each in turn, all at once, or loses one. It prints a line of JSON: how many were refused, by the
file; how many accepted; and what this process did meanwhile that reading a model takes. It has no library in it that
could: where none was imported and no process was started, nothing was parsed.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bimodal
from bimodal import package
from bimodal.errors import BimodalError, PackageDamaged
from bimodal.location import Location
from bimodal.realtime.repository import Repository
from bimodal.realtime.stock import Held
from tests.formats.damage import changed

TRAIN = """
import sys
from pathlib import Path
from tests.formats.mutants import KINDS

name, save = KINDS[sys.argv[1]]
save(Path(sys.argv[2], name))
"""
PARSERS = {  # what a model, its golden rows or its compiled form are read with; NumPy is in all of them
    "pickle", "joblib", "numpy", "sklearn", "skops", "xgboost", "lightgbm", "catboost", "onnx", "onnxruntime",
    "zipfile", "bimodal.golden", "bimodal.compile", "bimodal.runtimes.exact", "bimodal.runtimes.process",
}  # fmt: skip
PROCESSES = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
ALL, LOST = "all files", "a file lost"


class Witness:
    """What this process does that reading a model takes, counted by an audit hook."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in PROCESSES or event == "pickle.find_class":
            self.seen[event] += 1
        elif event == "import" and arguments[0] in PARSERS:
            self.seen[f"import {arguments[0]}"] += 1


def made(kind: str, folder: Path) -> Path:
    """A package, in a repository's folder of one version."""
    subprocess.run([sys.executable, "-c", TRAIN, kind, str(folder)], check=True, stdout=subprocess.DEVNULL)
    (file,) = folder.iterdir()
    place = folder / "models" / "model" / "1"
    place.parent.mkdir(parents=True)
    packing = [sys.executable, "-m", "bimodal", "pack", str(file), "-o", str(place)]
    subprocess.run(packing, check=True, capture_output=True)
    return place


def doors(place: Path) -> dict[str, Callable[[], object]]:
    """All ways in which a package is opened before a model is loaded."""
    whole = Location.find(place).spec()
    (found,) = Repository(place.parents[1]).look()["model"]
    return {
        "open": lambda: package.open(place),
        "server": lambda: Location.find(place),
        "worker": lambda: Location.from_spec(whole),
        "repository": lambda: Held.take(found, {}),
    }


def damage(files: dict[Path, bytes], what: Path | str, chance: random.Random) -> list[Path]:
    """The files that are not as they were."""
    if what == LOST:
        lost = chance.choice(list(files))
        lost.unlink()
        return [lost]
    harmed = list(files) if isinstance(what, str) else [what]
    for each in harmed:
        each.write_bytes(changed(files[each], chance))
    return harmed


def refused(door: Callable[[], object]) -> bool:
    try:
        door()
    except PackageDamaged:
        return True
    except BimodalError as error:  # a repository tells the reason in an error of its own
        return "is not as it was packed" in error.message
    return False


def main() -> None:
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        place = made(kind, Path(folder))
        files = {each: each.read_bytes() for each in sorted(place.rglob("*")) if each.is_file()}
        ways = doors(place)
        harms: list[Path | str] = [*files, ALL, LOST]
        turns = [(what, door) for what in harms for door in ways]
        chance, found = random.Random(seed), Counter[str]()
        witness, start = Witness(), time.monotonic()
        for number in range(count):
            what, door = turns[number % len(turns)]
            harmed = damage(files, what, chance)
            name = what.relative_to(place).as_posix() if isinstance(what, Path) else what
            found[name if refused(ways[door]) else f"ACCEPTED: {name} by {door}"] += 1
            for each in harmed:
                each.write_bytes(files[each])
        seconds = round(time.monotonic() - start)
        seen = dict(witness.seen)
        accepted = [name for name, door in ways.items() if not refused(door)]
        assert accepted == list(ways), "the whole package is refused"
        bimodal.load(place).close()  # the control: a model that is read is seen
        told = {"kind": kind, "count": count, "seconds": seconds, "parsed": seen, "control": dict(witness.seen)}
    print(json.dumps({**told, "refused": found}))


if __name__ == "__main__":
    main()
