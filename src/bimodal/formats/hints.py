"""A signature from Python's own annotations: TypedDict, dataclass, msgspec.Struct, NamedTuple, or names with types."""

from __future__ import annotations

import datetime
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from bimodal.errors import ModelError
from bimodal.field import TYPES, Field

SCALARS = {
    float: "float64",
    int: "int64",
    str: "string",
    bool: "bool",
    datetime.datetime: "timestamp",
    datetime.date: "timestamp",
    Any: "any",
}
EXAMPLES = {"float64": 0.0, "int64": 0, "string": "text", "bool": False, "timestamp": "2024-01-01T00:00:00", "any": 0.0}
SEVERAL = (list, Sequence, Iterable, Collection, tuple)


def row_fields(hint: Any) -> tuple[Field, ...] | None:
    """The fields of an annotated row (or list of rows); None where the annotation says nothing of columns."""
    if get_origin(hint) in SEVERAL and get_args(hint):
        hint = get_args(hint)[0]
    if not isinstance(hint, type) or not _is_row(hint):
        return None
    return tuple(field_of(name, each) for name, each in typing.get_type_hints(hint).items())


def _is_row(hint: type) -> bool:
    return any(
        hasattr(hint, mark) for mark in ("__dataclass_fields__", "__struct_fields__", "_fields", "__required_keys__")
    )


def field_of(name: str, hint: Any) -> Field:
    """One column: float, int, str, bool, datetime, `X | None`, Literal[…], list[float], dict and
    list[dict] (JSON), or the name of a type."""
    if isinstance(hint, Field):
        return hint
    if isinstance(hint, str) and hint in TYPES:
        return Field(name, hint, example=EXAMPLES.get(hint, 0))
    nullable = False
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [each for each in get_args(hint) if each is not type(None)]
        nullable = len(kinds) < len(get_args(hint))
        hint = kinds[0] if len(kinds) == 1 else (float if set(kinds) == {int, float} else Any)
    if get_origin(hint) is Literal:
        return _closed(name, get_args(hint), nullable=nullable)
    if _is_nested(hint):
        holds = "list" if get_origin(hint) in (list, Sequence) else "object"
        example = "[]" if holds == "list" else "{}"
        return Field(name, "string", nullable=nullable, nested=True, holds=holds, example=example)
    if get_origin(hint) in (list, Sequence):
        inner = field_of(name, get_args(hint)[0])
        return Field(name, inner.type, (-1, *inner.shape), nullable=nullable, example=[inner.example])
    kind = SCALARS.get(hint)
    if kind is None:
        raise ModelError(
            f"{name!r} has a type that no column has: use float, int, str, bool, datetime, a list of one of them "
            "(list[float]), or dict and list[dict] for JSON"
        )
    return Field(name, kind, nullable=nullable, example=EXAMPLES[kind])


def _is_nested(hint: Any) -> bool:
    """Objects, and lists of objects: what has no column of its own is kept as JSON."""
    if get_origin(hint) in (list, Sequence) and get_args(hint):
        return _is_nested(get_args(hint)[0])
    return (get_origin(hint) or hint) in (dict, Mapping)


def _closed(name: str, values: tuple[Any, ...], *, nullable: bool) -> Field:
    kind = SCALARS.get(type(values[0]), "any")
    return Field(name, kind, nullable=nullable, categories=values, closed=True, example=values[0])


def declared(given: Any, unsaid: Any = float) -> tuple[Field, ...] | None:
    """The fields of an `inputs` or `outputs` attribute: names and types, Fields, names alone, or a row type.

    unsaid: the type of a name alone.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return tuple(field_of(str(name), hint) for name, hint in given.items())
    if isinstance(given, type):
        return row_fields(given)
    if isinstance(given, str):
        return (field_of(given, unsaid),)
    return tuple(each if isinstance(each, Field) else field_of(str(each), unsaid) for each in given)
