"""`/predict` in JSON: the three shapes, what `input` may be, outputs, threshold, kept columns, errors that teach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bimodal.realtime.limits import Limits
from tests.models import CASES, IRIS, TEXTS, customers
from tests.realtime.desk import Ask, Desk, told
from tests.realtime.shelf import loaded, onnx

ROW = [5.1, 3.5, 1.4, 0.2]
CUSTOMER: dict[str, Any] = {"age": 40.0, "income": 61000.0, "visits": 3, "city": "Oslo", "plan": "pro"}


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(loaded("logistic"), loaded("mixed"), loaded("text"), loaded("own"), loaded("closed"), onnx())
    yield desk
    desk.close()


def test_the_first_users_request_is_answered(desk: Desk) -> None:
    assert desk.answer({"input": ROW}) == {"prediction": [0]}


def test_a_list_of_rows_answers_a_list(desk: Desk) -> None:
    rows = CASES["logistic"].rows
    assert desk.answer({"input": rows.tolist()})["prediction"] == CASES["logistic"].model.predict(rows).tolist()


@pytest.mark.parametrize(
    "body", [{"rows": [ROW]}, {"input": [ROW]}, {"columns": {"a": [5.1], "b": [3.5], "c": [1.4], "d": [0.2]}}]
)
def test_the_shapes_of_a_model_of_arrays(desk: Desk, body: object) -> None:
    assert desk.answer(body) == {"prediction": [0]}


@pytest.mark.parametrize(("bad", "words"), [([1], "a list where a number"), ({}, "an object where a number")])
def test_one_bad_value_makes_no_rows_of_a_row(desk: Desk, bad: object, words: str) -> None:
    error = desk.error({"input": [0, 0, bad, 0]}, path="/models/inline/predict")
    assert (error["row"], error["column"][-3:], "more)" in error["error"]) == (1, "[3]", False)
    assert words in error["error"]
    rows = desk.error({"input": [ROW, 5, 6]}, path="/models/inline/predict")
    assert [each["row"] for each in rows["problems"]] == [2, 3]


@pytest.mark.parametrize(
    "body",
    [
        {"input": CUSTOMER},
        {"input": [CUSTOMER]},
        {"rows": [CUSTOMER]},
        {"columns": {name: [value] for name, value in CUSTOMER.items()}},
    ],
)
def test_the_shapes_of_a_model_of_named_columns(desk: Desk, body: object) -> None:
    case = CASES["mixed"]
    row = customers().iloc[:1].assign(**CUSTOMER)
    assert desk.answer(body, "/models/mixed/predict") == {"prediction": case.model.predict(row).tolist()}


def test_named_columns_by_position(desk: Desk) -> None:
    names = [field.name for field in loaded("mixed").signature.inputs]
    row = [CUSTOMER[name] for name in names]
    one = desk.answer({"input": row}, "/models/mixed/predict")
    assert (
        one
        == desk.answer({"input": [row]}, "/models/mixed/predict")
        == desk.answer({"rows": [CUSTOMER]}, "/models/mixed/predict")
    )


def test_many_rows_of_mixed_columns_with_nulls_agree_with_the_library(desk: Desk) -> None:
    frame = customers()
    names = [field.name for field in loaded("mixed").signature.inputs]
    rows = json.loads(frame[names].to_json(orient="records"))
    assert any(None in row.values() for row in rows)
    answer = desk.answer({"rows": rows, "outputs": ["prediction", "probability"]}, "/models/mixed/predict")
    assert answer["prediction"] == CASES["mixed"].model.predict(frame).tolist()
    assert np.allclose(answer["probability"], CASES["mixed"].model.predict_proba(frame), rtol=0, atol=1e-12)


@pytest.mark.parametrize("text", ["good food", ["good food"]])
def test_text_models_take_strings(desk: Desk, text: object) -> None:
    assert desk.answer({"input": text}, "/models/text/predict") == {"prediction": [1]}


def test_several_texts_are_several_rows(desk: Desk) -> None:
    answer = desk.answer({"input": TEXTS[:8]}, "/models/text/predict")
    assert answer["prediction"] == CASES["text"].model.predict(TEXTS[:8]).tolist()


def test_a_model_without_a_width_reads_a_flat_list_as_one_row(desk: Desk) -> None:
    assert desk.answer({"input": ROW}, "/models/own/predict") == {"prediction": [0]}
    assert desk.answer({"input": [ROW, ROW]}, "/models/own/predict") == {"prediction": [0, 0]}


def test_rows_of_other_widths_never_share_a_call(desk: Desk) -> None:
    good, bad = desk.together(
        [Ask("/models/own/predict", {"input": ROW}), Ask("/models/own/predict", {"input": [1, 2]})]
    )
    assert told(good) == {"prediction": [0]}
    assert bad.status == 500
    assert told(bad)["code"] == "model_failed"


@pytest.fixture(scope="module")
def single() -> Iterator[Desk]:
    from sklearn.linear_model import LinearRegression

    from bimodal.model import load

    with load(LinearRegression().fit([[1.0], [2.0]], [10.0, 20.0]), name="single") as model:
        desk = Desk(model)
        yield desk
        desk.close()


def test_one_feature_one_value_is_one_row(single: Desk) -> None:
    assert single.answer({"input": [3.0]})["prediction"] == pytest.approx([30.0])
    assert single.answer({"input": [[3.0], [4.0]]})["prediction"] == pytest.approx([30.0, 40.0])


def test_one_feature_several_values_are_refused_naming_both_spellings(single: Desk) -> None:
    error = single.error({"input": [1.0, 2.0]})["error"]
    assert '{"input": [[1], [2]]}' in error
    assert '{"input": [1]}' in error


def test_outputs_are_chosen_in_the_body_or_the_query(desk: Desk) -> None:
    body = desk.answer({"input": ROW, "outputs": ["probability", "prediction"]})
    query = desk.answer({"input": ROW}, "/predict?outputs=probability,prediction")
    assert list(body) == list(query) == ["probability", "prediction"]
    assert body == query
    assert np.allclose(body["probability"], CASES["logistic"].model.predict_proba([ROW]))


def test_an_unknown_output_names_the_valid_ones(desk: Desk) -> None:
    assert "'probability'" in desk.error({"input": ROW, "outputs": ["probabilty"]})["error"]
    assert "'probability'" in desk.error({"input": ROW}, path="/predict?outputs=probabilty")["error"]


def test_a_threshold_moves_the_label(desk: Desk) -> None:
    path = "/models/mixed/predict"
    never, always = ({"rows": [CUSTOMER], "threshold": value} for value in (1.0, 0.0))
    assert desk.answer(never, path)["prediction"] == ["leaves"]
    assert desk.answer(always, path)["prediction"] == ["stays"]
    assert desk.answer({"rows": [CUSTOMER]}, f"{path}?threshold=0")["prediction"] == ["stays"]


@pytest.mark.parametrize("value", [2, -1, "high", True])
def test_a_threshold_that_is_none_is_refused(desk: Desk, value: object) -> None:
    assert "threshold" in desk.error({"rows": [CUSTOMER], "threshold": value}, path="/models/mixed/predict")["error"]


def test_a_threshold_needs_two_classes(desk: Desk) -> None:
    assert "two classes" in desk.error({"input": ROW, "threshold": 0.3})["error"]


def test_columns_that_are_no_features_are_answered_back(desk: Desk) -> None:
    rows = [{**CUSTOMER, "id": 9007199254740993, "since": "2024-02-30"}, {**CUSTOMER, "id": None}]
    path = "/models/mixed/predict"
    kept = desk.answer({"rows": rows, "keep": True}, path)
    assert list(kept) == ["id", "since", "prediction"]
    assert kept["id"] == [9007199254740993, None]
    assert kept["since"] == ["2024-02-30", None]
    assert list(desk.answer({"rows": rows, "keep": ["id"]}, path)) == ["id", "prediction"]
    assert list(desk.answer({"rows": rows}, f"{path}?keep=id")) == ["id", "prediction"]
    assert list(desk.answer({"rows": rows}, path)) == ["prediction"]
    columns = {name: [row.get(name) for row in rows] for name in [*CUSTOMER, "id"]}
    assert desk.answer({"columns": columns, "keep": True}, path)["id"] == [9007199254740993, None]


def test_a_kept_column_that_is_not_there_names_the_nearest(desk: Desk) -> None:
    error = desk.error(
        {"rows": [{**CUSTOMER, "customer_id": 1}], "keep": ["customer_ids"]}, path="/models/mixed/predict"
    )
    assert "'customer_id'" in error["error"]


@pytest.mark.parametrize("path", ["/predict", "/predict?keep=id"])
def test_what_to_keep_of_rows_without_names_is_told_in_a_sentence(desk: Desk, path: str) -> None:
    error = desk.error({"input": [5.1, 3.5, 1.4, 0.2], "keep": ["id"]}, path=path)["error"]
    assert error == "keep: there is no column 'id' to answer back; the rows hold nothing but features"


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "application/x-ndjson"])
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("treshold=0.3", 'did you mean "threshold"?'),
        ("outputs=prediction&output=probability", 'did you mean "outputs"?'),
        ("Keep=id", 'did you mean "keep"?'),
        ("keep=id&keep=name", 'the parameter "keep" twice'),
        ("outputs=prediction&outputs=probability", 'the parameter "outputs" twice'),
    ],
)
def test_a_slip_in_the_address_is_not_passed_over(desk: Desk, query: str, words: str, kind: str) -> None:
    error = desk.error({"input": [5.1, 3.5, 1.4, 0.2]}, path=f"/predict?{query}", kind=kind)
    assert error["code"] == "usage"
    assert words in error["error"]


def test_parameters_of_others_are_passed_over(desk: Desk) -> None:
    assert desk.answer({"input": [5.1, 3.5, 1.4, 0.2]}, "/predict?trace=1&trace=2&outputs=prediction")


def test_a_kept_column_with_the_name_of_an_output_is_refused(desk: Desk) -> None:
    error = desk.error({"rows": [{**CUSTOMER, "prediction": 1}], "keep": True}, path="/models/mixed/predict")
    assert "name of an output" in error["error"]


@pytest.mark.parametrize("body", [[1, 2], 3, "text", None, {}, {"id": 1}])
def test_a_body_of_no_known_shape_is_told_the_three(desk: Desk, body: object) -> None:
    error = desk.error(json.dumps(body).encode())["error"]
    assert '{"input": …}' in error
    assert '{"rows": [' in error
    assert '{"columns": {' in error


@pytest.mark.parametrize(
    ("slip", "key"), [("inputs", "input"), ("row", "rows"), ("colums", "columns"), ("Input", "input")]
)
def test_a_slip_in_a_key_names_the_nearest(desk: Desk, slip: str, key: str) -> None:
    assert f'did you mean "{key}"' in desk.error({slip: ROW})["error"]


def test_a_slip_in_an_option_is_not_passed_over(desk: Desk) -> None:
    assert 'did you mean "threshold"' in desk.error({"input": ROW, "treshold": 0.3})["error"]


def test_two_shapes_at_once_are_refused(desk: Desk) -> None:
    assert "input and rows" in desk.error({"input": ROW, "rows": [ROW]})["error"]


def test_a_bare_row_is_told_where_to_put_it(desk: Desk) -> None:
    assert '{"rows": [{…}]}' in desk.error(CUSTOMER, path="/models/mixed/predict")["error"]


def test_unknown_keys_that_are_near_nothing_are_passed_over(desk: Desk) -> None:
    assert desk.answer({"input": ROW, "trace": "abc"}) == {"prediction": [0]}


def test_an_error_says_row_and_column_and_never_the_data(desk: Desk) -> None:
    rows = [CUSTOMER, {**CUSTOMER, "income": "topsecret"}]
    error = desk.error({"rows": rows}, path="/models/mixed/predict")
    assert (error["row"], error["column"]) == (2, "income")
    assert "topsecret" not in json.dumps(error)


def test_all_problems_are_told_up_to_ten(desk: Desk) -> None:
    error = desk.error({"rows": [{**CUSTOMER, "income": "x"} for _ in range(30)]}, path="/models/mixed/predict")
    assert [problem["row"] for problem in error["problems"]] == list(range(1, 11))
    assert "29 more" in error["error"]


def test_a_null_in_a_closed_column_and_an_unknown_category(desk: Desk) -> None:
    row = {"plan": "platinum", "income": 1.0}
    error = desk.error({"rows": [row]}, path="/models/closed/predict")
    assert error["code"] == "unknown_category"
    assert "platinum" not in error["error"]


@pytest.mark.parametrize("model", ["logistic", "inline"])
def test_one_bad_request_of_a_turn_fails_alone(desk: Desk, model: str) -> None:
    bodies: list[Any] = [{"input": ROW}] * 20
    bodies[3] = {"input": [1, 2]}
    bodies[7] = {"input": [1, 2, 3, None]}
    bodies[11] = {"input": [1, 2, 3, 2**60 + 1]}
    answers = desk.together([Ask(f"/models/{model}/predict", body) for body in bodies])
    assert [place for place, answer in enumerate(answers) if answer.status != 200] == [3, 7, 11]
    assert told(answers[11])["code"] == "inexact_integer"
    assert all(told(answer)["row"] == 1 for answer in answers if answer.status == 400)


def test_large_floats_are_no_large_integers(desk: Desk) -> None:
    assert desk.answer({"input": [1e17, 1.0, 2.0, 3.0]}, "/models/inline/predict")["prediction"]


def test_the_limit_of_rows_holds_exactly(desk: Desk) -> None:
    rows = IRIS[np.arange(10_000) % len(IRIS)].tolist()
    assert len(desk.answer({"input": rows}, "/models/inline/predict")["prediction"]) == 10_000
    for body in ({"input": [*rows, ROW]}, {"rows": [*rows, ROW]}):
        assert desk.error(body, 413, "/models/inline/predict")["code"] == "too_large"
    names = [field.name for field in loaded("mixed").signature.inputs]
    columns = {name: [CUSTOMER[name]] * 10_001 for name in names}
    assert desk.error({"columns": columns}, 413, "/models/mixed/predict")["code"] == "too_large"


def test_requests_for_unlike_outputs_share_a_turn_but_no_call(desk: Desk) -> None:
    answers = desk.together(
        [
            Ask("/predict", {"input": ROW, "outputs": names})
            for names in (["prediction"], ["probability"], ["prediction"])
        ]
    )
    assert [list(told(answer)) for answer in answers] == [["prediction"], ["probability"], ["prediction"]]


def test_server_timing_and_the_model_are_in_the_headers(desk: Desk) -> None:
    headers = dict(desk.ask("/predict", {"input": ROW}).headers)
    stages = [part.split(";dur=") for part in headers[b"server-timing"].decode().split(", ")]
    assert [name for name, _ in stages] == ["parse", "check", "queue", "predict", "encode"]
    assert all(float(value) >= 0 for _, value in stages)
    assert headers[b"x-model"].decode() == f"logistic/{loaded('logistic').version}"


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/vnd.api+json",
        "text/json",
    ],
)
def test_content_types_taken_for_json(desk: Desk, kind: str | None) -> None:
    assert desk.answer({"input": ROW}, kind=kind) == {"prediction": [0]}


def test_the_defaults_of_the_server() -> None:
    desk = Desk(loaded("mixed"), outputs=["probability", "prediction"], threshold=0.0)
    answer = desk.answer({"rows": [CUSTOMER]})
    assert list(answer) == ["probability", "prediction"]
    assert answer["prediction"] == ["stays"]
    desk.close()


def test_a_deadline_of_the_caller_holds() -> None:
    desk = Desk(loaded("mixed"))
    body = {"rows": [CUSTOMER] * 2000}
    error = desk.error(body, 504, headers={"X-Request-Timeout-Ms": "0.01"})
    assert error["code"] == "deadline_exceeded"
    assert desk.answer({"rows": [CUSTOMER]})["prediction"]
    for value in ("soon", "-1", "nan", "0"):
        assert "X-Request-Timeout-Ms" in desk.error(body, 400, headers={"X-Request-Timeout-Ms": value})["error"]
    desk.close()


def test_limits_are_the_callers_to_set() -> None:
    desk = Desk(onnx(), limits=Limits(rows=2, depth=5))
    assert desk.answer({"input": [ROW, ROW]})["prediction"] == [0, 0]
    assert desk.error({"input": [ROW, ROW, ROW]}, 413)["code"] == "too_large"
    desk.close()
