"""Scenes: Rows as a caller would bring them, in a file or in the body of a request."""

from __future__ import annotations

import asyncio
import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bimodal.batch.sources.contract import MISSING
from bimodal.errors import BimodalError
from bimodal.field import Field
from bimodal.model import Model
from bimodal.realtime import wiring
from bimodal.realtime.exchange import Request, Response
from bimodal.realtime.limits import Limits
from bimodal.rows import Array, Rows
from bimodal.signature import Signature
from bimodal.table import arrow_column

PATIENCE = 600.0  # seconds


class Lent(Model):
    """A model that its owner closes: a server that ends leaves it open, and the next scene need not load it anew."""

    def __init__(self, model: Model) -> None:
        self.__dict__ |= model.__dict__

    def close(self) -> None:
        return


class Unfit(Exception):
    """These rows cannot go this way: CSV has no lists, JSON no infinity."""


# -- files -------------------------------------------------------------------------------------------------------------


def write(rows: Rows, signature: Signature, place: Path) -> str:
    """Write the rows to a .csv or .parquet file; returns what stands for a missing value there."""
    listed = table(rows, signature)
    null = _marker(listed)
    if place.suffix == ".parquet":
        pq.write_table(listed, place)
        return null
    for each in listed.schema:
        if pa.types.is_nested(each.type):
            raise Unfit(f"CSV has no lists, as in {each.name!r}")
    with place.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(listed.column_names)
        for row in listed.to_pylist():
            writer.writerow([_cell(value, null) for value in row.values()])
    return null


def table(rows: Rows, signature: Signature) -> pa.Table:
    """Columns by name, without those that may be left out and are; a vector's places are columns of their own, in their
    order.
    """
    columns: dict[str, pa.Array] = {}
    for each in (each for each in signature.inputs if each.name in rows):
        array = rows.array(each.name)
        if signature.vector is not None and array.ndim == 2:
            names = [f"x{place}" for place in range(array.shape[1])]
            columns |= {name: pa.array(np.ascontiguousarray(array[:, at])) for at, name in enumerate(names)}
        else:
            columns[each.name] = _column(each.name, array)
    return pa.table(columns)


def _column(name: str, array: Array) -> pa.Array:
    try:
        return arrow_column(array) if array.ndim == 1 else pa.array(array.tolist())
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise Unfit(f"a file's column has one type, unlike {name!r}") from error


def _marker(table: pa.Table) -> str:
    """A word for missing values that is no value of the table."""
    texts = {value for column in table.columns if pa.types.is_string(column.type) for value in column.to_pylist()}
    return next(
        word for word in (*MISSING[2:], *(f"null{number}" for number in range(len(texts) + 1))) if word not in texts
    )


def _cell(value: Any, null: str) -> str:
    if value is None or value != value:
        return null
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


# -- requests ----------------------------------------------------------------------------------------------------------


def over_http(
    model: Model, rows: Rows, outputs: Sequence[str], size: int, together: int, *, threshold: float | None = None
) -> Rows:
    """The answers of the server's app, in process: `size` rows a request, `together` requests in one turn of its loop.

    Raises Unfit where JSON cannot carry the rows, BimodalError with what a request was told.
    """
    asked = bodies(rows, model.signature, outputs, size, threshold=threshold)
    answers = asyncio.run(_asked(model, rows.count, asked, together))
    told = [_told(each) for each in answers]
    fields = {each.name: each for each in model.signature.outputs}
    return Rows({name: _joined([each[name] for each in told], fields[name]) for name in outputs})


def bodies(
    rows: Rows, signature: Signature, outputs: Sequence[str] | None, size: int, *, threshold: float | None = None
) -> list[bytes]:
    """JSON for /predict, `size` rows each. outputs: None leaves them to the server. Raises Unfit."""
    lists = {name: _plain(rows.array(name)) for name in rows}
    records: list[Any]
    if signature.named:
        key, records = "rows", [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    elif len(lists) == 1:
        key, records = "input", next(iter(lists.values()))
    else:
        key, records = "input", [list(row) for row in zip(*lists.values(), strict=True)]
    named: dict[str, Any] = {} if outputs is None else {"outputs": list(outputs)}
    named |= {} if threshold is None else {"threshold": threshold}
    return [
        msgspec.json.encode({key: records[start : start + size], **named}) for start in range(0, len(records), size)
    ]


def _plain(array: Array) -> list[Any]:
    """Values as JSON has them."""
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise Unfit("JSON has no infinity")
    if array.dtype.kind == "M":
        return [None if np.isnat(each) else str(each) for each in array]
    listed: list[Any] = array.tolist()
    return _without_nan(listed) if array.dtype.kind in "fO" else listed


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


async def _asked(model: Model, count: int, bodies: Sequence[bytes], together: int) -> list[Response]:
    """One app for all; it refuses nothing for its size or its waiting."""
    size = max(map(len, bodies))
    limits = Limits(rows=count, body_bytes=max(size, 1), deadline=PATIENCE)
    wired = wiring.wire([Lent(model)], limits, queue_target=PATIENCE)
    loop = asyncio.get_running_loop()
    answers: list[Response] = []
    headers = {b"content-type": b"application/json", b"host": b"localhost"}
    try:
        for start in range(0, len(bodies), together):
            waiting: list[asyncio.Future[Response]] = []
            for body in bodies[start : start + together]:
                waiting.append(loop.create_future())
                wired.app(Request("POST", "/predict", "", headers, body, time.monotonic()), waiting[-1].set_result)
            answers += await asyncio.gather(*waiting)
        return answers
    finally:
        await wired.close()


def _told(response: Response) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(response.body)
    if response.status != 200:
        raise BimodalError(f"{response.status}: {told.get('error')}")
    return told


def _joined(parts: Sequence[list[Any]], each: Field) -> Array:
    values = [value for part in parts for value in part]
    if each.shape or not each.dtype.hasobject:
        return np.array(values, each.dtype)
    array = np.empty(len(values), object)
    array[:] = values
    return array
