"""A story of examples/: a copy of its folder, in which the commands of its README have been run."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.documents import Reader, blocks, reading

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def told(name: str, folder: Path) -> Iterator[Reader]:
    """The reader, who has come to the end of README.md; the servers that it starts run until the block is left."""
    place = folder / name
    shutil.copytree(EXAMPLES / name, place, ignore=shutil.ignore_patterns("__pycache__", ".bimodal"))
    with reading(place) as reader:
        for block in blocks((place / "README.md").read_text()):
            reader.run(block)
        yield reader


def asked(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()
