"""A predict() that yields: called with one record, its answer comes in pieces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bimodal.errors import BimodalError, ModelFailed
from bimodal.field import Field, kind
from bimodal.rows import Array, Column, Rows
from bimodal.runtimes import estimator as native
from bimodal.runtimes.collected import Joined, collected, is_joined
from bimodal.runtimes.contract import Runtime
from bimodal.signature import Signature

log = logging.getLogger("bimodal.model")
Yields = Callable[[dict[str, Any]], Any]
_END = object()


class Yielding(Runtime):
    """Calls `yields` with one record (a dict of plain values) and gives what it yields, as the outputs' fields say.

    What is yielded is a dict of outputs, or a bare value: that of the one output, else of the first text. streams:
    calls side by side, each in a thread of its own.
    """

    name = "native"

    def __init__(self, yields: Yields, inputs: Sequence[Field], streams: int) -> None:
        self._yields = yields
        self._inputs = tuple(inputs)
        self._signature = Signature(self._inputs, ())
        self._outputs: dict[str, Field] = {}
        self._bare = "prediction"
        self.streams = streams

    def promise(self, outputs: Sequence[Field]) -> None:
        """What every answer has to hold."""
        self._outputs = {each.name: each for each in outputs}
        self._signature = Signature(self._inputs, tuple(outputs))
        texts = [each.name for each in outputs if is_joined(each)]
        self._bare = outputs[0].name if len(outputs) == 1 else next(iter(texts), "prediction")

    def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
        return collected(self.stream, rows, outputs, self._signature, 1)

    def stream(self, rows: Rows, outputs: Sequence[str]) -> Generator[Rows]:
        record = {each.name: plain(each, rows.array(each.name)[0]) for each in self._inputs if each.name in rows}
        pieces = self.pieces(record)
        given = False
        try:
            for piece in pieces:
                columns = {
                    name: self._column(name, value)
                    for name, value in self._named(piece).items()
                    if name in outputs and value is not None
                }
                if columns:
                    given = True
                    yield Rows(columns, 1)
            if not given:
                yield from self._nothing(outputs)
        except BimodalError:
            raise
        except Exception as error:  # the user's own code raises what it likes
            log.exception("predict raised")
            raise native.refused(error) from error
        finally:
            pieces.close()

    def _nothing(self, outputs: Sequence[str]) -> Generator[Rows]:
        """A model that yields nothing has said an empty text. Raises ModelFailed where something else is promised."""
        fields = [self._outputs[name] for name in outputs if name in self._outputs]
        values = zip(fields, Joined(fields).values(), strict=True)
        columns: dict[str, Column] = {each.name: _alone(value) for each, value in values if is_joined(each)}
        if columns:
            yield Rows(columns, 1)

    def pieces(self, record: dict[str, Any]) -> Generator[Any]:
        """What the model itself yields for a record."""
        given = self._yields(record)
        if isinstance(given, AsyncIterator):
            yield from awaited(given)
        elif isinstance(given, Iterator):
            yield from given  # which hands the closing on
        else:
            yield given

    def _named(self, piece: Any) -> Mapping[str, Any]:
        named = piece if isinstance(piece, Mapping) else {self._bare: piece}
        if named is not piece and self._bare not in self._outputs:
            raise ModelFailed(f"the model yielded {_kind(piece)}, where a dict of its outputs is needed")
        for name in named:
            if name not in self._outputs:
                raise ModelFailed(f"the model yielded {name}, which `outputs` does not name")
        return named

    def _column(self, name: str, value: Any) -> Column:
        each = self._outputs[name]
        if each.type == "string" and not each.shape:
            return _text(each, value)
        values = np.asarray([value])
        if each.type == "any":
            return _alone(value)
        return native.answered(values.astype(object) if values.dtype.kind in "US" else values, each)


def plain(each: Field, value: Any) -> Any:
    """One value of a column as the model's code gets it."""
    if each.nested and isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise ModelFailed("text that is no JSON where JSON is needed", column=each.name) from None
    told = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    return None if each.nullable and told != told else told  # NaN stands for null in a column of floats


def awaited(pieces: AsyncIterator[Any]) -> Generator[Any]:
    """An asynchronous generator's pieces, on an event loop of their own."""

    async def step() -> Any:
        return await anext(pieces, _END)

    with asyncio.Runner() as runner:
        try:
            while (piece := runner.run(step())) is not _END:
                yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                runner.run(_closed(pieces))


async def _closed(pieces: AsyncGenerator[Any, None]) -> None:
    await pieces.aclose()


def _text(each: Field, value: Any) -> Array:
    if each.nested and not isinstance(value, str):
        value = msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        raise ModelFailed(f"the model yielded {_kind(value)} as {each.name}, where text was promised", column=each.name)
    if not _is_unicode(value):
        raise ModelFailed(f"the model yielded {each.name} as text that is no valid Unicode", column=each.name)
    return _alone(value)


def _kind(value: Any) -> str:
    told = kind(value)
    return f"an object of type {type(value).__name__}" if told == "a value of another type" else told


def _is_unicode(text: str) -> bool:
    """Whether it can be sent: halves of a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _alone(value: Any) -> Array:
    column = np.empty(1, object)
    column[0] = value
    return column
