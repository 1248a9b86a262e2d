"""The JSON Schema and the reader of bimodal.toml accept and refuse the same."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from jsonschema import Draft202012Validator

from bimodal import config
from bimodal.config import kinds
from bimodal.config.schema import DEFAULT_STATE, schema
from bimodal.config.tables import Config, JobTable, ModelTable, NotifyTable, StoreTable
from bimodal.errors import ConfigError, UsageError
from bimodal.settings import SERVE
from tests.config.test_reading import FAULTS, JOB, SECRETS, WHOLE

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)
TABLES = (ModelTable, StoreTable, JobTable, NotifyTable)
BEYOND = {  # faults that a schema cannot see: they lie in another table, in an address, in a calendar, or in the TOML
    "no TOML",
    "no TOML at its end",
    "no cron",
    "six fields",
    "half a second",
    "an unknown model",
    "no output",
    "standard input",
    "standard output",
    "a query of a file",
    "a table in a file",
    "an unknown placeholder",
    "files of a database",
    "a column of files",
    "nested without an end",
    "nothing is kept",
    "one file under two names",
    "one output of two jobs",
    "one output with other dates",
    "the input as the output",
    "the input of a day",
    "the input's table",
    "a model as the output",
    "the folder as the output",
    "the folder around as the output",
    "one table of two jobs",
    "a key that is not kept",
    "a store of another model",
}


def known() -> dict[str, kinds.Kind]:
    """Every kind of value that stands at a key."""
    found = {f"server.{each.name}": kinds.of_setting(each) for each in SERVE}
    for table in TABLES:
        for name, hint in get_type_hints(table, include_extras=True).items():
            kind = kinds.of_annotation(hint)
            if kind is not None:
                found[f"{table.__name__}.{name}"] = kind
    return found


KINDS = known()


def patterns(part: Any) -> list[str]:
    """The patterns in a schema."""
    if isinstance(part, dict):
        here = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
        return here + [each for value in part.values() for each in patterns(value)]
    return [each for value in part for each in patterns(value)] if isinstance(part, list) else []


def words(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return list(part.get("enum", [])) + [each for value in part.values() for each in words(value)]
    return [each for value in part for each in words(value)] if isinstance(part, list) else []


UNITS = ["ms", "s", "min", "Hours", "DAY", "kb", "GiB", "%", " %", "x", ""]
QUANTITIES = some.builds(
    lambda number, gap, unit: f"{number}{gap}{unit}",
    some.sampled_from(["0", "00.0", "1", "10", "0.5", ".5", "5.", "100", "101", "-1", "1e3", "٣"]),
    some.sampled_from(["", " ", "  ", "\t"]),
    some.sampled_from(UNITS),
)
TEXTS = (
    some.text(some.characters(exclude_categories=["Cs"]), max_size=8)
    | QUANTITIES
    | some.sampled_from(
        ["a,b", ",", " ", 'a"b', "auto", "all", "embedded", "embedded2", "env:A", "file:a", "file:///a"]
    )
    | some.sampled_from(
        ["sqlite:///a", "postgresql://h/d", "postgres://h", "https://h", "s3://b", "redis://h", "a://b"]
    )
)
NUMBERS = some.integers(-5, 70_000) | some.floats(allow_nan=False, allow_infinity=False)
PLAIN = TEXTS | NUMBERS | some.booleans()
VALUES = PLAIN | some.lists(PLAIN, max_size=3) | some.dictionaries(TEXTS, PLAIN, max_size=2)


def accepts(kind: kinds.Kind, value: Any) -> bool:
    try:
        kind.read(value)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("key", KINDS)
def test_a_key_takes_what_its_schema_takes(key: str) -> None:
    kind = KINDS[key]
    validator = Draft202012Validator(dict(kind.schema))
    values = VALUES
    for pattern in patterns(dict(kind.schema)):
        values |= some.from_regex(pattern)
    if words(dict(kind.schema)):
        values |= some.sampled_from(words(dict(kind.schema)))

    @settings(max_examples=60, deadline=None)
    @given(values)
    def same(value: Any) -> None:
        assert accepts(kind, value) == validator.is_valid(value), value

    same()


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [WHOLE, "", JOB])
def test_the_schema_accepts_what_the_reader_does(text: str) -> None:
    assert list(VALIDATOR.iter_errors(tomllib.loads(text))) == []


@pytest.mark.parametrize("name", sorted(set(FAULTS) - BEYOND))
def test_the_schema_refuses_what_the_reader_does(name: str) -> None:
    assert not VALIDATOR.is_valid(tomllib.loads(FAULTS[name][0]))


@pytest.mark.parametrize("name", sorted(BEYOND - {"no TOML", "no TOML at its end", "nested without an end"}))
def test_what_a_schema_cannot_see_is_left_to_the_reader(name: str) -> None:
    assert VALIDATOR.is_valid(tomllib.loads(FAULTS[name][0]))


def test_only_a_missing_reference_of_a_secret_is_seen_by_the_schema() -> None:
    assert [VALIDATOR.is_valid(tomllib.loads(text)) for text in SECRETS] == [True] * 6 + [False]


OPTIONS = {
    "schedule": "0 2 * * *",
    "every": "15 min",
    "mode": "upsert",
    "key": "id",
    "incremental": "rows",
    "watermark": "t",
    "into": "t",
    "max_rejects": "1%",
}
CHANGES = some.fixed_dictionaries(
    {},
    optional={
        **{name: some.just(value) for name, value in OPTIONS.items()},
        "mode": some.sampled_from(["create", "append", "replace", "upsert", "upsret"]),
        "incremental": some.sampled_from(["rows", "column"]),
    },
)


@settings(max_examples=300, deadline=None)
@given(CHANGES)
def test_what_goes_together_is_the_same_for_both(tmp_path_factory: Any, keys: dict[str, Any]) -> None:
    base = {"model": "m", "input": "sqlite:///s.db#a", "output": "sqlite:///s.db#b"}
    rows = [f'{name} = "{value}"' for name, value in {**base, **keys}.items()]
    text = '[models.m]\npath = "m.pkl"\n[jobs.j]\n' + "\n".join(rows)
    path = Path(tmp_path_factory.getbasetemp(), "bimodal.toml")
    path.write_text(text)
    assert reads(path) == VALIDATOR.is_valid(tomllib.loads(text))


def reads(path: Path) -> bool:
    try:
        config.read(path)
    except ConfigError:
        return False
    return True


def test_every_key_has_its_sentence_and_its_default() -> None:
    job = SCHEMA["properties"]["jobs"]["additionalProperties"]["properties"]
    assert set(job) == {each.name for each in dataclasses.fields(JobTable)}
    assert all(each["description"].endswith((".", "…")) for each in job.values())
    assert job["overlap"]["default"] == "skip"
    assert job["overlap"]["enum"] == ["skip", "queue", "replace"]
    assert set(SCHEMA["properties"]["server"]["properties"]) == {each.name for each in SERVE}
    assert Config(Path()).state == DEFAULT_STATE
