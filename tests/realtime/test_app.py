"""Routes, methods, media types, tables, lines, CORS, health: what the app answers without a socket."""

from __future__ import annotations

import io
import json
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bimodal.errors import UsageError
from bimodal.model import load
from bimodal.realtime import control
from bimodal.realtime.answer import Answer
from bimodal.realtime.batcher import Work
from bimodal.realtime.control import States
from bimodal.realtime.limits import Limits
from bimodal.realtime.link import Link
from bimodal.realtime.protocols import lines as lines_door
from bimodal.realtime.protocols.lines import LinesDoor
from bimodal.realtime.wiring import wire
from bimodal.signature import Signature
from bimodal.table import from_stream, to_stream
from tests.models import CASES, IRIS, customers
from tests.realtime.desk import Ask, Desk, told
from tests.realtime.shelf import loaded, onnx

ROW = [5.1, 3.5, 1.4, 0.2]
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
MIXED = "/models/mixed/predict"


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    logarithm = FunctionTransformer(np.log1p).fit(np.ones((2, 2)))
    scaler = StandardScaler().fit(customers()[["age", "income"]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with load(logarithm, name="logarithm") as first, load(scaler, name="scale_customers") as second:
            desk = Desk(onnx(), loaded("mixed"), first, second)
            yield desk
            desk.close()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


# -- routes ----------------------------------------------------------------------------------------------------------


def test_a_model_answers_under_its_name_and_version(desk: Desk) -> None:
    version = onnx().version
    for path in ("/predict", "/models/inline/predict", f"/models/inline/versions/{version}/predict"):
        assert desk.answer({"input": ROW}, path) == {"prediction": [0]}


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/predicts", "not_found", "did you mean /predict?"),
        ("/nothing/at/all", "not_found", "no such route"),
        ("/models/inline/lookup", "not_found", "no prediction store for 'inline'; [models.inline.store]"),
        ("/models/inline/lookup/17", "not_found", "no prediction store for 'inline'"),
        ("/models/inline/lookups", "not_found", "no such route"),
        ("/models/inlin/lookup", "model_not_found", "'inline'"),
        ("/models/inlin/predict", "model_not_found", "'inline'"),
        ("/models/inline/versions/7/predict", "model_not_found", "served in version"),
    ],
)
def test_an_unknown_path_names_the_nearest(desk: Desk, path: str, code: str, words: str) -> None:
    error = desk.error({"input": ROW}, 404, path)
    assert error["code"] == code
    assert words in error["error"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/predict", b"POST"), ("POST", "/metrics", b"GET, HEAD"), ("DELETE", "/v2", b"GET, HEAD")],
)
def test_another_method_is_told_the_allowed_ones(desk: Desk, method: str, path: str, allow: bytes) -> None:
    response = desk.ask(path, {}, method=method)
    assert response.status == 405
    assert dict(response.headers)[b"allow"] == allow
    assert told(response)["code"] == "method_not_allowed"


def test_head_is_get(desk: Desk) -> None:
    assert desk.ask("/health/live", method="HEAD").status == 200


def test_a_request_id_of_the_caller_comes_back_in_the_error(desk: Desk) -> None:
    assert desk.error({}, headers={"X-Request-Id": "abc-1"})["request_id"] == "abc-1"


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "multipart/form-data; boundary=x"])
def test_a_media_type_that_is_not_understood_names_those_that_are(desk: Desk, kind: str) -> None:
    error = desk.error(b"x", 415, kind=kind)
    assert error["code"] == "unsupported_media_type"
    assert all(name in error["error"] for name in ("application/json", "text/csv", PARQUET))


def test_a_compressed_body_is_refused(desk: Desk) -> None:
    assert desk.ask("/predict", b"x", headers={"Content-Encoding": "gzip"}).status == 415


def test_health_turns_when_the_server_drains() -> None:
    desk = Desk(onnx())
    assert told(desk.get("/health/live")) == {"status": "live"}
    assert desk.get("/health/ready").status == 200
    desk.wired.service.draining = True
    for path in ("/health/ready", "/v2/health/ready", "/v2/models/inline/ready"):
        assert desk.get(path).status == 503
    assert desk.get("/health/live").status == 200
    desk.close()


def test_who_is_not_ready_says_why_and_when_to_ask_again(tmp_path: Path) -> None:
    desk, ours, theirs = Desk(onnx()), *socket.socketpair()
    with closing(desk), ours, theirs:
        desk.wired.service.control = link = Link(ours, desk.wired.catalogue, {"path": tmp_path})

        def told_of(*states: tuple[str, str, str, str], settled: bool) -> None:
            link.take(control.line(States(list(states), settled, True)))

        def reason() -> str:
            answers = [desk.get(path) for path in ("/health/ready", "/ping")]
            assert answers[0].body == answers[1].body
            assert {each.status for each in answers} == {503}
            assert {int(dict(each.headers)[b"retry-after"]) for each in answers} == {1}
            return str(told(answers[0])["status"])

        assert reason() == "loading"  # nothing is known yet
        told_of(("other", "1", "LOADING", ""), settled=False)
        assert reason() == "loading"
        told_of(("other", "1", "UNAVAILABLE", "it cannot be loaded"), settled=False)
        assert reason() == "a model is not there"
        link.take(
            control.line(States([("m0", "1", "UNAVAILABLE", "")], False, True, [f"m{number}" for number in range(13)]))
        )
        lack = {"models": [f"m{number}" for number in range(10)], "more": 3, "reasons": "POST /v2/repository/index"}
        assert told(desk.get("/health/ready")) == {"status": "a model is not there", **lack}
        assert told(desk.get("/v2/health/ready")) == {"ready": False, **lack}
        told_of(settled=True)
        assert told(desk.get("/ping")) == {"status": "ready"}
        told_of(("other", "2", "LOADING", ""), settled=True)  # beside one that serves
        assert told(desk.get("/ping")) == {"status": "ready"}
        desk.wired.service.drain()
        assert reason() == "draining"


def test_a_stopped_model_refuses_with_retry_after() -> None:
    desk = Desk(onnx())
    first = desk.wired.service.first
    assert first is not None
    desk.run(first.batcher.stop)
    response = desk.ask("/predict", {"input": ROW})
    assert response.status == 503
    assert int(dict(response.headers)[b"retry-after"]) >= 1
    desk.close()


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two models"):
        wire([onnx(), onnx()], Limits())


def test_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="no model"):
        wire([], Limits())


# -- tables ----------------------------------------------------------------------------------------------------------


def test_csv_answers_csv(desk: Desk) -> None:
    frame = customers()
    response = desk.ask(
        f"{MIXED}?outputs=prediction,probability&keep=note", frame.to_csv(index=False).encode(), kind="text/csv"
    )
    assert response.status == 200
    assert response.content_type == b"text/csv"
    answer = pd.read_csv(io.BytesIO(response.body))
    assert list(answer) == ["note", "prediction", "probability_leaves", "probability_stays"]
    assert answer["prediction"].tolist() == CASES["mixed"].model.predict(frame).tolist()
    assert np.allclose(answer["probability_stays"], CASES["mixed"].model.predict_proba(frame)[:, 1], rtol=0, atol=1e-12)


def test_kept_csv_cells_stay_what_they_are(desk: Desk) -> None:
    body = 'id,age,income,visits,city,plan,when\n001,40,1,2,Oslo,pro,NA\n"0,2",50,1,2,Lima,free,2024-02-30\n'
    response = desk.ask(f"{MIXED}?keep=true", body.encode(), kind="text/csv; charset=utf-8")
    lines = response.body.decode().splitlines()
    assert lines[0] == "id,when,prediction"
    assert lines[1].startswith("001,NA,")
    assert lines[2].startswith('"0,2",2024-02-30,')


@pytest.mark.parametrize(("kind", "write"), [(ARROW, to_stream), (PARQUET, parquet)])
def test_arrow_and_parquet_answer_in_kind(desk: Desk, kind: str, write: object) -> None:
    frame = customers().assign(id=np.arange(200) + 2**60)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    body = to_stream(table) if kind == ARROW else parquet(table)
    response = desk.ask(f"{MIXED}?keep=id", body, kind=kind)
    assert response.status == 200, response.body
    answer = from_stream(response.body) if kind == ARROW else pq.read_table(io.BytesIO(response.body))
    assert answer.column_names == ["id", "prediction"]
    assert answer["id"].to_pylist() == frame["id"].tolist()
    assert answer["prediction"].to_pylist() == CASES["mixed"].model.predict(frame).tolist()


def test_columns_of_a_model_of_arrays_are_taken_by_position(desk: Desk) -> None:
    body = "a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in IRIS.tolist())
    lines = desk.ask("/predict", body.encode(), kind="text/csv").body.decode().splitlines()
    assert lines[0] == "prediction"
    assert [int(line) for line in lines[1:]] == CASES["logistic"].model.predict(IRIS).tolist()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"a,b,c,d\n", "no rows"),
        (b"a,b,c,d", "no rows"),
        (b"\n\n", "header"),
        (b"a,b,c,d\n1,2,3,4\n1,2,3\n", "row 2: 3 cells where the header has 4 columns"),
        (b"a,b,c,d\n1,2,3,4,5\n", "row 1: 5 cells"),
        ("Zürich,Genève,c,d\n1,2,3,".encode() + b"\xff\n", "UTF-8"),
        (b"\xff\xfea\x00,\x00b\x00,\x00c", "UTF-16"),
        (b"\xff,b,c,d\n1,2,3,\xff\n", "text where a number is needed"),
        (b"5,2,3,4\n1,2,3\n", "row 2: 3 cells where the first row has 4 columns"),
        (b"a;b;c;d\n1,5;2;3;4\n1,5;2;3;1.000,5\n", "text where a number is needed"),
        (b"a,a,c,d\n1,2,3,4\n", "two columns"),
        (b"a,b,c,d\n1,2,3,x\n", "text where a number is needed"),
        (b"a,b,c,d\n1,2,3,inf\n", "infinity"),
        (b"a,b,c,d\n1,2,3,9007199254740993\n", "2**53"),
        (b"a,b,c,d\n1,2,3,9007199254740993.0\n1,2,3,9007199254740993\n", "row 2"),  # as a float it is taken
    ],
)
def test_a_csv_that_does_not_fit_is_told_where(desk: Desk, body: bytes, words: str) -> None:
    assert words in desk.error(body, kind="text/csv")["error"]


@pytest.mark.parametrize("kind", [ARROW, PARQUET])
@pytest.mark.parametrize("cut", [0, 7, 0.5, 0.99])
def test_a_broken_table_is_malformed(desk: Desk, kind: str, cut: float) -> None:
    table = pa.table({name: [1.0] * 50 for name in "abcd"})
    whole = to_stream(table) if kind == ARROW else parquet(table)
    body = whole[: int(cut * len(whole)) if cut < 1 else int(cut)]
    assert desk.error(body, kind=kind)["code"] in ("malformed", "empty")
    assert desk.error(b"junk" * 100, kind=kind)["code"] == "malformed"


@pytest.mark.parametrize("kind", ["text/csv", ARROW, PARQUET])
def test_the_limit_of_rows_holds_for_tables(desk: Desk, kind: str) -> None:
    for count, status in ((10_000, 200), (10_001, 413)):
        table = pa.table({name: np.ones(count) for name in "abcd"})
        csv = b"a,b,c,d\n" + b"1,1,1,1\n" * count
        body = {"text/csv": csv, ARROW: to_stream(table), PARQUET: parquet(table)}[kind]
        assert desk.ask("/predict", body, kind=kind).status == status


# -- answers that JSON cannot tell -----------------------------------------------------------------------------------


def test_a_null_that_was_given_comes_back_as_null(desk: Desk) -> None:
    path = "/models/scale_customers/predict?outputs=age,income"
    answer = desk.answer({"rows": [{"age": 1.0, "income": 2.0}, {"age": None, "income": 2.0}]}, path)
    assert [cell is None for cell in answer["age"]] == [False, True]
    assert None not in answer["income"]


@pytest.mark.parametrize("path", ["/models/logarithm/predict", "/v2/models/logarithm/infer"])
def test_an_answer_that_is_no_number_is_a_failure_never_a_null(desk: Desk, path: str) -> None:
    """log1p of -1 is minus infinity, of -2 NaN; the neighbours in the call are answered."""
    rows = [[1.0, 1.0], [-1.0, 1.0], [1.0, -2.0], [3.0, 3.0]]
    bodies: list[Any] = [{"input": row} for row in rows]
    if path.startswith("/v2"):
        bodies = [{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": row}]} for row in rows]
    answers = desk.together([Ask(path, body) for body in bodies])
    assert [answer.status for answer in answers] == [200, 500, 500, 200]
    assert told(answers[1])["code"] == "model_failed"
    csv = desk.ask("/models/logarithm/predict", b"a,b\n-1,1\n", kind="text/csv")
    assert csv.body.splitlines()[1].startswith(b"-inf")


# -- lines -----------------------------------------------------------------------------------------------------------


def test_each_line_is_answered_in_its_order_and_a_bad_one_by_its_error(desk: Desk) -> None:
    good = json.dumps(ROW).encode()
    lines = desk.stream([good + b"\n[1]\n" + good[:5], good[5:] + b"\n\n{broken\n", b"[6.7,3.0,5.2,2.3]"])
    assert lines[0] == lines[2] == {"prediction": 0}
    assert lines[4] == {"prediction": 2}
    assert [(lines[place]["row"], lines[place]["code"]) for place in (1, 3)] == [(2, "wrong_width"), (4, "malformed")]
    assert lines[1]["error"] == "4 features are needed, 1 was given"
    assert len(lines) == 5


def test_lines_keep_columns_and_choose_outputs(desk: Desk) -> None:
    row = {"age": 40.0, "income": 61000.0, "visits": 3, "city": "Oslo", "plan": "pro"}
    body = b"\n".join(json.dumps({**row, "id": number}).encode() for number in range(2500))
    lines = desk.stream(
        [body[at : at + 10_000] for at in range(0, len(body), 10_000)],
        f"{MIXED}?keep=id&outputs=prediction,probability",
    )
    assert [line["id"] for line in lines] == list(range(2500))
    assert list(lines[0]) == ["id", "prediction", "probability"]


def test_a_whole_body_of_lines_is_answered_too(desk: Desk) -> None:
    response = desk.ask("/predict", b"[5.1,3.5,1.4,0.2]\n[1]\n", kind="application/x-ndjson")
    assert response.content_type == b"application/x-ndjson"
    assert [next(iter(json.loads(line))) for line in response.body.splitlines()] == ["prediction", "error"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_fault_of_ours_at_one_line_is_told_of_it_and_its_neighbours_are_answered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, whole: bool
) -> None:
    check = Signature.check

    def broken(self: Signature, records: Sequence[Any]) -> Any:
        if records[0][0] == 0.5:
            raise OverflowError("secret")
        return check(self, records)

    monkeypatch.setattr(Signature, "check", broken)
    lines = answered(desk, [ROW, [0.5, 1, 1, 1], ROW], whole=whole)
    assert lines[0] == lines[2] == {"prediction": 0}
    assert (lines[1]["code"], lines[1]["row"]) == ("internal", 2)
    assert "secret" not in str(lines)
    assert "OverflowError: secret" in caplog.text


@pytest.mark.parametrize("whole", [True, False])
def test_a_fault_of_ours_at_the_answer_to_one_line_is_told_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    encode = LinesDoor.encode

    def broken(self: LinesDoor, work: Work, answer: Answer, start: int, stop: int) -> bytes:
        if 2 in answer.lists[0][1][start:stop]:
            raise OverflowError("secret")
        return encode(self, work, answer, start, stop)

    monkeypatch.setattr(LinesDoor, "encode", broken)
    lines = answered(desk, [ROW, [6.7, 3.0, 5.2, 2.3], ROW, ROW], whole=whole)
    assert lines[0] == lines[2] == lines[3] == {"prediction": 0}
    assert (lines[1]["code"], lines[1]["row"]) == ("internal", 2)


@pytest.mark.parametrize("whole", [True, False])
def test_a_fault_of_ours_in_the_stream_itself_ends_it_with_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    def broken(parts: Sequence[Any]) -> Any:
        raise OverflowError("secret")

    monkeypatch.setattr(lines_door, "_alike", broken)
    assert [line["code"] for line in answered(desk, [ROW, ROW], whole=whole)] == ["internal"]


def answered(desk: Desk, rows: Sequence[Any], *, whole: bool) -> list[Any]:
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if not whole:
        return desk.stream([body])
    response = desk.ask("/predict", body, kind="application/x-ndjson")
    return [json.loads(line) for line in response.body.splitlines()]


def test_a_stream_that_asks_for_what_is_not_there_is_refused_as_a_whole(desk: Desk) -> None:
    assert desk.ask("/predict?outputs=x", b"[1]\n", kind="application/x-ndjson").status == 400


@pytest.mark.parametrize("end", [b"]\n", b",[5.1,3.5,1.4,0.2\n"])
@pytest.mark.parametrize("piece", [1 << 12, 1 << 16, 3 << 20, 9 << 20])
def test_a_line_that_is_too_long_gets_one_error_and_the_lines_after_it_their_answers(
    desk: Desk, piece: int, end: bytes
) -> None:
    good = b"[5.1,3.5,1.4,0.2]\n"
    body = good + b"[" + b"1," * (5 << 19) + end + good + b" " * (2 << 20) + b"\n[6.7,3.0,5.2,2.3]"
    lines = desk.stream([body[at : at + piece] for at in range(0, len(body), piece)])
    assert [line.get("prediction", line.get("code")) for line in lines] == [0, "too_large", 0, "too_large", 2]
    assert [line["row"] for line in lines if "row" in line] == [2, 4]


# -- CORS ------------------------------------------------------------------------------------------------------------


def test_cors_is_for_the_listed_origins_alone() -> None:
    desk = Desk(onnx(), cors=["https://shop.example"])
    mine, other = {"Origin": "https://shop.example"}, {"Origin": "https://evil.example"}
    headers = dict(desk.ask("/predict", {"input": ROW}, headers=mine).headers)
    assert headers[b"access-control-allow-origin"] == b"https://shop.example"
    assert headers[b"vary"] == b"origin"
    assert b"access-control-allow-origin" not in dict(desk.ask("/predict", {"input": ROW}, headers=other).headers)
    assert b"access-control-allow-origin" in dict(desk.ask("/predict", {}, headers=mine).headers)  # errors too
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = desk.ask("/predict", method="OPTIONS", kind=None, headers={**mine, **asked})
    assert preflight.status == 204
    assert dict(preflight.headers)[b"access-control-allow-methods"] == b"POST"
    refused = desk.ask("/predict", method="OPTIONS", kind=None, headers={**other, **asked})
    assert b"access-control-allow-origin" not in dict(refused.headers)
    desk.close()


def test_a_batch_shared_by_two_origins_keeps_their_headers_apart() -> None:
    desk = Desk(onnx(), cors=["https://a.example", "https://b.example"])
    origins = ["https://a.example", "https://b.example", "https://c.example"]
    answers = desk.together([Ask("/predict", {"input": ROW}, headers={"Origin": origin}) for origin in origins])
    told_ = [dict(answer.headers).get(b"access-control-allow-origin") for answer in answers]
    assert told_ == [b"https://a.example", b"https://b.example", None]
    desk.close()


def test_without_cors_there_are_no_such_headers(desk: Desk) -> None:
    response = desk.ask("/predict", {"input": ROW}, headers={"Origin": "https://shop.example"})
    assert not any(name.startswith(b"access-control") for name, _ in response.headers)
