"""Incremental: what of a job's input is new since its last result, settled once for all attempts of a run.

files: the files whose fingerprint is none that was processed. column: the rows whose watermark is above the last one,
up to the highest that there is when the run begins. rows: the rows whose key is not in the output yet.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from bimodal.batch.databases.address import Address, is_address
from bimodal.batch.databases.contract import Database, Query, Relation, TableName
from bimodal.batch.sources.files import InputFile
from bimodal.batch.sources.find import find, place_of
from bimodal.batch.sources.without import KeysIn, Known
from bimodal.batch.store import is_stored
from bimodal.errors import SinkError, SourceError, UsageError
from bimodal.jobs import templates
from bimodal.jobs.task import Task

HIGH = "bimodal_high"
ROWS = "bimodal_rows"
COUNT = "bimodal_count"
ADDED = ("append", "upsert")
SINCE, FROM_START = "since", "from_start"
ASKED = (SINCE, FROM_START)
"""What a caller may say of where a run begins, in its parameters before they are settled."""


@dataclass(frozen=True)
class Reach:
    """What a run reads and where it writes: the job's places, filled in for its due time, then narrowed to what is new.

    input: as `predict_file` takes it. known: the keys that are left out. keyless: rows that are left out because a key
    of theirs is null, as far as a database counted them. new: whether there is anything to do.
    """

    input: Any
    output: str | None
    query: str | None = None
    into: str | None = None
    known: Known | None = None
    keyless: int = 0
    new: bool = True

    @classmethod
    def of(cls, task: Task) -> Reach:
        """The places of the job, filled in. The output of an incremental job is checked to keep what is there."""

        def fill(text: str | None) -> str | None:
            zone = task.table.timezone
            return None if text is None else templates.render(text, task.due, zone, run=task.run, job=task.job)

        table = task.table
        given = table.input if isinstance(table.input, str) else tuple(map(str, map(fill, table.input)))
        output = fill(table.output)
        if table.incremental is not None:
            _check_output(task)
            if output is not None and output.endswith("/") and not is_address(output):
                output = f"{output}{task.run}.parquet"
        return cls(fill(given) if isinstance(given, str) else list(given), output, fill(table.query), fill(table.into))


def make_folder(task: Task, reach: Reach) -> None:
    """The folder of an output whose path is each run's own: nobody could make it beforehand."""
    output = reach.output
    if output is None or output == task.table.output or is_address(output) or is_stored(output):
        return
    try:
        os.makedirs(os.path.dirname(output) or ".", exist_ok=True)
    except OSError as error:
        raise SinkError(f"{os.path.dirname(output)} cannot be made: {error.strerror or error}") from error


def _check_output(task: Task) -> None:
    """Raise UsageError where a run would take the place of what the runs before it gave."""
    table, output = task.table, task.table.output
    if output is None:
        raise UsageError(f"job {task.job} is incremental, so each run gives only what is new: it needs an output")
    if is_address(output):
        if table.mode not in ADDED:
            raise UsageError(
                f"job {task.job} is incremental, and mode = {table.mode!r} would keep the last run's rows alone: "
                'write mode = "append", or mode = "upsert" with a key'
            )
    elif not output.endswith("/") and not templates.differs(output):
        name, dot, ending = os.path.basename(output).partition(".")
        raise UsageError(
            f"job {task.job} is incremental, and every run would replace {output}: give each run a file of its own, as "
            f"in {os.path.join(os.path.dirname(output), name)}-{{run}}{dot}{ending}, or name a folder/, or a table "
            'with mode = "append"'
        )


def settle(task: Task, reach: Reach, digest: str) -> dict[str, Any]:
    """What decides the plan beside the job's table. digest: of the model as it is now."""
    kind = task.table.incremental
    known = task.memory.get("digest")
    changed = kind is not None and known is not None and known != digest
    again = changed and task.table.on_model_change == "everything"
    if again and task.table.mode == "append":
        raise UsageError(
            f"the model of job {task.job} is another one than at its last run, so everything is to be predicted again, "
            'and mode = "append" would give each row twice: write mode = "upsert" with a key, on_model_change = "new", '
            "or name another output"
        )
    asked = {name: task.parameters[name] for name in ASKED if name in task.parameters}
    settled: dict[str, Any] = {"due": task.due, "digest": digest, **asked}
    if kind is None:
        return settled
    if kind != "rows" and table_is_added_to(task) and not (task.memory or task.files or asked):
        _demand_empty(task, reach)
    settled |= {"everything": again or not task.memory}
    if kind == "files":
        return settled | {"files": _new_files(task, reach, digest)}
    if kind == "column":
        return settled | _bounds(task, reach, again=again)
    return settled


def table_is_added_to(task: Task) -> bool:
    """Whether a row that is predicted twice stands there twice."""
    output = task.table.output
    return task.table.mode == "append" and output is not None and is_address(output)


def _columns(database: Database, target: TableName) -> Mapping[str, str] | None:
    session = database.session()
    try:
        return database.columns(session, target)
    finally:
        session.close()


def _demand_empty(task: Task, reach: Reach) -> None:
    """Raise UsageError where a job that remembers nothing would append to a table what may be there already."""
    place, target = _target(reach)
    database = place.open()
    there = _columns(database, target)
    if there is None or not _count(database, database.spell(target)):
        return
    begin = f"bimodal jobs run {task.job} --since VALUE (above which {task.table.watermark} is new), or "
    raise UsageError(
        f"nothing is known of earlier runs of job {task.job} (its state was removed, or it had another name), and "
        f"{place.name}, to which it appends, has rows: they could be there twice. Begin with "
        f"{begin if task.table.incremental == 'column' else ''}bimodal jobs run {task.job} --from-start (none of "
        'them is of this job), write mode = "upsert" with a key, empty the table, or give the job its name back'
    )


def _count(database: Database, rows: str, condition: str = "") -> int:
    """How many rows there are behind FROM."""
    where = f" WHERE {condition}" if condition else ""
    asked = Query(f"SELECT count(*) AS {COUNT} FROM {rows}{where}")  # noqa: S608 - quoted
    return sum(int(value) for batch in database.batches(asked, [COUNT]) for value in batch.column(0).to_pylist())


def narrowed(task: Task, reach: Reach) -> Reach:
    """The same with what is new alone."""
    kind, settled = task.table.incremental, task.parameters
    if kind == "files":
        wanted = {path for path, _ in settled["files"]}
        found = [each for each in _found(reach.input) if place_of(each) in wanted]
        return replace(reach, input=found, new=bool(wanted))
    if kind == "column":
        return _between(task, reach)
    if kind == "rows":
        return _missing(task, reach, again=bool(settled["everything"] and task.memory))
    return reach


def remembered(task: Task) -> dict[str, Any]:
    """What the next run needs to know, once this one has succeeded."""
    kept = {**task.memory, "digest": task.parameters["digest"], "run": task.run, "due": task.due}
    high = task.parameters.get("high")
    return kept if high is None else {**kept, "watermark": high}


def processed(task: Task) -> list[tuple[str, str, str]]:
    """The files that are done, once this run has succeeded."""
    return [(path, seen, task.parameters["digest"]) for path, seen in task.parameters.get("files", ())]


# -- files -----------------------------------------------------------------------------------------------------------


def _new_files(task: Task, reach: Reach, digest: str) -> list[tuple[str, str]]:
    """Path and fingerprint of those that are new or changed, or all of them for a new model."""
    if any(is_address(os.fspath(each)) for each in _several(reach.input)):
        raise UsageError(
            f'job {task.job}: incremental = "files" is for files; for tables there are "column" and "rows"'
        )
    new = []
    for file in _found(reach.input):
        seen = file.fingerprint()
        before, scored_by = task.files.get(place_of(file), (None, None))
        anew = task.table.on_model_change == "everything" and scored_by != digest
        if before != seen or anew or FROM_START in task.parameters:
            new.append((place_of(file), seen))
    return new


def _found(given: Any) -> list[InputFile]:
    """The files that are there: where collected files are waited for, none is no error."""
    found: list[InputFile] = []
    for each in _several(given):
        try:
            found += find(each)
        except SourceError:
            if os.path.isdir(each) or any(mark in os.fspath(each) for mark in "*?["):
                continue
            raise
    return found


def _several(given: Any) -> Sequence[Any]:
    return (given,) if isinstance(given, str) else given


# -- column ----------------------------------------------------------------------------------------------------------


def _bounds(task: Task, reach: Reach, *, again: bool) -> dict[str, Any]:
    """The literals above which and up to which rows are read, in one question to the database."""
    database, relation = _source(reach)
    column = str(task.table.watermark)
    _demand(database, relation, (column,), task.job)
    low = None if again else task.memory.get("watermark")
    if SINCE in task.parameters:
        low = _written(database, relation, column, str(task.parameters[SINCE]))
    elif FROM_START in task.parameters:
        low = None
    high = _highest(database, relation, column)
    return {"low": low, "high": high if high is not None else low}


def _highest(database: Database, relation: Relation, column: str) -> str | None:
    """The largest value as a literal of the database's SQL; None where there is none."""
    inner = f"SELECT max({database.quote(column)}) AS {HIGH} FROM {_rows(database, relation)}"  # noqa: S608 - quoted
    written = database.literal(HIGH)
    query = Query(f"SELECT {written} AS {HIGH} FROM ({inner}) AS bimodal_highest WHERE {HIGH} IS NOT NULL")  # noqa: S608 - quoted
    found = [value for batch in database.batches(query, [HIGH]) for value in batch.column(0).to_pylist()]
    if not found:
        return None
    return str(found[0]) if written != HIGH else database.written(found[0])


def _written(database: Database, relation: Relation, column: str, text: str) -> str:
    """A caller's watermark as a literal."""
    kind = database.schema(relation).field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return database.written(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise UsageError(f"--since: {column} is a number, and what was given is none")
    return database.written(number)


def _between(task: Task, reach: Reach) -> Reach:
    low, high = task.parameters["low"], task.parameters["high"]
    if high is None or low == high:
        return replace(reach, new=False)
    database, relation = _source(reach)
    column = database.quote(str(task.table.watermark))
    bounds = ([] if low is None else [f"{column} > {low}"]) + [f"{column} <= {high}"]
    return _asked(reach, f"SELECT * FROM {_rows(database, relation)} WHERE {' AND '.join(bounds)}")  # noqa: S608 - the database wrote them


# -- rows ------------------------------------------------------------------------------------------------------------


def _missing(task: Task, reach: Reach, *, again: bool) -> Reach:
    """Rows without a result: asked of the database where it holds both, else by the keys that the output has. Rows
    whose key is null are left out: nothing could tell that they have a result. again: those with one, too.
    """
    keys = task.table.key
    place, target = _target(reach)
    database = place.open()
    there = _columns(database, target)
    absent = [key for key in keys if key not in there] if there is not None else []
    if absent:
        raise UsageError(f"job {task.job}: the output {place.name} has no column {absent[0]!r} to tell its rows by")
    if is_address(str(reach.input)) and Address.parse(reach.input).identity == place.identity:
        return _absent(task, reach, None if again or there is None else target)
    if len(keys) > 1:
        raise UsageError(
            f'job {task.job}: incremental = "rows" with several key columns needs input and output in one database; '
            "name one column, or write both into one database"
        )
    if there is None or again:
        return replace(reach, known=Known(keys[0], task.state, keyed=True).fill(()))
    return replace(reach, known=KeysIn(database, target, keys[0]).read(task.state, keyed=True))


def _absent(task: Task, reach: Reach, target: TableName | None) -> Reach:
    """The rows of a database whose keys are none of the target's in it."""
    keys = task.table.key
    source, relation = _source(reach)
    _demand(source, relation, keys, task.job)
    rows = _rows(source, relation)
    null = " OR ".join(f"{ROWS}.{source.quote(key)} IS NULL" for key in keys)
    where = [f"NOT ({null})"]
    if target is not None:
        same = " AND ".join(f"done.{source.quote(key)} = {ROWS}.{source.quote(key)}" for key in keys)
        where.append(f"NOT EXISTS (SELECT 1 FROM {source.spell(target)} AS done WHERE {same})")  # noqa: S608 - quoted
    asked = _asked(reach, f"SELECT * FROM {rows} WHERE {' AND '.join(where)}")  # noqa: S608 - quoted
    return replace(asked, keyless=_count(source, rows, null))


def _target(reach: Reach) -> tuple[Address, TableName]:
    address = Address.parse(str(reach.output))
    if reach.into is not None:
        address = address.at(Address.parse(f"sqlite:///x#{reach.into}").table)
    return address, address.named


# -- of databases ----------------------------------------------------------------------------------------------------


def _source(reach: Reach) -> tuple[Database, Relation]:
    (given,) = _several(reach.input)
    address = Address.parse(given)
    relation: Relation = address.named if reach.query is None else Query(reach.query)
    return address.open(), relation


def _rows(database: Database, relation: Relation) -> str:
    """What stands behind FROM."""
    if isinstance(relation, TableName):
        return f"{database.spell(relation)} AS {ROWS}"
    return f"({relation.text.rstrip().rstrip(';')}\n) AS {ROWS}"


def _demand(database: Database, relation: Relation, columns: Sequence[str], job: str) -> None:
    """A name that is no column would be text to some databases, and the answer nonsense."""
    names = database.schema(relation).names
    for column in columns:
        if column not in names:
            near = difflib.get_close_matches(column, names, 1)
            raise UsageError(
                f"job {job}: {relation} has no column {column!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )


def _asked(reach: Reach, query: str) -> Reach:
    return replace(reach, input=str(reach.input).partition("#")[0], query=query)


def settled_for_all(parameters: Mapping[str, Any]) -> bool:
    """Whether an earlier attempt has settled the parameters."""
    return "digest" in parameters
