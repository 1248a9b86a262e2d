"""A long body of Open Inference in JSON, its tensors of numbers decoded stretch by stretch: between two stretches the
event loop answers others.

The lists of data are taken out; what is left is a small body, which says what is asked. What cannot be cut so (texts
among the data, letters beyond ASCII, an escaped one) or does not fit goes the ordinary way, as a whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from bimodal.field import FLOATS, INTEGERS, Field, column_of, plainly_good
from bimodal.realtime import gather
from bimodal.realtime.exchange import Request, Respond
from bimodal.realtime.protocols import binary, body, choice, terms
from bimodal.realtime.protocols.inference import DATATYPES
from bimodal.realtime.protocols.piecemeal import PIECE
from bimodal.realtime.protocols.underway import Underway
from bimodal.realtime.work import Work
from bimodal.rows import Rows
from bimodal.signature import Signature

if TYPE_CHECKING:
    from bimodal.realtime.protocols.openinference import InferDoor

SPECIAL = frozenset((binary.LENGTH, b"content-encoding"))  # headers of what is no plain JSON
DEPTH = 8  # levels of the deepest body that is cut
_data = re.compile(rb'"data"\s*:\s*\[').search

Span = tuple[int, int]


def parted(data: bytes) -> tuple[bytes, list[Span]] | None:
    """A body without what its lists of data hold, and where that stands; None where that cannot be told."""
    if b"\\" in data or not data.isascii():
        return None
    kept: list[bytes] = []
    spans: list[Span] = []
    at = 0
    while (found := _data(data, at)) is not None:
        start = found.end()
        stops = [stop for stop in (data.find(b'"', start), data.find(b"}", start)) if stop >= 0]
        end = data.rfind(b"]", start, min(stops, default=start))
        if end < 0:
            return None
        kept.append(data[at:start])
        spans.append((start, end))
        at = end
    return b"".join([*kept, data[at:]]), spans


def stretches(data: bytes, span: Span) -> Iterator[bytes]:
    """What a list holds, as short lists in order."""
    at, stop = span
    mark = b"]," if data[at : at + 64].lstrip().startswith(b"[") else b","
    while stop - at > PIECE:
        cut = data.find(mark, at + PIECE, stop)
        if cut < 0:
            break
        cut += len(mark) - 1
        yield b"[%b]" % data[at:cut]
        at = cut + 1
    yield b"[%b]" % data[at:stop]


class Stretches:
    """What takes such requests of one door. quickly: what a small body says, or None. whole: the work of any body."""

    def __init__(
        self, door: InferDoor, quickly: Callable[[bytes], Any], whole: Callable[[Request, Respond], Work]
    ) -> None:
        self.door = door
        self.quickly = quickly
        self.whole = whole
        signature = door.served.signature
        self.reader: _Vectors | _Columns | None = None
        if not signature.named and signature.vector is not None:
            self.reader = _Vectors(signature.vector)
        elif signature.named and gather.scalars(signature):
            self.reader = _Columns(signature)

    def __call__(self, request: Request, respond: Respond) -> Callable[[], None]:
        return _Stretched(self, request, respond).cancel


class _Stretched(Underway):
    """One such request."""

    def __init__(self, taker: Stretches, request: Request, respond: Respond) -> None:
        super().__init__(taker.door, request, respond)
        self._taker = taker

    async def taken(self) -> Work:
        work = await self._in_stretches()
        return self._taker.whole(self.request, self.respond) if work is None else work

    async def _in_stretches(self) -> Work | None:
        """The request as a work, or None where it has to be looked at as a whole. Raises InputError, UsageError."""
        request, served, reader = self.request, self._taker.door.served, self._taker.reader
        start, limits, special = monotonic(), served.limits, not SPECIAL.isdisjoint(request.headers)
        found = None if special or reader is None or limits.depth < DEPTH else parted(request.body)
        if found is None or reader is None or served.ragged:
            return None
        small, spans = found
        told = self._taker.quickly(small)
        if told is None or len(told.inputs) != len(spans) or any(map(_held, told.inputs)):
            return None
        await asyncio.sleep(0)
        rows = await reader.rows(told.inputs, request.body, spans, limits.rows)
        if rows is None or not rows.count:
            return None
        most = choice.seconds(request.headers, limits.deadline)
        terms.stateless(told.parameters or {})
        key = terms.chosen(served, told.parameters, told.outputs)
        deadline, rank = terms.deadline(told.parameters, start, most), terms.rank(told.parameters)
        now = monotonic()
        values, parse = [rows], now - start
        return Work(
            self._taker.door,
            request,
            self.respond,
            gather.ready,
            values,
            rows.count,
            key,
            deadline,
            now,
            parse,
            told.id,
            rank,
        )


class _Vectors:
    """The one tensor [rows, features] of a model of vectors, flat or nested."""

    def __init__(self, field: Field) -> None:
        number: Any = int if field.type in INTEGERS else float
        number = number | None if field.nullable and number is float else number
        self._field = field
        self._gather = gather.vectors(field)
        self._decode = msgspec.json.Decoder(list[number | list[number]]).decode

    async def rows(self, tensors: Sequence[Any], data: bytes, spans: Sequence[Span], most: int) -> Rows | None:
        """None: the full verdict must look at them."""
        if len(tensors) != 1 or tensors[0].datatype not in quick(self._field) or len(tensors[0].shape) != 2:
            return None
        count, width = tensors[0].shape
        if not 0 < count <= most or width != self._field.shape[0]:
            return None
        parts: list[Rows] = []
        left: list[Any] = []  # of a row that is not whole
        nested = data[spans[0][0] : spans[0][0] + 64].lstrip().startswith(b"[")
        async for values in _decoded(self._decode, data, spans[0]):
            if values is None or nested != (type(values[0]) is list):
                return None
            if not nested:
                left += values
                whole = len(left) - len(left) % width
                values, left = [left[at : at + width] for at in range(0, whole, width)], left[whole:]
            if not values:
                continue
            rows = self._gather([values])
            if rows is None:
                return None
            parts.append(rows)
        return Rows.concat(parts) if not left and sum([each.count for each in parts]) == count else None


class _Columns:
    """The tensors [rows] or [rows, 1] of a model of named columns of scalars, one a column."""

    def __init__(self, signature: Signature) -> None:
        self._fields = [(each, gather.allowed(each)) for each in signature.inputs]
        self._decode = msgspec.json.Decoder(list[bool | int | float | None]).decode

    async def rows(self, tensors: Sequence[Any], data: bytes, spans: Sequence[Span], most: int) -> Rows | None:
        """None: the full verdict must look at them."""
        found = {tensor.name: (tensor, span) for tensor, span in zip(tensors, spans, strict=True)}
        count = tensors[0].shape[0] if tensors and tensors[0].shape else 0
        if len(tensors) != len(self._fields) or not 0 < count <= most:
            return None
        columns = {}
        for field, kinds in self._fields:
            tensor, span = found.get(field.name, (None, (0, 0)))
            if tensor is None or tensor.shape not in ([count], [count, 1]) or tensor.datatype not in quick(field):
                return None
            parts = []
            async for values in _decoded(self._decode, data, span):
                if values is None or not kinds.issuperset(map(type, values)):
                    return None
                column = column_of(field, values)
                if not plainly_good(field, column):
                    return None
                parts.append(Rows({field.name: column}))
            columns[field.name] = Rows.concat(parts)[field.name]
            if len(columns[field.name]) != count:
                return None
        return Rows(columns)


def _held(tensor: Any) -> bool:
    return bool(tensor.data)


async def _decoded(decode: Callable[[bytes], Any], data: bytes, span: Span) -> AsyncIterator[list[Any] | None]:
    """The values of a list, stretch by stretch; None where one is no such list, or is empty."""
    for stretch in stretches(data, span):
        try:
            values: list[Any] = decode(stretch)
        except body.BROKEN:
            values = []
        yield values or None
        del values
        await asyncio.sleep(0)


def quick(field: Field) -> tuple[str, ...]:
    """The datatypes whose values need no look before they are gathered for the field."""
    if field.type in FLOATS:
        return "FP64", "FP32"
    return ("BYTES",) if field.type == "string" else (DATATYPES[field.type],)
