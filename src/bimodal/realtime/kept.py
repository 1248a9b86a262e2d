"""Kept: what the prediction log holds of an answered batch until it is written, and the columns that are made of it."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bimodal import logged
from bimodal.logged import Columns
from bimodal.model import Model
from bimodal.realtime import origin
from bimodal.realtime.origin import Origins
from bimodal.realtime.work import Key
from bimodal.rows import Rows
from bimodal.settings import joined

_PAIRS = np.frombuffer(b"".join([b"%02x" % number for number in range(256)]), np.uint8).reshape(256, 2)
_REPEATED = 16_384  # rows of a column of one value, which is then kept
_COUNTED = 5  # bytes of the number in an id: of 10^12 requests


class Kept(msgspec.Struct, eq=False):
    """An answered batch, or some works of it, in the queue. recorder: of its model. at: when, in seconds since 1970.
    key: what was asked of the model. size: in bytes.
    """

    recorder: Any
    at: float
    given: Rows
    answer: Rows
    key: Key
    origins: Origins
    rows: int
    size: int

    @property
    def kind(self) -> Hashable:
        """Those of one kind can stand in one table: of one model, for the same outputs, of the same columns."""
        given = self.given
        shapes = tuple([given.array(each).shape[1:] for each in given]) if self.recorder.model.signature.open else ()
        return self.recorder, self.key, shapes, tuple(given), tuple(self.answer)


class Ids:
    """Ids for requests that have none: a name and a number. One thread asks for them."""

    def __init__(self, name: str) -> None:
        self._begin = np.frombuffer(f"{name}-".encode(), np.uint8)
        self._next = 0

    def some(self, count: int) -> pa.Array:
        """So many, as text of one width: made as one array of digits, not one by one."""
        numbers = np.arange(self._next, self._next + count, dtype=">u8")
        self._next += count
        digits = _PAIRS[numbers.view(np.uint8).reshape(count, 8)[:, 8 - _COUNTED :]].reshape(count, 2 * _COUNTED)
        return logged.texts(np.hstack([np.broadcast_to(self._begin, (count, len(self._begin))), digits]))


def batch(model: Model, columns: Columns, kept: list[Kept], ids: Ids) -> pa.RecordBatch:
    """The log's rows of what is of one kind."""
    given = Rows.concat([each.given for each in kept])
    answer = Rows.concat([each.answer for each in kept])
    return columns.batch(given, answer, _about(model, kept, ids))


def _about(model: Model, kept: list[Kept], ids: Ids) -> dict[str, pa.Array]:
    key, origins = kept[0].key, [each.origins for each in kept]
    counts = np.frombuffer(b"".join([each.counts for each in origins]), np.int64)
    total = int(counts.sum())
    stamps = np.array([round(each.at * 1e6) for each in kept], np.int64)

    def same(value: Any, kind: pa.DataType) -> pa.Array:
        return _same(value, kind, total)

    names, routes = _names(origins, ids), _routes(origins)
    if total != len(counts):
        each_of = pa.array(np.repeat(np.arange(len(counts)), counts))  # the work of each row
        names = names.take(each_of)
        routes = routes if isinstance(routes, str) else routes.take(each_of)
    about = {
        logged.TIME: logged.plain(np.repeat(stamps, [each.rows for each in kept]), pa.timestamp("us", "UTC")),
        logged.REQUEST: names,
        logged.ROW: _numbers(origins, counts),
        logged.ROUTE: same(routes, pa.string()) if isinstance(routes, str) else routes,
        logged.OUTPUTS: same(joined(key[0]), pa.string()),
        logged.THRESHOLD: same(key[1], pa.float64()),
    }
    about[logged.RUNTIME] = same(model.runtime.name, pa.string())
    if any(each.extras for each in origins):
        about[logged.KEPT] = pa.array([text for each in origins for text in _carried(each)], pa.string())
    return about


def _same(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    """One value, so many times; such columns are made once and cut."""
    if count > _REPEATED:
        return pa.repeat(pa.scalar(value, kind), count)
    return _repeated(value, kind)[:count]


@lru_cache(64)
def _repeated(value: Any, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), _REPEATED)


def _names(origins: list[Origins], ids: Ids) -> pa.Array:
    """The ids of all works; one is made where the caller gave none."""
    count = sum([each.works for each in origins])
    if all(each.names is None for each in origins):
        return ids.some(count)
    widths = {each.width for each in origins}
    if len(widths) == 1 and 0 not in widths:
        packed = b"".join([each.names for each in origins if isinstance(each.names, bytes)])
        return logged.texts(np.frombuffer(packed, np.uint8).reshape(count, -1))
    names = pa.array([name for each in origins for name in each.ids], pa.string())
    return pc.coalesce(names, ids.some(count)) if names.null_count else names


def _routes(origins: list[Origins]) -> str | pa.Array:
    """Of all works; one where they have the same."""
    first = origins[0].routes
    if isinstance(first, str) and all(each.routes == first for each in origins):
        return first
    several = [[each.routes] * each.works if isinstance(each.routes, str) else each.routes for each in origins]
    return pa.array([route for each in several for route in each], pa.string())


def _numbers(origins: list[Origins], counts: Any) -> pa.Array:
    if any(each.numbers is not None for each in origins):
        known = [each.numbers or [range(1, count + 1) for count in each.rows] for each in origins]
        return pa.array([number for each in known for some in each for number in some], pa.int32())
    if (counts == 1).all():
        return _same(1, pa.int32(), len(counts))
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return logged.plain((np.arange(1, len(starts) + 1) - starts).astype(np.int32), pa.int32())


def _carried(origins: Origins) -> list[str | None]:
    """Of each row."""
    if origins.extras is None:
        return [None] * sum(origins.rows)
    told = [origin.carried(extra) or [None] * count for extra, count in zip(origins.extras, origins.rows, strict=True)]
    return [text for each in told for text in each]
