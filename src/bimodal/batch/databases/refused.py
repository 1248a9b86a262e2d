"""Refused: the file in which a table's refused rows are told, `TABLE.rejects.jsonl`.

Beside a database that is a file, else in the working directory. Each line names its table, so that two tables of one
name in two databases do not take each other's file; and a run that reads such a file tells what it refuses in the next.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bimodal.batch.databases.contract import Database, TableName

ENDING = ".rejects.jsonl"
OWNER = re.compile(rb'\{"table":("(?:[^"\\]|\\.)*"),')
LONGEST = 4096  # bytes of a name


class Refused:
    """Where the refused rows of runs into a table are told. inputs: what this run reads, as the user wrote it."""

    def __init__(self, database: Database, target: TableName, inputs: Sequence[str] = ()) -> None:
        self._folder = database.path.parent if database.path is not None else Path()
        self._stem = re.sub(r"[/\\\0]", "_", str(target)).lstrip(".")
        self._inputs = tuple(inputs)
        place = database.identity if database.path is None else database.path.name
        self._owner = msgspec.json.encode(f"{place}#{target}")

    def path(self) -> Path:
        """`TABLE.rejects.jsonl`; the second and so on for a run that reads it; with a digest in it where that is
        another table's.
        """
        plain = self._at(self._stem)
        return (
            plain if self._is_free(plain) else self._at(f"{self._stem}.{hashlib.sha256(self._owner).hexdigest()[:8]}")
        )

    def marked(self, lines: bytes) -> bytes:
        """The lines, each with the table that it was refused for."""
        mark = b'{"table":' + self._owner + b","
        return b"".join(mark + line.removeprefix(b"{") + b"\n" for line in lines.split(b"\n") if line)

    def _at(self, stem: str) -> Path:
        """Behind the last of these files that the run reads."""
        pattern = re.compile(rf"{re.escape(stem)}(?:\.(\d+))?{re.escape(ENDING)}")
        read = [int(found[1] or 1) for each in self._inputs if (found := pattern.fullmatch(self._here(each)))]
        number = f".{max(read) + 1}" if read else ""
        return self._folder / f"{stem}{number}{ENDING}"

    def _here(self, named: str) -> str:
        """The name of an input that lies in the folder of these files."""
        path = Path(named)
        return path.name if path.parent.resolve() == self._folder.resolve() else ""

    def _is_free(self, path: Path) -> bool:
        """Whether there is no such file, or it is this table's, or nobody's who is known."""
        if not path.is_file():
            return True
        with open(path, "rb") as file:
            found = OWNER.match(file.read(LONGEST))
        return found is None or found[1] == self._owner
