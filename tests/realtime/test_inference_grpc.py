"""ModelInfer: every way of sending rows gives one answer, what is wrong is told by its status, batches are shared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from bimodal.realtime.calls import Status
from bimodal.realtime.limits import Limits
from tests.models import CASES, IRIS, customers
from tests.realtime.callers import Caller, Refused, request, told
from tests.realtime.desk import Desk
from tests.realtime.shelf import loaded, onnx

ROWS = IRIS[::7].tolist()


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"), limits=Limits(rows=500))
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def caller(desk: Desk) -> Caller:
    return Caller(desk)


def vectors(rows: Any = None, *, datatype: str = "FP64", **options: Any) -> Any:
    return request("inline", {"input": (datatype, ROWS if rows is None else rows)}, **options)


def people(count: int = 40, **options: Any) -> Any:
    frame = customers().head(count)
    tensors = {
        name: ("BYTES" if name in ("plan", "city") else "FP64", [[value] for value in frame[name].tolist()])
        for name in ("plan", "income", "age", "visits", "city")
    }
    return request("mixed", tensors, **options)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("count", [1, 21])
def test_vectors_get_the_model_s_answers(caller: Caller, raw: bool, count: int) -> None:
    for _ in range(3):  # the first is parsed, the others are known by how they begin
        response = caller.infer(vectors(ROWS[:count], raw=raw))
        answer = told(response)
        assert answer["prediction"] == CASES["logistic"].model.predict(ROWS[:count]).tolist()
        np.testing.assert_allclose(
            answer["probability"], CASES["logistic"].model.predict_proba(ROWS[:count]), rtol=1e-12
        )
        assert bool(response.raw_output_contents) is raw
        assert (response.model_name, response.model_version) == ("inline", onnx().version)


@pytest.mark.parametrize("raw", [True, False])
def test_named_columns_get_the_model_s_answers(caller: Caller, raw: bool) -> None:
    frame = customers().head(40)
    whole = frame.assign(city=frame["city"].fillna(""), plan=frame["plan"].fillna(""))
    tensors = {
        name: ("BYTES" if name in ("plan", "city") else "FP64", whole[name].tolist())
        for name in ("plan", "income", "age", "visits", "city")
    }
    response = caller.infer(request("mixed", tensors, raw=raw, outputs=["prediction"]))
    assert told(response) == {"prediction": CASES["mixed"].model.predict(whole).tolist()}
    assert bool(response.raw_output_contents) is raw


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("FP32", [[5.5, 2.5, 4, 1]]), ("FP16", [[5.5, 2.5, 4, 1]]), ("INT8", [[5, 2, 4, 1]]), ("UINT64", [[5, 2, 4, 1]])],
)
def test_numbers_of_every_type_are_the_numbers_they_are(caller: Caller, datatype: str, values: Any) -> None:
    assert told(caller.infer(vectors(values, datatype=datatype))) == told(caller.infer(vectors(values)))


def test_the_id_comes_back_and_outputs_are_those_that_are_asked_for(caller: Caller) -> None:
    for raw in (True, False):
        response = caller.infer(vectors(outputs=["probability"], id="zwölf", raw=raw))
        assert response.id == "zwölf"
        assert [each.name for each in response.outputs] == ["probability"]


def test_calls_of_one_turn_are_predicted_in_one_call_whatever_came_through_which_way(caller: Caller) -> None:
    metrics = caller.desk.wired.service.metrics
    before = metrics.text().decode()
    asks = [vectors([row]) for row in ROWS] + [vectors([row], raw=False) for row in ROWS]
    asks += [vectors([row], id="7") for row in ROWS] + [vectors([row], datatype="FP32") for row in ROWS]
    answers = caller.together("ModelInfer", asks)
    labels = [told(service_pb2.ModelInferResponse.FromString(each))["prediction"][0] for each in answers]
    expected = CASES["logistic"].model.predict(ROWS).tolist()
    assert labels == expected * 4
    assert (
        counted(metrics.text().decode(), "bimodal_batch_rows_count") - counted(before, "bimodal_batch_rows_count") == 1
    )


def counted(text: str, name: str) -> int:
    line = next(each for each in text.splitlines() if each.startswith(f'{name}{{model="inline"'))
    return int(float(line.rpartition(" ")[2]))


def classified(count: int) -> Any:
    made = vectors(ROWS[:3], outputs=["probability"])
    made.outputs[0].parameters["classification"].int64_param = count
    return made


def test_a_classification_tells_the_likeliest_classes(caller: Caller) -> None:
    (tensor,) = told(caller.infer(classified(2))).values()
    likely = CASES["logistic"].model.predict_proba(ROWS[:3])
    for row, texts in enumerate(tensor):
        places = [int(each.split(":")[1]) for each in texts]
        assert places == np.argsort(-likely[row])[:2].tolist()


def broken(change: Any) -> Any:
    made = vectors(ROWS[:2])
    change(made)
    return made


def _both(made: Any) -> None:
    made.inputs[0].contents.fp64_contents.append(1.0)


BAD: dict[str, tuple[Any, Status, str, str]] = {
    "no protobuf": (b"\xff\xff\xff", Status.INVALID_ARGUMENT, "malformed", "ModelInferRequest"),
    "no message at all": (b"", Status.NOT_FOUND, "model_not_found", "inline"),
    "an unknown model": (request("inlined", {}), Status.NOT_FOUND, "model_not_found", "did you mean 'inline'"),
    "an unknown version": (vectors(model_version="9"), Status.NOT_FOUND, "model_not_found", "version"),
    "no inputs": (request("inline", {}), Status.INVALID_ARGUMENT, "invalid_input", "no input"),
    "raw and contents": (broken(_both), Status.INVALID_ARGUMENT, "invalid_input", "raw is for all"),
    "too few bytes": (
        broken(lambda each: each.raw_input_contents.__setitem__(0, b"12345678")),
        Status.INVALID_ARGUMENT, "invalid_input", "64 bytes",
    ),
    "raw for another number of inputs": (
        broken(lambda each: each.raw_input_contents.append(b"")), Status.INVALID_ARGUMENT, "invalid_input", "entry",
    ),
    "half precision in contents": (
        request("inline", {"input": ("FP16", ROWS)}, raw=True), Status.OK, "", "",
    ),
    "an unknown datatype": (
        broken(lambda each: setattr(each.inputs[0], "datatype", "FP128")),
        Status.INVALID_ARGUMENT, "invalid_input", "datatype",
    ),
    "a negative shape": (
        broken(lambda each: each.inputs[0].shape.__setitem__(0, -2)), Status.INVALID_ARGUMENT, "invalid_input", "shape",
    ),
    "too many rows": (vectors(np.zeros((501, 4))), Status.RESOURCE_EXHAUSTED, "too_large", "500"),
    "another width": (vectors(np.zeros((1, 3))), Status.INVALID_ARGUMENT, "wrong_width", "4 features"),
    "NaN": (vectors([[1, 2, math.nan, 4]]), Status.INVALID_ARGUMENT, "null", "no missing value"),
    "an unknown output": (vectors(outputs=["predictions"]), Status.INVALID_ARGUMENT, "usage", "prediction"),
    "a parameter without a value": (
        broken(lambda each: each.parameters["x"].Clear()), Status.INVALID_ARGUMENT, "invalid_input", "no value",
    ),
    "shared memory": (
        broken(lambda each: setattr(each.inputs[0].parameters["shared_memory_region"], "string_param", "a")),
        Status.INVALID_ARGUMENT, "invalid_input", "shared memory",
    ),
    "a sequence": (
        broken(lambda each: setattr(each.parameters["sequence_id"], "int64_param", 5)),
        Status.INVALID_ARGUMENT, "invalid_input", "sequence_id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_by_its_status(caller: Caller, case: str) -> None:
    asked, status, code, words = BAD[case]
    if status is Status.OK:
        caller.infer(asked)
        return
    with pytest.raises(Refused) as refused:
        caller.infer(asked)
    assert refused.value.status is status
    assert refused.value.trailers["x-error-code"] == code
    assert words in refused.value.message
    assert len(refused.value.trailers["x-request-id"]) == 16


def test_a_bad_row_is_told_with_its_place(caller: Caller) -> None:
    rows = np.array(ROWS)
    rows[3, 1] = np.inf
    with pytest.raises(Refused) as refused:
        caller.infer(vectors(rows))
    trailers = refused.value.trailers
    assert (trailers["x-error-code"], trailers["x-error-row"]) == ("not_finite", "4")
    assert trailers["x-error-column"] == "X%5B2%5D"


def test_a_bad_request_harms_no_other_of_its_turn(caller: Caller) -> None:
    asks = [vectors(ROWS[:1]), vectors([[1, 2, math.nan, 4]]), vectors(ROWS[1:2])]
    answers = caller.together("ModelInfer", asks)
    assert [type(each) for each in answers] == [bytes, Refused, bytes]


def test_a_deadline_that_has_passed_is_told(caller: Caller) -> None:
    with pytest.raises(Refused) as refused:
        caller.infer(vectors(), timeout=-1.0)
    assert refused.value.status is Status.DEADLINE_EXCEEDED


def test_the_parameter_timeout_is_a_deadline(caller: Caller) -> None:
    asked = vectors()
    asked.parameters["timeout"].int64_param = 60_000_000
    asked.parameters["priority"].uint64_param = 1
    assert len(told(caller.infer(asked))["prediction"]) == len(ROWS)
    asked.parameters["timeout"].int64_param = 2**63 - 1  # the server's own deadline is the most
    assert len(told(caller.infer(asked))["prediction"]) == len(ROWS)
    asked.parameters["timeout"].string_param = "soon"
    with pytest.raises(Refused) as refused:
        caller.infer(asked)
    assert "timeout" in refused.value.message


def test_calls_are_counted(caller: Caller) -> None:
    caller.infer(vectors())
    with pytest.raises(Refused):
        caller.infer(vectors(np.zeros((1, 3))))
    text = caller.desk.wired.service.metrics.text().decode()
    assert 'bimodal_requests_total{model="inline",route="grpc infer",code="200"}' in text
    assert 'bimodal_requests_total{model="inline",route="grpc infer",code="400"}' in text
