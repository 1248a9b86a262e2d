"""A model that somebody wrote in Python: what it takes and gives, and the runtime that calls its predict()."""

from __future__ import annotations

import inspect
import platform
import typing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bimodal.errors import ModelError, ModelFailed
from bimodal.field import Field
from bimodal.formats import estimators
from bimodal.formats.contract import Loaded, Source
from bimodal.formats.fitted import Intake
from bimodal.formats.hints import declared, field_of, row_fields
from bimodal.formats.library import library
from bimodal.formats.probe import Probe, example_rows, works
from bimodal.formats.yielded import streamed, yields
from bimodal.rows import Array, Rows
from bimodal.runtimes import estimator as native
from bimodal.runtimes import python
from bimodal.runtimes.contract import Runtime
from bimodal.runtimes.estimator import Feed
from bimodal.runtimes.python import Python
from bimodal.signature import Signature

OPEN = (
    "it declares no inputs: rows of numbers of any one width are taken, predict() gets them as a 2-D float64 array; to "
    "give them names: --features a,b, or a TypedDict as the type of its argument, or plain types, as in "
    "predict(self, age: float) (docs/guide.md)"
)
FREE: dict[str, Any] = {"nullable": True, "finite": False}  # a column of which nothing was said
PLAIN = (float, int, str, bool)  # hints of arguments that are columns
_NONE, _BY_PLACE = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD


class Arguments:
    """A Feed of a predict() whose arguments are the columns."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, rows: Rows) -> list[Array]:
        return [rows.array(name) for name in self._names]


class Written:
    """An object's predict(), with what it declares."""

    def __init__(self, owner: Any, predict: Any) -> None:
        self.owner = owner
        self.predict = predict

    @classmethod
    def of(cls, model: Any, path: str) -> Written:
        """A class is made, `load()` is called once. Raises ModelError where there is nothing to predict with."""
        if isinstance(model, type):
            model = _call(model, path, f"{model.__name__}()")
        predict = getattr(model, "predict", None)
        if predict is None and callable(getattr(model, "chat", None)):
            predict = model.chat
        if not callable(predict):
            if not callable(model):
                raise ModelError(f"{path} is an object of type {type(model).__name__} without predict()")
            predict = model if inspect.isfunction(model) or inspect.isbuiltin(model) else model.__call__
        if callable(getattr(model, "load", None)):
            _call(model.load, path, "load()")
        if inspect.iscoroutinefunction(predict):
            raise ModelError(
                f"{path}: predict() is a coroutine, which is not supported; return one answer for each row"
            )
        return cls(model, predict)

    def loaded(self, source: Source, told: Sequence[str] = ()) -> Loaded:
        runtime: Runtime
        if yields(self.predict):
            signature, runtime, warned = streamed(self.owner, self.predict, source)
            warned = (*told, *warned)
        else:
            signature, runtime, warned = self._whole(source, told)
        facts = {"estimator": getattr(self.predict, "__qualname__", type(self.owner).__name__)}
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        return Loaded(runtime, signature, versions, warned, facts)

    def _whole(self, source: Source, told: Sequence[str]) -> tuple[Signature, Runtime, tuple[str, ...]]:
        """A predict() that answers rows."""
        signature, feed = self.intake(source)
        warned = [*told, OPEN] if signature.open else [*told]
        runtime = Python(self._spread if isinstance(feed, Arguments) else self.predict, feed)
        outputs, fault = self._outputs(runtime, signature.inputs, source)
        if fault:
            warned.append(f"predict() answers no made-up row ({fault}); --sample FILE shows what its rows look like")
        runtime.promise(outputs)
        classes = getattr(self.owner, "classes", None)
        signature = replace(signature, outputs=outputs, classes=None if classes is None else tuple(classes))
        return signature, runtime, tuple(warned)

    def intake(self, source: Source) -> tuple[Signature, Feed]:
        """What it takes, and in what form predict() gets it."""
        first = next((hint for name, hint in self._hints().items() if name != "return"), None)
        wants = {"bimodal": "rows", "collections": "rows", "numpy": "stacked"}.get(_home(first), "frame")
        fields = declared(getattr(self.owner, "inputs", None)) or row_fields(first)
        if fields is not None:
            wants = "frame" if _home(first) == "pandas" else "rows"
        elif source.sample:
            fields = source.sample
        elif source.features:
            fields, wants = tuple(Field(name, "float64", example=0.0, **FREE) for name in source.features), "stacked"
        else:
            return self._plain() or self._inner(source) or _open()
        if wants == "frame":
            library("pandas")
        return Signature(fields, ()), python.feed(fields, wants)

    def _plain(self) -> tuple[Signature, Feed] | None:
        """predict(x: float, plan: str): a column for each argument, which gets the array of its values; those that have
        a default keep it. None where an argument is no plain value.
        """
        try:
            arguments = [each for each in inspect.signature(self.predict).parameters.values() if each.default is _NONE]
        except (TypeError, ValueError):
            return None
        hints = self._hints()
        if not arguments or not all(each.kind is _BY_PLACE and hints.get(each.name) in PLAIN for each in arguments):
            return None
        fields = tuple(field_of(each.name, hints[each.name]) for each in arguments)
        return Signature(fields, ()), Arguments([each.name for each in fields])

    def _spread(self, columns: Sequence[Array]) -> Any:
        return self.predict(*columns)

    def _inner(self, source: Source) -> tuple[Signature, Feed] | None:
        """The columns of the one estimator that the object holds, where predict() answers rows of them."""
        held = (
            [each for each in vars(self.owner).values() if estimators.is_estimator(each)]
            if hasattr(self.owner, "__dict__")
            else []
        )
        if len(held) != 1 or estimators.width(held[0]) is None or not callable(getattr(self.owner, "predict", None)):
            return None
        if not source.may_try():
            return None
        intake = Intake.of(held[0], "predict" if hasattr(held[0], "predict") else "transform", source)
        if works(self.owner, "predict", intake.feed(example_rows(intake.signature.inputs, 2))) is not None:
            return None
        probe = Probe(self.owner, "predict", intake.feed, bare=False)
        return replace(intake.signature, inputs=probe.settle(intake.signature.inputs, intake.features)), intake.feed

    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self.predict)
        except (NameError, TypeError, AttributeError):
            return {}

    def _outputs(
        self, runtime: Python, inputs: Sequence[Field], source: Source
    ) -> tuple[tuple[Field, ...], str | None]:
        """The outputs, as declared or as seen on two made-up rows."""
        given = declared(getattr(self.owner, "outputs", None), unsaid=Any)
        if not source.may_try():
            return given or (Field("prediction", "any"),), None
        try:
            seen = runtime.answer(example_rows(inputs, 2), made_up=True)
        except ModelFailed as error:
            return given or (Field("prediction", "any"),), error.message
        found = {name: Field(name, native.type_of(values), values.shape[1:]) for name, values in seen.items()}
        if given is None:
            return tuple(found.values()), None
        names = [each.name for each in given]
        if set(names) - set(found):
            raise ModelError(f"predict() gives {', '.join(found)} where `outputs` names {', '.join(names)}")
        return tuple(
            found[each.name] if each.type == "any" else replace(each, shape=found[each.name].shape) for each in given
        ), None


def _open() -> tuple[Signature, Feed]:
    field = Field("input", "float64", (-1,), example=[0.0], **FREE)
    return Signature((field,), (), named=False, open=True), python.feed([field], "array")


def _home(hint: Any) -> str:
    """The package that a type comes from."""
    return str(getattr(typing.get_origin(hint) or hint, "__module__", "")).partition(".")[0]


def _call(function: Any, path: str, called: str) -> Any:
    try:
        return function()
    except Exception as error:  # the user's own code raises what it likes
        raise ModelError(f"{path}: {called} raised {type(error).__name__}: {error}") from error
