"""The part of /openapi.json that tells of the contracts of others: `/invocations`, `/v1/models/{name}:predict`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from bimodal.realtime.protocols.instances import status
from bimodal.realtime.service import Served

JSON = "application/json"

Json = dict[str, Any]


def paths(served: Served, row: Any, failures: Json, *, first: bool) -> Json:
    """The paths of one model. row: an example of its rows, None where there is none. first: it has the short paths."""
    name = quote(served.model.name)
    scoring = _scoring(served, row, failures)
    told: Json = {
        f"/models/{name}/invocations": {"post": {**scoring, "operationId": f"invocations_{name}"}},
        f"/v1/models/{name}:predict": {"post": _instances(served, row, failures)},
        f"/v1/models/{name}": {"get": _state(served)},
    }
    if first:
        told["/invocations"] = {"post": {**scoring, "operationId": "invocations"}}
    return told


def ping() -> Json:
    """`GET /ping`."""
    return {
        "get": {
            "tags": ["contracts"],
            "summary": "Whether requests are taken (SageMaker, MLflow)",
            "responses": {
                "200": {"description": "Ready.", "content": {JSON: {"example": {"status": "ready"}}}},
                "503": not_now({"status": "loading"}),
            },
        }
    }


def not_now(shown: Json) -> Json:
    """The answer of a route of health: not now."""
    again = {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}
    return {"description": "Not now.", "headers": {"Retry-After": again}, "content": {JSON: {"example": shown}}}


def _scoring(served: Served, row: Any, failures: Json) -> Json:
    shapes = ["dataframe_split", "dataframe_records", "instances", "inputs", "input", "rows", "columns"]
    asked: Json = {
        "schema": {
            "type": "object",
            "properties": {**{name: {} for name in shapes}, "params": _parameters(served)},
            "description": f"One of {', '.join(shapes)}.",
        }
    }
    if row is not None:
        asked["example"] = {"instances": [row]}
    text = {"schema": {"type": "string"}}
    return {
        "tags": ["contracts"],
        "summary": f"Predict with {served.model.name}: MLflow, SageMaker",
        "description": "CSV, Arrow, Parquet and NDJSON as at /predict; Accept chooses another kind of answer.",
        "requestBody": {"required": True, "content": {JSON: asked}},
        "responses": {
            "200": {
                "description": "An answer a row.",
                "content": {JSON: {"schema": _answers("predictions")}, "text/csv": text},
            },
            **failures,
        },
    }


def _instances(served: Served, row: Any, failures: Json) -> Json:
    asked: Json = {
        "schema": {
            "type": "object",
            "properties": {
                "instances": {"type": "array", "items": {}},
                "inputs": {"description": "An object of columns, or one tensor."},
                "parameters": _parameters(served),
                "signature_name": {"enum": ["serving_default"]},
            },
        }
    }
    if row is not None:
        asked["example"] = {"instances": [row]}
    return {
        "tags": ["contracts"],
        "summary": f"Predict with {served.model.name}: KServe V1, Vertex AI, TensorFlow Serving",
        "operationId": f"instances_{quote(served.model.name)}",
        "requestBody": {"required": True, "content": {JSON: asked}},
        "responses": {
            "200": {
                "description": "An answer a row; columns for `inputs`.",
                "content": {JSON: {"schema": {"anyOf": [_answers("predictions"), {"required": ["outputs"]}]}}},
            },
            **failures,
        },
    }


def _parameters(served: Served) -> Json:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "outputs": {"type": "array", "items": {"enum": [each.name for each in served.signature.outputs]}},
            "threshold": {"type": "number"},
        },
    }


def _answers(name: str) -> Json:
    return {"type": "object", "required": [name], "properties": {name: {"type": "array", "items": {}}}}


def _state(served: Served) -> Json:
    text = "Whether the model is ready (KServe V1, TensorFlow Serving)"
    shown = status(served, ready=True)
    return {
        "tags": ["contracts"],
        "summary": text,
        "responses": {"200": {"description": text, "content": {JSON: {"example": shown}}}},
    }
