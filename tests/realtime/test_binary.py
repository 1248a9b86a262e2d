"""Binary tensors over REST, both ways: the bodies are written and read by tritonclient, the answers are the model's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import serialize_byte_tensor

from bimodal.errors import InputError
from bimodal.realtime.protocols import tensors
from tests.models import CASES, IRIS, customers
from tests.realtime.desk import Desk
from tests.realtime.shelf import loaded, onnx

INFER = "/v2/models/inline/infer"
MIXED = "/v2/models/mixed/infer"
NAMES = ("age", "income", "visits", "city", "plan")
LENGTH = "Inference-Header-Content-Length"
NUMBERS = [each for each in tensors.DATATYPES if each not in ("BYTES", "BF16")]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"), loaded("text"))
    yield desk
    desk.close()


def given_input(name: str, array: Any, datatype: str, *, binary: bool = True) -> InferInput:
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def customer_inputs(frame: Any, *, binary: Sequence[str] = NAMES) -> list[InferInput]:
    made = []
    for name in NAMES:
        text = name in ("city", "plan")
        array = frame[name].to_numpy(object if text else np.float64)
        made.append(given_input(name, array, "BYTES" if text else "FP64", binary=name in binary))
    return made


def asked(desk: Desk, path: str, inputs: Sequence[InferInput], **options: Any) -> InferResult:
    body, length = InferenceServerClient.generate_request_body(inputs, **options)
    headers = {} if length is None else {LENGTH: str(length)}
    response = desk.ask(path, body, headers=headers, kind="application/octet-stream")
    assert response.status == 200, response.body
    told = dict(response.headers).get(LENGTH.lower().encode())
    assert (response.content_type == b"application/octet-stream") == (told is not None)
    return InferenceServerClient.parse_response_body(response.body, header_length=None if told is None else int(told))


def refused(
    desk: Desk, told: dict[str, Any], rest: bytes, path: str = INFER, length: str | None = None
) -> dict[str, Any]:
    text = json.dumps(told).encode()
    headers = {LENGTH: str(len(text)) if length is None else length}
    return desk.error(text + rest, 400, path, headers=headers)


def test_an_array_both_ways(desk: Desk) -> None:
    result = asked(desk, INFER, [given_input("input", IRIS[:60].copy(), "FP64")])
    assert result.as_numpy("prediction").tolist() == CASES["logistic"].model.predict(IRIS[:60]).tolist()
    alone = desk.answer({"input": IRIS[:60].tolist(), "outputs": ["probability"]}, "/models/inline/predict")
    assert result.as_numpy("probability").tolist() == alone["probability"]  # to the last bit
    assert result.get_response()["model_name"] == "inline"


@pytest.mark.parametrize("binary", [NAMES, (), ("age", "city")], ids=["binary", "json", "mixed"])
@pytest.mark.parametrize("back", [True, False])
def test_columns_in_both_forms_are_answered_as_the_frame_is(desk: Desk, binary: Sequence[str], back: bool) -> None:
    frame = customers().iloc[1:20].dropna(subset=list(NAMES))
    outputs = [InferRequestedOutput("probability", binary_data=back), InferRequestedOutput("prediction")]
    result = asked(desk, MIXED, customer_inputs(frame, binary=binary), outputs=outputs, request_id="a-7")
    model = CASES["mixed"].model
    labels = [each.decode() for each in result.as_numpy("prediction")]
    assert labels == model.predict(frame).tolist()
    assert np.allclose(result.as_numpy("probability"), model.predict_proba(frame))
    assert result.get_response()["id"] == "a-7"


def test_texts_have_their_lengths_before_them(desk: Desk) -> None:
    texts = np.array([["good"], [""], ["bad – très"]], object)
    result = asked(desk, "/v2/models/text/infer", [given_input("text", texts, "BYTES")])
    assert result.as_numpy("prediction").tolist() == CASES["text"].model.predict(texts[:, 0].tolist()).tolist()


def test_nan_is_told_as_it_is_and_means_a_missing_value(desk: Desk) -> None:
    frame = customers().iloc[1:20].dropna(subset=list(NAMES)).copy()
    frame.iloc[2, list(frame.columns).index("income")] = np.nan
    result = asked(desk, MIXED, customer_inputs(frame))
    assert np.allclose(result.as_numpy("probability"), CASES["mixed"].model.predict_proba(frame))
    rows = IRIS[:3].copy()
    rows[1, 2] = np.nan
    body, length = InferenceServerClient.generate_request_body([given_input("input", rows, "FP64")])
    error = desk.error(body, 400, INFER, headers={LENGTH: str(length)})
    assert (error["row"], error["code"]) == (2, "null")


def test_the_request_says_how_outputs_are_answered(desk: Desk) -> None:
    inputs = [{"name": "input", "shape": [1, 4], "datatype": "FP64", "data": IRIS[0].tolist()}]
    common = {"binary_data_output": True}
    response = desk.ask(INFER, {"inputs": inputs, "parameters": common})
    length = int(dict(response.headers)[LENGTH.lower().encode()])
    told = json.loads(response.body[:length])
    assert [each["parameters"]["binary_data_size"] for each in told["outputs"]] == [8, 24]
    own = [{"name": "probability", "parameters": {"binary_data": False}}, {"name": "prediction"}]
    response = desk.ask(INFER, {"inputs": inputs, "parameters": common, "outputs": own})
    told = json.loads(response.body[: int(dict(response.headers)[LENGTH.lower().encode()])])
    assert ["data" in each for each in told["outputs"]] == [True, False]
    plain = desk.answer(
        {"inputs": inputs, "outputs": [{"name": "prediction", "parameters": {"binary_data": False}}]}, INFER
    )
    assert plain["outputs"][0]["data"] == [0]


TENSOR = {"name": "input", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}


@pytest.mark.parametrize(
    ("tensor", "rest", "words"),
    [
        ({}, bytes(31), "31 are left"),
        ({}, bytes(33), "1 bytes follow"),
        ({"parameters": {"binary_data_size": 24}}, bytes(24), "needs 32 bytes, 24 were given"),
        ({"parameters": {"binary_data_size": 10**30}}, bytes(32), "are left"),
        ({"parameters": {"binary_data_size": -1}}, bytes(32), "number of bytes"),
        ({"parameters": {"binary_data_size": True}}, bytes(32), "number of bytes"),
        ({"parameters": {"binary_data_size": "32"}}, bytes(32), "number of bytes"),
        ({"parameters": {"binary_data_size": [32]}}, bytes(32), "no inference request"),
        ({"parameters": {}}, bytes(32), "neither data nor binary_data_size"),
        ({"data": [1, 2, 3, 4]}, bytes(32), "both data and binary_data_size"),
        ({"shape": [2, 4]}, bytes(32), "needs 64 bytes, 32 were given"),
        ({"shape": [-1, 4]}, bytes(32), "negative"),
        ({"shape": [0, 10**30], "parameters": {"binary_data_size": 0}}, b"", "too large"),
        ({"shape": [0, 4], "parameters": {"binary_data_size": 0}}, b"", "no rows"),
        ({"shape": [4]}, bytes(32), "[-1, 4]"),
        ({"shape": [1] * 40}, bytes(32), "axes"),
        ({"datatype": "FP12"}, bytes(32), "not known"),
        ({"datatype": "BYTES", "parameters": {"binary_data_size": 8}}, bytes(8), "at least 16 bytes"),
        ({"datatype": "BYTES"}, b"\xff" * 32, "do not add up"),
        ({"datatype": "BYTES", "shape": [4, 1]}, bytes(32), "do not add up"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(desk: Desk, tensor: dict[str, Any], rest: bytes, words: str) -> None:
    assert words in refused(desk, {"inputs": [{**TENSOR, **tensor}]}, rest)["error"]


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "999", "10, 10", "9" * 400, "٣"])
def test_a_length_of_the_json_that_cannot_be_is_refused(desk: Desk, length: str) -> None:
    error = refused(desk, {"inputs": [TENSOR]}, bytes(32), length=length)
    assert error["code"] == "malformed"
    assert "Inference-Header-Content-Length" in error["error"]


def test_a_length_that_cuts_the_json_is_no_json(desk: Desk) -> None:
    assert refused(desk, {"inputs": [TENSOR]}, bytes(32), length="20")["code"] == "malformed"
    assert refused(desk, {"inputs": [TENSOR]}, bytes(32), length="0")["code"] == "malformed"


def test_bytes_that_are_no_text_are_told_where(desk: Desk) -> None:
    frame = customers().iloc[1:4]
    inputs = customer_inputs(frame)
    array = np.array([b"Oslo", b"\xff", b"Lima"], object)
    inputs[3] = given_input("city", array, "BYTES")
    body, length = InferenceServerClient.generate_request_body(inputs)
    error = desk.error(body, 400, MIXED, headers={LENGTH: str(length)})
    assert (error["row"], error["column"], "no text" in error["error"]) == (2, "city", True)


# -- the bytes themselves, against NumPy and tritonclient ----------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NUMBERS), st.lists(st.integers(0, 3), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_numbers_go_through_bytes_unchanged(datatype: str, shape: list[int], random: Any) -> None:
    dtype = tensors.DATATYPES[datatype]
    count = int(np.prod(shape))
    data = bytes(random.getrandbits(1 if datatype == "BOOL" else 8) for _ in range(count * dtype.itemsize))
    array = tensors.decode(datatype, shape, data, "x")
    assert (array.shape, array.dtype) == (tuple(shape), dtype)
    assert tensors.encode(array, datatype) == data
    assert data == np.frombuffer(data, dtype).reshape(shape).tobytes()
    for wrong in (data + b"\0", data[:-1]):
        if len(wrong) != len(data):
            with pytest.raises(InputError, match=f"needs {len(data)} bytes, {len(wrong)} were given"):
                tensors.decode(datatype, shape, wrong, "x")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=5))
def test_texts_go_through_bytes_as_tritonclient_writes_them(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    data = serialize_byte_tensor(array).item() if values else b""
    assert tensors.encode(array, "BYTES") == data
    assert tensors.decode("BYTES", [len(values)], memoryview(data), "x").tolist() == values
    for cut in range(len(data)):
        with pytest.raises(InputError):
            tensors.decode("BYTES", [len(values)], data[:cut], "x")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=8))
def test_bf16_is_the_nearest_as_torch_rounds(values: list[float]) -> None:
    array = np.array(values, np.float32)
    rounded = torch.from_numpy(array).to(torch.bfloat16)
    back = tensors.decode("BF16", [len(values)], tensors.encode(array, "BF16"), "x")
    assert back.dtype == np.float32
    assert np.array_equal(back, rounded.to(torch.float32).numpy(), equal_nan=True)
    assert np.array_equal(
        tensors.decode("BF16", [len(values)], tensors.encode(back, "BF16"), "x"), back, equal_nan=True
    )
