"""Marks: what of a run is durably done, as every sink's journal tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bimodal.batch.sources.contract import Cursor


@dataclass(frozen=True)
class Mark:
    """A chunk that is done. cursor: where the source goes on after it. read = predicted + rejected."""

    number: int
    cursor: Cursor
    read: int
    predicted: int
    rejected: int


@dataclass(frozen=True)
class Begun:
    """An unfinished run, as its journal tells it.

    plan: what the plan told when it began (its `key` too). run: the run's id. started: ISO 8601. last: the last chunk
    that is done, None if there is none. read, predicted, rejected: of all chunks done. schema: the columns as the
    first chunk settled them, serialised by Arrow (None before). complete: every chunk is done, only the publication
    is missing (too many rejects, or the run was killed there).
    """

    plan: Mapping[str, Any]
    run: str
    started: str
    last: Mark | None = None
    chunks: int = 0
    read: int = 0
    predicted: int = 0
    rejected: int = 0
    schema: bytes | None = None
    complete: bool = False


@dataclass(frozen=True)
class Published:
    """A finished output that still stands as it was published: the report of its run, with `plan` in it.

    end: the source's cursor after the last chunk. changed: rows of it went or came since.
    """

    report: Mapping[str, Any]
    end: Cursor | None = None
    changed: bool = False

    @property
    def plan(self) -> Mapping[str, Any]:
        plan: Mapping[str, Any] = self.report.get("plan", {})
        return plan


@dataclass(frozen=True)
class Beside:
    """What a chunk gives beside its predictions, durable together with them.

    rejects: the refused rows as JSON Lines. scored: what the report's measures of quality need of the rows (empty
    without a target).
    """

    rejects: bytes = b""
    scored: bytes = b""
