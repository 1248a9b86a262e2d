"""Rejects: the rows that were refused, each with its place and the reason, in `OUTPUT.rejects.jsonl`."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from bimodal.batch.sinks.file import sync_folder, writable
from bimodal.errors import UsageError

SHOWN = 3


@dataclass(frozen=True)
class Reject:
    """A refused row: `row` counts from 1 within `source`; `raw` is the row as it stands there."""

    row: int
    source: str
    column: str | None
    code: str
    reason: str
    raw: object = None

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column is not None else ""
        return f"{self.source}, row {self.row}{column}: {self.reason}"


def lines_of(rejects: Sequence[Reject]) -> bytes:
    """The refused rows as JSON Lines."""
    return b"".join(msgspec.json.encode(reject) + b"\n" for reject in rejects)


@dataclass(frozen=True)
class Allowed:
    """How many rejects a run may have: a number, or a share of the rows read."""

    number: int = 0
    share: float | None = None

    @classmethod
    def read(cls, told: int | str | None) -> Allowed:
        """From 3, "3" or "1%"."""
        word = str(0 if told is None else told).strip()
        try:
            if word.endswith("%"):
                share = float(word[:-1]) / 100
                if not 0 <= share <= 1:
                    raise ValueError
                return cls(share=share)
            if int(word) < 0:
                raise ValueError
            return cls(int(word))
        except ValueError:
            raise UsageError(f"--max-rejects {told!r}: write a number of rows such as 10, or a share like 1%") from None

    def accepts(self, rejected: int, read: int) -> bool:
        return rejected <= (self.number if self.share is None else self.share * read)


class Rejects:
    """Counts and writes the refused rows; the file appears with the first, under a temporary name until `keep`.

    path: None where the output has no place (standard output): the rows are then told on standard error.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.count = 0
        self.first: list[Reject] = []
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None

    def add(self, reject: Reject) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(reject)
        if self.path is None:
            sys.stderr.write(f"rejected: {reject}\n")
            return
        with writable(str(self.path)):
            self._open(self.path).write(msgspec.json.encode(reject) + b"\n")

    def _open(self, path: Path) -> BinaryIO:
        if self._file is None:
            self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
            self._file = open(self._temporary, "xb", buffering=1 << 16)  # noqa: SIM115 - closed by keep or abort
        return self._file

    def keep(self) -> None:
        """Put the file under its name; without a refused row, take the one of an earlier run away."""
        if self.path is None:
            return
        with writable(str(self.path)):
            if self._file is None or self._temporary is None:
                self.path.unlink(missing_ok=True)
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self.path)
            sync_folder(self.path.parent)
            self._temporary = None

    def abort(self) -> None:
        """Leave nothing that is not kept."""
        if self._file is not None and self._temporary is not None:
            with contextlib.suppress(OSError):  # the rest in the buffer may not fit on the disk; it is not wanted
                self._file.close()
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


def read_first(path: Path, count: int = SHOWN) -> list[Reject]:
    """The first refused rows of a file that `Rejects` wrote."""
    with open(path, "rb") as file:
        return [msgspec.json.decode(line, type=Reject) for line, _ in zip(file, range(count), strict=False)]
