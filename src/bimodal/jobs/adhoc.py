"""Ad-hoc runs: a file that was sent to the server, predicted as a job of its own.

In the state folder: uploads/RUN/input.csv (as it came), uploads/RUN/options.json, and beside them what the run writes.
To the rest of this room it is a run of the job `upload:MODEL`, whose table is made from those options.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal.config.tables import Config, JobTable
from bimodal.errors import NotFound, UsageError
from bimodal.jobs.store import JobRun

if TYPE_CHECKING:
    from bimodal.model import Model

BEGIN = "upload:"
FOLDER = "uploads"
OPTIONS = "options.json"
FORMATS = ("csv", "parquet", "jsonl", "arrow")
KEPT = 7 * 86_400.0  # seconds that an upload and its result are kept
REJECTS = re.compile(r"\d{1,15}|(100|\d{1,2})(\.\d+)?%")
TABLE = JobTable(model="", input="", overwrite=True, retries=2, priority="low")  # somebody waits for it


class Options(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller may say of such a run; names and meanings are those of `bimodal predict`."""

    keep: str = "auto"
    proba: bool = False
    outputs: str | None = None
    threshold: float | None = None
    max_rejects: str = "0"
    format: str | None = None


def name_of(model: str) -> str:
    return f"{BEGIN}{model}"


def jobs_of(config: Config) -> list[str]:
    """The names of all jobs that a worker takes runs of."""
    return [*config.jobs, *[name_of(model) for model in config.models]]


def folder_of(config: Config, run: str) -> Path:
    return config.home / FOLDER / run


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what stays of it is removed by `tidy`


def options_of(query: Mapping[str, str]) -> Options:
    """Raises UsageError."""
    try:
        options = msgspec.convert(dict(query), Options, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"the query of the address: {error}; it may say {', '.join(Options.__struct_fields__)}"
        ) from None
    if options.format is not None and options.format not in FORMATS:
        raise UsageError(f"format={options.format}: it is one of {', '.join(FORMATS)}")
    return options


def check(options: Options, model: Model) -> None:
    """Raise UsageError for what is wrong already without the file: with the model, or in itself."""
    if REJECTS.fullmatch(options.max_rejects.strip()) is None:
        raise UsageError(f"max_rejects={options.max_rejects}: write a number of rows such as 10, or a share like 1%25")
    for name in ("keep", "outputs"):
        value = getattr(options, name)
        if value is not None and not all(_split(value)):
            raise UsageError(f"{name}={value}: names, with commas between them")
    if options.outputs is not None:
        _named("outputs", model.resolve_outputs, _split(options.outputs))
    _named("threshold", model.check_threshold, options.threshold)
    if options.proba and not any("probability" in each.name for each in model.signature.outputs):
        raise UsageError("proba: the model has no probabilities")


def _named(name: str, judge: Callable[[Any], object], value: Any) -> None:
    """Have it judged; the error says which of the query's words it is about."""
    try:
        judge(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _split(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(","))


def table_of(config: Config, run: JobRun) -> JobTable:
    """The table of a run's job. Raises NotFound where there is none any more."""
    if not run.job.startswith(BEGIN):
        if run.job not in config.jobs:
            raise NotFound(f"the job {run.job!r} of run {run.id} is not configured any more")
        return config.jobs[run.job]
    folder = folder_of(config, run.id)
    found = sorted(folder.glob("input.*"))
    if not found:
        raise NotFound(f"the upload of run {run.id} is not kept any more")
    options = msgspec.json.decode((folder / OPTIONS).read_bytes(), type=Options)
    return replace(
        TABLE,
        model=run.job.removeprefix(BEGIN),
        input=str(found[0]),
        output=str(folder / f"output.{options.format or found[0].suffix[1:]}"),
        keep=options.keep if options.keep in ("auto", "all", "none") else _split(options.keep),
        proba=options.proba,
        outputs=None if options.outputs is None else _split(options.outputs),
        threshold=options.threshold,
        max_rejects=options.max_rejects,
    )


def tidy(config: Config, now: float | None = None) -> int:
    """Remove what was sent long ago, and what it gave; how many."""
    gone = 0
    for folder in (config.home / FOLDER).glob("*"):
        if (time.time() if now is None else now) - folder.stat().st_mtime > KEPT:
            remove(folder)
            gone += 1
    return gone
