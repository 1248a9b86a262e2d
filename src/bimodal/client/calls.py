"""What a client asks over gRPC, and how it reads the answers: the conversations of `words`, in Open Inference messages.

The data becomes Rows as a Model takes them: what cannot become a tensor is refused here, in the model's own words; the
rest is the server's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import pack
from typing import Any

import msgspec
import numpy as np

from bimodal.client import tellable
from bimodal.client.arrays import KINDS, texts
from bimodal.client.failure import made
from bimodal.client.given import Given, micros, names_of, row_of
from bimodal.client.question import Conversation, Question
from bimodal.errors import BimodalError, InputError, ModelNotFound, UsageError
from bimodal.field import FLOATS, Field, listed
from bimodal.formats.library import library
from bimodal.given import taken
from bimodal.messages.pool import message
from bimodal.rows import Array, Rows
from bimodal.signature import Signature

SERVICE = "/inference.GRPCInferenceService/"
FIELDS = {"FP64": "float64", "FP32": "float32", "FP16": "float16", "BOOL": "bool", "BYTES": "string"}
VALIDITY = ":validity"  # our extension: which rows of a column have a value
OURS = "bimodal"  # begins our platforms; the parameter of a model's configuration that says what the protocol cannot


@dataclass(frozen=True)
class Known:
    """What is known of a model: its signature as far as the protocol tells it, its outputs when none are asked, the
    inputs that hold JSON, and its version (None of a server that tells none).
    """

    signature: Signature
    outputs: tuple[str, ...]
    datatypes: Mapping[str, str]
    nested: tuple[str, ...]
    version: str | None


class Words:
    """The conversations with one server. What a model takes is asked once, and anew where the model has become another:
    another version answers, or the data is refused.
    """

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._first: str | None = None

    def predict(self, data: Any, model: str | None, options: Mapping[str, Any]) -> Conversation[Any]:
        """See Client.predict."""
        given = Given.of(data)
        name = model or (yield from self._name())
        known, refusal = self._known.get(name), None
        if known is not None:
            try:
                version, answer = yield from _asked(name, known, given, options)
            except (InputError, UsageError) as error:
                refusal = error
            else:
                if known.version in (None, version):
                    return answer
        anew = yield from self._look(name)
        if refusal is not None and anew == known:
            raise refusal
        return (yield from _asked(name, anew, given, options))[1]

    def lookup(self, key: Any, row: Any, model: str | None, outputs: Sequence[str] | None) -> Conversation[None]:
        yield Question("GET", "/lookup")  # which the channel refuses, naming HTTP

    def streaming(
        self, row: Any, model: str | None, outputs: Sequence[str] | None, timeout: float
    ) -> Conversation[Question]:
        """What asks for a stream; see Client.stream. timeout: seconds to each piece."""
        row, outputs = row_of(row), names_of(outputs)
        given = Given("record", row) if isinstance(row, Mapping) else Given("rows", [row])
        name = model or (yield from self._name())
        known = yield from self._look(name)
        tellable.held(given, [(each.name, each.shape) for each in known.signature.inputs])
        rows, _ = taken(_taken_as(given, known), known.signature)
        request = _infer(name, known, rows, _wanted(known, outputs), None)
        request.parameters["timeout"].int64_param = max(1, int(timeout * 1e6))  # the call itself may last longer
        return _question("ModelStreamInfer", request)

    def events(self, place: str) -> Pieces:
        """What reads a stream."""
        return Pieces()

    def models(self) -> Conversation[list[str]]:
        """The names of the models that the server has."""
        answer = yield _question("RepositoryIndex", message("inference.RepositoryIndexRequest")(ready=True))
        told = message("inference.RepositoryIndexResponse").FromString(answer.body)
        return list(dict.fromkeys([each.name for each in told.models]))

    def metadata(self, model: str | None) -> Conversation[dict[str, Any]]:
        """See Client.metadata."""
        if model is None:
            answer = yield _question("ServerMetadata", message("inference.ServerMetadataRequest")())
            server = message("inference.ServerMetadataResponse").FromString(answer.body)
            return {"name": server.name, "version": server.version, "extensions": list(server.extensions)}
        return (yield from self._told(model))[0]

    def _told(self, name: str) -> Conversation[tuple[dict[str, Any], dict[str, Any]]]:
        """The metadata of a model, and what a server of ours tells besides."""
        answer = yield _question("ModelMetadata", message("inference.ModelMetadataRequest")(name=name))
        told = message("inference.ModelMetadataResponse").FromString(answer.body)
        ours = (yield from self._ours(name)) if told.platform.startswith(OURS) else {}
        tensors = ours.get("tensors") or {"inputs": _tensors(told.inputs), "outputs": _tensors(told.outputs)}
        return {"name": told.name, "versions": list(told.versions), "platform": told.platform, **tensors}, ours

    def _ours(self, name: str) -> Conversation[dict[str, Any]]:
        answer = yield _question("ModelConfig", message("inference.ModelConfigRequest")(name=name))
        config = message("inference.ModelConfigResponse").FromString(answer.body).config
        told: dict[str, Any] = msgspec.json.decode(config.parameters[OURS].string_value or "{}")
        return told

    def ready(self) -> Conversation[bool]:
        """Whether the server says that it takes requests; Unavailable where it says that it does not."""
        answer = yield _question("ServerReady", message("inference.ServerReadyRequest")())
        return bool(message("inference.ServerReadyResponse").FromString(answer.body).ready)

    def _name(self) -> Conversation[str]:
        """The first model."""
        if self._first is None:
            names = yield from self.models()
            if not names:
                raise ModelNotFound("the server has no model")
            self._first = names[0]
        return self._first

    def _look(self, name: str) -> Conversation[Known]:
        self._known[name] = _known(*(yield from self._told(name)))
        return self._known[name]


class Pieces:
    """Messages of a stream in, pieces out, as `events.Events`."""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The piece of a message. Raises the error that it tells."""
        told = message("inference.ModelStreamInferResponse").FromString(data)
        answer = told.infer_response
        if told.error_message:
            terms = answer.parameters
            row, column = terms["error_row"].int64_param or None, terms["error_column"].string_param or None
            raise made(terms["error_code"].string_param or BimodalError.code, told.error_message, row, column)
        outputs = _outputs(answer, [each.name for each in answer.outputs if not each.name.endswith(VALIDITY)])
        if outputs:
            yield {name: outputs.array(name).tolist()[0] for name in outputs}

    def finish(self) -> None:
        """No more comes. A stream that was cut ended in an error."""


def _asked(name: str, known: Known, given: Given, options: Mapping[str, Any]) -> Conversation[tuple[str, Any]]:
    """The version that answered, and its answer in the kind of the data."""
    signature = known.signature
    tellable.held(given, [(each.name, each.shape) for each in signature.inputs])
    wanted = _wanted(known, options["outputs"])
    rows, shape = taken(_taken_as(given, known), signature)
    try:
        told = yield _question("ModelInfer", _infer(name, known, rows, wanted, options.get("threshold")))
    except InputError as error:
        raise tellable.as_given(error, given) from None
    response = message("inference.ModelInferResponse").FromString(told.body)
    outputs = _outputs(response, wanted)
    kept = _kept(given, options.get("keep"), signature)
    if given.kind == "table":
        return response.model_version, given.back(_beside(shape(_timed(outputs, signature), signature), kept))
    if not given.columnar:
        return response.model_version, _beside(shape(outputs, signature), kept)
    columns = {each: outputs.array(each) for each in outputs}
    if given.kind == "array" and len(columns) == 1:
        return response.model_version, next(iter(columns.values()))
    return response.model_version, {**kept, **{each: array.tolist() for each, array in columns.items()}}


def _wanted(known: Known, outputs: Sequence[str] | None) -> tuple[str, ...]:
    """The outputs that are asked for. Of a name that is none the server tells; of no names it knows nothing."""
    if outputs is None:
        return known.outputs
    if not outputs:
        names = [each.name for each in known.signature.outputs]
        raise UsageError(f"no outputs were named; the model has {listed(names)}")
    return tuple(outputs)


def _known(told: Mapping[str, Any], ours: Mapping[str, Any]) -> Known:
    types, times, optional = ours.get("types", {}), ours.get("times", ()), ours.get("optional", ())
    inputs = tuple(_field(each, types.get(each["name"]), optional) for each in told["inputs"])
    outputs = tuple(_field(each, "timestamp" if each["name"] in times else None) for each in told["outputs"])
    vector = len(inputs) == 1 and len(inputs[0].shape) == 1
    classes = ours.get("classes")
    signature = Signature(
        inputs, outputs, None if classes is None else tuple(classes), named=ours.get("named", not vector)
    )
    names = [each.name for each in outputs]
    plain = ["prediction"] if "prediction" in names else names
    datatypes = {each["name"]: each["datatype"] for each in told["inputs"]}
    nested = tuple(ours.get("nested", ()))
    return Known(signature, tuple(ours.get("outputs") or plain), datatypes, nested, ours.get("version"))


def _field(told: Mapping[str, Any], kind: str | None = None, optional: Sequence[str] = ()) -> Field:
    """Whether a null is taken is the server's to judge, where a tensor can carry one: of a list only one of floats."""
    kind = kind or FIELDS.get(told["datatype"], str(told["datatype"]).lower())
    shape = tuple(told["shape"][1:])
    nullable = not shape or kind in FLOATS
    return Field(told["name"], kind, shape, nullable=nullable, finite=False, optional=told["name"] in optional)


def _tensors(told: Any) -> list[dict[str, Any]]:
    return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in told]


def _question(method: str, request: Any) -> Question:
    return Question("", f"{SERVICE}{method}", request.SerializeToString())


# -- there -----------------------------------------------------------------------------------------------------------


def _infer(name: str, known: Known, rows: Rows, outputs: Sequence[str], threshold: float | None) -> Any:
    request = message("inference.ModelInferRequest")(model_name=name)
    if threshold is not None:
        request.parameters["threshold"].double_param = threshold
    for each in outputs:
        request.outputs.add(name=each)
    for each in rows:
        array, missing = _filled(rows.array(each), known.datatypes[each])
        _add(request, each, known.datatypes[each], array)
        if missing is not None:
            _add(request, f"{each}{VALIDITY}", "BOOL", ~missing)
    return request


def _add(request: Any, name: str, datatype: str, array: Array) -> None:
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(
        _lengthened(name, array) if datatype == "BYTES" else np.ascontiguousarray(array, KINDS[datatype]).tobytes()
    )


def _filled(array: Array, datatype: str) -> tuple[Array, Array | None]:
    """A column without its nulls, and where they stood (None: there were none). NaN is a number, and stays."""
    if array.dtype.kind == "M":
        missing = np.isnat(array)
        return np.datetime_as_string(micros(array), unit="us").astype(object), missing if missing.any() else None
    if array.dtype != object:
        return array, None
    missing = np.array([value is None or value != value for value in array.reshape(-1)]).reshape(array.shape)
    if not missing.any():
        return array, None
    filled = array.copy()
    filled[missing] = "" if datatype == "BYTES" else 0
    return filled, missing


def _lengthened(name: str, array: Array) -> bytes:
    parts = []
    for at, value in enumerate(array.reshape(-1).tolist()):
        try:
            text = value if isinstance(value, bytes) else str(value).encode()
        except UnicodeEncodeError:
            place = at // (array.size // len(array)) + 1
            raise InputError.of([replace(tellable.HALF, row=place, column=name)]) from None
        parts += [pack("<I", len(text)), text]
    return b"".join(parts)


# -- and back --------------------------------------------------------------------------------------------------------


def _outputs(told: Any, wanted: Sequence[str]) -> Rows:
    found: dict[str, Array] = {}
    raw = iter(told.raw_output_contents)
    for tensor in told.outputs:
        array = _raw(tensor, next(raw)) if told.raw_output_contents else _contents(tensor)
        found[tensor.name] = array.reshape(tuple(tensor.shape))
    return Rows({name: _gapped(found[name], found.get(f"{name}{VALIDITY}")) for name in wanted})


def _gapped(array: Array, there: Array | None) -> Array:
    """An output with its nulls, which the server tells beside it."""
    if there is None:
        return array
    gapped = array.astype(object)
    gapped[~there] = None
    return gapped


def _timed(outputs: Rows, signature: Signature) -> Rows:
    """Times as such, which travel as text."""
    times = {each.name for each in signature.outputs if each.type == "timestamp"}
    found = {name: outputs.array(name) for name in outputs}
    return Rows({name: found[name].astype("datetime64[us]") if name in times else found[name] for name in found})


def _raw(tensor: Any, data: bytes) -> Array:
    if tensor.datatype != "BYTES":
        return np.frombuffer(data, KINDS[tensor.datatype])
    return np.array(texts(data), object)


def _contents(tensor: Any) -> Array:
    contents = tensor.contents
    values: Sequence[Any] = next((list(each) for _, each in contents.ListFields()), [])
    if tensor.datatype == "BYTES":
        return np.array([each.decode() for each in values], object)
    return np.array(values, KINDS[tensor.datatype])


def _taken_as(given: Given, known: Known) -> Any:
    """The data in a shape that a Model takes, JSON as its text."""
    value = given.value
    if given.kind == "array":
        return value.tolist() if getattr(value, "ndim", 2) == 1 else value
    if given.kind == "table":
        return _texts_in(value, known.nested) if known.nested else value
    if given.kind == "record":
        value = [value]
    return _spelled(value, known) if known.nested else value


def _spelled(value: Any, known: Known) -> Any:
    """Columns, records or rows by position, in which JSON stands as its text; what it says is the server's to judge."""
    names = [each.name for each in known.signature.inputs]

    def text(row: int, name: str, each: Any) -> Any:
        plain = name not in known.nested or each is None or isinstance(each, str)
        return each if plain else tellable.encoded(each, Given("record", {name: each}), row).decode()

    if isinstance(value, Mapping):
        return {name: [text(row, name, each) for row, each in enumerate(column, 1)] for name, column in value.items()}
    spelled: list[Any] = []
    for row, record in enumerate(value, 1):
        if isinstance(record, Mapping):
            spelled.append({name: text(row, name, each) for name, each in record.items()})
        elif isinstance(record, list | tuple) and len(record) == len(names):
            spelled.append([text(row, name, each) for name, each in zip(names, record, strict=True)])
        else:
            spelled.append(record)
    return spelled


def _kept(given: Given, keep: Any, signature: Signature) -> dict[str, Any]:
    """The columns that are no features and are to be answered too: the server need not see them."""
    if not keep:
        return {}
    data = given.value
    if given.kind == "table":
        names = [str(name) for name in (data.columns if hasattr(data, "iloc") else data.schema.names)]
    elif given.kind in ("record", "columns"):
        names = list(data)
    else:
        names = list(dict.fromkeys(name for record in data for name in record)) if given.kind == "records" else []
    spare = signature.spare(names)
    wanted = spare if keep is True else list(keep)
    strange = [name for name in wanted if name not in spare]
    if strange:
        raise UsageError(f"keep: there is no column {strange[0]!r} to answer back")
    if given.kind != "records":
        return {name: [data[name]] if given.kind == "record" else data[name] for name in wanted}
    return {name: [record.get(name) for record in data] for name in wanted}


def _beside(told: Any, kept: Mapping[str, Any]) -> Any:
    """The answer, with the kept columns ahead of it."""
    if not kept:
        return told
    if isinstance(told, list):
        return [
            {**dict(zip(kept, values, strict=True)), **row}
            for values, row in zip(zip(*kept.values(), strict=True), told, strict=True)
        ]
    if isinstance(told, dict):
        return {**kept, **told}
    for place, (name, values) in enumerate(kept.items()):
        if hasattr(told, "iloc"):
            told.insert(place, name, values)
        else:
            told = told.add_column(place, name, values)
    return told


def _texts_in(data: Any, nested: Sequence[str]) -> Any:
    """A frame or a table in which JSON stands as its text; what it says is the server's to judge. A frame's is what its
    column is in Arrow, as over HTTP.
    """
    table = library("bimodal.table")
    if not hasattr(data, "iloc"):
        return table.spelled(table.as_table(data), nested)
    spelled = data.copy(deep=False)
    for place, name in enumerate(map(str, data.columns)):
        if name in nested:
            column = table.spelled(table.from_frame(data.iloc[:, [place]]), nested).column(0)
            spelled.isetitem(place, np.array(column.to_pylist(), object))
    return spelled
