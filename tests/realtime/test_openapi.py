"""/openapi.json: a valid 3.1 document whose every example works when it is pasted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bimodal.field import Field
from bimodal.realtime.openapi import schema
from tests.realtime.desk import Desk, told
from tests.realtime.shelf import loaded, onnx

MODELS = ("mixed", "text", "own", "strict_integers", "objects", "many_labels")


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    models = [loaded("integers", "strict_integers") if name == "strict_integers" else loaded(name) for name in MODELS]
    desk = Desk(onnx(), *models)
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def document(desk: Desk) -> dict[str, Any]:
    return told(desk.get("/openapi.json"))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_a_document_of_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(document["info"])
    ids = [operation["operationId"] for _, _, operation in operations(document) if "operationId" in operation]
    assert len(ids) == len(set(ids))
    assert all(operation["responses"] for _, _, operation in operations(document))
    references = [part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]]
    assert set(references) == {"#/components/schemas/Error"}
    assert "Error" in document["components"]["schemas"]


def test_every_route_of_the_document_is_there_and_the_other_way_round(desk: Desk, document: dict[str, Any]) -> None:
    served = {(method, path) for method, path in desk.app.routes if not path.startswith("/static")}
    told_ = {(method.upper(), path) for path, method, _ in operations(document) if "{" not in path}  # prefixes apart
    assert told_ <= served
    missing = {path for _, path in served - told_}
    assert all(path in ("/", "/docs", "/chat", "/openapi.json") or "/versions/" in path for path in missing)


def test_every_example_works_when_it_is_pasted(desk: Desk, document: dict[str, Any]) -> None:
    tried = 0
    for path, method, operation in operations(document):
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            if "example" in media:
                example = media["example"]
                body = example.encode() if isinstance(example, str) else example
                response = desk.ask(path, body, method=method.upper(), kind=kind)
                assert response.status == 200, (path, kind, response.body)
                assert b'"error"' not in response.body, (path, kind, response.body)
                tried += 1
    assert tried > 4 * len(MODELS)


def test_every_get_works(desk: Desk, document: dict[str, Any]) -> None:
    for path, method, _ in operations(document):
        if method == "get":
            assert desk.get(path).status == 200, path


def test_the_schema_of_an_answer_names_its_outputs(document: dict[str, Any]) -> None:
    answer = document["paths"]["/models/mixed/predict"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert set(answer["properties"]) == {"prediction", "probability"}


def test_errors_are_told_with_their_schema(document: dict[str, Any]) -> None:
    responses = document["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "404", "413", "415", "429", "500", "503", "504"} == set(responses)


@pytest.mark.parametrize(
    ("field", "made"),
    [
        (Field("a", "float64"), {"type": "number"}),
        (Field("a", "int64", nullable=True), {"type": ["integer", "null"]}),
        (Field("a", "string", categories=("x", "y"), closed=True), {"type": "string", "enum": ["x", "y"]}),
        (Field("a", "string", categories=("x",)), {"type": "string", "examples": ["x"]}),
        (Field("a", "timestamp"), {"type": "string", "format": "date-time"}),
        (Field("a", "any"), {}),
        (Field("a", "string", nested=True), {}),
        (Field("a", "float32", (-1,)), {"type": "array", "items": {"type": "number"}}),
        (Field("a", "bool", (2,)), {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}),
    ],
)
def test_a_field_as_json_schema(field: Field, made: dict[str, Any]) -> None:
    assert schema(field) == made


def test_the_list_of_models(desk: Desk) -> None:
    models = json.loads(desk.get("/models").body)
    assert [each["name"] for each in models] == ["inline", *MODELS]
    assert told(desk.get("/models/mixed")) == models[1]
    assert desk.answer(models[1]["example"], models[1]["path"])["prediction"]
