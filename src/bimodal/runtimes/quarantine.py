"""Quarantine: the rows of requests that killed the model's process alone, or hung in it. They are not tried again for a
while.

What is kept is a digest; the rows themselves are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from time import monotonic
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from bimodal.errors import ModelCrashed, ModelHung
from bimodal.rows import Array, Rows

SPAN = 60.0  # seconds for which rows are remembered, from their last crash
MOST = 1024  # that are remembered; the oldest are forgotten first
_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode


class Counted(Protocol):
    """What has some of a batch's rows."""

    @property
    def count(self) -> int: ...


T = TypeVar("T", bound=Counted)


class Quarantine:
    """Of one model. holds: whether anything is remembered; look it up before anything else is asked."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.holds = False
        self._clock = clock
        self._known: dict[bytes, tuple[float, ModelCrashed]] = {}  # until when, and how the process died

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, asked: Any, rows: Rows, error: ModelCrashed) -> None:
        """These rows killed a process that had no others. asked: what was asked of the model, plain values."""
        name = digest(asked, rows)
        self._known.pop(name, None)
        self._known[name] = (self._clock() + SPAN, _bare(error))
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        self.holds = True

    def fate(self, asked: Any, rows: Rows) -> ModelCrashed | None:
        """The error that these rows are answered with, where they are remembered."""
        self._forget()
        found = self._known.get(digest(asked, rows)) if self._known else None
        return None if found is None else _bare(found[1])

    def sift(self, asked: Any, works: Sequence[T], rows: Rows) -> tuple[list[T], Rows, list[tuple[T, ModelCrashed]]]:
        """Of the works of a batch, in the order of its rows: those that may be tried, their rows, and the others, each
        with its error.
        """
        kept: list[T] = []
        parts: list[Rows] = []
        known: list[tuple[T, ModelCrashed]] = []
        at = 0
        for work in works:
            part = rows.slice(at, at + work.count)
            at += work.count
            error = self.fate(asked, part)
            if error is None:
                kept.append(work)
                parts.append(part)
            else:
                known.append((work, error))
        return kept, (rows if not known else Rows.concat(parts or [rows.slice(0, 0)])), known

    def _forget(self) -> None:
        now = self._clock()
        while self._known and next(iter(self._known.values()))[0] <= now:
            del self._known[next(iter(self._known))]
        self.holds = bool(self._known)


def _bare(error: ModelCrashed) -> ModelCrashed:
    """The same error, without what was noted of one request."""
    bare = type(error)(error.message)
    if isinstance(error, ModelHung) and isinstance(bare, ModelHung):
        bare.tried = error.tried
    return bare


def digest(asked: Any, rows: Rows) -> bytes:
    """Of what is asked, and of the rows' names, types and values, however they are stored."""
    found = blake2b(_encode([asked, rows.count]), digest_size=16)
    for name in rows:
        column = rows.array(name)
        found.update(_encode([name, column.dtype.str, column.shape]))
        found.update(_values(column))
    return found.digest()


def _values(column: Array) -> bytes:
    if column.dtype == object:
        return _encode(column.tolist())
    return np.ascontiguousarray(column).tobytes()
