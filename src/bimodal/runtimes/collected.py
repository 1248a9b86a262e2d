"""Whole answers out of pieces: texts are joined, of everything else the last one counts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bimodal.errors import ModelFailed
from bimodal.field import Field, column_of
from bimodal.rows import Column, Dictionary, Rows
from bimodal.signature import Signature

Streaming = Callable[[Rows, Sequence[str]], Generator[Rows]]


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
    columns = zip(*answers, strict=True)
    return Rows({each.name: _column(each, list(values)) for each, values in zip(fields, columns, strict=True)})


def whole(pieces: Iterable[Rows], fields: Sequence[Field]) -> list[Any]:
    """One answer, an entry an output. Raises ModelFailed where an output that may not be missing was never given."""
    found: dict[str, list[Any]] = {each.name: [] for each in fields}
    for piece in pieces:
        for name in piece:
            if name in found:
                found[name].append(piece.array(name)[0])
    return [_settled(each, found[each.name]) for each in fields]


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
        raise ModelFailed(f"the model yielded no {each.name}", column=each.name)
    return float("nan") if each.dtype.kind == "f" else None


def _column(each: Field, values: list[Any]) -> Column:
    return Dictionary.encode(values) if each.type == "string" and not each.shape else column_of(each, values)
