"""A model whose predict() yields, or which has chat(): what it takes and gives, and the runtime of its pieces."""

from __future__ import annotations

import inspect
import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import ModelError, ModelFailed
from bimodal.field import Field
from bimodal.formats.contract import Source
from bimodal.formats.hints import declared, field_of, row_fields
from bimodal.runtimes import estimator as native
from bimodal.runtimes.yielding import Yielding, plain
from bimodal.signature import Signature

STREAMS = 8  # answers side by side, unless the model says `streams`
ITERATORS = (abc.Iterator, abc.Iterable, abc.Generator, abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator)
HELLO = '[{"role": "user", "content": "Hello"}]'
MESSAGES = Field("messages", "string", nested=True, holds="messages", example=HELLO)
MAY_BE_LEFT_OUT: dict[str, Any] = {"nullable": True, "optional": True}
OPTIONS = (
    Field("max_tokens", "int64", **MAY_BE_LEFT_OUT),
    Field("temperature", "float64", **MAY_BE_LEFT_OUT),
    Field("top_p", "float64", **MAY_BE_LEFT_OUT),
    Field("seed", "int64", **MAY_BE_LEFT_OUT),
)
ENDS = ("stop", "length")
ANSWER = (
    Field("text", "string"),
    Field("finish_reason", "string", nullable=True, categories=ENDS, closed=True),
    Field("prompt_tokens", "int64", nullable=True),
    Field("completion_tokens", "int64", nullable=True),
)


def yields(predict: Any) -> bool:
    """Whether its answer comes in pieces: a generator, something that says it returns an iterator, or chat()."""
    if inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict):
        return True
    if getattr(predict, "__name__", "") == "chat":
        return True
    return typing.get_origin(_hints(predict).get("return")) in ITERATORS


def streamed(owner: Any, predict: Any, source: Source) -> tuple[Signature, Yielding, tuple[str, ...]]:
    """Signature, runtime and warnings. Raises ModelError where it does not say what its record holds."""
    if getattr(predict, "__name__", "") == "chat":
        inputs, called = _chat(predict)
    else:
        inputs, called = _inputs(owner, predict, source), predict
    streams = getattr(owner, "streams", STREAMS)
    if not isinstance(streams, int) or isinstance(streams, bool) or streams < 1:
        raise ModelError(f"{source.path}: `streams` is the number of answers side by side: an integer above 0")
    runtime = Yielding(called, inputs, streams)
    outputs, warned = _outputs(owner, predict, runtime, inputs, source)
    runtime.promise(outputs)
    return Signature(inputs, outputs), runtime, warned


def _inputs(owner: Any, predict: Any, source: Source) -> tuple[Field, ...]:
    first = next((hint for name, hint in _hints(predict).items() if name != "return"), None)
    found = declared(getattr(owner, "inputs", None)) or row_fields(first) or source.sample
    if found is None and source.features:
        found = tuple(Field(name, "any", nullable=True) for name in source.features)
    if not found:
        raise ModelError(
            f"{source.path}: a predict() that yields is called with one record, and says what is in it: "
            'inputs = {"prompt": str}, or a TypedDict as the type of its argument'
        )
    return tuple(found)


def _chat(chat: Callable[..., Any]) -> tuple[tuple[Field, ...], Callable[[dict[str, Any]], Any]]:
    """The record of a chat(messages, …), and how it is called with one. What is null is left out."""
    known = {each.name: each for each in OPTIONS}
    hints = _hints(chat)
    fields = [MESSAGES]
    for name, each in list(inspect.signature(chat).parameters.items())[1:]:
        if each.kind is each.VAR_KEYWORD:
            fields += [option for option in OPTIONS if option.name not in [one.name for one in fields]]
        elif each.kind is not each.VAR_POSITIONAL:
            made = known.get(name) or replace(field_of(name, hints.get(name, Any)), nullable=True, optional=True)
            fields.append(made)

    def called(record: dict[str, Any]) -> Any:
        messages = record.pop("messages")
        return chat(messages, **{name: value for name, value in record.items() if value is not None})

    return tuple(fields), called


def _outputs(
    owner: Any, predict: Any, runtime: Yielding, inputs: Sequence[Field], source: Source
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """As declared; of chat() those of every chat; else as the first piece shows them, for a made-up record."""
    given = declared(getattr(owner, "outputs", None), unsaid=Any)
    if given is not None:
        return given, ()
    if getattr(predict, "__name__", "") == "chat":
        return ANSWER, ()
    if typing.get_args(_hints(predict).get("return"))[:1] == (str,):
        return (Field("text", "string"),), ()
    if not source.may_try():
        return (Field("text", "string"),), ()
    try:
        return _seen(_first(runtime, inputs)), ()
    except Exception as error:  # the user's own code raises what it likes
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        warned = (
            f"predict() yields nothing for a made-up record ({reason}); `outputs` says what it gives: taken is text"
        )
        return (Field("text", "string"),), (warned,)


def _first(runtime: Yielding, inputs: Sequence[Field]) -> Any:
    """The first piece for the example; the model goes no further."""
    examples = Signature(tuple(inputs), ()).example_rows()
    pieces = runtime.pieces({each.name: plain(each, examples.array(each.name)[0]) for each in inputs})
    try:
        for piece in pieces:
            return piece
    finally:
        pieces.close()
    raise ModelFailed("it ended at once")


def _seen(piece: Any) -> tuple[Field, ...]:
    if not isinstance(piece, Mapping):
        return (_field("text" if isinstance(piece, str) else "prediction", piece),)
    return tuple(_field(str(name), value) for name, value in piece.items())


def _field(name: str, value: Any) -> Field:
    if isinstance(value, dict | list) and (isinstance(value, dict) or any(isinstance(each, dict) for each in value)):
        return Field(name, "string", nested=True)
    values = np.asarray([value])
    return Field(name, native.type_of(values), values.shape[1:])


def _hints(predict: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(predict)
    except (NameError, TypeError, AttributeError):
        return {}
