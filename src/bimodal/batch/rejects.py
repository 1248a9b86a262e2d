"""Rejects: the rows that were refused, each with its place and the reason, in `OUTPUT.rejects.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bimodal.errors import UsageError

SHOWN = 3


@dataclass(frozen=True)
class Reject:
    """A refused row: `row` counts from 1 within `source`; `raw` is the row as it stands there, `form` how that is
    written (a chunk's `form`), so that it can be run again.
    """

    row: int
    source: str
    column: str | None
    code: str
    reason: str
    raw: object = None
    form: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column is not None else ""
        return f"{self.source}, row {self.row}{column}: {self.reason}"


def lines_of(rejects: Sequence[Reject]) -> bytes:
    """The refused rows as JSON Lines."""
    return b"".join(msgspec.json.encode(_told(reject)) + b"\n" for reject in rejects)


def _told(reject: Reject) -> dict[str, Any]:
    return {name: value for name, value in vars(reject).items() if name != "form" or value is not None}


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
