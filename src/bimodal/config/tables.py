"""What stands in bimodal.toml, as values: one class a table, one field a key, each with its sentence.

From these classes come the check of the file, its JSON Schema, and the pages of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from bimodal.config import kinds
from bimodal.settings import RUNTIMES

Overlap = Literal["skip", "queue", "replace"]
CatchUp = Literal["none", "one", "all"]
Incremental = Literal["files", "column", "rows"]
Event = Literal["failure", "success", "rejects", "late"]
Mode = Literal["create", "append", "replace", "upsert"]

Duration = Annotated[float, kinds.DURATION]
Interval = Annotated[float, kinds.INTERVAL]
Names = Annotated[tuple[str, ...], kinds.NAMES]
Places = Annotated[tuple[str, ...], kinds.PLACES]
Inputs = Annotated[str | tuple[str, ...], kinds.INPUT]
Keep = Annotated[str | tuple[str, ...], kinds.KEEP]


@dataclass(frozen=True)
class StoreTable:
    """[models.NAME.store]: a job's committed result, served live by key."""

    job: Annotated[str, "The job whose result answers."]
    key: Annotated[str, "The column that tells a row."]
    url: Annotated[
        str, kinds.KEPT, "Where it is kept: embedded (files beside bimodal.toml), postgresql://… or redis://…"
    ] = "embedded"
    max_age: Annotated[Duration | None, "Time after which a result counts as stale."] = None
    rows: Annotated[
        str | None, kinds.TABLE, "A database's table (address#table) with the rows of keys that have no result."
    ] = None
    on_stale: Annotated[
        Literal["answer", "live"], "What a stale result gives: the answer as it is, or a live prediction."
    ] = "live"


@dataclass(frozen=True)
class ModelTable:
    """[models.NAME]: one model, served under that name and used by jobs."""

    path: Annotated[
        str, "The saved model: a file, a folder, file.py:Class, or an address such as models:/churn@champion."
    ]
    code: Annotated[Places, "Python code that the saved model needs: files or folders."] = ()
    sample: Annotated[str | None, "A file of rows like the ones to come, for what the model cannot say."] = None
    features: Annotated[Names | None, "The feature columns, in the order of the training."] = None
    runtime: Annotated[str, kinds.choice(RUNTIMES), "What executes the model."] = "auto"
    outputs: Annotated[Names | None, "Outputs that are answered when a request names none."] = None
    threshold: Annotated[float | None, "Probability from which on the second of two classes is predicted."] = None
    allow_drift: Annotated[bool, "Accept that a package answers otherwise under the libraries installed here."] = False
    trust: Annotated[Names | None, "What its file may call beyond what models need (module.name)."] = None
    store: Annotated[StoreTable | None, "Serve a job's result by key."] = None
    prediction_log: Annotated[str | None, "A folder in which what is predicted live is kept as Parquet."] = None
    prediction_log_sample: Annotated[float | None, kinds.SHARE, "The share of the requests that is kept there."] = None
    prediction_log_without: Annotated[Names | None, "Features and outputs that are left out there."] = None


@dataclass(frozen=True)
class NotifyTable:
    """[[jobs.NAME.notify]]: who is told of what: a webhook or a command."""

    on: Annotated[tuple[Event, ...], "What is told: failure, success, rejects (too many), late."] = ("failure",)
    url: Annotated[str | None, kinds.WEBHOOK, "A webhook: it gets a POST of JSON."] = None
    secret: Annotated[
        str | None, kinds.HIDDEN, "What the webhook's signature is made with, by reference: env:NAME or file:PATH."
    ] = None
    command: Annotated[tuple[str, ...], kinds.COMMAND, "A program and its words."] = ()
    timeout: Annotated[Interval, "Time that it may take."] = 10.0


@dataclass(frozen=True)
class JobTable:
    """[jobs.NAME]: one batch plan with a schedule. Paths and queries may hold {date}, {due:%Y-%m-%d}, {run} and the
    like.
    """

    model: Annotated[str, "The name of a [models.NAME]."]
    input: Annotated[Inputs, "What is read: files, patterns, folders, addresses; one or a list."]
    output: Annotated[str | None, "Where the predictions go: a file, a folder/, an address."] = None
    query: Annotated[str | None, "What to read from a database, instead of a table."] = None
    into: Annotated[str | None, "The table to write, where the output is a database."] = None
    mode: Annotated[Mode, "What happens to the table."] = "create"
    key: Annotated[Names, "The columns that tell a row, for mode upsert and incremental rows."] = ()
    keep: Annotated[Keep, "Columns of the input to keep: auto, all, none, or names."] = "auto"
    proba: Annotated[bool, "The probability of each class too."] = False
    outputs: Annotated[Names | None, "What to predict: prediction, probability, …"] = None
    threshold: Annotated[float | None, "Probability from which on the second of two classes is predicted."] = None
    features: Annotated[Names | None, "The feature columns, in the order of the training."] = None
    rename: Annotated[Mapping[str, str], kinds.PAIRS, "Columns that have another name here: column = feature."] = field(
        default_factory=dict
    )
    target: Annotated[str | None, "The column with the truth: the report says how good the model is."] = None
    max_rejects: Annotated[
        str, kinds.MAX_REJECTS, "Rejected rows with which the result is still published: a number or a share."
    ] = "0"
    na: Annotated[
        tuple[str, ...] | None, kinds.ANY_NAMES, "What stands for a missing value in CSV (default: pandas' markers)."
    ] = None
    memory: Annotated[int | None, kinds.BYTES, "Memory of all processes of the run together."] = None
    workers: Annotated[int | None, kinds.AT_LEAST_ONE, "Threads or processes that predict (default: measured)."] = None
    overwrite: Annotated[bool, "Replace the output of the run before."] = True
    schedule: Annotated[str | None, "When it runs, as five fields of cron: minute, hour, day, month, weekday."] = None
    every: Annotated[Interval | None, "Or: how often it runs."] = None
    timezone: Annotated[str, "Whose clock the schedule means, such as Europe/Vienna."] = "UTC"
    overlap: Annotated[Overlap, "What happens at a due time while a run of the job is not over."] = "skip"
    catch_up: Annotated[CatchUp, "Which due times that passed while nothing ran are made up for."] = "one"
    retries: Annotated[int, kinds.COUNT, "Attempts after one that failed; each goes on where the last one stopped."] = 2
    backoff: Annotated[Duration, "Time before the first retry; it doubles with each, to an hour at most."] = 30.0
    timeout: Annotated[Interval | None, "Longest time of one attempt."] = None
    late_after: Annotated[Interval | None, "Time after its due time at which an unfinished run is late."] = None
    incremental: Annotated[
        Incremental | None, "Predict what is new: files (new or changed), column (a watermark), rows (new keys)."
    ] = None
    watermark: Annotated[str | None, "The column of incremental column: it grows with each new row."] = None
    on_model_change: Annotated[
        Literal["everything", "new"],
        "What an incremental job predicts with another model: everything again, or the new.",
    ] = "everything"
    priority: Annotated[
        Literal["idle", "low", "normal"], "How far it gives way to whatever else runs here: wholly, mostly, not at all."
    ] = "idle"
    notify: Annotated[tuple[NotifyTable, ...], "Who is told of what."] = ()


@dataclass(frozen=True)
class Config:
    """A whole file. folder: the file's; every relative place in it has been taken from there by `read`. server: its
    [server] table: settings of settings.SERVE by name, as `settings.resolve(…, file=server)` takes them. state: the
    URL of the state store.
    """

    folder: Path
    server: Mapping[str, Any] = field(default_factory=dict)
    state: str = "sqlite:///.bimodal/state.db"
    models: Mapping[str, ModelTable] = field(default_factory=dict)
    jobs: Mapping[str, JobTable] = field(default_factory=dict)
    path: Path | None = None  # the file itself

    @property
    def home(self) -> Path:
        """The state folder: state.db, predictions/MODEL/, uploads/, runs/."""
        return self.folder / ".bimodal"
