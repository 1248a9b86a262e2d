"""MLflow's signature of a model, as Fields.

Source: the `signature` entry of an MLmodel file; its inputs are a JSON text, a list of columns
(`{"name": "age", "type": "double", "required": false}`) or of tensors (`{"type": "tensor", "tensor-spec": …}`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bimodal.errors import ModelError
from bimodal.field import TYPES, Field

COLUMNS = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "string",
    "datetime": "timestamp",
}
TENSORS = {"object": "string", "str": "string", "datetime64[ns]": "timestamp", "bool": "bool"}
EXAMPLES = {"string": "text", "bool": False, "timestamp": "2024-01-01T00:00:00"}


class Schema:
    """The inputs of an MLflow signature. fields: one for each column or tensor. named: the columns have names.
    tensors: the model is asked with arrays, not with a frame.
    """

    def __init__(self, fields: Sequence[Field], *, named: bool, tensors: bool) -> None:
        self.fields = tuple(fields)
        self.named = named
        self.tensors = tensors

    @classmethod
    def read(cls, signature: object, path: str) -> Schema | None:
        """The inputs of the signature; None where it tells none. Raises ModelError where it cannot be read."""
        text = signature.get("inputs") if isinstance(signature, Mapping) else None
        if not text:
            return None
        try:
            told = json.loads(text) if isinstance(text, str) else text
            tensors = any(each.get("type") == "tensor" for each in told)
            named = all(each.get("name") is not None for each in told)
            fields = [_field(each, place, path) for place, each in enumerate(told)]
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ModelError(f"{path}: its signature cannot be read ({type(error).__name__}: {error})") from error
        if tensors and not named:
            fields = [replace(each, name="input") for each in fields[:1]]
        return cls(fields, named=named, tensors=tensors)

    @property
    def flat(self) -> bool:
        """Named columns of single values: what a table has."""
        return self.named and not self.tensors and all(not each.shape for each in self.fields)


def _field(told: Mapping[str, Any], place: int, path: str) -> Field:
    name = str(told.get("name", f"x{place}"))
    if told["type"] == "tensor":
        spec = told["tensor-spec"]
        kind = TENSORS.get(spec["dtype"], spec["dtype"])
        if kind not in TYPES:
            raise ModelError(f"{path}: its input {name!r} is of type {spec['dtype']}, which Bimodal has no column for")
        field = Field(name, kind, tuple(int(size) for size in spec["shape"][1:]), nullable=kind in ("string",))
    else:
        kind, depth = told["type"], 0
        while kind == "array":
            told, depth = {**told, **told["items"]}, depth + 1
            kind = told["type"]
        if kind not in COLUMNS:
            raise ModelError(
                f"{path}: its input {name!r} is of MLflow's type {kind}, which no row of a table can carry"
            )
        nullable = kind not in ("integer", "long") and not told.get("required", True)  # MLflow refuses nulls in them
        field = Field(name, COLUMNS[kind], (-1,) * depth, nullable=nullable)
    field = replace(field, finite=False)
    return replace(field, example=_example(field))


def _example(field: Field) -> Any:
    """A plausible value: of texts, times and numbers alike."""
    value: Any = EXAMPLES.get(field.type, 0 if field.type.startswith(("int", "uint")) else 0.0)
    for size in reversed(field.shape):
        value = [value] * (1 if size < 0 else size)
    return value
