"""Checks of a configuration that look at more than one key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from bimodal.config import kinds
from bimodal.config.findings import Findings, dotted
from bimodal.config.lines import Key
from bimodal.config.places import REMEDY, file_of, has_secret, is_database
from bimodal.config.tables import Config, JobTable, ModelTable, NotifyTable, StoreTable
from bimodal.errors import UsageError

Target = tuple[str, str]
DUES = (1_774_926_000.0, 1_798_814_110.0)  # 31 March 2026, 03:00:00, and 1 January 2027, 14:35:10 (UTC)


def check(config: Config, found: Findings) -> None:
    """Note what does not go together."""
    _clear(config.state, ("state",), found)
    for name, model in config.models.items():
        _model(model, ("models", name), config, found)
    for name, job in config.jobs.items():
        key: Key = ("jobs", name)
        _job(job, key, config, found)
        _times(job, key, found)
        _increments(job, key, found)
        for place, each in enumerate(job.notify):
            _notify(each, (*key, "notify", place), found)
    _outputs(config, found)


def _clear(text: str | None, key: Key, found: Findings) -> None:
    """A password in clear text is refused."""
    if text is not None and has_secret(text):
        found.add(key, REMEDY)


# -- models -----------------------------------------------------------------------------------------------------------


def _model(model: ModelTable, key: Key, config: Config, found: Findings) -> None:
    _clear(model.path, (*key, "path"), found)
    if model.store is not None:
        _store(model.store, (*key, "store"), config, found)


def _store(store: StoreTable, key: Key, config: Config, found: Findings) -> None:
    job = _named(store.job, "jobs", config.jobs, (*key, "job"), found)
    if job is not None and job.model != key[1]:
        there: Key = ("jobs", store.job, "model")
        found.add((*key, "job"), f"that job predicts with another model than {key[1]}", there)
    if job is not None and job.keep not in ("auto", "all") and (job.keep == "none" or store.key not in job.keep):
        there = ("jobs", store.job, "keep")
        found.add((*key, "key"), f"the output of {store.job} does not keep that column; add it to its keep", there)
    _clear(store.url, (*key, "url"), found)
    _clear(store.rows, (*key, "rows"), found)


def _named(name: str, section: str, known: Any, key: Key, found: Findings) -> Any:
    """The model or job of that name; None, and noted, where there is none."""
    if name not in known:
        noun = section.removesuffix("s")
        there = f"; there are {', '.join(known)}" if known else f"; write a table [{section}.{name}]"
        found.add(key, f"there is no {noun} of that name{kinds.meant(name, list(known)) or there}")
    return known.get(name)


# -- jobs -------------------------------------------------------------------------------------------------------------


def inputs(job: JobTable) -> tuple[str, ...]:
    return (job.input,) if isinstance(job.input, str) else job.input


def _job(job: JobTable, key: Key, config: Config, found: Findings) -> None:
    _named(job.model, "models", config.models, (*key, "model"), found)
    for each in inputs(job):
        _clear(each, (*key, "input"), found)
        if each == "-":
            found.add((*key, "input"), "a job has no standard input; name a file, a folder or an address")
    _clear(job.output, (*key, "output"), found)
    stored = any(each.store is not None and ("jobs", each.store.job) == key for each in config.models.values())
    if job.output is None and not stored:
        found.add(
            (*key, "output"), "this key is missing; a job without a prediction store needs a file, folder or address"
        )
    if job.output == "-":
        found.add((*key, "output"), "a job has no standard output; name a file, a folder or an address")
    for name in ("input", "output", "query", "into"):
        for text in _texts(job, name):
            if text is not None and "{" in text:
                _call("bimodal.jobs.templates", "check", text, (*key, name), found)
    _database(job, key, found)


def _texts(job: JobTable, name: str) -> tuple[str | None, ...]:
    value = getattr(job, name)
    return value if isinstance(value, tuple) else (value,)


def _database(job: JobTable, key: Key, found: Findings) -> None:
    """Keys that only mean something with a database."""
    source, sink = (*key, "input"), (*key, "output")
    to_database = job.output is not None and is_database(job.output)
    if job.query is not None and not all(map(is_database, inputs(job))):
        found.add((*key, "query"), "a query reads from a database, and the input is none", source)
    if job.into is not None and not to_database:
        found.add((*key, "into"), "a table is written to a database, and the output is none", sink)
    if job.mode == "upsert" and not job.key:
        found.add((*key, "mode"), 'upsert needs the columns that tell a row: key = "id"', (*key, "key"))
    if job.key and job.mode != "upsert" and job.incremental != "rows":
        involved = ((*key, "mode"), (*key, "incremental"))
        found.add((*key, "key"), 'the key is for mode = "upsert" or incremental = "rows"', *involved)


def _times(job: JobTable, key: Key, found: Findings) -> None:
    """Each of schedule, every and timezone by itself: one that is wrong hides none of the others."""
    schedule, every, zone = (*key, "schedule"), (*key, "every"), (*key, "timezone")
    if not found.is_faulty(zone):
        _zone(job.timezone, zone, found)
    if job.schedule is not None and not found.is_faulty(schedule):
        alone = replace(job, every=None, timezone="UTC")
        _call("bimodal.jobs.schedule", "Schedule.of", alone, schedule, found)
    if job.every is not None and not found.is_faulty(every):
        _call("bimodal.jobs.schedule", "Schedule.of", replace(job, schedule=None), every, found)
    if job.schedule is not None and job.every is not None:
        found.add(every, "a job has a schedule or every, not both; leave one of them out")


def _zone(name: str, key: Key, found: Findings) -> None:
    from zoneinfo import ZoneInfo, available_timezones  # of use for files with jobs

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        meant = kinds.meant(name, sorted(available_timezones())) or "; write one such as Europe/Vienna or UTC"
        found.add(key, f"there is no time zone of that name{meant}")


def _increments(job: JobTable, key: Key, found: Findings) -> None:
    """What an incremental job needs."""
    incremental, faults = (*key, "incremental"), list[str]()
    if job.watermark is not None and job.incremental != "column":
        found.add((*key, "watermark"), 'the watermark is for incremental = "column"', incremental)
    for needed, missing, involved in _needs(job):
        if missing and not any(found.is_faulty((*key, each)) for each in ("incremental", *involved)):
            faults.append(needed)
    for needed in faults:
        found.also(incremental, needed)


def _needs(job: JobTable) -> Iterator[tuple[str, bool, tuple[str, ...]]]:
    """What is needed, whether it is missing, and the keys that tell so."""
    databases = [is_database(each) for each in inputs(job)]
    if job.incremental == "files":
        words = "files is for an input of files, and this one is a database; there are column and rows"
        yield words, any(databases), ("input",)
    elif job.incremental == "column":
        words = 'column needs the column that grows with each new row: watermark = "updated_at"'
        yield words, job.watermark is None, ("watermark",)
        words = "column reads from a database, and the input is none; there are files and rows"
        yield words, not all(databases), ("input",)
    elif job.incremental == "rows":
        yield 'rows needs the columns that tell a row: key = "id"', not job.key, ("key",)
        words = 'rows adds to what is there: mode = "append" or "upsert"'
        yield words, job.mode not in ("append", "upsert"), ("mode",)


def _notify(told: NotifyTable, key: Key, found: Findings) -> None:
    url, command, secret = (*key, "url"), (*key, "command"), (*key, "secret")
    if bool(told.url) == bool(told.command):
        both = "it has a url or a command, not both; leave one of them out"
        found.add(key, both if told.url else "it needs a url or a command", url, command)
    _clear(told.url, url, found)
    if told.secret is not None and told.url is None:
        found.add(secret, "the secret signs what is sent to a url, and there is none", url)


def _outputs(config: Config, found: Findings) -> None:
    """Two jobs that write one output would take it from each other. Tables that are only added to may have several."""
    taken: dict[Target, str] = {}
    files = {name: file_of(model.path) for name, model in config.models.items()}
    models = {_place(file, config): name for name, file in files.items() if file is not None}
    for name, job in config.jobs.items():
        if job.output is None:
            continue
        key: Key = ("jobs", name, "output")
        targets = _targets(name, job, job.output, job.into, config)
        _overwritten(name, job, targets, models, config, found)
        others = {taken.setdefault(each, name) for each in targets} - {name}
        for other in sorted(others):
            if {job.mode, config.jobs[other].mode} <= {"append", "upsert"}:
                continue
            keys: tuple[Key, ...] = tuple(("jobs", each, part) for each in (name, other) for part in ("output", "mode"))
            found.add(key, f"{dotted(('jobs', other))} writes this output too; give each job its own", *keys[1:])


def _overwritten(
    name: str, job: JobTable, targets: set[Target], models: Mapping[Target, str], config: Config, found: Findings
) -> None:
    """An output that is what the job itself reads, or the place where all this stands."""
    key: Key = ("jobs", name, "output")
    for each in inputs(job) if job.query is None else ():
        if targets & _targets(name, job, each, None, config):
            found.add(key, "this is the job's input; name another output", ("jobs", name, "input"))
    for target in sorted(targets & set(models)):
        found.add(key, f"this is {dotted(('models', models[target]))} itself; name another output")
    for place, _ in targets:
        if not is_database(place) and config.folder.is_relative_to(place):
            found.add(key, "this is the folder of this file, or one around it; name a file in it, or a folder/")


def _targets(name: str, job: JobTable, text: str, into: str | None, config: Config) -> set[Target]:
    """What a text means, at a few due times: the same for two spellings of it."""
    whole = f"{text}#{into}" if into else text
    return {_place(_filled(whole, name, job, due), config) for due in DUES}


def _filled(text: str, name: str, job: JobTable, due: float) -> str:
    """A text of a job as it is at a due time; as it stands where it is faulty. Each run's id is another one."""
    if "{" not in text:
        return text
    try:
        rendered: str = import_module("bimodal.jobs.templates").render(
            text, due, job.timezone, run=f"of-{name}", job=name
        )
    except (UsageError, KeyError, ValueError, OSError):  # the template, or the time zone, which is told elsewhere
        return text
    return rendered


def _place(text: str, config: Config) -> Target:
    if not is_database(text):
        return os.path.normpath(config.folder / text), ""
    database, _, table = text.partition("#")
    return database, table.rpartition("#")[2]


# -- what other rooms know --------------------------------------------------------------------------------------------


def _call(module: str, name: str, value: Any, key: Key, found: Findings) -> None:
    """Ask a room above this one, which is imported by name for that: it raises UsageError."""
    function: Any = import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    asked: Callable[[Any], Any] = function
    try:
        asked(value)
    except UsageError as error:
        found.add(key, str(error))
