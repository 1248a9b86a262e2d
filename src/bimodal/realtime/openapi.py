"""The OpenAPI 3.1 document, written from the models' signatures, with examples that work when they are pasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from bimodal import __version__
from bimodal.field import FLOATS, INTEGERS, Field
from bimodal.realtime import contracts, inference_paths
from bimodal.realtime.failure import STATUS
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols import generate
from bimodal.realtime.protocols.rows import plain
from bimodal.realtime.scopes import OPEN, Scopes
from bimodal.realtime.service import Served
from bimodal.signature import Signature

JSON = "application/json"
REASONS = {
    400: "The body or a row does not fit the model; `row` and `column` say where.",
    404: "No model of that name or version.",
    413: "More rows or bytes than one request may have.",
    415: "A content type that is not understood.",
    429: "The model's queue is full; Retry-After says when to try again.",
    500: "The model failed on these rows.",
    503: "The server is shutting down; try again.",
    504: "The deadline passed.",
}
REFUSED = {
    401: "No API key was sent, or none that is live.",
    403: "The API key lacks the scope, or the request names another host or comes from a foreign page.",
}
NUMBERS = {**dict.fromkeys(FLOATS, "number"), **dict.fromkeys(INTEGERS, "integer")}

Json = dict[str, Any]


def document(served: Sequence[Served], limits: Limits, more: Mapping[str, Any]) -> Json:
    """The whole document; the first model also answers at `/predict`. more: paths of extensions."""
    paths: Json = {}
    schemas: Json = {"Error": ERROR}
    for number, each in enumerate(served):
        name, version = quote(each.model.name), each.model.version
        operation = _predict(each, limits)
        if number == 0:
            paths["/predict"] = {"post": {**operation, "operationId": "predict"}}
        paths[f"/models/{name}/predict"] = {"post": {**operation, "operationId": f"predict_{name}"}}
        paths[f"/models/{name}/versions/{version}/predict"] = {
            "post": {**operation, "operationId": f"predict_{name}_{version}"}
        }
        paths[f"/models/{name}"] = {
            "get": _get(f"What {each.model.name} takes and gives", each.model.name, summary(each))
        }
        row = None if each.signature.open else values(example(each.signature))
        paths |= inference_paths.paths(each, row, failures())
        paths |= generate.paths(each)
        paths |= contracts.paths(each, row, failures(), first=number == 0)
    paths |= _others(served)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bimodal",
            "version": __version__,
            "description": "Predictions of the served models. Errors are JSON: a sentence, a code, a request id.",
        },
        "servers": [{"url": "."}],  # beside this document, wherever it is mounted
        "paths": paths | dict(more),
        "components": {"schemas": schemas},
    }


def guarded(told: Json) -> Json:
    """The document of a server that asks for keys."""
    scopes = Scopes()
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            needed = scopes.of(method.upper(), path)
            if needed == OPEN:
                operation["security"] = []
                continue
            operation["responses"] |= _failures(REFUSED)
            operation["description"] = f"{operation.get('description', '')} Needs the scope `{needed}`.".lstrip()
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `bimodal keys add NAME` makes one."},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same, in this header."},
    }
    told["components"]["securitySchemes"] = schemes
    told["security"] = [{"bearer": []}, {"header": []}]
    return told


def summary(served: Served) -> Json:
    """One model, as `/models` tells it."""
    model, signature = served.model, served.signature
    told: Json = values(
        {
            "name": model.name,
            "version": model.version,
            "format": model.format,
            "runtime": model.runtime_name,
            "process": model.process,
            "named": signature.named,
            "open": signature.open,
            "inputs": [_field(each) for each in signature.inputs],
            "outputs": [_field(each) for each in signature.outputs],
            "classes": signature.classes,
            "default_outputs": served.outputs,
            "example": body(signature),
            "path": f"/models/{quote(model.name)}/predict",
        }
    )
    return told


def body(signature: Signature) -> Json:
    """A body of `/predict` that the model takes."""
    row = values(example(signature))
    return {"rows": [row]} if signature.named else {"input": row}


def example(signature: Signature) -> Any:
    """One row; of a model that takes any width, three numbers."""
    if signature.open:
        return [0.0, 0.0, 0.0]
    return signature.example()


def values(value: Any) -> Any:
    """As JSON will tell it: no NumPy values, tuples as lists."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=plain))


def _field(field: Field) -> Json:
    return {
        "name": field.name,
        "type": field.type,
        "shape": field.shape,
        "nullable": field.nullable,
        "categories": field.categories,
        "closed": field.closed,
    }


# -- schemas ---------------------------------------------------------------------------------------------------------

ERROR: Json = {
    "type": "object",
    "required": ["error", "code", "request_id"],
    "properties": {
        "error": {
            "type": "string",
            "description": "What is wrong, where, and what to do. Never a value of the request.",
        },
        "code": {"type": "string", "description": "A stable name."},
        "request_id": {"type": "string"},
        "row": {"type": "integer", "description": "The first row is 1."},
        "column": {"type": "string"},
        "problems": {"type": "array", "items": {"type": "object"}, "description": "The first ten, if several."},
    },
}


def schema(field: Field) -> Json:
    """JSON Schema of one value."""
    if field.nested:
        return {}
    kind: Any = NUMBERS.get(field.type, {"bool": "boolean", "string": "string", "timestamp": "string"}.get(field.type))
    made: Json = {} if kind is None else {"type": [kind, "null"] if field.nullable else kind}
    if field.type == "timestamp":
        made["format"] = "date-time"
    if field.categories and field.closed:
        made["enum"] = [*values(field.categories), *([None] if field.nullable else [])]
    elif field.categories:
        made["examples"] = values(field.categories[:8])
    for size in reversed(field.shape):
        made = {"type": "array", "items": made}
        if size >= 0:
            made |= {"minItems": size, "maxItems": size}
    return made


def record(signature: Signature) -> Json:
    """JSON Schema of one row: an object of named columns, or a list."""
    if not signature.named:
        if len(signature.inputs) == 1:
            return schema(signature.inputs[0])
        return {"type": "array", "prefixItems": [schema(each) for each in signature.inputs], "items": False}
    return {
        "type": "object",
        "required": [each.name for each in signature.inputs],
        "properties": {each.name: schema(each) for each in signature.inputs},
    }


def _request(signature: Signature, limits: Limits) -> Json:
    row = record(signature)
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": limits.rows}
    common = {
        "outputs": {"type": "array", "items": {"enum": [each.name for each in signature.outputs]}},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "keep": {
            "description": "Columns that are no features, to be answered back: true for all, or their names.",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}],
        },
    }
    shapes: list[tuple[str, Json, str]] = [("input", {"anyOf": [row, rows]}, "One row, or a list of rows.")]
    shapes.append(("rows", rows, "A list of rows."))
    if signature.named:
        columns = {each.name: {"type": "array", "items": schema(each)} for each in signature.inputs}
        lists = {"type": "object", "properties": columns, "required": list(columns)}
        shapes.append(("columns", lists, "A list of values for each column."))
    return {
        "oneOf": [
            {"type": "object", "required": [name], "properties": {name: told, **common}, "description": text}
            for name, told, text in shapes
        ]
    }


def _answer(signature: Signature) -> Json:
    return {
        "type": "object",
        "properties": {each.name: {"type": "array", "items": schema(each)} for each in signature.outputs},
        "additionalProperties": {"type": "array", "description": "A column asked for with `keep`."},
    }


# -- operations ------------------------------------------------------------------------------------------------------


def _predict(served: Served, limits: Limits) -> Json:
    signature = served.signature
    text = {"schema": {"type": "string"}}
    binary = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    content: Json = {JSON: {"schema": _request(signature, limits)}, "application/x-ndjson": text, "text/csv": text}
    if not signature.open:  # whose rows nobody knows before the first one comes
        content[JSON]["example"] = body(signature)
        content["application/x-ndjson"] = {**text, "example": _line(signature)}
    if signature.flat and not signature.open:
        content["text/csv"] = {**text, "example": _csv(signature)}
    tables: Json = {"application/vnd.apache.arrow.stream": binary, "application/vnd.apache.parquet": binary}
    return {
        "tags": [served.model.name],
        "summary": f"Predict with {served.model.name}",
        "description": "The answer is of the kind that was sent: columns for JSON, tables, lines.",
        "parameters": _parameters(),
        "requestBody": {"required": True, "content": content | tables},
        "responses": {
            "200": {
                "description": "The outputs, a value a row, in the order of the rows.",
                "headers": _headers(),
                "content": {JSON: {"schema": _answer(signature)}, "text/csv": text, "application/x-ndjson": text}
                | tables,
            },
            **failures(),
        },
    }


def _parameters() -> list[Json]:
    query = {
        "outputs": "Names of outputs, separated by commas.",
        "threshold": "The probability of the second of two classes from which on it is the prediction.",
        "keep": "Columns that are no features, to be answered back: true for all, or names separated by commas.",
    }
    kinds = {"threshold": "number"}
    told = [
        {"name": name, "in": "query", "description": text, "schema": {"type": kinds.get(name, "string")}}
        for name, text in query.items()
    ]
    header = {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "How long the caller waits; then the answer is 504.",
        "schema": {"type": "number"},
    }
    return [*told, header]


def _headers() -> Json:
    return {
        "Server-Timing": {"description": "Where the milliseconds went.", "schema": {"type": "string"}},
        "X-Model": {"description": "Name and version of the model that answered.", "schema": {"type": "string"}},
    }


def failures(statuses: Sequence[int] = tuple(REASONS)) -> Json:
    known = {number for _, number in STATUS}
    return _failures({number: REASONS[number] for number in statuses if number in known})


def _failures(reasons: Mapping[int, str]) -> Json:
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    return {str(number): {"description": told, "content": {JSON: error}} for number, told in reasons.items()}


def _csv(signature: Signature) -> str:
    row = values(signature.example())
    if isinstance(row, dict):
        names, cells = list(row), list(row.values())
    else:
        cells = row if isinstance(row, list) else [row]
        names = [f"x{place}" for place in range(1, len(cells) + 1)]
    return "\n".join(",".join("" if cell is None else _cell(cell) for cell in line) for line in (names, cells)) + "\n"


def _cell(value: object) -> str:
    text = msgspec.json.encode(value).decode() if isinstance(value, dict | list) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _line(signature: Signature) -> str:
    return msgspec.json.encode(values(example(signature))).decode() + "\n"


def _others(served: Sequence[Served]) -> Json:
    return {
        "/models": {"get": _get("The models that are served", "server", [summary(each) for each in served])},
        **inference_paths.server(),
        "/ping": contracts.ping(),
        "/health/live": {"get": _get("Whether the server lives", "server", {"status": "live"})},
        "/health/ready": {"get": _ready()},
        "/metrics": {
            "get": {
                "tags": ["server"],
                "summary": "Counters and times, in Prometheus' text format",
                "responses": {"200": {"description": "The metrics.", "content": {"text/plain": {}}}},
            }
        },
    }


def _ready() -> Json:
    told = _get("Whether requests are taken", "server", {"status": "ready"})
    told["responses"]["503"] = contracts.not_now({"status": "loading"})
    return told


def _get(text: str, tag: str, shown: Any) -> Json:
    return {
        "tags": [tag],
        "summary": text,
        "responses": {"200": {"description": text, "content": {JSON: {"example": shown}}}},
    }
