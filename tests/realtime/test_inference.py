"""What an Open Inference request may ask beside its tensors, and what our extension adds: the oracle is the model on
the frame.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from bimodal.field import Field
from bimodal.realtime.protocols import columns
from bimodal.realtime.protocols.classification import classified
from bimodal.realtime.protocols.description import EXTENSIONS
from tests.models import CASES, IRIS, customers
from tests.realtime.callers import Caller
from tests.realtime.desk import Desk, told
from tests.realtime.shelf import loaded, onnx

INFER = "/v2/models/inline/infer"
MIXED = "/v2/models/mixed/infer"
NAMES = ("age", "income", "visits", "city", "plan")
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"), loaded("text"))
    yield desk
    desk.close()


def iris(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "input", "shape": [2, 4], "datatype": "FP64", "data": IRIS[:2].tolist()}], **more}


def output(answer: dict[str, Any], name: str) -> Any:
    return next(each["data"] for each in answer["outputs"] if each["name"] == name)


def given(name: str, array: Any, datatype: str) -> InferInput:
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


# -- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_parameters_are_texts_numbers_and_booleans_alone(desk: Desk, value: object) -> None:
    for body in (
        iris(parameters={"x": value}),
        iris(outputs=[{"name": "prediction", "parameters": {"x": value}}]),
        {"inputs": [{**iris()["inputs"][0], "parameters": {"x": value}}]},
    ):
        assert "no inference request" in desk.error(body, path=INFER)["error"]
    good = {"x": "a", "y": 1, "z": 1.5, "w": True}
    assert desk.answer(iris(parameters=good, outputs=[{"name": "prediction", "parameters": good}]), INFER)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"priority": -1}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 2**32}, "priority"),
        ({"timeout": 1.5}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"threshold": "0.5"}, "threshold"),
        ({"sequence_id": 7, "sequence_start": True}, "sequence_id"),
        ({"sequence_id": "a"}, "sequence_id"),
        ({"content_type": "csv"}, "content_type"),
        ({"binary_data_output": 1}, "binary_data_output"),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_a_parameter_that_cannot_be_is_named(desk: Desk, parameters: dict[str, Any], words: str, quick: bool) -> None:
    if not quick:
        parameters = {"binary_data_output": True, **parameters}
    assert words in desk.error(iris(parameters=parameters), path=INFER)["error"]


def test_parameters_that_say_nothing_are_taken(desk: Desk) -> None:
    for parameters in ({"priority": 0}, {"priority": 1, "timeout": 0}, {"sequence_id": 0}, {"timeout": 9_000_000}):
        assert output(desk.answer(iris(parameters=parameters), INFER), "prediction") == [0, 0]


def test_a_timeout_is_a_deadline(desk: Desk) -> None:
    for more in ({}, {"binary_data_output": True}):
        error = desk.error(iris(parameters={"timeout": 1, **more}), 504, INFER)
        assert error["code"] == "deadline_exceeded"


def test_an_output_that_is_asked_for_twice_is_named(desk: Desk) -> None:
    error = desk.error(iris(outputs=[{"name": "prediction"}, {"name": "prediction"}]), path=INFER)
    assert (error["column"], "two outputs" in error["error"]) == ("prediction", True)


# -- classification --------------------------------------------------------------------------------------------------


def test_the_largest_values_are_told_with_their_places_and_labels(desk: Desk) -> None:
    asked = [{"name": "probability", "parameters": {"classification": 2}}]
    answer = desk.answer(iris(outputs=asked), INFER)["outputs"][0]
    assert (answer["datatype"], answer["shape"]) == ("BYTES", [2, 2])
    right = output(desk.answer(iris(outputs=[{"name": "probability"}]), INFER), "probability")
    rows = np.array(right).reshape(2, 3)
    wanted = [f"{row[place]}:{place}:{place}" for row in rows for place in np.argsort(-row)[:2]]
    assert answer["data"] == wanted
    body, _ = InferenceServerClient.generate_request_body(
        [given("input", IRIS[:2].copy(), "FP64")], outputs=[InferRequestedOutput("probability", class_count=2)]
    )
    length = body.index(b"}]}") + 3
    response = desk.ask(INFER, body, headers={LENGTH: str(length)})
    at = int(dict(response.headers)[LENGTH.lower().encode()])
    result = InferenceServerClient.parse_response_body(response.body, header_length=at)
    assert [each.decode() for each in result.as_numpy("probability").reshape(-1)] == wanted


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("probability", -1, "whole number"),
        ("probability", 1.5, "whole number"),
        ("probability", True, "whole number"),
        ("prediction", 1, "output of numbers"),
    ],
)
def test_a_classification_that_cannot_be_is_refused(desk: Desk, name: str, count: object, words: str) -> None:
    frame = customers().iloc[1:3]
    inputs = [{"name": each, "shape": [2], "datatype": "FP64", "data": frame[each].tolist()} for each in NAMES[:3]]
    inputs += [{"name": each, "shape": [2], "datatype": "BYTES", "data": frame[each].tolist()} for each in NAMES[3:]]
    body = {"inputs": inputs, "outputs": [{"name": name, "parameters": {"classification": count}}]}
    error = desk.error(body, path=MIXED)
    assert (error["column"], words in error["error"]) == (name, True)


def test_more_classes_than_there_are_and_none() -> None:
    array = np.array([[0.5, np.nan, 0.5, -1.0]])
    assert classified(array, 9, None).tolist() == [["0.5:0", "0.5:2", "-1.0:3", "nan:1"]]
    assert classified(np.array([3, 1]), 1, None).tolist() == [["3:0"], ["1:0"]]


# -- nulls, times, content types -------------------------------------------------------------------------------------


def test_a_validity_tells_nulls_in_both_forms(desk: Desk) -> None:
    frame = customers().iloc[1:12].dropna(subset=list(NAMES)).copy()
    there = np.ones(len(frame), bool)
    there[[2, 5]] = False
    inputs, plain = [], []
    for name in NAMES:
        text = name in ("city", "plan")
        values = frame[name].to_numpy(object if text else np.float64)
        inputs.append(given(name, values, "BYTES" if text else "FP64"))
        kind = "BYTES" if text else "FP64"
        plain.append({"name": name, "shape": [len(frame)], "datatype": kind, "data": values.tolist()})
    for name in ("age", "city"):
        inputs.append(given(f"{name}:validity", there, "BOOL"))
        data = next(each for each in plain if each["name"] == name)
        data["data"] = [value if told_ else None for value, told_ in zip(data["data"], there, strict=True)]
    blanked = frame.assign(age=frame["age"].where(there), city=frame["city"].where(there))
    right = CASES["mixed"].model.predict_proba(blanked)
    body, length = InferenceServerClient.generate_request_body(inputs)
    response = desk.ask(MIXED, body, headers={LENGTH: str(length)})
    at = int(dict(response.headers)[LENGTH.lower().encode()])
    result = InferenceServerClient.parse_response_body(response.body, header_length=at)
    assert np.allclose(result.as_numpy("probability"), right)
    assert np.allclose(output(desk.answer({"inputs": plain}, MIXED), "probability"), right.ravel())
    inputs[-1] = given("city:validity", there.astype(np.int8), "INT8")
    body, length = InferenceServerClient.generate_request_body(inputs)
    assert "a validity is BOOL" in desk.error(body, path=MIXED, headers={LENGTH: str(length)})["error"]


def test_a_null_where_the_model_takes_none_is_told(desk: Desk) -> None:
    tensor = iris()["inputs"][0]
    validity = {"name": "input:validity", "shape": [2], "datatype": "BOOL", "data": [True, False]}
    error = desk.error({"inputs": [tensor, validity]}, path=INFER)
    assert (error["row"], error["code"]) == (2, "null")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_come_as_text_or_as_numbers_of_a_unit(unit: str) -> None:
    field = Field("at", "timestamp", nullable=True)
    times = np.array(["2026-01-02T03:04:05", "1969-12-31T23:59:59"], "datetime64[us]")
    numbers, problems = columns.column(field, times.astype(f"datetime64[{unit}]").astype(np.int64), unit=unit)
    assert not problems
    texts, problems = columns.column(field, np.array([b"2026-01-02T03:04:05Z", b"1969-12-31T23:59:59"], object))
    assert not problems
    assert numbers is not None
    assert texts is not None
    assert numbers.tolist() == texts.tolist() == times.tolist()
    holed, _ = columns.column(field, times, missing=np.array([True, False]))
    assert holed is not None
    assert np.isnat(holed).tolist() == [True, False]
    assert columns.column(Field("at", "timestamp"), times, np.array([True, False]))[1][0].code == "null"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_number_that_is_no_time_is_out_of_range(unit: str) -> None:
    most, least = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    field = Field("at", "timestamp", nullable=True)
    column, problems = columns.column(field, np.array([0, least, 1]), unit=unit)
    assert column is None
    assert [(each.code, each.row, each.column) for each in problems] == [("out_of_range", 2, "at")]
    assert columns.column(field, np.array([least]), np.array([True]), unit)[1] == []
    huge = columns.column(field, np.array([most]), unit=unit)
    assert [each.code for each in huge[1]] == ([] if unit == "ns" else ["out_of_range"])


@pytest.mark.parametrize(("unit", "parts"), [("s", 1), ("ms", 10**3), ("us", 10**6)])
def test_times_reach_from_the_year_1_to_the_end_of_9999(unit: str, parts: int) -> None:
    field = Field("at", "timestamp")
    ends = [datetime.datetime.fromisoformat(text) for text in ("0001-01-01", "9999-12-31T23:59:59")]
    numbers = np.array(ends, f"datetime64[{unit}]").astype(np.int64)
    times, problems = columns.column(field, numbers, unit=unit)
    assert not problems
    assert times is not None
    assert times.tolist() == ends
    _, problems = columns.column(field, numbers + np.array([-1, parts]), unit=unit)
    assert [each.row for each in problems] == [1, 2]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_times_are_held_to_what_the_trainings_frame_holds(unit: str) -> None:
    field = Field("at", "timestamp", frame="datetime64[ns]")
    times = np.array(["2262-04-11", "2262-04-12"], f"datetime64[{unit}]").astype(np.int64)
    _, problems = columns.column(field, times, unit=unit)
    assert [(each.code, each.row) for each in problems] == [("out_of_range", 2)]


def test_the_content_types_of_mlserver(desk: Desk) -> None:
    def asked(kind: str, data: list[str]) -> dict[str, Any]:
        tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": data}
        return {"inputs": [{**tensor, "parameters": {"content_type": kind}}], "parameters": {"content_type": "pd"}}

    path = "/v2/models/text/infer"
    assert output(desk.answer(asked("str", ["good", "bad"]), path), "prediction") == [1, 0]
    assert output(desk.answer(asked("base64", ["Z29vZA==", "YmFk"]), path), "prediction") == [1, 0]
    assert "base64" in desk.error(asked("base64", ["Z29vZA=", "!"]), path=path)["error"]
    assert "content_type" in desk.error(asked("xml", ["a", "b"]), path=path)["error"]


# -- what is told ----------------------------------------------------------------------------------------------------


def test_the_extensions_are_announced(desk: Desk) -> None:
    assert told(desk.get("/v2"))["extensions"] == [each for each in EXTENSIONS if each != "model_repository"]


def test_grpc_tells_of_nulls_and_categories_in_the_configuration(desk: Desk) -> None:
    """ModelMetadata has no place for them."""
    metadata = told(desk.get("/v2/models/mixed"))
    request = service_pb2.ModelConfigRequest(name="mixed")
    config = Caller(desk).ask("ModelConfig", request).config
    tensors = json.loads(config.parameters["bimodal"].string_value)["tensors"]
    assert tensors == {kind: metadata[kind] for kind in ("inputs", "outputs")}


def test_metadata_tells_of_nulls_and_categories(desk: Desk) -> None:
    inputs = {each["name"]: each for each in told(desk.get("/v2/models/mixed"))["inputs"]}
    assert inputs["age"]["parameters"]["nullable"] is True
    city = inputs["city"]
    assert set(city["categories"]) >= {"Oslo", "Lima", "Pune"}
    assert city["parameters"]["categories"] == len(city["categories"])


def test_the_configuration_is_in_tritons_names(desk: Desk) -> None:
    config = told(desk.get("/v2/models/mixed/config"))
    assert (config["name"], config["max_batch_size"]) == ("mixed", 10_000)
    assert {each["name"]: each["data_type"] for each in config["input"]}["city"] == "TYPE_STRING"
    assert {each["name"]: each["dims"] for each in config["output"]}["probability"] == [2]
    version = loaded("mixed").version
    assert told(desk.get(f"/v2/models/mixed/versions/{version}/config")) == config
    assert desk.get("/v2/models/mixed/versions/nine/config").status == 404


def test_statistics_count_requests_rows_and_calls() -> None:
    desk = Desk(onnx(), loaded("mixed"))
    for _ in range(3):
        desk.answer(iris(), INFER)
    desk.answer({"input": IRIS[:7].tolist()}, "/models/inline/predict")
    desk.answer({"input": IRIS[:100].tolist()}, "/models/inline/predict")
    desk.error(b"{}", path=INFER)
    told_ = told(desk.get("/v2/models/inline/stats"))["model_stats"]
    assert [each["name"] for each in told(desk.get("/v2/models/stats"))["model_stats"]] == ["inline", "mixed"]
    desk.close()
    (one,) = told_
    stats = one["inference_stats"]
    assert (one["inference_count"], one["execution_count"]) == (113, 5)
    assert (stats["success"]["count"], stats["fail"]["count"], stats["queue"]["count"]) == (5, 1, 5)
    parts = [stats[each]["ns"] for each in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert abs(stats["success"]["ns"] - sum(parts)) < 10
    assert min(parts) > 0
    assert stats["fail"]["ns"] > 0
    sizes = {each["batch_size"]: each["compute_infer"]["count"] for each in one["batch_stats"]}
    assert sizes == {2: 3, 7: 1, 128: 1}
    assert one["last_inference"] > 1.7e12


def test_statistics_are_of_all_workers(tmp_path: Path) -> None:
    path = str(tmp_path / "counters")
    desks = [Desk(onnx(), metrics=path, workers=2, worker=worker) for worker in (0, 1)]
    for desk, times in zip(desks, (2, 3), strict=True):
        for _ in range(times):
            desk.answer(iris(), INFER)
    told_ = [told(desk.get("/v2/models/inline/stats"))["model_stats"][0] for desk in desks]
    for desk in desks:
        desk.close()
    assert told_[0] == told_[1]
    assert (told_[0]["inference_count"], told_[0]["execution_count"]) == (10, 5)
    assert told_[0]["batch_stats"][0]["compute_infer"]["count"] == 5
