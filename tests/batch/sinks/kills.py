"""A program: runs that are killed at random instants (SIGKILL) and begun again, until enough were.

Arguments: a folder, a format, how many kills, a seed. Prints how many kills it took and how many runs ended; each of
these left the same bytes, or it fails.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd

from bimodal.batch.sinks import journalled
from tests.batch.sinks.runs import go, opened, result


def digest(folder: Path, kind: str) -> str:
    whole = hashlib.sha256()
    for name, data in sorted(result(folder, kind).items()):
        whole.update(f"{name} {len(data)} ".encode() + data)
    return whole.hexdigest()


def forked(folder: Path, kind: str, chunks: int) -> int:
    """The run in a process of its own: nothing else than the kill may end it early."""
    child = os.fork()
    if child == 0:
        try:
            go(opened(folder, kind), chunks=chunks)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return child


def unsynced(fd: object) -> None:
    """In place of os.fsync: it is a process that dies here; what a disk forgets is tested elsewhere."""
    time.sleep(0.0005)


def main(folder: Path, kind: str, kills: int, seed: int) -> None:
    assert pd.__version__  # Arrow loads pandas with its first table: here it is loaded once for all runs
    os.fsync = unsynced
    journalled.SYNCED, chunks, chance = 0.005, 12, random.Random(seed)
    (folder / "whole").mkdir()
    started = time.perf_counter()
    assert os.waitpid(forked(folder / "whole", kind, chunks), 0)[1] == 0
    lasted, expected = time.perf_counter() - started, digest(folder / "whole", kind)
    done = ended = 0
    while done < kills:
        room = folder / "room"
        room.mkdir()
        while True:
            child = forked(room, kind, chunks)
            time.sleep(chance.uniform(0, lasted))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a run failed"
            if not os.WIFSIGNALED(status):
                break
            done += 1
        ended += 1
        assert digest(room, kind) == expected, "other bytes"
        assert not [each for each in room.iterdir() if each.name.startswith(".")], "something was left behind"
        shutil.rmtree(room)
    sys.stdout.write(f"{done} {ended}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
