"""What is wrong with a tensor is told in a sentence that begins with its name, over REST and gRPC alike: tritonclient
shows nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import bimodal
from bimodal.model import Model
from tests.realtime.callers import Caller, Refused, request
from tests.realtime.desk import Desk, told
from tests.realtime.shelf import onnx

FILE = """
from datetime import datetime


class Visit:
    inputs = {"time": datetime, "visits": int, "plan": str | None}
    outputs = {"told": str}

    def predict(self, rows):
        return {"told": [str(each) for each in rows["time"]]}
"""
PATH = "/v2/models/Visit/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    file = tmp_path_factory.mktemp("visit") / "visit.py"
    file.write_text(FILE)
    with bimodal.load(f"{file}:Visit") as model:
        yield model


@pytest.fixture(scope="module")
def desk(model: Model) -> Iterator[Desk]:
    desk = Desk(model, onnx())
    yield desk
    desk.close()


def tensor(name: str, datatype: str, data: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data, **more}


TIME = tensor("time", "BYTES", ["2024-01-01"])
VISITS = tensor("visits", "INT64", [3])
PLAN = tensor("plan", "BYTES", ["pro"])


@pytest.mark.parametrize(
    ("tensors", "name", "words"),
    [
        ([TIME, VISITS, VISITS, PLAN], "visits", "two input tensors have this name"),
        ([TIME, tensor("visits", "INT64", [3, 4]), PLAN], "visits", "tensors of one length are needed, "),
        ([TIME, {**VISITS, "shape": [-1]}, PLAN], "visits", "the shape needs sizes of 0 or more"),
        ([TIME, {**VISITS, "shape": [2]}, PLAN], "visits", "the shape [2] needs 2 values, 1 were given"),
        ([TIME, {**VISITS, "shape": []}, PLAN], "visits", "the shape "),
        ([TIME, {**VISITS, "datatype": "FP128"}, PLAN], "visits", "the datatype 'FP128' is not known; known are"),
        ([TIME, VISITS, PLAN, tensor("plan:validity", "INT64", [1])], "plan:validity", "a validity is BOOL"),
        (
            [TIME, VISITS, PLAN, tensor("plam:validity", "BOOL", [False])],
            "plam:validity",
            "it tells of a tensor 'plam'",
        ),
        ([{**TIME, "parameters": {"unit": "h"}}, VISITS, PLAN], "time", "the parameter unit is none of 's'"),
        ([tensor("time", "BYTES", ["a"], shape=[1, 1, 1]), VISITS, PLAN], "time", "it has the shape [1, 1, 1]"),
    ],
)
def test_the_sentence_begins_with_the_tensor_s_name(desk: Desk, tensors: Any, name: str, words: str) -> None:
    error = desk.error({"inputs": tensors}, path=PATH)
    assert error["error"].startswith(f"tensor {name!r}: {words}")
    assert error["column"] == name


def test_bytes_of_another_number_are_told_with_the_tensor_s_name_over_rest_and_grpc(desk: Desk) -> None:
    sized = {"name": "visits", "shape": [3], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [sized]}).encode()
    headers = {LENGTH: str(len(head))}
    words = "tensor 'visits': INT64 [3] needs 24 bytes, 16 were given"
    assert told(desk.ask(PATH, head + bytes(16), headers=headers))["error"] == words
    message = request("Visit", {"visits": ("INT64", [1, 2, 3])})
    message.raw_input_contents[0] = bytes(16)
    with pytest.raises(Refused) as refused:
        Caller(desk).infer(message)
    assert refused.value.message == words
    assert refused.value.trailers["x-error-column"] == "visits"


def test_a_byte_that_is_no_boolean_is_refused_as_the_number_is(desk: Desk) -> None:
    data, shape = bytes([1, 0, 1, 1, 0, 1, 2, 1]), [2, 4]
    words = "row 2, column 'input[3]': a number where true or false is needed"
    flags = {"name": "input", "shape": shape, "datatype": "BOOL"}
    assert desk.error({"inputs": [{**flags, "data": list(data)}]}, path="/v2/models/inline/infer")["error"] == words
    head = json.dumps({"inputs": [{**flags, "parameters": {"binary_data_size": 8}}]}).encode()
    error = desk.error(head + data, path="/v2/models/inline/infer", headers={LENGTH: str(len(head))})
    assert error["error"] == words
    message = request("inline", {"input": ("BOOL", np.ones(shape, bool))})
    assert Caller(desk).infer(message).outputs
    message.raw_input_contents[0] = data
    with pytest.raises(Refused) as refused:
        Caller(desk).infer(message)
    assert refused.value.message == words


def test_tensors_of_several_lengths_name_two_of_them(desk: Desk) -> None:
    error = desk.error({"inputs": [TIME, tensor("visits", "INT64", [3, 4]), PLAN]}, path=PATH)
    assert error["error"].endswith("not 2 rows where 'time' has 1")


def test_a_validity_of_no_tensor_is_refused_with_the_one_that_is_meant(desk: Desk) -> None:
    """Left out, it would let a value through that was marked as missing."""
    stray = tensor("plam:validity", "BOOL", [False])
    error = desk.error({"inputs": [TIME, VISITS, PLAN, stray]}, path=PATH)
    assert error["error"].endswith("there is none; did you mean 'plan:validity'?")
    columns = {"time": ("BYTES", ["2024-01-01"]), "visits": ("INT64", [3]), "plan": ("BYTES", ["pro"])}
    with pytest.raises(Refused, match="did you mean 'plan:validity'"):
        Caller(desk).infer(request("Visit", {**columns, "plam:validity": ("BOOL", [False])}))
    other = [tensor("more", "INT64", [1]), tensor("more:validity", "BOOL", [True])]
    assert desk.answer({"inputs": [TIME, VISITS, PLAN, *other]}, PATH)


def test_a_number_for_a_time_is_told_what_says_its_unit(desk: Desk) -> None:
    error = desk.error({"inputs": [tensor("time", "INT64", [1704067200]), VISITS, PLAN]}, path=PATH)
    assert error["code"] == "wrong_type"
    assert error["error"] == (
        "row 1, column 'time': a number where a timestamp is needed; "
        "the tensor's parameter unit tells what a number counts: 's', 'ms', 'us', 'ns'"
    )
    good = tensor("time", "INT64", [1704067200], parameters={"unit": "s"})
    assert desk.answer({"inputs": [good, VISITS, PLAN]}, PATH)["outputs"][0]["data"] == ["2024-01-01T00:00:00.000000"]


def test_nan_is_called_nan_and_a_value_that_is_marked_as_missing_null(desk: Desk) -> None:
    rows = {"input": ("FP64", [[1.0, 2.0, 3.0, float("nan")]])}
    words = " where a number is needed; the model takes no missing value here"
    for raw in (True, False):
        with pytest.raises(Refused) as refused:
            Caller(desk).infer(request("inline", rows, raw=raw))
        assert refused.value.message == f"row 1, column 'X[4]': NaN{words}"
    marked = [tensor("visits", "FP64", [3.0]), tensor("visits:validity", "BOOL", [False])]
    error = desk.error({"inputs": [TIME, PLAN, *marked]}, path=PATH)
    assert error["error"].startswith("row 1, column 'visits': null where an integer is needed")


def test_an_empty_list_of_outputs_asks_for_all_as_it_does_over_grpc(desk: Desk) -> None:
    asked = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}
    path = "/v2/models/inline/infer"
    whole = desk.answer(asked, path)
    assert [each["name"] for each in whole["outputs"]] == ["prediction", "probability"]
    for more in ({}, {"parameters": {"binary_data_output": False}}):
        assert desk.answer({**asked, "outputs": [], **more}, path) == whole
