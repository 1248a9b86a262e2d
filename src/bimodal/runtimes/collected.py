"""Whole answers out of pieces: texts are joined, of everything else the last one counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bimodal.errors import ModelFailed
from bimodal.field import Field, column_of
from bimodal.rows import Column, Dictionary, Rows
from bimodal.runtimes.places import Places
from bimodal.runtimes.streams import LoopStream
from bimodal.signature import Signature

Streaming = Callable[[Rows, Sequence[str]], Generator[Rows]]
Opening = Callable[[Rows, Sequence[str], Callable[[], None]], Awaitable[LoopStream]]


def collected(stream: Streaming, rows: Rows, outputs: Sequence[str], signature: Signature, most: int) -> Rows:
    """The answers to rows, each from a stream of its own. most: streams side by side."""
    fields = [signature.output(name) for name in outputs]

    def answer(place: int) -> list[Any]:
        return whole(stream(rows.slice(place, place + 1), outputs), fields)

    if min(most, rows.count) == 1:
        answers = [answer(place) for place in range(rows.count)]
    else:
        with ThreadPoolExecutor(min(most, rows.count)) as pool:
            answers = list(pool.map(answer, range(rows.count)))
    return _rows(answers, fields)


async def collected_async(
    opening: Opening, rows: Rows, outputs: Sequence[str], signature: Signature, places: Places, room: Room
) -> Rows:
    """The same on an event loop, each stream in a place of its own; cancelled, it closes them all. room: for all of
    them together.
    """
    fields = [signature.output(name) for name in outputs]
    answers: list[list[Any]] = [[] for _ in range(rows.count)]
    left = iter(range(rows.count))

    async def work_off() -> None:
        for place in left:
            await places.wait()
            answers[place] = await _one(opening, rows.slice(place, place + 1), outputs, fields, places, room)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(places.most, rows.count)):
                group.create_task(work_off())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return _rows(answers, fields)


async def _one(
    opening: Opening, row: Rows, outputs: Sequence[str], fields: Sequence[Field], places: Places, room: Room
) -> list[Any]:
    try:
        stream = await opening(row, outputs, places.leave)
    except BaseException:
        places.leave()
        raise
    joined = Joined(fields)
    try:
        async for piece in stream:
            room.take(piece)
            joined.feed(piece)
            await asyncio.sleep(0)  # a model that is quicker than this loop must not keep it
    finally:
        stream.close()
    return joined.values()


class Room:
    """What an answer that is joined may hold. most: characters of text and bytes of all else; None: no end."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._taken = 0

    def take(self, piece: Rows) -> None:
        """Raises ModelFailed where it holds more."""
        if self._most is None:
            return
        for name in piece:
            values = piece.array(name)
            self._taken += sum(map(_size, values.ravel())) if values.dtype == object else values.nbytes
        if self._taken > self._most:
            raise ModelFailed(f"the model's answer is longer than the limit of a whole answer, {self._most} bytes")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else 8


class Joined:
    """One answer as its pieces come."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields
        self._found: dict[str, list[Any]] = {each.name: [] for each in fields}
        self._joined = {each.name for each in fields if is_joined(each)}

    def feed(self, piece: Rows) -> None:
        for name in piece:
            found = self._found.get(name)
            if found is None:
                continue
            value = piece.array(name)[0]
            if name in self._joined and (value or not found):
                found.append(value)
            elif name not in self._joined:
                found[:] = [value]

    def values(self) -> list[Any]:
        """An entry an output. Raises ModelFailed where one that may not be missing was never given."""
        return [_settled(each, self._found[each.name]) for each in self._fields]


def whole(pieces: Iterable[Rows], fields: Sequence[Field]) -> list[Any]:
    """One answer, an entry an output. Raises ModelFailed where an output that may not be missing was never given."""
    joined = Joined(fields)
    for piece in pieces:
        joined.feed(piece)
    return joined.values()


def is_joined(each: Field) -> bool:
    """Whether an output's pieces make one text: those of free text do; of a closed set of texts the last one counts."""
    return each.type == "string" and not each.shape and not each.nested and not each.closed


def _settled(each: Field, values: Sequence[Any]) -> Any:
    if is_joined(each):
        texts = [value for value in values if value is not None]
        return "".join(texts) if texts or not each.nullable else None
    if values:
        return values[-1]
    if not each.nullable:
        raise ModelFailed(f"the model yielded no {each.name}, which `outputs` promises", column=each.name)
    return float("nan") if each.dtype.kind == "f" else None


def _rows(answers: Sequence[Sequence[Any]], fields: Sequence[Field]) -> Rows:
    columns = zip(*answers, strict=True)
    return Rows({each.name: _column(each, list(values)) for each, values in zip(fields, columns, strict=True)})


def _column(each: Field, values: list[Any]) -> Column:
    return Dictionary.encode(values) if each.type == "string" and not each.shape else column_of(each, values)
