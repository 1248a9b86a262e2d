"""/v1/models/{name}:predict: the JSON of KServe V1, Vertex AI and TensorFlow Serving."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.models import CASES, IRIS, TEXTS, customers
from tests.realtime.desk import Ask, Desk, told
from tests.realtime.shelf import loaded, onnx

FRAME = customers().dropna().head(5)
RECORDS: Any = FRAME.to_dict("records")
COLUMNS: Any = FRAME.to_dict("list")
LEAVES = CASES["mixed"].model.predict(FRAME).tolist()
FLOWERS = IRIS[::40].tolist()
MIXED, VECTORS, TEXT = "/v1/models/mixed:predict", "/v1/models/inline:predict", "/v1/models/text:predict"


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(loaded("mixed"), onnx(), loaded("text"))
    yield desk
    desk.close()


def encoded(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (MIXED, {"instances": RECORDS}, {"predictions": LEAVES}),
        (MIXED, {"instances": RECORDS, "signature_name": "serving_default"}, {"predictions": LEAVES}),
        (MIXED, {"instances": [{**RECORDS[0], "age": [RECORDS[0]["age"]]}]}, {"predictions": LEAVES[:1]}),
        (MIXED, {"instances": [{**RECORDS[0], "plan": encoded(RECORDS[0]["plan"])}]}, {"predictions": LEAVES[:1]}),
        (MIXED, {"inputs": COLUMNS}, {"outputs": LEAVES}),
        (
            MIXED,
            {"inputs": {name: [[each] for each in values] for name, values in COLUMNS.items()}},
            {"outputs": LEAVES},
        ),
        (VECTORS, {"instances": FLOWERS}, {"predictions": [0, 0, 1, 2]}),
        (VECTORS, {"instances": [{"dense_input": row} for row in FLOWERS]}, {"predictions": [0, 0, 1, 2]}),
        (VECTORS, {"inputs": FLOWERS}, {"outputs": [0, 0, 1, 2]}),
        (VECTORS, {"inputs": {"dense_input": FLOWERS}}, {"outputs": [0, 0, 1, 2]}),
        (TEXT, {"instances": TEXTS[:2]}, {"predictions": [1, 0]}),
        (TEXT, {"instances": [encoded(each) for each in TEXTS[:2]]}, {"predictions": [1, 0]}),
    ],
)
def test_every_form_of_a_body_is_answered(desk: Desk, path: str, body: Any, answer: Any) -> None:
    assert CASES["logistic"].model.predict(FLOWERS).tolist() == [0, 0, 1, 2]
    assert desk.answer(body, path) == answer


def test_several_outputs_are_objects_or_columns(desk: Desk) -> None:
    parameters = {"outputs": ["prediction", "probability"]}
    rows = desk.answer({"instances": RECORDS, "parameters": parameters}, MIXED)["predictions"]
    columns = desk.answer({"inputs": COLUMNS, "parameters": parameters}, MIXED)["outputs"]
    assert [each["prediction"] for each in rows] == columns["prediction"] == LEAVES
    assert [each["probability"] for each in rows] == columns["probability"]
    np.testing.assert_allclose(columns["probability"], CASES["mixed"].model.predict_proba(FRAME), rtol=1e-12)


def test_a_version_is_asked_for_by_its_name(desk: Desk) -> None:
    version = desk.wired.service.find("inline").model.version
    answer = desk.answer({"instances": FLOWERS}, f"/v1/models/inline/versions/{version}:predict")
    assert answer == desk.answer({"instances": FLOWERS}, VECTORS)
    assert "is served in version" in desk.error({}, 404, "/v1/models/inline/versions/7:predict")["error"]


def test_the_state_of_a_model_has_the_words_of_both(desk: Desk) -> None:
    """KServe V1 looks at `name` and `ready`, clients of TensorFlow Serving at `model_version_status`."""
    version = desk.wired.service.find("inline").model.version
    good = {"error_code": "OK", "error_message": ""}
    expected = [{"version": version, "state": "AVAILABLE", "status": good}]
    for path in ("/v1/models/inline", f"/v1/models/inline/versions/{version}"):
        state = told(desk.get(path))
        mine = {"id": "inline", "object": "model", "created": state["created"], "owned_by": "bimodal"}
        assert state == {"name": "inline", "ready": True, "model_version_status": expected, **mine}
    missing = desk.get("/v1/models/inlin")
    error = told(missing)["error"]  # as OpenAI's clients read it
    assert missing.status == 404
    assert "did you mean 'inline'" in error["message"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "model_not_found", None)
    assert "did you mean 'inline'" in desk.error({}, 404, "/v1/models/inlin:predict")["error"]
    for verb in ("classify", "regress", "explain"):
        assert "did you mean /v1/models/inline:predict?" in desk.error({}, 404, f"/v1/models/inline:{verb}")["error"]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        (
            MIXED,
            {"instances": [RECORDS[0], {**RECORDS[0], "plan": {"b64": "%%"}}]},
            "row 2, column 'plan': {\"b64\": …} needs the base64 of a text in UTF-8",
        ),
        (MIXED, {"instances": [{**RECORDS[0], "plan": {"b64": "/w=="}}]}, "needs the base64 of a text in UTF-8"),
        (MIXED, {"inputs": {"age": 1}}, "a number where a list of values is needed"),
        (MIXED, {"rows": RECORDS}, 'the body needs one of {"instances"'),
        (MIXED, {"instances": []}, "no rows were given"),
        (MIXED, {"inputs": {**COLUMNS, "age": [1]}}, "columns of one length are needed"),
        (VECTORS, {"instances": [[1, 2]]}, "4 features are needed, 2 were given"),
        (VECTORS, {"instances": FLOWERS, "parameters": {"top_k": 1}}, "there are 'outputs', 'threshold'"),
        (VECTORS, {"instances": FLOWERS, "params": {"threshold": "x"}}, '"threshold" needs a number'),
    ],
)
def test_what_is_wrong_is_told(desk: Desk, path: str, body: Any, sentence: str) -> None:
    assert sentence in desk.error(body, path=path)["error"]


def test_requests_of_one_turn_share_a_call_with_those_of_predict(desk: Desk) -> None:
    asks = [Ask(MIXED, {"instances": [row]}) for row in RECORDS] + [Ask("/predict", {"rows": RECORDS[:1]})]
    asks += [Ask(MIXED, {"inputs": {name: values[:1] for name, values in COLUMNS.items()}})]
    answers = [told(each) for each in desk.together(asks)]
    assert answers == [{"predictions": [each]} for each in LEAVES] + [
        {"prediction": LEAVES[:1]},
        {"outputs": LEAVES[:1]},
    ]
