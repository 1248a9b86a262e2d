"""/invocations: MLflow's own scoring server gives the same answers to the same requests; CSV as SageMaker sends it."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from bimodal.realtime.limits import Limits
from bimodal.table import from_stream, to_stream
from tests.models import CASES, IRIS, customers
from tests.realtime.desk import Ask, Desk, told
from tests.realtime.shelf import loaded, onnx

with warnings.catch_warnings():  # MLflow warns of its own type hints when it is imported
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from mlflow.pyfunc import scoring_server

MIXED = ["age", "income", "visits", "city", "plan"]
FRAME = customers()[MIXED].dropna().reset_index(drop=True).head(7).astype({"visits": float})
FLOWERS = IRIS[::30].tolist()
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(loaded("mixed"), onnx(), loaded("text"), limits=Limits(rows=200))
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TestClient]:
    """MLflow's scoring server of the mixed pipeline (with a signature) and of the model of vectors."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    made = {}
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        for name, case, rows in (("mixed", "mixed", FRAME), ("inline", "logistic", IRIS)):
            model = CASES[case].model
            mlflow.sklearn.save_model(
                model,
                folder / name,
                signature=infer_signature(rows, model.predict(rows)),
                pip_requirements=["scikit-learn"],
                serialization_format="cloudpickle",
            )
            made[name] = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(folder / name))))
    return made


RECORDS: Any = FRAME.to_dict("records")
SPLIT: dict[str, Any] = {"columns": MIXED, "data": FRAME.to_numpy(object).tolist()}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "split": ("mixed", {"dataframe_split": SPLIT}),
    "split with an index": ("mixed", {"dataframe_split": {**SPLIT, "index": list(range(7))}}),
    "split in another order": (
        "mixed",
        {"dataframe_split": {"columns": MIXED[::-1], "data": [row[::-1] for row in SPLIT["data"]]}},
    ),
    "records": ("mixed", {"dataframe_records": RECORDS}),
    "records with another column": ("mixed", {"dataframe_records": [{**each, "id": "7"} for each in RECORDS]}),
    "inputs": ("mixed", {"inputs": {name: FRAME[name].tolist() for name in MIXED}}),
    "vectors as records": ("inline", {"dataframe_records": [dict(zip("abcd", row, strict=True)) for row in FLOWERS]}),
    "vectors as instances": ("inline", {"instances": FLOWERS}),
    "vectors as inputs": ("inline", {"inputs": FLOWERS}),
    "integers": ("inline", {"inputs": [[5, 3, 1, 0], [6, 3, 5, 2]]}),
}


@pytest.mark.parametrize("case", ASKED)
def test_mlflow_answers_the_same(desk: Desk, peers: dict[str, TestClient], case: str) -> None:
    name, body = ASKED[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, in MLflow
        theirs = peers[name].post("/invocations", json=body)
    assert theirs.status_code == 200, theirs.text
    ours = desk.ask(f"/models/{name}/invocations", body)
    assert ours.status == 200, ours.body
    assert told(ours) == theirs.json()


def test_mlflow_is_asked_for_its_health_alike(desk: Desk, peers: dict[str, TestClient]) -> None:
    assert peers["mixed"].get("/ping").status_code == desk.get("/ping").status == 200


def test_mlflow_refuses_what_is_refused(desk: Desk, peers: dict[str, TestClient]) -> None:
    bodies: list[Any] = [{}, {"dataframe_split": SPLIT, "instances": FLOWERS}, {"dataframe_records": {"age": 1}}, []]
    for body in bodies:
        assert peers["mixed"].post("/invocations", json=body).status_code == 400
        assert desk.error(body, path="/invocations")["code"] == "invalid_input"


def test_records_of_a_model_of_vectors_are_taken_in_the_order_of_the_first(desk: Desk) -> None:
    first, second = [dict(zip("abcd", row, strict=True)) for row in FLOWERS[1::3]]
    turned = {name: second[name] for name in "dcba"}
    path = "/models/inline/invocations"
    assert desk.answer({"dataframe_records": [first, turned]}, path) == desk.answer(
        {"dataframe_records": [first, second]}, path
    )
    assert (
        "4 features are needed, 3 were given"
        in desk.error({"dataframe_records": [{name: second[name] for name in "abc"}]}, path=path)["error"]
    )


def test_instances_by_name_and_by_position_are_rows(desk: Desk) -> None:
    expected = CASES["mixed"].model.predict(FRAME).tolist()
    for rows in (RECORDS, [[row[name] for name in names(desk)] for row in RECORDS]):
        assert desk.answer({"instances": rows}, "/invocations") == {"predictions": expected}


def test_several_outputs_are_objects(desk: Desk) -> None:
    labels = CASES["logistic"].model.predict(FLOWERS).tolist()
    body = {"instances": FLOWERS, "params": {"outputs": ["prediction", "probability"]}}
    answer = desk.answer(body, "/models/inline/invocations")["predictions"]
    assert [each["prediction"] for each in answer] == labels
    assert all(sum(each["probability"]) == pytest.approx(1) for each in answer)
    alone = desk.answer({**body, "params": {"outputs": ["probability"]}}, "/models/inline/invocations")
    assert alone == {"predictions": [each["probability"] for each in answer]}


def test_the_threshold_is_a_parameter(desk: Desk) -> None:
    likely = desk.answer({"rows": RECORDS, "outputs": ["probability"]})["probability"]
    expected = ["stays" if each[1] >= 0.9 else "leaves" for each in likely]
    for body in ({"instances": RECORDS}, {"dataframe_split": SPLIT}):
        assert desk.answer({**body, "params": {"threshold": 0.9}}, "/invocations")["predictions"] == expected


def test_a_csv_of_another_width_is_told_without_an_option_of_the_command_line(desk: Desk) -> None:
    error = desk.error(b"5.1,3.5,1.4\n", path="/models/inline/invocations", kind="text/csv; header=absent")
    assert error["code"] == "wrong_width"
    assert "the 4 features are needed, in the order of training" in error["error"]
    assert "--" not in error["error"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"instances": FLOWERS, "params": {"thresold": 1}}, "did you mean 'threshold'?"),
        ({"instances": FLOWERS, "params": {"temperature": 1}}, "there are 'outputs', 'threshold'"),
        ({"instances": FLOWERS, "params": [1]}, '"params" needs an object'),
        ({"instanses": FLOWERS}, 'did you mean "instances"?'),
        ({"instances": FLOWERS, "inputs": FLOWERS}, "the body has instances and inputs"),
        ({"instances": {"a": 1}}, '"instances" needs a list of rows'),
        ({"dataframe_split": {"columns": ["a"]}}, '"dataframe_split" needs'),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "two columns are called 'a'"),
        ({"dataframe_split": {"columns": ["1", 1], "data": [[1, 2]]}}, "two columns are called '1'"),
        (
            {"dataframe_split": {"columns": [*"abcd"], "data": [[1, 2, 3, 4], [1, 2]]}},
            "row 2: 2 values where 4 columns",
        ),
        ({"dataframe_split": {"columns": "abcd", "data": [[1]]}}, '"columns" needs a list of names'),
        ({"dataframe_split": {"columns": [*"abcd"], "data": [1]}}, "row 1: a number where a list of values is needed"),
        ({"instances": FLOWERS, "keep": True}, 'keep is for "input"'),
        ({"instances": FLOWERS * 60}, "more than 200 rows"),
        ({"instances": [1.0]}, "a number where a list of 4 numbers is needed"),
        ({"instances": FLOWERS, "signature_name": "other"}, "serving_default"),
    ],
)
def test_what_is_wrong_is_told(desk: Desk, body: Any, sentence: str) -> None:
    status = 413 if "more than" in sentence else 400
    assert sentence in desk.error(body, status, path="/models/inline/invocations")["error"]


def test_the_bodies_of_predict_get_its_answers(desk: Desk) -> None:
    rows = [{**row, "id": str(number)} for number, row in enumerate(RECORDS)]
    bodies: list[dict[str, Any]] = [{"input": rows[0]}, {"input": rows}, {"rows": rows}]
    bodies += [{"columns": FRAME.to_dict("list")}, {"rows": rows, "keep": ["id"], "outputs": ["probability"]}]
    for body in bodies:
        assert desk.answer(body, "/invocations") == desk.answer(body)
    assert desk.answer(bodies[2], "/invocations?keep=id") == desk.answer(bodies[2], "/predict?keep=id")


def test_requests_of_all_words_share_a_call(desk: Desk) -> None:
    asks = [Ask("/invocations", {"instances": [row]}) for row in RECORDS]
    asks += [Ask("/invocations", {"dataframe_split": {**SPLIT, "data": [row]}}) for row in SPLIT["data"]]
    asks += [Ask("/predict", {"rows": [row]}) for row in RECORDS]
    answers = [told(each) for each in desk.together(asks)]
    expected = CASES["mixed"].model.predict(FRAME).tolist()
    assert [next(iter(each.values()))[0] for each in answers] == expected * 3
    bad = [Ask("/invocations", {"instances": [{**RECORDS[0], "age": "old"}]}), *asks[:3]]
    statuses = [each.status for each in desk.together(bad)]
    assert statuses == [400, 200, 200, 200]


def test_csv_with_a_header_and_without(desk: Desk) -> None:
    whole = FRAME.to_csv(index=False).encode()
    expected = CASES["mixed"].model.predict(FRAME).tolist()
    response = desk.ask("/invocations", whole, kind="text/csv")
    assert response.body.decode().splitlines() == ["prediction", *expected]
    positions = FRAME[names(desk)].to_csv(index=False, header=False).encode()
    response = desk.ask("/invocations", positions, kind="text/csv; header=absent")
    assert (response.status, response.body.decode().splitlines()) == (200, expected)
    assert "5 features are needed, 2 were given" in _csv_error(desk, b"1,2\n", "text/csv; header=absent")
    assert "present or absent" in _csv_error(desk, b"1,2\n", "text/csv; header=maybe", 415)


def test_numbers_without_a_header_are_answered_line_for_line(desk: Desk) -> None:
    """As SageMaker's batch transform joins them to its input."""
    body = pd.DataFrame(FLOWERS).to_csv(index=False, header=False).encode()
    response = desk.ask("/models/inline/invocations", body, kind="text/csv")
    assert response.body.decode().split() == [str(each) for each in CASES["logistic"].model.predict(FLOWERS)]
    first = desk.ask("/models/inline/invocations", body, kind="text/csv;header=present")
    assert first.body.count(b"\n") == len(FLOWERS)


@pytest.mark.parametrize("route", ["invocations", "predict"])
@pytest.mark.parametrize("first", ["5.1,,1.4,0.2", "5.1,x,1.4,0.2", "NA,3,5,2", "6,x,5,2", ",3,5,2"])
def test_a_first_row_that_is_not_all_numbers_is_never_lost(desk: Desk, first: str, route: str) -> None:
    path, body = f"/models/inline/{route}", f"{first}\n6,3,5,2\n".encode()
    for kind in ("text/csv", "text/csv; header=absent"):
        response = desk.ask(path, body, kind=kind)
        assert response.status == 400
        sentence = json.loads(response.body)["error"]
        assert ("row 1" in sentence) or (kind == "text/csv" and "header=absent" in sentence)
    if first.startswith(","):
        return  # as a header, it would stand over an index
    said = desk.ask(path, body, kind="text/csv; header=present")
    assert (said.status, said.body.count(b"\n")) == (200, 2)


def test_a_first_row_that_counts_from_1_is_data(desk: Desk) -> None:
    response = desk.ask("/models/inline/invocations", b"1,2,3,4\n5.1,3.5,1.4,0.2\n", kind="text/csv")
    assert (response.status, response.body.count(b"\n")) == (200, 2)


@pytest.mark.parametrize("route", ["invocations", "predict"])
@pytest.mark.parametrize("first", ["0,1,2,3", "0,1,2,x"])
def test_a_first_row_that_counts_from_0_is_refused_until_header_says_what_it_is(
    desk: Desk, first: str, route: str
) -> None:
    path, body = f"/models/inline/{route}", f"{first}\n6,3,5,2\n".encode()
    refused = desk.error(body, path=path, kind="text/csv")
    assert "header=absent` (or `present`)" in refused["error"]
    present = desk.ask(path, body, kind="text/csv; header=present")
    assert (present.status, present.body.count(b"\n")) == (200, 2)
    absent = desk.ask(path, body, kind="text/csv; header=absent")
    assert absent.status == (200 if first == "0,1,2,3" else 400)
    assert absent.status == 400 or absent.body.count(b"\n") == 2 + (route == "predict")


def test_a_column_without_a_name_is_told_by_its_place_in_the_vector_as_in_json(desk: Desk) -> None:
    path = "/models/inline/invocations"
    table = desk.error(b"1,2,3,4\n6,3,5,x\n", path=path, kind="text/csv")
    rows = desk.error({"instances": [[1, 2, 3, 4], [6, 3, 5, "x"]]}, path=path)
    assert (table["row"], table["column"], table["error"]) == (rows["row"], rows["column"], rows["error"])


def test_a_row_of_a_model_with_names_is_told_how_to_say_that_it_is_one(desk: Desk) -> None:
    rows = FRAME[names(desk)].to_csv(index=False, header=False).encode()
    assert "if it is, say which by `content-type: text/csv; header=absent`" in _csv_error(desk, rows, "text/csv")


def test_accept_chooses_the_answer(desk: Desk) -> None:
    expected = CASES["mixed"].model.predict(FRAME).tolist()
    csv, arrow = FRAME.to_csv(index=False).encode(), to_stream(_table())
    for kind, body in (("text/csv", csv), (ARROW, arrow)):
        for accept in ("application/json", "text/html, application/json;q=0.9"):
            response = desk.ask("/invocations", body, kind=kind, headers={"Accept": accept})
            assert (response.content_type, told(response)) == (b"application/json", {"predictions": expected})
    response = desk.ask("/invocations", {"dataframe_split": SPLIT}, headers={"Accept": "text/csv"})
    assert (response.content_type, response.body.decode().split()) == (b"text/csv", ["prediction", *expected])
    response = desk.ask("/invocations", csv, kind="text/csv", headers={"Accept": ARROW})
    assert from_stream(response.body)["prediction"].to_pylist() == expected
    response = desk.ask("/invocations", {"rows": RECORDS}, headers={"Accept": PARQUET})
    assert pd.read_parquet(io.BytesIO(response.body))["prediction"].tolist() == expected
    for accept in ("*/*", "text/plain", "image/png, */*"):
        assert desk.ask("/invocations", csv, kind="text/csv", headers={"Accept": accept}).content_type == b"text/csv"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv;q=0, application/json", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv; q=0.0, */*", "application/json"),
        ("application/json;q=0.2, text/csv;q=0.8", "text/csv"),
        ("text/csv;q=0.2, application/json;q=0.8", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("application/json;q=0.3, */*;q=0.5", "text/csv"),
        ("application/json;q=well", "application/json"),
        ("*/*;q=0", "text/csv"),  # nothing that there is may come: better an answer than none
    ],
)
def test_weights_of_accept_choose_and_nothing_is_never(desk: Desk, accept: str, kind: str) -> None:
    csv = FRAME.to_csv(index=False).encode()
    response = desk.ask("/invocations", csv, kind="text/csv", headers={"Accept": accept})
    assert response.content_type.decode() == kind


def test_kept_columns_go_along_in_json(desk: Desk) -> None:
    body = FRAME.assign(id=range(7)).to_csv(index=False).encode()
    response = desk.ask("/invocations?keep=id", body, kind="text/csv", headers={"Accept": "application/json"})
    assert told(response)["predictions"][0] == {"id": "0", "prediction": CASES["mixed"].model.predict(FRAME)[0]}


def test_lines_are_answered_by_lines(desk: Desk) -> None:
    pieces = [json.dumps(row).encode() + b"\n" for row in RECORDS]
    expected = [{"prediction": each} for each in CASES["mixed"].model.predict(FRAME)]
    assert desk.stream(pieces, "/invocations", b"application/jsonlines") == expected


def test_the_callers_attributes_come_back(desk: Desk) -> None:
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "trace=7"}
    good = desk.ask("/invocations", {"instances": RECORDS}, headers=headers)
    bad = desk.ask("/invocations", {"instances": 1}, headers=headers)
    for response in (good, bad):
        assert dict(response.headers)[b"x-amzn-sagemaker-custom-attributes"] == b"trace=7"
    assert (good.status, bad.status) == (200, 400)


def test_other_kinds_and_compressed_bodies_are_refused(desk: Desk) -> None:
    assert "understood are application/json" in _csv_error(desk, b"1", "image/png", 415)
    told_ = desk.error(b"1", 415, "/invocations", headers={"Content-Encoding": "gzip"})
    assert "compressed bodies" in told_["error"]


def names(desk: Desk) -> list[str]:
    """The features in the order of the model."""
    return [each.name for each in desk.wired.service.find("mixed").signature.inputs]


def _csv_error(desk: Desk, body: bytes, kind: str, status: int = 400) -> str:
    return str(desk.error(body, status, "/invocations", kind=kind)["error"])


def _table() -> Any:
    return pa.Table.from_pandas(FRAME, preserve_index=False)
