"""A run on a real disk of 8 MB: full, given a little room, given all. In a mount namespace of its own:

    unshare --mount [--map-root-user] python -m tests.crash.mounted FOLDER MODEL INPUT OUTPUT

FOLDER: what the disk is mounted on. Prints the exit status and the last line of each run, then whether the output is
the one that a disk with room gets.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

SIZE = 8 << 20
BLOCK = 4096


def main(folder: Path, model: str, source: str, output: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    wanted = folder.with_name("roomy")
    wanted.mkdir()
    assert predict(model, source, wanted, output)[0] == 0
    rest = folder / "filler"
    for share in (0.25, 0.6):  # of what the output needs
        rest.write_bytes(bytes(SIZE - int(share * weight(wanted)) // BLOCK * BLOCK - weight(folder)))
        print(*predict(model, source, folder, output))
        rest.unlink()
    print(*predict(model, source, folder, output))
    print(contents(folder, output) == contents(wanted, output))


def predict(model: str, source: str, folder: Path, output: str) -> tuple[int, str]:
    target = f"sqlite:///{folder / output}#scores" if output.endswith(".db") else str(folder / output)
    command = [sys.executable, "-m", "bimodal", "predict", model, source, "-o", target, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stderr.strip().replace("\n", " | ")


def weight(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file() and each.name != "filler")


def contents(folder: Path, output: str) -> object:
    """Bytes of files; of a database its rows."""
    if output.endswith(".db"):
        with closing(sqlite3.connect(folder / output)) as connection:
            return connection.execute("SELECT * FROM scores ORDER BY id").fetchall()
    place = folder / output
    files = [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file())
    return [(each.relative_to(folder), each.read_bytes()) for each in files]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
