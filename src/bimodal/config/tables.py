"""What stands in bimodal.toml, as values: one class a table, one field a key.

From these classes come the check of the file, its JSON Schema, and the pages of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Overlap = Literal["skip", "queue", "replace"]
CatchUp = Literal["none", "one", "all"]
Incremental = Literal["files", "column", "rows"]
Event = Literal["failure", "success", "rejects", "late"]


@dataclass(frozen=True)
class StoreTable:
    """[models.NAME.store]: a job's committed result, served live by key.

    job: whose output it is. key: the column that tells a row. url: where it is kept: embedded (a file in the state
    folder), postgresql://… or redis://…. max_age: seconds after which a result counts as stale. rows: a database
    address with the current rows, for a key without a result (address#table). on_stale: what is answered then.
    """

    job: str
    key: str
    url: str = "embedded"
    max_age: float | None = None
    rows: str | None = None
    on_stale: Literal["answer", "live"] = "live"


@dataclass(frozen=True)
class ModelTable:
    """[models.NAME]: one model, served under that name and used by jobs."""

    path: str
    code: tuple[str, ...] = ()
    sample: str | None = None
    features: tuple[str, ...] | None = None
    runtime: str = "auto"
    outputs: tuple[str, ...] | None = None
    threshold: float | None = None
    allow_drift: bool = False
    store: StoreTable | None = None


@dataclass(frozen=True)
class NotifyTable:
    """[[jobs.NAME.notify]]: who is told of what. url: a webhook, signed with `secret`; or a command."""

    on: tuple[Event, ...] = ("failure",)
    url: str | None = None
    secret: str | None = None
    command: tuple[str, ...] = ()
    timeout: float = 10.0


@dataclass(frozen=True)
class JobTable:
    """[jobs.NAME]: one batch plan with a schedule.

    model: the name of a [models.NAME]. input, output, query, into, mode, key, keep, …: as of `bimodal predict`; paths
    and queries may hold {date}, {due:%Y-%m-%d}, {run} and the like. schedule: five fields of cron, or `every` seconds;
    at most one of them. timezone: IANA name. late_after: seconds after its due time at which an unfinished run is late.
    watermark: the column of incremental = "column". on_model_change: what an incremental job does with what it has
    done already.
    """

    model: str
    input: str | tuple[str, ...]
    output: str | None = None
    query: str | None = None
    into: str | None = None
    mode: str = "create"
    key: tuple[str, ...] = ()
    keep: str | tuple[str, ...] = "auto"
    proba: bool = False
    outputs: tuple[str, ...] | None = None
    threshold: float | None = None
    features: tuple[str, ...] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    max_rejects: str = "0"
    na: tuple[str, ...] | None = None
    memory: int | None = None
    workers: int | None = None
    overwrite: bool = True
    schedule: str | None = None
    every: float | None = None
    timezone: str = "UTC"
    overlap: Overlap = "skip"
    catch_up: CatchUp = "one"
    retries: int = 2
    backoff: float = 30.0
    timeout: float | None = None
    late_after: float | None = None
    incremental: Incremental | None = None
    watermark: str | None = None
    on_model_change: Literal["everything", "new"] = "everything"
    priority: Literal["idle", "normal"] = "idle"
    notify: tuple[NotifyTable, ...] = ()


@dataclass(frozen=True)
class Config:
    """A whole file. server: its [server] table, checked against settings.SERVE. state: the URL of the state store.
    folder: of the file: relative paths in it are taken from there.
    """

    folder: Path
    server: Mapping[str, Any] = field(default_factory=dict)
    state: str = "sqlite:///.bimodal/state.db"
    models: Mapping[str, ModelTable] = field(default_factory=dict)
    jobs: Mapping[str, JobTable] = field(default_factory=dict)
