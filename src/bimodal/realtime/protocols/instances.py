"""`/v1/models/{name}:predict`: the JSON of TensorFlow Serving, KServe V1 and Vertex AI.

{"instances": [row, …]} is answered by {"predictions": [answer, …]}; {"inputs": {"name": [value, …]}} (or one tensor) by
{"outputs": …}. One output is told as its values, several as objects. `parameters` takes what `/predict` takes in its
body. https://www.tensorflow.org/tfx/serving/api_rest, https://kserve.github.io (V1 protocol)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec

from bimodal.errors import InputError, Problem
from bimodal.field import Field, kind, listed, nearest
from bimodal.realtime import gather
from bimodal.realtime.answer import Answer
from bimodal.realtime.app import Handler, text
from bimodal.realtime.batcher import Work
from bimodal.realtime.doors import Doors
from bimodal.realtime.exchange import JSON, Request
from bimodal.realtime.metrics import Metrics
from bimodal.realtime.protocols import body, choice
from bimodal.realtime.protocols.choice import Choice
from bimodal.realtime.protocols.entry import entry
from bimodal.realtime.protocols.media import require_plain
from bimodal.realtime.protocols.piecemeal import Part
from bimodal.realtime.protocols.rows import SHAPES, RowsDoor, too_many
from bimodal.realtime.protocols.typed import Typed
from bimodal.realtime.service import Served, Service
from bimodal.rows import Rows
from bimodal.signature import Signature, require

NOTHING: dict[str, list[Any]] = {}
OPTIONS = ("outputs", "threshold")  # what parameters may hold
SIGNATURES = ("", "serving_default")  # a model has one, called as TensorFlow calls the one that is not named


class InstancesDoor(RowsDoor):
    """JSON bodies of one model in the words of others. Its works share batches with those of `/predict`.

    A work's `extra` is the shape of its body, and columns to answer back.
    """

    route = "instances"
    shapes: tuple[str, ...] = ("instances", "inputs")
    columnar = True  # {"inputs": …} is answered in columns
    takes = 'the body needs one of {"instances": [row, …]}, {"inputs": {"name": [value, …], …}}'

    def __init__(self, served: Served) -> None:
        super().__init__(served)
        self._typed = Typed.of(served.signature, self.shapes)

    def recheck(self, work: Work) -> Rows:
        rows, _, _, _ = self._read(work.request.body)
        return rows

    def encode(self, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        return self._encode(self._told(work, {name: values[start:stop] for name, values in answer.lists}))

    def _told(self, work: Work, columns: dict[str, list[Any]]) -> dict[str, Any]:
        """The answer: outputs, in the words of the body's shape."""
        shape, kept = work.extra
        if shape in SHAPES:
            return {**kept, **columns}
        if shape == "inputs" and self.columnar:
            return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
        return {"predictions": predictions(columns)}

    def part(self, piece: bytes) -> Part | None:
        read = None if self._typed is None else self._typed.take(piece, self._depth)
        if read is None or not read.count:
            return None
        extra = (read.shape, NOTHING)
        return Part(read.gather, read.values, read.count, read.outputs, read.threshold, read.names, extra)

    def taken(self, request: Request, respond: Any) -> Work:
        start = monotonic()
        deadline = start + choice.seconds(request.headers, self._deadline)
        data = request.body
        if self._typed is not None and not request.query and data.isascii():
            read = self._typed.take(data, self._depth)
            if read is not None and 0 < read.count <= self._most:
                key = self._key if read.plain else self.served.choose(read.outputs, read.threshold)
                if self._ragged:
                    key = (*key, len(read.values[0]))
                now, extra = monotonic(), (read.shape, NOTHING)
                work = Work(
                    self, request, respond, read.gather, read.values, read.count, key, deadline, now, now - start, extra
                )
                work.alone = request.alone
                return work
        require_plain(request)
        rows, shape, asked, spare = self._read(data, choice.of_query(request.query))
        key = self.served.choose(asked.outputs, asked.threshold)
        extra = (shape, {name: spare[name] for name in asked.kept(list(spare), key[0])})
        now, key = monotonic(), self.served.lane(key, rows)
        parse, alone = now - start, request.alone
        return Work(
            self, request, respond, gather.ready, [rows], rows.count, key, deadline, now, parse, extra, alone=alone
        )

    # -- the full verdict -------------------------------------------------------------------------------------------

    def _read(self, data: bytes, query: Choice = choice.NONE) -> tuple[Rows, str, Choice, Mapping[str, list[Any]]]:
        """The Rows of a body, its shape, what it asks for, its columns that are no features. Raises InputError."""
        told = body.decode(data, self._depth)
        shape = self._which(told)
        if shape in SHAPES:
            rows, asked, spare = self.judge(told, query)
            return rows, shape, asked, spare
        asked = _asked(told).over(query)
        if asked.keep:
            raise InputError(f'keep is for "input", "rows" and "columns"; "{shape}" answers the outputs alone')
        rows, problems = self._verdict(shape, told[shape])
        require(problems)
        return rows, shape, asked, {}

    def _which(self, told: object) -> str:
        """The one shape that a body has, or the error that names them (and the nearest on a slip)."""
        if not isinstance(told, dict):
            raise InputError(f"{kind(told)} is no body; {self.takes}")
        given = [shape for shape in self.shapes if shape in told]
        if len(given) == 1:
            return given[0]
        if given:
            raise InputError(f"the body has {' and '.join(given)}; {self.takes}")
        for key in told:
            near = nearest(key, self.shapes)
            if near is not None:
                raise InputError(f'the body has no key "{near}", but one like it; did you mean "{near}"?')
        raise InputError(self.takes)

    def _verdict(self, shape: str, value: Any) -> tuple[Rows, Sequence[Any]]:
        """The Rows of a shape that is not one of ours, and what is wrong with them."""
        signature = self.served.signature
        if shape == "inputs" and isinstance(value, dict) and _is_tensor(value, signature):
            value = next(iter(value.values()))  # columns of one value each, where they are no rows
            value = value if any(isinstance(each, list) for each in value) else [[each] for each in value]
        if shape == "inputs" and isinstance(value, dict):
            columns = {name: _column(each, name, signature) for name, each in value.items()}
            if any(isinstance(each, list) and len(each) > self._most for each in columns.values()):
                raise too_many(self._most)
            rows, _, problems = signature.check_columns(columns)
        else:
            rows, _, problems = signature.check(self._records(shape, value))
        return rows, problems

    def _records(self, shape: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise InputError(f'"{shape}" needs a list of rows, not {kind(value)}')
        if len(value) > self._most:
            raise too_many(self._most)
        return [_record(each, self.served.signature, row) for row, each in enumerate(value, 1)]


def predictions(columns: Mapping[str, list[Any]]) -> list[Any]:
    """One output as its values; several as an object a row."""
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _asked(told: Mapping[str, Any]) -> Choice:
    """What the parameters ask for; MLflow calls them `params`. Raises InputError on any other than there are."""
    name = told.get("signature_name")
    if name is not None and name not in SIGNATURES:
        raise InputError('the model has one signature, "serving_default"; leave signature_name out')
    given: dict[str, Any] = {}
    for word in ("params", "parameters"):
        options = told.get(word)
        if options is not None and not isinstance(options, dict):
            raise InputError(f'"{word}" needs an object, not {kind(options)}')
        for key, value in (options or {}).items():
            if key not in OPTIONS:
                near = nearest(key, OPTIONS)
                hint = f"did you mean {near!r}?" if near else f"there are {listed(list(OPTIONS))}"
                raise InputError(f'"{word}": there is no parameter {key!r}; {hint}')
            given[key] = value
    return choice.of_body({**{key: told[key] for key in choice.PARAMETERS if key in told}, **given})


def _record(record: Any, signature: Signature, row: int) -> Any:
    """The row of this number, its tensors of one value as that value, its {"b64": …} decoded."""
    fields = signature.inputs
    if isinstance(record, dict):
        if _is_tensor(record, signature):
            return next(iter(record.values()))
        if _is_encoded(record) and not any(each.name == "b64" for each in fields):
            return _value(record, fields[0], row)
        if not any(isinstance(value, list | dict) for value in record.values()):
            return record
        found = {each.name: each for each in fields}
        return {name: _value(value, found[name], row) if name in found else value for name, value in record.items()}
    if isinstance(record, list) and signature.vector is None and len(record) == len(fields) and len(fields) > 1:
        return [_value(value, each, row) for value, each in zip(record, fields, strict=True)]
    return record


def _is_tensor(value: Mapping[str, Any], signature: Signature) -> bool:
    """Whether an object is the one tensor of a model that knows no names, under whatever name."""
    only = next(iter(value.values()), None)
    return not signature.named and signature.vector is not None and len(value) == 1 and isinstance(only, list)


def _column(values: Any, name: str, signature: Signature) -> Any:
    """A column of `inputs`: a tensor [rows, 1] of a scalar feature is one [rows]."""
    field = next((each for each in signature.inputs if each.name == name), None)
    if field is None or not isinstance(values, list):
        return values
    return [
        _value(value, field, row) if isinstance(value, list | dict) else value for row, value in enumerate(values, 1)
    ]


def _value(value: Any, field: Field, row: int) -> Any:
    if not field.shape and isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _decoded(value["b64"], field, row) if _is_encoded(value) else value


def _is_encoded(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _decoded(text: Any, field: Field, row: int) -> Any:
    """The text of a {"b64": …}: features of text are UTF-8."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, TypeError, ValueError):
        problem = Problem("invalid_input", '{"b64": …} needs the base64 of a text in UTF-8', row, field.name)
        raise InputError.of([problem]) from None


# -- routes ----------------------------------------------------------------------------------------------------------


def doors(served: Served, service: Service, metrics: Metrics) -> Doors:
    """The routes of one model."""
    name, version = served.model.name, served.model.version
    door = InstancesDoor(served)
    told = text(JSON, lambda: msgspec.json.encode(status(served, ready=service.ready)), metrics)
    routes: dict[tuple[str, str], Handler] = {}
    for path in (f"/v1/models/{name}", f"/v1/models/{name}/versions/{version}"):
        routes["POST", f"{path}:predict"] = door
        routes["GET", path] = told
    return Doors(routes)


def status(served: Served, *, ready: bool) -> dict[str, Any]:
    """What KServe V1 (name, ready), TensorFlow Serving (model_version_status) and OpenAI (id, object, created,
    owned_by) tell of a model, in one object."""
    state = "AVAILABLE" if ready else "UNLOADING"
    good = {"error_code": "OK", "error_message": ""}
    return {
        "name": served.model.name,
        "ready": ready,
        **entry(served.model),
        "model_version_status": [{"version": served.model.version, "state": state, "status": good}],
    }
