"""Reading bimodal.toml: the text becomes tables, and everything that is wrong with it is told in one go."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bimodal import settings
from bimodal.config import checks, kinds
from bimodal.config.findings import Findings
from bimodal.config.lines import Key, lines
from bimodal.config.places import rooted
from bimodal.config.tables import Config, JobTable, ModelTable, StoreTable
from bimodal.errors import ConfigError, UsageError
from bimodal.hidden import hide

NAME = "bimodal.toml"
VARIABLE = "BIMODAL_CONFIG"
PLACES = (
    "repository",
    "keys",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "prediction_log",
)  # settings of [server] that are paths
SECTIONS = ("state", "server", "models", "jobs")
CALLED = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*" + kinds.END  # a model or a job: its name stands in URLs and file names
PLACE = re.compile(r"\(at line (\d+), column (\d+)\)|\(at end of document\)")

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """A file that was read. given: the keys that stand in it, each with its line."""

    config: Config
    given: Mapping[Key, int]


def find(given: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The file that counts: the one given (or the bimodal.toml of the folder given), else that of BIMODAL_CONFIG, else
    ./bimodal.toml. Raises UsageError where it is not there.
    """
    named = given or environment.get(VARIABLE)
    path = Path(named or NAME)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        origin = "" if given or not named else f" ({VARIABLE} names it)"
        remedy = "bimodal init my_model.pkl writes one, --config FILE names another"
        raise UsageError(f"there is no {path}{origin}; {remedy}")
    return path


def read(path: str | Path) -> Config:
    """The configuration of a file. Raises ConfigError with all that is wrong, a line each; UsageError where there is no
    such file.
    """
    return reading(path).config


def reading(path: str | Path) -> Reading:
    """The same with the lines of the keys."""
    path = Path(path)
    text = _text(path)
    values, given = _values(text, path.name)
    hide(values)
    found = Findings(path.name, given)
    folder = path.absolute().parent
    config = _config(values, folder, found)
    checks.check(config, found)
    found.close()
    return Reading(replace(_rooted(config), path=path.absolute()), given)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; bimodal init my_model.pkl writes one") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path.name}:{line}: this is no UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _values(text: str, name: str) -> tuple[dict[str, Any], Mapping[Key, int]]:
    """What stands in the text, and where."""
    try:
        return tomllib.loads(text), lines(text)
    except tomllib.TOMLDecodeError as error:
        place = PLACE.search(str(error))
        line = int(place[1]) if place and place[1] else text.count("\n") + 1
        column = f" (column {place[2]})" if place and place[2] else ""
        reason = PLACE.sub("", str(error)).strip()
        raise ConfigError(f"{name}:{line}: this is no TOML{column}: {reason}; texts stand in quotes") from None
    except RecursionError:
        raise ConfigError(f"{name}:1: this is nested too deeply to be read") from None


# -- tables -----------------------------------------------------------------------------------------------------------


def _config(values: Mapping[str, Any], folder: Path, found: Findings) -> Config:
    _unknown(values, SECTIONS, (), found)
    read: dict[str, Any] = {
        "server": _server(values.get("server", {}), found),
        "models": _named(ModelTable, values, "models", found),
        "jobs": _named(JobTable, values, "jobs", found),
    }
    if "state" in values:
        read["state"] = _read(kinds.STATE, values["state"], ("state",), found) or ""
    return Config(folder, **read)


def _server(values: Any, found: Findings) -> dict[str, Any]:
    if not _is_table(values, ("server",), found):
        return {}
    known = settings.table(settings.SERVE)
    _unknown(values, list(known), ("server",), found)
    read = {
        name: _read(kinds.of_setting(setting), values[name], ("server", name), found)
        for name, setting in known.items()
        if name in values
    }
    return {name: value for name, value in read.items() if value is not None}


def _named(kind: type[T], values: Mapping[str, Any], section: str, found: Findings) -> dict[str, T]:
    """The tables [section.NAME] by name."""
    tables = values.get(section, {})
    if not _is_table(tables, (section,), found):
        return {}
    read = {}
    for name, table in tables.items():
        key = (section, name)
        if not re.search(CALLED, name):
            found.add(key, "a name has letters, digits, _ - and . in it, and begins with no - or .")
        if _is_table(table, key, found):
            read[name] = _table(kind, table, key, found)
    return read


def _is_table(value: Any, key: Key, found: Findings) -> bool:
    if isinstance(value, dict):
        return True
    spelled = ".".join(str(each) for each in key)
    found.add(
        key, str(kinds.wrong(value, f"a table: [{spelled}{'.NAME' if key[0] != 'server' and len(key) < 2 else ''}]"))
    )
    return False


def _table(kind: type[T], values: Mapping[str, Any], key: Key, found: Findings) -> T:
    """A table as its class. What is faulty or missing has its default (or nothing) there: the fault is noted."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]  # every T is a dataclass
    _unknown(values, list(fields), key, found)
    read: dict[str, Any] = {}
    for name, each in fields.items():
        if name in values:
            value = _value(hints[name], values[name], (*key, name), found)
            if value is not None:
                read[name] = value
        elif each.default is MISSING and each.default_factory is MISSING:
            found.add((*key, name), f"this key is missing; {sentence(hints[name])}")
        if name not in read and each.default is MISSING and each.default_factory is MISSING:
            read[name] = ""
    return kind(**read)


def _value(hint: Any, value: Any, key: Key, found: Findings) -> Any:
    """What stands at a key: a plain value, a table, or tables."""
    plain = kinds.of_annotation(hint)
    if plain is not None:
        return _read(plain, value, key, found)
    kind, many = inner(hint)
    if not many:
        return _table(kind, value, key, found) if _is_table(value, key, found) else None
    if not isinstance(value, list):
        found.add(key, str(kinds.wrong(value, f"a list of tables: [[{'.'.join(map(str, key))}]]")))
        return None
    tables = [(place, each) for place, each in enumerate(value) if _is_table(each, (*key, place), found)]
    return tuple(_table(kind, each, (*key, place), found) for place, each in tables)


def inner(hint: Any) -> tuple[type[Any], bool]:
    """The class of a table at a key, and whether there may be many."""
    if get_origin(hint) is Annotated:
        return inner(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return inner(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def sentence(hint: Any) -> str:
    """What a key is for, in a sentence."""
    return next(each for each in get_args(hint)[1:] if isinstance(each, str))


def _read(kind: kinds.Kind, value: Any, key: Key, found: Findings) -> Any:
    try:
        return kind.read(value)
    except UsageError as error:
        found.add(key, str(error))
        return None


def _unknown(values: Mapping[str, Any], known: list[str] | tuple[str, ...], key: Key, found: Findings) -> None:
    for name in values:
        if name not in known:
            meant = kinds.meant(name, known) or f"; there are {', '.join(known)}"
            found.add((*key, name), f"there is no such key{meant}")


# -- places -----------------------------------------------------------------------------------------------------------


def _rooted(config: Config) -> Config:
    """Every relative place taken from the file's folder."""

    def place(text: str) -> str:
        return rooted(text, config.folder)

    models = {name: _rooted_model(each, place) for name, each in config.models.items()}
    jobs = {name: _rooted_job(each, place) for name, each in config.jobs.items()}
    server = {name: place(value) if name in PLACES else value for name, value in config.server.items()}
    return replace(config, state=place(config.state), models=models, jobs=jobs, server=server)


Place = Callable[[str], str]


def _rooted_model(model: ModelTable, place: Place) -> ModelTable:
    return replace(
        model,
        path=place(model.path),
        code=tuple(place(each) for each in model.code),
        sample=None if model.sample is None else place(model.sample),
        prediction_log=None if model.prediction_log is None else place(model.prediction_log),
        store=None if model.store is None else _rooted_store(model.store, place),
    )


def _rooted_store(store: StoreTable, place: Place) -> StoreTable:
    url = store.url if store.url == "embedded" else place(store.url)
    return replace(store, url=url, rows=None if store.rows is None else place(store.rows))


def _rooted_job(job: JobTable, place: Place) -> JobTable:
    told = tuple(replace(each, secret=None if each.secret is None else place(each.secret)) for each in job.notify)
    return replace(
        job,
        input=place(job.input) if isinstance(job.input, str) else tuple(place(each) for each in job.input),
        output=None if job.output is None else place(job.output),
        notify=told,
    )
