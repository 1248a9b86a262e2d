"""`bimodal config`: what bimodal.toml says, whether it is right, and its schema."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from bimodal.cli.options import Json
from bimodal.config.checks import inputs
from bimodal.config.findings import Findings
from bimodal.config.lines import Key
from bimodal.config.places import file_of, is_database
from bimodal.config.reading import VARIABLE, Reading, find, reading
from bimodal.config.schema import schema as schema_of
from bimodal.config.show import shown
from bimodal.config.tables import Config
from bimodal.errors import ConfigError, SinkError, UsageError
from bimodal.formats.library import library
from bimodal.keys import beside, load

File = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help=f"The configuration [{VARIABLE}, or ./bimodal.toml].", show_default=False),
]
config = typer.Typer(
    help="""What bimodal.toml says, and whether it is right.

\b
Examples:
    bimodal config verify
    bimodal config show --json
    bimodal config schema -o bimodal.schema.json
""",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@config.command()
def verify(file: File = None, as_json: Json = False) -> None:
    """Check the whole file, the models it names and its addresses; exit 2 with everything that is wrong."""
    read = reading(find(file))
    found = Findings(_name(read.config), read.given)
    notes = list(_look(read, found))
    found.close()
    told = read.config
    if as_json:
        facts = {"file": str(told.path), "models": list(told.models), "jobs": list(told.jobs), "notes": notes}
        print(msgspec.json.encode(facts).decode())
        return
    print(f"{told.path}: {_count(len(told.models), 'model')}, {_count(len(told.jobs), 'job')}, no fault")
    for note in notes:
        print(f"  note: {note}")


@config.command()
def show(file: File = None, as_json: Json = False) -> None:
    """Print each value and where it comes from; a secret is shown as the reference that it is."""
    values = shown(reading(find(file)))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(values)).decode())
        return
    width = max(len(each.key) for each in values)
    texts = [_text(each.value) for each in values]
    most = min(60, max(len(text) for text in texts))
    for each, text in zip(values, texts, strict=True):
        print(f"{each.key:{width}}  {text:{most}}  {each.origin}")


@config.command()
def schema(
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Write it into a file.")] = None,
) -> None:
    """Print the JSON Schema of bimodal.toml, by which editors complete and check it."""
    text = msgspec.json.format(msgspec.json.encode(schema_of())).decode() + "\n"
    if output is None:
        print(text, end="")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{output} cannot be written: {error.strerror}") from error
    print(f"wrote {output}; the first line of bimodal.toml tells editors of it:\n  #:schema ./{output}")


def _name(told: Config) -> str:
    return told.path.name if told.path else "bimodal.toml"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


# -- what the file refers to ------------------------------------------------------------------------------------------


def _look(read: Reading, found: Findings) -> Iterator[str]:
    """Note what is not there; yields what could not be looked at here."""
    for name, model in read.config.models.items():
        key: Key = ("models", name)
        _exists(file_of(model.path), (*key, "path"), found)
        _exists(model.sample, (*key, "sample"), found)
        for each in model.code:
            _exists(each, (*key, "code"), found)
    for name, job in read.config.jobs.items():
        for each in inputs(job):
            if _is_absent(each):
                line = found.line(("jobs", name, "input"))
                yield f"{_name(read.config)}:{line}: there is no {each} yet, which jobs.{name} reads"
    _keys(read.config, found)
    for place, key in _addresses(read.config):
        unset = _missing(place)
        if unset is not None:
            yield f"{_name(read.config)}:{found.line(key)}: {unset} is not there, so this address was not looked at"
        else:
            _parse(place, key, found)


def _is_absent(place: str) -> bool:
    """Whether an input is a file, pattern or folder of which nothing is there; one with a date may be another day's."""
    if is_database(place) or file_of(place) is None or "{" in place:
        return False
    return not glob(place, recursive=True) if any(mark in place for mark in "*?[") else not Path(place).exists()


def _exists(path: str | None, key: Key, found: Findings) -> None:
    if path is not None and not Path(path).exists():
        found.add(key, f"there is no {path}")


def _keys(told: Config, found: Findings) -> None:
    """Look at the file of keys that the server would ask, as it does at its start."""
    named, usual = told.server.get("keys"), beside(told.path)
    path = usual if named is None and os.path.lexists(usual) else named
    try:
        if path:
            load(path)
    except (UsageError, ConfigError) as error:
        found.add(("server", "keys"), str(error))


def _addresses(told: Config) -> Iterator[tuple[str, Key]]:
    """Every address of a database, and the key where it stands."""
    yield told.state, ("state",)
    for name, model in told.models.items():
        if model.store is not None and model.store.rows is not None:
            yield model.store.rows, ("models", name, "store", "rows")
    for name, job in told.jobs.items():
        for each in inputs(job):
            if is_database(each):
                yield each, ("jobs", name, "input")
        if job.output is not None and is_database(job.output):
            yield job.output, ("jobs", name, "output")


def _missing(address: str) -> str | None:
    """A variable or a file that the address refers to and that is not there."""

    for name in re.findall(r"(?:^|[:=])env:([^@#&?/]+)", address):
        if not os.environ.get(name):
            return f"the variable {name}"
    for name in re.findall(r"(?:^|[:=])file:(?!//)([^@#&?]+)", address):
        if not Path(name).is_file():
            return f"the file {name}"
    return None


def _parse(address: str, key: Key, found: Findings) -> None:
    try:
        library("bimodal.batch.databases.address").Address.parse(address)
    except UsageError as error:
        found.add(key, str(error))
