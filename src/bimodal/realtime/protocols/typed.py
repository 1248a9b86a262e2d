"""Bodies in the words of others, decoded with a type generated from the signature: it judges nothing.

What does not fit the type goes the slow path (`InstancesDoor`), whose verdict is `Signature.check`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from bimodal.field import FLOATS
from bimodal.realtime import gather
from bimodal.realtime.protocols import body
from bimodal.realtime.protocols.rows import FastRecords, FastVectors, fast
from bimodal.signature import Signature

ABSENT = ("", "serving_default")


class Options(msgspec.Struct, forbid_unknown_fields=True):
    """`parameters`, or `params`."""

    outputs: list[str] | None = None
    threshold: float | None = None


class Read(msgspec.Struct, gc=False):
    """What a body holds: values for its gather (of `count` rows), and what is asked for."""

    shape: str
    gather: gather.Gather
    values: list[Any]
    count: int
    outputs: list[str] | None = None
    threshold: float | None = None
    names: list[str] = []  # of the values of a row, where the rows tell them and their order counts

    @property
    def plain(self) -> bool:
        """Nothing but predictions is asked for."""
        return self.outputs is None and self.threshold is None


class Typed(ABC):
    """The generated type of a model's bodies."""

    def __init__(self, shapes: Sequence[str], kinds: dict[str, Any]) -> None:
        self._shapes = shapes
        self._decode = msgspec.json.Decoder(
            msgspec.defstruct(
                "Body",
                [
                    *[(name, kinds[name] | None, None) for name in shapes],
                    ("params", Options | None, None),
                    ("parameters", Options | None, None),
                    ("signature_name", str | None, None),
                    *[("outputs", list[str] | None, None), ("threshold", float | None, None)],
                ],
                forbid_unknown_fields=True,
            )
        ).decode

    @classmethod
    def of(cls, signature: Signature, shapes: Sequence[str]) -> Typed | None:
        """The type, where the signature allows one; shapes that it cannot take are left to the slow path."""
        quick = fast(signature)
        if isinstance(quick, FastVectors):
            return _Vectors(signature, shapes, quick)
        return _Records(signature, shapes, quick) if isinstance(quick, FastRecords) else None

    def take(self, data: bytes, depth: int) -> Read | None:
        """None: the full verdict must look at it."""
        if data.count(b"{") + data.count(b"[") > depth and not body.shallow(data, depth):
            return None
        try:
            told: Any = self._decode(data)
        except body.BROKEN:
            return None
        given = [name for name in self._shapes if getattr(told, name) is not None]
        if len(given) != 1 or (told.signature_name or "") not in ABSENT:
            return None
        read = self._read(given[0], getattr(told, given[0]))
        if read is None:
            return None
        if told.params is not None and told.parameters is not None:
            return None
        options = told.params or told.parameters
        read.outputs, read.threshold = told.outputs, told.threshold
        if options is not None:
            read.outputs = read.outputs if options.outputs is None else options.outputs
            read.threshold = read.threshold if options.threshold is None else options.threshold
        return read

    @abstractmethod
    def _read(self, shape: str, value: Any) -> Read | None: ...


class _Vectors(Typed):
    """Rows of a model of vectors."""

    def __init__(self, signature: Signature, shapes: Sequence[str], quick: FastVectors) -> None:
        field = signature.inputs[0]
        number: Any = float if field.type in FLOATS else int
        number = number | None if field.nullable and number is float else number
        rows = list[list[number]]
        split = msgspec.defstruct(
            "Split",
            [("data", rows), ("columns", list[str | int] | None, None), ("index", list[Any] | None, None)],
            forbid_unknown_fields=True,
        )
        kinds: dict[str, Any] = dict.fromkeys(("instances", "inputs", "rows"), rows)
        kinds |= {"input": list[number | list[number]], "dataframe_split": split}
        kinds["dataframe_records"] = list[dict[str, number]]
        super().__init__([name for name in shapes if name in kinds], kinds)
        self._gather = quick.gather
        self._one = field.shape[0] == 1
        self._name = field.name

    def _read(self, shape: str, value: Any) -> Read | None:
        rows, names = value, []
        if shape == "dataframe_split":
            rows = value.data
            if value.columns is not None and any(len(row) != len(value.columns) for row in rows):
                return None
        elif shape == "dataframe_records":
            names = list(rows[0]) if rows else []
            if self._name in names or any(list(row) != names for row in rows):
                return None
            rows = [list(row.values()) for row in rows]
        elif shape == "input" and rows and type(rows[0]) is not list:
            if self._one and len(rows) > 1:
                return None
            rows = [rows]
        if not rows or not rows[0]:
            return None
        return Read(shape, self._gather, rows, len(rows), names=names)


class _Records(Typed):
    """Rows of named columns."""

    def __init__(self, signature: Signature, shapes: Sequence[str], quick: FastRecords) -> None:
        row: Any = signature.row_type
        column = list[bool | int | float | str | None]
        split = msgspec.defstruct(
            "Split",
            [("columns", list[str]), ("data", list[column]), ("index", list[Any] | None, None)],
            forbid_unknown_fields=True,
        )
        kinds: dict[str, Any] = dict.fromkeys(("instances", "dataframe_records", "rows"), list[row])
        kinds |= {"input": row | list[row], "inputs": dict[str, column], "dataframe_split": split}
        super().__init__([name for name in shapes if name in kinds], kinds)
        self._rows = quick.gather
        self._columns = gather.columns(signature)
        self._names = [each.name for each in signature.inputs]

    def _read(self, shape: str, value: Any) -> Read | None:
        if shape == "dataframe_split":
            return self._split(value)
        if shape == "inputs":
            return self._of_columns(shape, value)
        rows = value if type(value) is list else [value]
        return Read(shape, self._rows, rows, len(rows))

    def _split(self, value: Any) -> Read | None:
        names, rows = value.columns, value.data
        if not rows or len(set(names)) < len(names) or any(len(row) != len(names) for row in rows):
            return None
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        return self._of_columns("dataframe_split", columns)

    def _of_columns(self, shape: str, columns: dict[str, Any]) -> Read | None:
        try:
            values = [columns[name] for name in self._names]
        except KeyError:
            return None
        count = len(values[0])
        if any(len(column) != count for column in columns.values()):
            return None
        return Read(shape, self._columns, values, count)
