"""One input through every door: one answer; one bad row: one verdict, in the same words."""

from __future__ import annotations

import atexit
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bimodal.batch.run import predict_file
from bimodal.dialect import HEADLESS
from bimodal.errors import InputError
from bimodal.model import Model, load
from bimodal.table import from_stream, to_stream
from tests.models import CASES, IRIS, customers
from tests.realtime.callers import Caller, Refused, request
from tests.realtime.callers import told as tensors_told
from tests.realtime.desk import Desk, told
from tests.realtime.shelf import loaded, onnx

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
PLACE = re.compile(r"^(row \d+)?(, )?(column '[^']*')?: ")

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """code, message without the place, row, column."""

    code: str
    message: str
    row: int | None
    column: str | None


class Doors:
    """All the ways into one model; each gives the predictions or the Verdict."""

    def __init__(self, desk: Desk, model: Model) -> None:
        self.desk = desk
        self.model = model
        self.path = f"/models/{model.name}/predict"

    def input(self, rows: Rows) -> Any:
        return self._json({"input": rows if self.model.signature.named else [list(row.values()) for row in rows]})

    def rows(self, rows: Rows) -> Any:
        return self._json({"rows": rows if self.model.signature.named else [list(row.values()) for row in rows]})

    def columns(self, rows: Rows) -> Any:
        return self._json({"columns": {name: [row[name] for row in rows] for name in (rows[0] if rows else [])}})

    def lines(self, rows: Rows) -> Any:
        values: list[Any] = rows if self.model.signature.named else [list(row.values()) for row in rows]
        answers = self.desk.stream([json.dumps(value).encode() + b"\n" for value in values], self.path)
        bad = [answer for answer in answers if "error" in answer]
        return _verdict(bad[0]) if bad else [answer["prediction"] for answer in answers]

    def csv(self, rows: Rows) -> Any:
        response = self.desk.ask(self.path, pd.DataFrame(rows).to_csv(index=False).encode(), kind="text/csv")
        if response.status != 200:
            return _verdict(told(response))
        return pd.read_csv(io.BytesIO(response.body))["prediction"].tolist()

    def arrow(self, rows: Rows) -> Any:
        response = self.desk.ask(self.path, to_stream(_table(rows)), kind=ARROW)
        if response.status != 200:
            return _verdict(told(response))
        return from_stream(response.body)["prediction"].to_pylist()

    def parquet(self, rows: Rows) -> Any:
        sink = io.BytesIO()
        pq.write_table(_table(rows), sink)
        response = self.desk.ask(self.path, sink.getvalue(), kind=PARQUET)
        if response.status != 200:
            return _verdict(told(response))
        return pq.read_table(io.BytesIO(response.body))["prediction"].to_pylist()

    def tensors(self, rows: Rows) -> Any:
        names = list(rows[0])
        if self.model.signature.named:
            inputs = [self._tensor(name, [row[name] for row in rows], [len(rows)]) for name in names]
        else:
            data = [value for row in rows for value in row.values()]
            inputs = [self._tensor("input", data, [len(rows), len(names)])]
        response = self.desk.ask(f"/v2/models/{self.model.name}/infer", {"inputs": inputs})
        if response.status != 200:
            return _verdict(told(response))
        return next(each["data"] for each in told(response)["outputs"] if each["name"] == "prediction")

    def instances(self, rows: Rows) -> Any:
        values: list[Any] = rows if self.model.signature.named else [list(row.values()) for row in rows]
        return self._contract(f"/v1/models/{self.model.name}:predict", {"instances": values}, "predictions")

    def inputs(self, rows: Rows) -> Any:
        columns: Any = {name: [row[name] for row in rows] for name in rows[0]}
        values = columns if self.model.signature.named else [list(row.values()) for row in rows]
        return self._contract(f"/v1/models/{self.model.name}:predict", {"inputs": values}, "outputs")

    def split(self, rows: Rows) -> Any:
        body = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        return self._contract(f"/models/{self.model.name}/invocations", {"dataframe_split": body}, "predictions")

    def frames(self, rows: Rows) -> Any:
        return self._contract(f"/models/{self.model.name}/invocations", {"dataframe_records": rows}, "predictions")

    def calls(self, rows: Rows) -> Any:
        return self._call(rows, raw=False)

    def raw_calls(self, rows: Rows) -> Any:
        return self._call(rows, raw=True)

    def records(self, rows: Rows) -> Any:
        values: list[Any] = rows if self.model.signature.named else [list(row.values()) for row in rows]
        return self._library(lambda: [answer["prediction"] for answer in self.model.predict(values)])

    def frame(self, rows: Rows) -> Any:
        return self._library(lambda: self.model.predict(pd.DataFrame(rows))["prediction"].tolist())

    def table(self, rows: Rows) -> Any:
        return self._library(lambda: self.model.predict(_table(rows))["prediction"].to_pylist())

    def _json(self, body: Any) -> Any:
        response = self.desk.ask(self.path, body)
        return told(response)["prediction"] if response.status == 200 else _verdict(told(response))

    def _contract(self, path: str, body: Any, word: str) -> Any:
        response = self.desk.ask(path, body)
        return told(response)[word] if response.status == 200 else _verdict(told(response))

    def _call(self, rows: Rows, *, raw: bool) -> Any:
        """Over gRPC: a tensor a column, or all in one."""
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        if self.model.signature.named:
            tensors = {key: told for name, values in columns.items() for key, told in _sent(name, values).items()}
        else:
            tensors = {"input": ("FP64", [list(row.values()) for row in rows])}
        try:
            answer = Caller(self.desk).infer(request(self.model.name, tensors, raw=raw, outputs=["prediction"]))
        except Refused as refused:
            told = refused.trailers
            place = told.get("x-error-row")
            column = unquote(told["x-error-column"]) if "x-error-column" in told else None
            message = PLACE.sub("", _first(refused.message))
            return Verdict(told["x-error-code"], message, int(place) if place else None, column)
        return tensors_told(answer)["prediction"]

    def _tensor(self, name: str, data: list[Any], shape: list[int]) -> dict[str, Any]:
        kind = "BYTES" if any(isinstance(value, str) for value in data) else "FP64"
        return {"name": name, "shape": shape, "datatype": kind, "data": data}

    def _library(self, predict: Callable[[], Any]) -> Any:
        try:
            return predict()
        except InputError as error:
            return Verdict(error.code, PLACE.sub("", _first(error.message)), error.row, error.column)


CONTRACTS = ("instances", "inputs", "split", "frames")  # the words of MLflow, KServe, Vertex AI, TensorFlow Serving
JSON = ("input", "rows", "columns", "lines", "tensors", *CONTRACTS)  # carry neither NaN nor infinity
TABLES = ("csv", "arrow", "parquet", "frame", "table")
CALLS = ("calls", "raw_calls")
ALL = (*JSON, *TABLES, *CALLS, "records")


def _verdict(error: dict[str, Any]) -> Verdict:
    return Verdict(error["code"], PLACE.sub("", _first(error["error"])), error.get("row"), error.get("column"))


def _first(message: str) -> str:
    return re.sub(r" \(and \d+ more\)$", "", message)


def _sent(name: str, values: list[Any]) -> dict[str, tuple[str, list[Any]]]:
    """A column as tensors: a missing number is NaN, which rows have a text stands beside it."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {str}:
        sent = {name: ("BYTES", ["" if value is None else value for value in values])}
        if None in values:
            sent[f"{name}:validity"] = ("BOOL", [value is not None for value in values])
        return sent
    if kinds in ({bool}, {int}) and None not in values:
        return {name: ("BOOL" if kinds == {bool} else "INT64", values)}
    if not kinds and name == "plan":
        return {name: ("BYTES", [""] * len(values)), f"{name}:validity": ("BOOL", [False] * len(values))}
    return {name: ("FP64", [math.nan if value is None else value for value in values])}


def _table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(onnx(), loaded("mixed"), strict(), loaded("logistic"))
    yield desk
    desk.close()


@cache
def strict() -> Model:
    """A model that takes neither a null nor an unknown category."""
    columns = ColumnTransformer([("plan", OneHotEncoder(), ["plan"]), ("n", StandardScaler(), ["income"])])
    pipeline = make_pipeline(columns, LogisticRegression()).fit(customers(), customers()["plan"] == "pro")
    model = load(pipeline, name="strict")
    atexit.register(model.close)
    return model


@pytest.mark.parametrize("door", ALL)
def test_the_same_named_rows_get_the_same_answers(desk: Desk, door: str) -> None:
    frame = customers()[["plan", "income", "age", "visits", "city"]].iloc[:40]
    rows = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]
    answers = getattr(Doors(desk, loaded("mixed")), door)(rows)
    assert answers == CASES["mixed"].model.predict(frame).tolist()


@pytest.mark.parametrize("door", ALL)
@pytest.mark.parametrize("name", ["inline", "logistic"])
def test_the_same_vectors_get_the_same_answers(desk: Desk, door: str, name: str) -> None:
    rows = [dict(zip("abcd", row, strict=True)) for row in IRIS[::5].tolist()]
    model = onnx() if name == "inline" else loaded("logistic")
    assert getattr(Doors(desk, model), door)(rows) == CASES["logistic"].model.predict(IRIS[::5]).tolist()


GOOD = {"plan": "pro", "income": 50_000.0}
CLOSED: dict[str, tuple[dict[str, Any], str, str | None, tuple[str, ...]]] = {
    # the row, its code, its column, and the doors that can carry it
    "text in a number": ({**GOOD, "income": "lots"}, "wrong_type", "income", ALL),
    "a number in a text": ({**GOOD, "plan": 5}, "wrong_type", "plan", tuple(set(ALL) - {"csv"})),
    "a missing column": ({"plan": "pro"}, "missing_column", "income", ALL),
    "a near miss": ({"plan": "pro", "Income": 5.0}, "missing_column", "income", ALL),
    "a null text": ({**GOOD, "plan": None}, "null", "plan", ALL),
    "a null number": ({**GOOD, "income": None}, "null", "income", ALL),
    "NaN": ({**GOOD, "income": math.nan}, "null", "income", (*TABLES, *CALLS, "records")),
    "infinity": ({**GOOD, "income": math.inf}, "not_finite", "income", (*TABLES, *CALLS, "records")),
    "minus infinity": ({**GOOD, "income": -math.inf}, "not_finite", "income", (*TABLES, *CALLS, "records")),
    "an integer over 2**53": ({**GOOD, "income": 2**53 + 1}, "inexact_integer", "income", ALL),
    "an unknown category": ({**GOOD, "plan": "platinum"}, "unknown_category", "plan", ALL),
}


def _missing(message: str) -> str:
    """A frame of pandas has NaN for null, CSV has one word for both."""
    return message.replace("NaN where a number", "null where a number")


@pytest.mark.parametrize("case", CLOSED)
def test_a_bad_row_gets_one_verdict_and_one_message(desk: Desk, case: str) -> None:
    row, code, column, names = CLOSED[case]
    doors = Doors(desk, strict())
    verdicts = {name: getattr(doors, name)([row]) for name in names}
    assert set(map(type, verdicts.values())) == {Verdict}, verdicts
    told = {(each.code, _missing(each.message), each.column) for each in verdicts.values()}
    assert len(told) == 1, verdicts
    first = verdicts[names[0]]
    assert (first.code, first.column) == (code, column)
    rows = {each.row for name, each in verdicts.items() if name != "lines"}  # a line is always the row it is
    assert rows == ({None} if code == "missing_column" else {1}), verdicts


@pytest.mark.parametrize("door", ALL)
def test_true_and_false_are_one_and_zero_in_a_number(desk: Desk, door: str) -> None:
    doors = Doors(desk, strict())
    truths, numbers = ([{**GOOD, "income": each} for each in two] for two in ((True, False), (1.0, 0.0)))
    answer = getattr(doors, door)(truths)
    assert isinstance(answer, list)
    assert answer == getattr(doors, door)(numbers)


@pytest.mark.parametrize("name", ["inline", "logistic"])
def test_a_wrong_number_of_features_gets_one_verdict(desk: Desk, name: str) -> None:
    doors = Doors(desk, onnx() if name == "inline" else loaded("logistic"))
    for row in ({"a": 1.0, "b": 2.0}, dict(zip("abcde", [1.0] * 5, strict=True))):
        verdicts = {door: getattr(doors, door)([row]) for door in ALL}
        assert {verdict.code for verdict in verdicts.values()} == {"wrong_width"}, verdicts
        start = f"4 features are needed, {len(row)} were given"
        assert all(verdict.message.startswith(start) for verdict in verdicts.values()), verdicts


@pytest.mark.parametrize("name", ["inline", "mixed"])
def test_no_rows_get_one_verdict(desk: Desk, name: str) -> None:
    model = onnx() if name == "inline" else loaded("mixed")
    doors = Doors(desk, model)
    names = [each.name for each in model.signature.inputs] if name == "mixed" else list("abcd")
    nothing = pa.table({each: pa.array([], pa.float64() if name == "inline" else None) for each in names})
    verdicts = [doors.input([]), doors.rows([]), doors.records([])]
    verdicts.append(doors._json({"columns": {each: [] for each in names}}))
    for kind, body in (("text/csv", ",".join(names).encode() + b"\n"), (ARROW, to_stream(nothing))):
        verdicts.append(_verdict(told(desk.ask(doors.path, body, kind=kind))))
    verdicts.append(doors._library(lambda: model.predict(nothing)))
    verdicts.append(doors._library(lambda: model.predict(nothing.to_pandas())))
    assert set(verdicts) == {Verdict("empty", "no rows were given", None, None)}


WRITTEN: dict[str, Callable[[str], bytes]] = {  # a CSV of numbers with a header, as people have it
    "plain": str.encode,
    "without a header": lambda text: text.partition("\n")[2].encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "decimal commas": lambda text: text.replace(",", ";").replace(".", ",").encode(),
    "decimal commas without a header": lambda text: (
        text.replace(",", ";").replace(".", ",").partition("\n")[2].encode()
    ),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "latin-1": lambda text: text.replace("a", "é", 1).encode("latin-1"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "no last line end": lambda text: text.rstrip().encode(),
    "blank lines": lambda text: "\n\n{}\n\n".format(text.replace("\n", "\n\n", 3)).encode(),
    "an index": lambda text: "".join(
        f"{number if number >= 0 else ''},{line}\n" for number, line in enumerate(text.splitlines(), -1)
    ).encode(),
    "places for names": lambda text: "0,1,2,3\n{}".format(text.partition("\n")[2]).encode(),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", ["inline", "logistic"])
def test_a_csv_however_it_is_written_gets_the_answers_of_a_file(
    desk: Desk, written: str, name: str, tmp_path: Path
) -> None:
    body = WRITTEN[written](pd.DataFrame(IRIS[::5], columns=[*"abcd"]).to_csv(index=False))
    model = onnx() if name == "inline" else loaded("logistic")
    said = "; header=present" if written == "places for names" else ""  # of a request: it may be a row
    response = desk.ask(f"/models/{model.name}/predict", body, kind=f"text/csv{said}")
    assert response.status == 200, response.body
    (tmp_path / "rows.csv").write_bytes(body)
    predict_file(model, tmp_path / "rows.csv", tmp_path / "out.csv", keep="none")
    assert response.body == (tmp_path / "out.csv").read_bytes()
    assert response.body.count(b"\n") == len(IRIS[::5]) + 1


@pytest.mark.parametrize(
    "body",
    [
        b"plan;income\npro;1,5\npro;1.000,5\n",
        b"plan;income\npro;1,5\nplatinum;2,5\n",
        b"plan|income\npro|1.5\npro|\n",
        "plan;income\nprö;1\n".encode("latin-1"),
    ],
)
def test_a_csv_however_it_is_written_gets_the_verdict_of_a_file(desk: Desk, body: bytes, tmp_path: Path) -> None:
    error = told(desk.ask("/models/strict/predict", body, kind="text/csv"))
    (tmp_path / "rows.csv").write_bytes(body)
    predict_file(strict(), tmp_path / "rows.csv", tmp_path / "out.csv", max_rejects=10)
    reject = json.loads((tmp_path / "out.csv.rejects.jsonl").read_text().splitlines()[0])
    assert (error["code"], error["row"], error["column"]) == (reject["code"], reject["row"], reject["column"])


def test_numbers_without_a_header_for_named_columns_get_the_reason_of_a_file(desk: Desk, tmp_path: Path) -> None:
    body = b"7,8\n3,4\n"
    (tmp_path / "rows.csv").write_bytes(body)
    with pytest.raises(InputError) as refused:
        predict_file(strict(), tmp_path / "rows.csv", tmp_path / "out.csv")
    error = told(desk.ask("/models/strict/predict", body, kind="text/csv"))
    assert error["code"] == refused.value.code
    assert f"the first row {HEADLESS}" in error["error"]
    assert f"the first row {HEADLESS}" in refused.value.message
    assert "was not taken for a header" in error["error"]


def test_the_first_bad_row_of_many_is_told_everywhere(desk: Desk) -> None:
    rows = [dict(GOOD) for _ in range(50)]
    rows[30] = {**GOOD, "plan": "platinum"}
    rows[40] = {**GOOD, "income": None}
    doors = Doors(desk, strict())
    verdicts = {door: getattr(doors, door)(rows) for door in ALL}
    assert {(each.code, each.row, each.column) for each in verdicts.values()} == {("unknown_category", 31, "plan")}
