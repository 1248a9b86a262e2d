"""The Open Inference core over REST: metadata, health, tensors of both kinds of model, choices and errors."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.models import CASES, IRIS, customers
from tests.realtime.desk import Ask, Desk, told
from tests.realtime.shelf import loaded, onnx

ROW = [5.1, 3.5, 1.4, 0.2]
INFER = "/v2/models/inline/infer"
MIXED = "/v2/models/mixed/infer"
NAMES = ("age", "income", "visits", "city", "plan")


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"), loaded("text"), loaded("scaler"))
    yield desk
    desk.close()


def tensor(data: Any, shape: list[int], datatype: str = "FP64", name: str = "input") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def output(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in answer["outputs"] if each["name"] == name)


def columns(count: int = 3, *, flat: bool = True) -> list[dict[str, Any]]:
    """Some customers, a tensor a column."""
    frame = customers().iloc[1 : 1 + count]
    made = []
    for name in NAMES:
        values = [None if value != value else value for value in frame[name].tolist()]
        text = name in ("city", "plan")
        data = values if flat else [[value] for value in values]
        made.append(tensor(data, [count] if flat else [count, 1], "BYTES" if text else "FP64", name))
    return made


def test_the_server_and_its_health(desk: Desk) -> None:
    assert set(told(desk.get("/v2"))) == {"name", "version", "extensions"}
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/inline/ready"):
        assert desk.get(path).status == 200
    version = loaded("mixed").version
    assert desk.get(f"/v2/models/mixed/versions/{version}/ready").status == 200


def test_metadata_of_a_model(desk: Desk) -> None:
    about = told(desk.get("/v2/models/inline"))
    assert about["name"] == "inline"
    assert about["platform"] == "bimodal_onnx"
    assert about["inputs"] == [{"name": about["inputs"][0]["name"], "datatype": "FP64", "shape": [-1, 4]}]
    assert output(about, "probability")["shape"] == [-1, 3]
    mixed = told(desk.get("/v2/models/mixed"))
    assert {each["name"]: each["datatype"] for each in mixed["inputs"]}["city"] == "BYTES"
    assert output(mixed, "prediction") == {"name": "prediction", "datatype": "BYTES", "shape": [-1]}


@pytest.mark.parametrize("data", [[*ROW, *ROW], [ROW, ROW]])
def test_a_model_of_arrays_takes_one_tensor_flat_or_nested(desk: Desk, data: object) -> None:
    answer = desk.answer({"inputs": [tensor(data, [2, 4])]}, INFER)
    assert answer["model_name"] == "inline"
    assert answer["model_version"] == onnx().version
    assert "id" not in answer
    assert output(answer, "prediction") == {"name": "prediction", "shape": [2], "datatype": "INT64", "data": [0, 0]}
    probability = output(answer, "probability")
    assert probability["shape"] == [2, 3]
    assert len(probability["data"]) == 6


@pytest.mark.parametrize("flat", [True, False])
def test_a_model_of_named_columns_takes_a_tensor_a_column(desk: Desk, flat: bool) -> None:
    answer = desk.answer({"inputs": columns(flat=flat)}, MIXED)
    frame = customers().iloc[1:4]
    assert output(answer, "prediction")["data"] == CASES["mixed"].model.predict(frame).tolist()
    assert np.allclose(output(answer, "probability")["data"], CASES["mixed"].model.predict_proba(frame).ravel())


def test_tensors_come_in_any_order_and_more_than_needed(desk: Desk) -> None:
    inputs = [*reversed(columns()), tensor(["a", "b", "c"], [3], "BYTES", "id")]
    assert output(desk.answer({"inputs": inputs}, MIXED), "prediction")["shape"] == [3]


def test_texts_are_bytes(desk: Desk) -> None:
    for shape, data in (([2], ["good", "bad"]), ([2, 1], [["good"], ["bad"]])):
        answer = desk.answer({"inputs": [tensor(data, shape, "BYTES")]}, "/v2/models/text/infer")
        assert output(answer, "prediction")["data"] == [1, 0]


def test_outputs_are_chosen_and_the_id_comes_back(desk: Desk) -> None:
    body = {"id": "a-1", "inputs": [tensor(ROW, [1, 4])], "outputs": [{"name": "probability"}], "parameters": {"x": 1}}
    answer = desk.answer(body, INFER)
    assert answer["id"] == "a-1"
    assert [each["name"] for each in answer["outputs"]] == ["probability"]
    assert "parameters['x'] is null where" in desk.error({**body, "parameters": {"x": None}}, path=INFER)["error"]
    assert "'probability'" in desk.error({**body, "outputs": [{"name": "probabilty"}]}, path=INFER)["error"]


def test_the_threshold_is_a_parameter(desk: Desk) -> None:
    labels = [
        output(desk.answer({"inputs": columns(), "parameters": {"threshold": value}}, MIXED), "prediction")["data"]
        for value in (0.0, 1.0)
    ]
    assert labels == [["stays"] * 3, ["leaves"] * 3]


def test_ids_of_one_turn_do_not_mix(desk: Desk) -> None:
    asks = [Ask(INFER, {"id": str(n), "inputs": [tensor(IRIS[n].tolist(), [1, 4])]}) for n in range(0, 150, 7)]
    answers = [told(answer) for answer in desk.together(asks)]
    right = CASES["logistic"].model.predict(IRIS[::7])
    assert [int(answer["id"]) for answer in answers] == list(range(0, 150, 7))
    assert [output(answer, "prediction")["data"][0] for answer in answers] == right.tolist()


def test_both_protocols_share_a_call(desk: Desk) -> None:
    body = {"input": ROW, "outputs": ["prediction", "probability"]}
    tensors, rows = desk.together([Ask(INFER, {"inputs": [tensor(ROW, [1, 4])]}), Ask("/predict", body)])
    assert output(told(tensors), "probability")["data"] == told(rows)["probability"][0]
    assert tensors.headers is rows.headers  # the times of one batch


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT8", "FP16"])
def test_numbers_are_taken_whatever_their_width(desk: Desk, datatype: str) -> None:
    assert desk.answer({"inputs": [tensor([5, 3, 1, 0], [1, 4], datatype)]}, INFER)["outputs"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "no input tensors"),
        ([tensor(ROW, [1, 3])], "3 values, 4"),
        ([tensor(ROW, [2, 4])], "8 values, 4"),
        ([tensor(ROW[:3], [1, 3])], "4 features are needed, 3"),
        ([tensor(ROW, [4])], "[-1, 4]"),
        ([tensor(ROW, [1, 2, 2])], "[-1, 4]"),
        ([tensor(ROW, [-1, 4])], "negative"),
        ([tensor(ROW, [])], "shape"),
        ([tensor(ROW, [1, 4], "FP12")], "datatype"),
        ([tensor(["a", "b", "c", "d"], [1, 4], "BYTES")], "text where"),
        ([tensor([1.5, 1, 1, 1], [1, 4], "INT64")], "fraction"),
        ([tensor([[1, 2], [3], 4], [1, 4])], "uneven"),
        ([tensor([ROW, 5], [2, 4])], "uneven"),
        ([tensor([[*ROW, 5], ROW[:3]], [2, 4])], "'input': the shape [2, 4] needs 4 values in list 1 of its data, 5"),
        ([tensor([[1], [1, 2, 3, 4, 5, 6, 7]], [2, 4])], "4 values in list 1 of its data, 1 were given"),
        ([tensor([ROW, ROW[:3]], [2, 4])], "4 values in list 2 of its data, 3 were given"),
        ([tensor([ROW[:2]] * 4, [2, 4])], "the shape [2, 4] needs 2 values in its data, 4 were given"),
        ([tensor([[], ROW], [1, 4])], "the shape [1, 4] needs 1 values in its data, 2 were given"),
        ([tensor([[ROW], [[1, 2], [3, 4]]], [2, 1, 4])], "1 values in list 2 of its data, 2 were given"),
        ([tensor([[ROW, ROW], [ROW, ROW[:3]]], [2, 2, 4])], "4 values in list 2, 2 of its data, 3 were given"),
        ([tensor([[ROW]], [1, 4])], "its data is nested 3 deep, the shape [1, 4] has 2 axes"),
        ([tensor([[1], [2]], [2])], "its data is nested 2 deep, the shape [2] has 1 axis"),
        ([tensor([ROW], [1, 2, 2])], "its data is nested 2 deep, the shape [1, 2, 2] has 3 axes"),
        ([tensor([{}, 1, 2, 3], [1, 4])], "an object"),
        ([tensor([1, 2, 3, None], [1, 4])], "null"),
        ([tensor(ROW, [1, 4]), tensor(ROW, [1, 4], name="other")], "1 input tensor"),
        ([tensor(ROW, [1, 4]), tensor(ROW, [1, 4])], "this name"),
        ([tensor([], [0, 4])], "no rows"),
        ([{"name": "input", "shape": [1, 4]}], 'no inference request: it needs "datatype" in inputs[0]'),
        (3, "inputs is a whole number where a list is needed"),
        ([{**tensor(ROW, [1, 4]), "shape": "all"}], "inputs[0].shape is text where a list is needed"),
        ([{**tensor(ROW, [1, 4]), "parameters": {"a": 1, "x": {}}}], "inputs[0].parameters['x'] is an object where"),
    ],
)
def test_what_is_no_tensor_of_the_model_is_refused(desk: Desk, inputs: object, words: str) -> None:
    assert words in desk.error({"inputs": inputs}, path=INFER)["error"]


@pytest.mark.parametrize(
    ("datatype", "value", "code", "words"),
    [
        ("UINT8", -5, "out_of_range", "does not fit uint8"),
        ("UINT8", 300, "out_of_range", "does not fit uint8"),
        ("INT8", 128, "out_of_range", "does not fit int8"),
        ("INT64", 1.5, "wrong_type", "a number with a fraction"),
        ("INT64", "1", "wrong_type", "text where an integer"),
        ("BOOL", 2, "wrong_type", "a number where true or false"),
    ],
)
def test_a_value_that_its_datatype_cannot_hold_is_told_where(
    desk: Desk, datatype: str, value: object, code: str, words: str
) -> None:
    body = {"inputs": [tensor([1, 1, 1, 1, 1, 1, value, 0], [2, 4], datatype)]}
    error = desk.error(body, path=INFER)
    assert (error["code"], error["row"], error["column"]) == (code, 2, "input[3]")
    assert words in error["error"]
    named = [tensor([1, 0, value], [3], datatype, each["name"]) if i == 0 else each for i, each in enumerate(columns())]
    error = desk.error({"inputs": named}, path=MIXED)
    assert (error["code"], error["row"], error["column"]) == (code, 3, columns()[0]["name"])


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT64", "FP16"])
def test_a_value_that_its_datatype_holds_is_taken(desk: Desk, datatype: str) -> None:
    assert desk.answer({"inputs": [tensor([1, 0, 1.0, 1], [1, 4], datatype)]}, INFER)["outputs"]


@pytest.mark.parametrize("path", [INFER, "/predict"])
def test_a_compressed_body_is_refused_in_every_protocol(desk: Desk, path: str) -> None:
    error = desk.error(gzip.compress(b"{}"), 415, path, headers={"Content-Encoding": "gzip"})
    assert (error["code"], "without content-encoding" in error["error"]) == ("unsupported_media_type", True)
    plain = {"inputs": [tensor(ROW, [1, 4])]} if path == INFER else {"input": ROW}
    assert desk.answer(plain, path, headers={"Content-Encoding": "identity"})


def test_columns_that_are_missing_twice_there_or_of_unlike_length(desk: Desk) -> None:
    good = columns()
    assert desk.error({"inputs": good[1:]}, path=MIXED)["column"] == "age"
    near = [{**good[0], "name": "Age"}, *good[1:]]
    assert "'Age' is near" in desk.error({"inputs": near}, path=MIXED)["error"]
    assert "this name" in desk.error({"inputs": [*good, good[0]]}, path=MIXED)["error"]
    wide = [tensor([[1.0, 2.0], [3.0]], [3, 1], "FP64", "age"), *good[1:]]
    assert "the shape [3, 1] needs 3 values in its data, 2 were" in desk.error({"inputs": wide}, path=MIXED)["error"]
    short = [tensor([1.0], [1], "FP64", "age"), *good[1:]]
    assert "one length" in desk.error({"inputs": short}, path=MIXED)["error"]


def test_rows_over_the_limit(desk: Desk) -> None:
    assert desk.error({"inputs": [tensor([0.0] * 40_004, [10_001, 4])]}, 413, INFER)["code"] == "too_large"
    assert output(desk.answer({"inputs": [tensor([0.0] * 40_000, [10_000, 4])]}, INFER), "prediction")["shape"] == [
        10_000
    ]


def test_unknown_models_and_versions(desk: Desk) -> None:
    assert "'inline'" in desk.error(b"{}", 404, "/v2/models/inlin/infer")["error"]
    assert desk.error(b"{}", 404, "/v2/models/inline/versions/7/infer")["code"] == "model_not_found"
    assert desk.get("/v2/models/nothing").status == 404
