"""Data as a caller gives it, as Rows; and the answer in the same kind."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from bimodal.errors import InputError, UsageError
from bimodal.field import FLOATS, plainly_good
from bimodal.formats.library import library
from bimodal.lazy import collected
from bimodal.longdouble import is_long, narrowed
from bimodal.rows import Array, Rows
from bimodal.signature import EMPTY, Signature, require


def taken(data: Any, signature: Signature) -> tuple[Rows, Any]:
    """The data as Rows, and the function that gives the outputs back in the same kind."""
    if isinstance(data, Rows):
        return data, lambda answer, _: answer
    data = collected(data)
    if isinstance(data, np.ndarray):
        data = narrowed(data)
        whole = None if is_long(data) else _numbers(data, signature)
        return checked(signature, _records(data)) if whole is None else whole, _as_array
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _table_rows(signature, data, frame=True), lambda answer, sig: _as_frame(answer, sig, data)
    if type(data).__module__.startswith("pyarrow"):
        return _table_rows(signature, data, frame=False), _as_table
    if hasattr(data, "__arrow_c_stream__") and hasattr(data, "columns"):
        return _table_rows(signature, data, frame=False), lambda answer, sig: _as_stream(answer, sig, data)
    if isinstance(data, Mapping):
        rows, _, problems = signature.check_columns(data)
        require(problems)
        return rows, _as_columns
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return checked(signature, [data] if _one_row(data, signature) else data), as_records
    raise UsageError(
        f"predict takes a frame, an Arrow table, records, columns, an array or Rows, not a {type(data).__name__}"
    )


def _numbers(data: Array, signature: Signature) -> Rows | None:
    """A plain array of good numbers [rows, features] as Rows, without a look at each; None where one is needed."""
    floats = all(each.type in FLOATS for each in signature.inputs)
    if type(data) is not np.ndarray or data.ndim != 2 or data.dtype.kind not in "fiu" or not (floats and len(data)):
        return None
    field = signature.vector
    if field is not None:
        column = data.astype(field.dtype, order="C", copy=False)
        fits = field.shape[0] in (-1, data.shape[1])
        return Rows({field.name: column}) if fits and plainly_good(field, column) else None
    if signature.width != data.shape[1] or not signature.flat:
        return None
    columns = {each.name: data[:, at].astype(each.dtype) for at, each in enumerate(signature.inputs)}
    return Rows(columns) if all(plainly_good(each, columns[each.name]) for each in signature.inputs) else None


def _one_row(data: Sequence[Any], signature: Signature) -> bool:
    """Whether a flat list is the values of one row, as in `{"input": [5.1, 3.5, 1.4, 0.2]}`, good ones or not."""
    return (
        bool(data)
        and signature.flat
        and signature.width != 1
        and all(isinstance(v, str | bytes) or not hasattr(v, "__len__") for v in data)
    )


def checked(signature: Signature, records: Sequence[Any]) -> Rows:
    if not len(records):
        raise InputError.of([EMPTY])
    rows, _, problems = signature.check(records)
    require(problems)
    return rows


def _records(array: Array) -> list[Any]:
    if array.ndim == 0:
        raise InputError("an array of rows is needed, [rows, features], not a single value")
    return list(array) if array.ndim > 1 else array.tolist()


def _table_rows(signature: Signature, data: Any, *, frame: bool) -> Rows:
    table = library("bimodal.table")  # Arrow is loaded only where a table comes in
    arrow = table.from_frame(data) if frame else table.as_table(data)
    if not arrow.num_rows:
        raise InputError.of([EMPTY])
    rows: Rows
    rows, _, problems = table.Binding.bind(signature, arrow.column_names).rows(arrow)
    require(problems)
    return rows


def pieces_told(pieces: Generator[Rows]) -> Generator[dict[str, Any]]:
    with closing(pieces):
        for piece in pieces:
            yield piece_told(piece)


def piece_told(piece: Rows) -> dict[str, Any]:
    return {name: piece.array(name).tolist()[0] for name in piece}


def _as_array(answer: Rows, _: Signature) -> Any:
    arrays = [answer.array(name) for name in answer]
    return arrays[0] if len(arrays) == 1 else answer


def as_records(answer: Rows, _: Signature) -> list[dict[str, Any]]:
    lists = [answer.array(name).tolist() for name in answer]
    return [dict(zip(answer, values, strict=True)) for values in zip(*lists, strict=True)]


def _as_columns(answer: Rows, _: Signature) -> dict[str, list[Any]]:
    return {name: answer.array(name).tolist() for name in answer}


def _as_table(answer: Rows, signature: Signature) -> Any:
    return library("bimodal.table").flat(answer, signature)


def _as_stream(answer: Rows, signature: Signature, given: Any) -> Any:
    return like(_as_table(answer, signature), given)


def like(told: Any, frame: Any) -> Any:
    """A table as a frame of the library that the frame is of: of polars; else it stays a table."""
    return library("polars").from_arrow(told) if type(frame).__module__.startswith("polars") else told


def _as_frame(answer: Rows, signature: Signature, given: Any) -> Any:
    frame = _as_table(answer, signature).to_pandas()
    frame.index = given.index
    return frame
