"""The JSON Schema of bimodal.toml, for editors: made from tables and settings, so that it says what `read` says.

What a schema cannot say (a name that stands elsewhere, a time zone, a cron line, a password in an address) is left to
`bimodal config verify`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING
from typing import Any, get_type_hints

from bimodal import settings
from bimodal.config import kinds
from bimodal.config.reading import CALLED, inner, sentence
from bimodal.config.tables import JobTable, ModelTable, NotifyTable, StoreTable

DRAFT = "https://json-schema.org/draft/2020-12/schema"
STATE_HELP = "Where the state of the jobs is kept: sqlite:///PATH, or postgresql://… for several machines."
DEFAULT_STATE = "sqlite:///.bimodal/state.db"

Schema = dict[str, Any]


def schema() -> Schema:
    """The schema, in draft 2020-12."""
    return {
        "$schema": DRAFT,
        "title": "bimodal.toml",
        "description": "Models, a server and jobs, for `bimodal up`.",
        **_object(
            {
                "state": {**kinds.STATE.schema, "description": STATE_HELP, "default": DEFAULT_STATE},
                "server": server(),
                "models": _by_name(ModelTable),
                "jobs": _by_name(JobTable),
            }
        ),
    }


def server() -> Schema:
    """[server]: the settings of `bimodal serve`."""
    known = {each.name: _described(kinds.of_setting(each).schema, each.help, each.default) for each in settings.SERVE}
    return {"description": "[server]: as the options of `bimodal serve`.", **_object(known)}


def _by_name(kind: type[Any]) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": CALLED}, "additionalProperties": table(kind)}


def table(kind: type[Any]) -> Schema:
    """The schema of one table."""
    hints = get_type_hints(kind, include_extras=True)
    properties: Schema = {}
    required = []
    for each in dataclasses.fields(kind):
        hint = hints[each.name]
        default = each.default if each.default is not MISSING else None
        properties[each.name] = _described(_value(hint), sentence(hint), default)
        if each.default is MISSING and each.default_factory is MISSING:
            required.append(each.name)
    text = " ".join((kind.__doc__ or "").split())
    return {"description": text, **_object(properties), "required": required, **RULES.get(kind, {})}


def _value(hint: Any) -> Schema:
    plain = kinds.of_annotation(hint)
    if plain is not None:
        return dict(plain.schema)
    kind, many = inner(hint)
    return {"type": "array", "items": table(kind)} if many else table(kind)


def _described(schema: Any, text: str, default: Any) -> Schema:
    shown = list(default) if isinstance(default, tuple) else default
    return {**schema, "description": text, **({} if shown is None or shown == [] else {"default": shown})}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


# -- what goes together, as `checks.py` has it ------------------------------------------------------------------------


def _is(name: str, *values: str) -> Schema:
    return {"required": [name], "properties": {name: {"enum": list(values)}}}


RULES: dict[type[Any], Schema] = {
    JobTable: {
        "allOf": [
            {"not": {"required": ["schedule", "every"]}},
            {"if": _is("mode", "upsert"), "then": {"required": ["key"]}},
            {"if": {"required": ["key"]}, "then": {"anyOf": [_is("mode", "upsert"), _is("incremental", "rows")]}},
            {"if": {"required": ["watermark"]}, "then": _is("incremental", "column")},
            {"if": _is("incremental", "column"), "then": {"required": ["watermark"]}},
            {
                "if": _is("incremental", "rows"),
                "then": {"allOf": [{"required": ["key"]}, _is("mode", "append", "upsert")]},
            },
        ]
    },
    NotifyTable: {
        "oneOf": [{"required": ["url"]}, {"required": ["command"]}],
        "dependentRequired": {"secret": ["url"]},
    },
    ModelTable: {},
    StoreTable: {},
}
