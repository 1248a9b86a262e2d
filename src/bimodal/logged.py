"""Logged: what a model was given and what it answered, as the columns of the prediction log, and back.

A row of the log is a row that was predicted. The features stand first, under their own names and in their own types, so
that a file of the log is an input as any other; what is known beside them stands in columns that begin with `logged_`.
A vector's places are columns of their own, x0, x1, …, as everywhere. Null is null. What has no one type (features of
type `any`, outputs of any width) is text that holds JSON, and is marked so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bimodal.errors import UsageError
from bimodal.field import INTEGERS, Field
from bimodal.rows import Column, Dictionary, Rows
from bimodal.signature import Signature
from bimodal.table import JSON, flat, flat_schema

PREFIX = "logged_"
TIME, REQUEST, ROW = "logged_time", "logged_request_id", "logged_row"
MODEL, VERSION, DIGEST, RUNTIME = "logged_model", "logged_version", "logged_digest", "logged_runtime"
ROUTE, OUTPUTS, THRESHOLD, KEPT = "logged_route", "logged_outputs", "logged_threshold", "logged_kept"
ABOUT = (  # beside those of SAME
    pa.field(TIME, pa.timestamp("us", "UTC")),
    pa.field(REQUEST, pa.string()),
    pa.field(ROW, pa.int32()),
    pa.field(RUNTIME, pa.string()),
    pa.field(ROUTE, pa.string()),
    pa.field(OUTPUTS, pa.string()),
    pa.field(THRESHOLD, pa.float64()),
    pa.field(KEPT, pa.string(), metadata=JSON),
)
SAME = (MODEL, VERSION, DIGEST)  # in all rows of a file
ANY = {b"bimodal": b"any"}  # marks a feature of any type
WIDE = 4096  # places of a vector that are columns of their own; a longer one is a column of lists

_json = msgspec.json.Encoder(enc_hook=str).encode


def whole(schema: pa.Schema) -> pa.Schema:
    """With the columns that are the same in all rows of a file, of which its stream knows in its metadata alone."""
    fields, told = list(schema), schema.metadata or {}
    at = next((place for place, each in enumerate(fields) if each.name == RUNTIME), 0)
    fields[at:at] = [pa.field(name, pa.string()) for name in SAME if name.encode() in told]
    return pa.schema(fields)


def completed(table: pa.Table) -> pa.Table:
    """The rows of a stream with these columns too."""
    names, told = whole(table.schema).names, table.schema.metadata or {}
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.repeat(pa.scalar(told[name.encode()].decode()), len(table)))
    return table.select(names)


class Columns:
    """The log's columns for one signature. without: features that are left out."""

    def __init__(self, signature: Signature, without: Sequence[str] = ()) -> None:
        self._signature = signature
        self._inputs = [each for each in signature.inputs if each.name not in without]
        self._outputs = [each for each in signature.outputs if each.name not in without]
        features = [one for each in self._inputs for one in self._fields(each)]
        if without:
            features = [one for one in features if one.name not in without]
        self.features = [one.name for one in features]
        answers = [one for each in self._outputs for one in _answer_fields(each, signature)]
        self.schema = pa.schema([*features, *ABOUT, *answers])
        twice = next((name for name in self.features if self.features.count(name) > 1), None)
        taken = next((name for name in self.features if name.startswith(PREFIX)), None)
        if taken is not None or twice is not None:
            raise UsageError(
                f"the feature {taken or twice!r} has the name of another column of the prediction log; leave it out of "
                f"the log: prediction_log_without = {taken or twice}"
            )

    def stream_schema(self, *same: str) -> pa.Schema:
        """That of the rows, which knows the values of SAME."""
        return self.schema.with_metadata(dict(zip(SAME, same, strict=True)))

    def _fields(self, each: Field) -> list[pa.Field]:
        if self.spread(each):
            return [pa.field(f"x{place}", value_type(each)) for place in range(each.shape[0])]
        if each.type == "any":
            return [pa.field(each.name, pa.string(), metadata=ANY)]
        kind = value_type(each)
        for _ in each.shape:
            kind = pa.list_(kind)
        return [pa.field(each.name, kind)]

    def spread(self, each: Field) -> bool:
        """Whether a vector's places are columns of their own."""
        vector = self._signature.vector
        return each == vector and not self._signature.named and len(each.shape) == 1 and 0 < each.shape[0] <= WIDE

    def batch(self, given: Rows, answer: Rows, about: Mapping[str, pa.Array]) -> pa.RecordBatch:
        """The log's rows. given and answer: as many rows; what of them is not there (an optional feature, an output
        that was not asked for) is null. about: the columns of ABOUT.
        """
        made: dict[str, pa.Array] = dict(about)
        for each in self._inputs:
            if each.name in given:
                made |= self._given(each, given[each.name])
        table = answers(answer.select([each.name for each in self._outputs if each.name in answer]), self._signature)
        made |= {f"{PREFIX}{name}": table.column(name).combine_chunks() for name in table.column_names}
        count = given.count
        return pa.RecordBatch.from_arrays(
            [_fitting(made.get(each.name), each.type, count) for each in self.schema], schema=self.schema
        )

    def answered(self, output: str) -> list[str]:
        """The flat columns of an output, as `answers` names them."""
        fields = _answer_fields(self._signature.output(output), self._signature)
        return [each.name.removeprefix(PREFIX) for each in fields]

    def _given(self, each: Field, column: Column) -> dict[str, pa.Array]:
        if self.spread(each):
            array = column.decode() if isinstance(column, Dictionary) else column
            kind, wanted = value_type(each), set(self.features)
            names = [f"x{place}" for place in range(each.shape[0])]
            columns = np.ascontiguousarray(array.T) if array.dtype != object else array.T
            if _is_bare(columns, kind):
                return {name: plain(one, kind) for name, one in zip(names, columns, strict=True) if name in wanted}
            return {name: _array(one, kind) for name, one in zip(names, columns, strict=True) if name in wanted}
        if each.type == "any":
            return {each.name: _told(column)}
        return {each.name: arrow(each, column)}


def answers(answer: Rows, signature: Signature) -> pa.Table:
    """What a model answered as flat columns; of an output of any width or type one of JSON."""
    fields = [signature.output(name) for name in answer]
    plain = [each.name for each in fields if not is_open(each)]
    table = flat(answer.select(plain), signature) if plain else pa.table({})
    for each in fields:
        if is_open(each):
            table = table.append_column(each.name, _told(answer[each.name]))
    return table


def value_type(each: Field) -> pa.DataType:
    """What a scalar of the field is in Arrow. float16 is kept as float32, which holds it exactly and which all read."""
    if each.type in ("string", "any"):
        return pa.string()
    if each.type == "timestamp":
        return pa.timestamp("us")
    if each.type == "bool":
        return pa.bool_()
    return pa.float32() if each.type == "float16" else pa.from_numpy_dtype(np.dtype(each.type))


def arrow(each: Field, column: Column) -> pa.Array:
    """A feature as Arrow; missing values are null."""
    kind = value_type(each)
    if isinstance(column, Dictionary):
        indices = pa.array(column.codes, mask=column.codes < 0)
        values = pa.array(column.values, pa.string())
        return pa.DictionaryArray.from_arrays(indices, values).dictionary_decode()
    if column.ndim == 1:
        return _array(column, kind)
    if column.dtype == object or each.type == "timestamp":
        return pa.array(column.tolist(), _list_type(kind, column.ndim - 1))
    made = _array(np.ascontiguousarray(column).reshape(-1), kind)
    for axis in range(column.ndim - 1, 0, -1):
        size, count = column.shape[axis], math.prod(column.shape[:axis])
        offsets = pa.array(
            np.arange(0, (count + 1) * size, size, dtype=np.int32) if size else np.zeros(count + 1, "i4")
        )
        made = pa.ListArray.from_arrays(offsets, made)
    return made


def _list_type(kind: pa.DataType, depth: int) -> pa.DataType:
    return kind if not depth else pa.list_(_list_type(kind, depth - 1))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return plain(values, kind) if _is_bare(values, kind) else pa.array(values, kind, from_pandas=True)


def _is_bare(values: Any, kind: pa.DataType) -> bool:
    """Whether they are floats as Arrow has them, and none is missing."""
    return values.dtype.kind == "f" and values.dtype == kind.to_pandas_dtype() and not np.isnan(values).any()


def plain(values: Any, kind: pa.DataType) -> pa.Array:
    """Numbers as they lie in memory, none of which is missing: many short columns are made without a look at each."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def texts(letters: Any) -> pa.Array:
    """Texts of one width, of letters of ASCII: uint8 [n, width]."""
    ends = np.arange(len(letters) + 1, dtype=np.int32) * letters.shape[1]
    return pa.Array.from_buffers(pa.string(), len(letters), [None, pa.py_buffer(ends), pa.py_buffer(letters)])


def _told(column: Column) -> pa.Array:
    """Values of any type as JSON, each as text."""
    array = column.decode() if isinstance(column, Dictionary) else column
    return pa.array([None if _missing(value) else _json(_plain(value)).decode() for value in array], pa.string())


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def is_open(each: Field) -> bool:
    """Whether nobody knows the columns of an output before it is there."""
    return -1 in each.shape or each.type == "any"


def _answer_fields(each: Field, signature: Signature) -> list[pa.Field]:
    if is_open(each):
        return [pa.field(f"{PREFIX}{each.name}", pa.string(), metadata=ANY)]
    schema = flat_schema([each.name], signature)
    typed = dict(zip(schema.names, schema.types, strict=True))
    if not each.shape and each.type in (*INTEGERS, "bool", "string"):
        typed = dict.fromkeys(schema.names, value_type(each))
    return [pa.field(f"{PREFIX}{name}", kind) for name, kind in typed.items()]


def _fitting(column: pa.Array | None, kind: pa.DataType, count: int) -> pa.Array:
    if column is None:
        return pa.nulls(count, kind)
    return column if column.type == kind else column.cast(kind)
