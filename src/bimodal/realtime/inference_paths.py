"""The Open Inference routes in the OpenAPI document."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from bimodal import __version__
from bimodal.field import Field
from bimodal.realtime.contracts import not_now
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols.description import EXTENSIONS, configuration, metadata, told
from bimodal.realtime.protocols.inference import DATATYPES
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.protocols.tensors import DATATYPES as KNOWN
from bimodal.realtime.service import Served
from bimodal.signature import Signature

JSON = "application/json"
OCTETS = "application/octet-stream"
TAG = "Open Inference"

Json = dict[str, Any]

PARAMETERS: Json = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
SHAPE: Json = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
TENSOR: Json = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": SHAPE,
        "datatype": {"enum": list(KNOWN)},
        "data": {"type": "array", "description": "Flat or nested; absent where the tensor's bytes follow the JSON."},
        "parameters": PARAMETERS,
    },
}
LENGTH: Json = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "How many bytes of the body are JSON, where the bytes of tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}
DURATION: Json = {
    "type": "object",
    "required": ["count", "ns"],
    "properties": {"count": {"type": "integer"}, "ns": {"type": "integer"}},
}


def paths(served: Served, row: Any, failures: Json) -> Json:
    """Those of one model. row: its example, None where it has none. failures: the responses that tell an error."""
    model = served.model
    name = quote(model.name)
    at = f"/v2/models/{name}"
    return {
        at: {"get": _get("Inputs and outputs of the model", _plain(metadata(served)), MODEL)},
        f"{at}/ready": {"get": _state("Whether the model is ready", {"ready": True})},
        f"{at}/config": {"get": _get("The configuration of the model", _plain(configuration(served)))},
        f"{at}/stats": {"get": _get("What the model has done", None, STATISTICS)},
        f"{at}/infer": {"post": _infer(served, row, failures)},
    }


def server() -> Json:
    """Those of no model."""
    about = {"name": "bimodal", "version": __version__, "extensions": list(EXTENSIONS)}
    return {
        "/v2": {"get": _get("The server", about, SERVER)},
        "/v2/models/stats": {"get": _get("What the models have done", None, STATISTICS)},
        "/v2/health/live": {"get": _state("Whether the server lives", {"live": True})},
        "/v2/health/ready": {"get": _state("Whether all models are ready", {"ready": True})},
    }


def request(signature: Signature, limits: Limits) -> Json:
    """JSON Schema of a request."""
    known = msgspec.json.encode([told(each) for each in signature.inputs]).decode()
    outputs = [each.name for each in signature.outputs]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": PARAMETERS,
            "inputs": {
                "type": "array",
                "items": TENSOR,
                "minItems": 1,
                "description": f"At most {limits.rows} rows. {known}",
            },
            "outputs": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"enum": outputs}, "parameters": PARAMETERS},
                },
                "description": "All outputs, when none are asked.",
            },
        },
    }


def _infer(served: Served, row: Any, failures: Json) -> Json:
    signature = served.signature
    media: Json = {"schema": request(signature, served.limits)}
    if row is not None:
        media["example"] = _example(signature, row)
    header = {"description": LENGTH["description"], "schema": {"type": "integer"}}
    return {
        "tags": [TAG],
        "summary": f"Predict with {served.model.name}: tensors",
        "operationId": f"infer_{quote(served.model.name)}",
        "parameters": [LENGTH],
        "requestBody": {"required": True, "content": {JSON: media, OCTETS: {}}},
        "responses": {
            "200": {
                "description": "The output tensors; their bytes behind the JSON where that is asked for.",
                "headers": {"Inference-Header-Content-Length": header},
                "content": {JSON: {"schema": ANSWER}, OCTETS: {}},
            },
            **failures,
        },
    }


def _example(signature: Signature, row: Any) -> Json:
    inputs: list[Json] = []
    for field in signature.inputs:
        if isinstance(row, dict) and field.name not in row:  # it may be left out
            continue
        value = row[field.name] if isinstance(row, dict) else row if len(signature.inputs) == 1 else row[len(inputs)]
        inputs.append(_tensor(field, value))
    return {"inputs": inputs}


def _tensor(field: Field, value: Any) -> Json:
    if field.nested:
        value = msgspec.json.encode(value).decode()
    shape, flat = [1], value
    while isinstance(flat, list) and flat:
        shape.append(len(flat))
        flat = flat[0]
    return {"name": field.name, "shape": shape, "datatype": DATATYPES[field.type], "data": [value]}


def _state(text: str, shown: Json) -> Json:
    """A route whose status is the answer."""
    told = _get(text, shown)
    told["responses"]["503"] = not_now(dict.fromkeys(shown, False))
    return told


def _get(text: str, shown: Any, schema: Json | None = None) -> Json:
    content: Json = {}
    if schema is not None:
        content["schema"] = schema
    if shown is not None:
        content["example"] = shown
    return {"tags": [TAG], "summary": text, "responses": {"200": {"description": text, "content": {JSON: content}}}}


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=plain))


def _object(properties: Json, *optional: str) -> Json:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
DESCRIBED = _object(
    {
        "name": TEXT,
        "datatype": {"enum": list(KNOWN)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        "parameters": PARAMETERS,
        "categories": {"type": "array"},
    },
    "parameters",
    "categories",
)
MODEL = _object(
    {
        "name": TEXT,
        "versions": {"type": "array", "items": TEXT},
        "platform": TEXT,
        "inputs": {"type": "array", "items": DESCRIBED},
        "outputs": {"type": "array", "items": DESCRIBED},
    }
)
SERVER = _object({"name": TEXT, "version": TEXT, "extensions": {"type": "array", "items": TEXT}})
ANSWER = _object(
    {
        "model_name": TEXT,
        "model_version": TEXT,
        "id": TEXT,
        "outputs": {"type": "array", "items": TENSOR, "minItems": 1},
    },
    "id",
)
STAGES = ("compute_input", "compute_infer", "compute_output")
STATISTICS = _object(
    {
        "model_stats": {
            "type": "array",
            "items": _object(
                {
                    "name": TEXT,
                    "version": TEXT,
                    "last_inference": COUNT,
                    "inference_count": COUNT,
                    "execution_count": COUNT,
                    "inference_stats": _object(
                        dict.fromkeys(("success", "fail", "queue", *STAGES, "cache_hit", "cache_miss"), DURATION)
                    ),
                    "batch_stats": {
                        "type": "array",
                        "items": _object({"batch_size": COUNT, **dict.fromkeys(STAGES, DURATION)}),
                    },
                }
            ),
        }
    }
)
