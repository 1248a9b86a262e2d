"""A model in memory, a client over HTTP and one over gRPC: the same answer, or the same error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bimodal
from bimodal import Client, serve
from bimodal.errors import BimodalError, InputError, UsageError
from bimodal.realtime.server import Server
from tests.models import CASES, IRIS, customers

MODELS = """
from datetime import datetime
from typing import Literal, Optional, TypedDict

class Gaps:
    "Every type, as it came; empty text and odd numbers are answered with nothing."
    inputs = {"t": datetime, "c": Literal["a", "b"], "n": Optional[int], "b": bool, "s": str, "f": float}
    outputs = {
        "t2": Optional[datetime], "c2": str, "n2": Optional[int], "b2": Optional[bool], "s2": Optional[str], "f2": float
    }

    def predict(self, rows):
        named = {name: list(rows[name]) for name in self.inputs}
        return [
            {
                "t2": None if n is None or n != n else datetime(2026, 1, 2),
                "c2": str(c),
                "n2": None if n is None or n != n else int(n),
                "b2": None if s == "" else bool(b),
                "s2": s or None,
                "f2": float(f),
            }
            for t, c, n, b, s, f in zip(*named.values())
        ]

class Nested:
    inputs = {"j": dict, "x": float}
    outputs = {"r": str}

    def predict(self, rows):
        return [{"r": f"{j} {x}"} for j, x in zip(rows["j"], rows["x"])]

class Echo:
    def chat(self, messages, max_tokens: int = 100, **options):
        words = messages[-1]["content"].split()
        for word in words[:max_tokens]:
            yield word + " "
        yield {"finish_reason": "stop" if len(words) <= max_tokens else "length", "completion_tokens": 2}
"""
NAMES = ("Gaps", "Nested", "Echo")
ROW: dict[str, Any] = {"t": "2026-01-02", "c": "a", "n": 3, "b": True, "s": "x", "f": 1.5}
SAID = [{"role": "user", "content": "well met"}]
SMALL = np.array([[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]])
ENDLESS = np.array([[5.1, 3.5, 1.4, np.inf]])
PLACED = {"outputs": "probability"}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    path = tmp_path_factory.mktemp("doors") / "doors.py"
    path.write_text(MODELS)
    vectors = CASES["logistic"].model
    loaded = {name: bimodal.load(f"{path}:{name}", background=False) for name in NAMES}
    loaded["vectors"] = bimodal.load(vectors, name="vectors", background=False)
    served = [*(f"{path}:{name}" for name in NAMES), bimodal.load(vectors, name="vectors")]
    with serve(*served, port=0) as server, Client(server.url) as plain, Client(grpc(server)) as remote:
        yield {"memory": loaded, "http": plain, "grpc": remote}
    for model in loaded.values():
        model.close()


def grpc(server: Server) -> str:
    return server.url.replace("http://", "grpc://")


def told(doors: dict[str, Any], model: str, data: Any, **options: Any) -> dict[str, Any]:
    """What each door says: the kind of the answer and its values, or the error."""
    found: dict[str, Any] = {}
    for door, asked in doors.items():
        try:
            if isinstance(asked, dict):
                answer = asked[model].predict(data, **options)
            else:
                answer = asked.predict(data, model=model, **options)
        except BimodalError as error:
            found[door] = (type(error), error.code, error.row, error.column, str(error))
        else:
            found[door] = (type(answer), plain(answer))
    return found


def plain(answer: Any) -> Any:
    if isinstance(answer, pd.DataFrame):
        return repr(answer.to_dict("list"))
    if isinstance(answer, pa.Table):
        return answer.to_pydict()
    return answer.tolist() if isinstance(answer, np.ndarray) else answer


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key != name}


UNTIMED = {"outputs": ["c2", "n2", "b2", "s2", "f2"]}  # JSON has no times: of records they are text there
SAME: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "a null among integers": ("Gaps", [{**ROW, "n": None}, ROW], UNTIMED),
    "nulls alone in a column of integers": ("Gaps", [{**ROW, "n": None}], UNTIMED),
    "nulls of texts and booleans": ("Gaps", [{**ROW, "s": ""}, ROW], UNTIMED),
    "columns": ("Gaps", {name: [value, value] for name, value in {**ROW, "s": "", "n": None}.items()}, UNTIMED),
    "a frame": ("Gaps", pd.DataFrame([{**ROW, "n": None, "s": ""}, ROW]), {}),
    "a frame of nulls alone": ("Gaps", pd.DataFrame([{**ROW, "n": None, "s": ""}]), {}),
    "a table": ("Gaps", pa.Table.from_pylist([{**ROW, "n": None, "s": ""}, ROW]), {}),
    "a decimal": ("Gaps", [{**ROW, "f": Decimal("1.5")}], UNTIMED),
    "what the model does not know, beside a null": ("Gaps", [{**ROW, "n": None, "c": "z"}], {}),
    "a null where none is taken": ("Gaps", [ROW, {**ROW, "b": None}], {}),
    "a column that no row has": ("Gaps", [without("c")], {}),
    "a column that one row has not": ("Gaps", [ROW, without("n")], {}),
    "a list where text is needed": ("Gaps", [{**ROW, "s": [1]}], {}),
    "JSON": ("Nested", [{"j": {"a": [1, None]}, "x": 1.0}, {"j": {}, "x": 2.0}], {}),
    "JSON by position": ("Nested", [[{"a": 1}, 1.0]], {}),
    "JSON in columns": ("Nested", {"j": [{"a": 1}, {}], "x": [1.0, 2.0]}, {}),
    "JSON as text": ("Nested", [{"j": '{"a":1}', "x": 1.0}], {}),
    "JSON in a table": ("Nested", pa.table({"j": ['{"a":1}'], "x": [1.0]}), {}),
    "objects in a frame": (
        "Nested",
        pd.DataFrame([{"j": {"a": [1, None]}, "x": 1.0}, {"j": {"b": "é"}, "x": 2.0}]),
        {},
    ),
    "objects in a table": ("Nested", pa.table({"j": [{"a": [1.5]}, {"a": None}], "x": [1.0, 2.0]}), {}),
    "a null among objects of a table": ("Nested", pa.table({"j": [{"a": 1}, None], "x": [1.0, 2.0]}), {}),
    "no object in a table": ("Nested", pa.table({"j": [[1], [2]], "x": [1.0, 2.0]}), {}),
    "a number in place of JSON in a table": ("Nested", pa.table({"j": [1, 2], "x": [1.0, 2.0]}), {}),
    "columns of two kinds that no table has": (
        "Nested",
        pd.DataFrame([{"j": {"a": 1}, "x": 1.0}, {"j": 2, "x": 2.0}]),
        {},
    ),
    "chats in a frame": ("Echo", pd.DataFrame([{"messages": SAID}, {"messages": SAID}], index=[7, 9]), {}),
    "chats in a table": ("Echo", pa.Table.from_pylist([{"messages": SAID}]), {}),
    "a slip in a chat in a table": ("Echo", pa.Table.from_pylist([{"messages": [{"role": "user"}]}]), {}),
    "no JSON": ("Nested", [{"j": None, "x": 1.0}], {}),
    "a chat": ("Echo", [{"messages": SAID}], {}),
    "chats in columns": ("Echo", {"messages": [SAID, SAID]}, {}),
    "one argument of a chat in one row": ("Echo", [{"messages": SAID, "max_tokens": 1}, {"messages": SAID}], {}),
    "a slip in the name of messages": ("Echo", [{"message": SAID}], {}),
    "infinity in a small array": ("vectors", ENDLESS, {}),
    "a text as outputs": ("vectors", SMALL, PLACED),
    "a text as outputs of a frame": ("vectors", pd.DataFrame(SMALL), PLACED),
    "a text as outputs of a large array": ("vectors", np.tile(IRIS, (10, 1)), PLACED),
    "numbers as outputs": ("vectors", SMALL, {"outputs": [1]}),
    "no outputs": ("vectors", SMALL.tolist(), {"outputs": []}),
    "an output that there is not": ("vectors", SMALL, {"outputs": ["probabilty"]}),
    "an output twice": ("vectors", SMALL, {"outputs": ["prediction", "prediction"]}),
}


@pytest.mark.parametrize("case", SAME)
def test_all_doors_give_the_same_answer_or_the_same_error(doors: dict[str, Any], case: str) -> None:
    model, data, options = SAME[case]
    found = told(doors, model, data, **options)
    assert found["http"] == found["memory"]
    assert found["grpc"] == found["memory"]


ROWS = st.fixed_dictionaries(
    {
        "t": st.datetimes().map(lambda each: each.isoformat()) | st.none(),
        "c": st.sampled_from(["a", "b", "z"]),
        "n": st.integers(-(2**63), 2**63 - 1) | st.none(),
        "b": st.booleans(),
        "s": st.text(max_size=3),
        "f": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    }
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=3))
def test_whatever_the_rows_hold(doors: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    found = told(doors, "Gaps", rows, **UNTIMED)
    assert found["http"] == found["memory"]
    assert found["grpc"] == found["memory"]


@pytest.mark.parametrize("value", [b"abc", bytearray(b"abc"), object()])
def test_what_json_would_change_is_refused_with_its_place(doors: dict[str, Any], value: Any) -> None:
    for data in ([ROW, {**ROW, "s": value}], {name: [each, each] for name, each in ROW.items()} | {"s": ["x", value]}):
        found = told(doors, "Gaps", data)
        assert {error[:4] for error in found.values()} == {(InputError, "wrong_type", 2, "s")}
    with pytest.raises(InputError, match=r"row 2, column 'input\[4\]': .* cannot be told in JSON"):
        doors["http"].predict([[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, value]], model="vectors")
    with pytest.raises(InputError, match="cannot be told in JSON"):
        doors["http"].predict([{**ROW, "s": {"deep": [value]}}], model="Gaps")


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_half_of_a_surrogate_pair_is_told_with_its_place(doors: dict[str, Any], door: str) -> None:
    for name, row in (("Gaps", {**ROW, "s": "a\ud800"}), ("Nested", {"j": {"a": ["\ud800"]}, "x": 1.0})):
        with pytest.raises(InputError, match="half of a surrogate pair") as caught:
            doors[door].predict([row], model=name)
        assert (caught.value.row, caught.value.column) == (1, "s" if name == "Gaps" else "j")


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ("Gaps", [ROW, {**ROW, "f": float("nan")}]),
        ("Gaps", {name: [value, value] for name, value in ROW.items()} | {"f": [1.0, float("nan")]}),
        ("vectors", [[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, float("nan")]]),
        ("vectors", np.array([[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, np.nan]])),
    ],
)
def test_nan_is_told_by_its_name(doors: dict[str, Any], model: str, data: Any) -> None:
    with pytest.raises(InputError, match=": NaN where a number is needed") as caught:
        doors["http"].predict(data, model=model)
    assert (caught.value.code, caught.value.row) == ("null", 2)


def test_a_null_is_no_nan(doors: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="row 1, column 'f': null where a number is needed"):
        doors["http"].predict([{**ROW, "f": None}, {**ROW, "f": float("nan")}], model="Gaps")


def test_a_name_that_is_no_text_is_told(doors: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a name has half of a surrogate pair"):
        doors["http"].predict([{**ROW, "\ud800": 1}], model="Gaps")


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_text_as_columns_to_keep_is_no_list_of_letters(doors: dict[str, Any], door: str) -> None:
    for data in ([ROW], pd.DataFrame([ROW])):
        with pytest.raises(UsageError, match="keep needs True or a list of columns"):
            doors[door].predict(data, model="Gaps", keep="id")


class Streamed:
    """A frame of another library, as Arrow's interface has it."""

    def __init__(self, table: pa.Table) -> None:
        self.columns = table.column_names
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def test_frames_of_other_libraries_are_taken(doors: dict[str, Any]) -> None:
    table = pa.Table.from_pylist([{**ROW, "n": None, "id": 1}, {**ROW, "id": 2}])
    expected = doors["memory"]["Gaps"].predict(table).to_pydict()
    for found in told(doors, "Gaps", Streamed(table)).values():
        assert found == (pa.Table, expected)
    for door in ("http", "grpc"):
        answer = doors[door].predict(Streamed(table), model="Gaps", keep=["id"])
        assert answer.to_pydict() == {"id": [1, 2], **expected}


def test_frames_of_polars_are_answered_as_such(doors: dict[str, Any]) -> None:
    frame = polars.DataFrame([{**ROW, "n": None}, ROW])
    for kind, _ in told(doors, "Gaps", frame).values():
        assert kind is polars.DataFrame


def test_lazy_frames_are_collected(doors: dict[str, Any]) -> None:
    frame = polars.DataFrame([{**ROW, "f": 9.0}, ROW])
    for kind, answer in told(doors, "Gaps", frame.lazy().filter(polars.col("f") < 9)).values():
        assert kind is polars.DataFrame
        assert answer["f2"].to_list() == [1.5]


def test_objects_in_a_frame_of_polars_are_taken(doors: dict[str, Any]) -> None:
    frame = polars.DataFrame([{"messages": SAID}, {"messages": SAID}])
    found = told(doors, "Echo", frame)
    for kind, answer in found.values():
        assert kind is polars.DataFrame
        assert answer["text"].to_list() == ["well met "] * 2
    kept = [doors[door].predict(frame.with_row_index(), model="Echo", keep=True) for door in ("http", "grpc")]
    assert kept[0].equals(kept[1])
    assert "index" in kept[0].columns


# -- a model that becomes another ------------------------------------------------------------------------------------


def put(folder: Path, version: int, model: Any) -> None:
    (folder / "m" / str(version)).mkdir(parents=True)
    joblib.dump(model, folder / "m" / str(version) / "model.pkl")


@contextmanager
def loading(repository: Path) -> Iterator[tuple[Client, Client]]:
    """A client over HTTP and one over gRPC of a server that loads what it is told to."""
    with (
        serve(repository, port=0, repository_control="explicit") as server,
        Client(server.url, timeout=60) as plain,
        Client(grpc(server), timeout=60) as remote,
    ):
        yield plain, remote


def test_a_client_over_grpc_sees_that_a_model_has_become_another(tmp_path: Path) -> None:
    repository, frame = tmp_path / "models", customers().drop(columns=["note"]).head(3)
    mixed = CASES["mixed"].model
    put(repository, 1, CASES["logistic"].model)
    with loading(repository) as (plain, remote):
        known = remote.predict(IRIS[:2], model="m").tolist()
        put(repository, 2, mixed)
        plain.request("POST", "/v2/repository/models/m/load", b"{}")
        records = json.loads(frame.to_json(orient="records"))
        expected = [{"prediction": each} for each in mixed.predict(frame).tolist()]
        assert remote.predict(records, model="m") == expected  # what it knew refuses them
        shutil.rmtree(repository / "m" / "2")
        plain.request("POST", "/v2/repository/models/m/load", b"{}")
        assert remote.predict(IRIS[:2], model="m").tolist() == known
        with pytest.raises(InputError, match="4 features are needed, 3 were given"):
            remote.predict([[1.0, 2.0, 3.0]], model="m")


def test_another_version_answers_by_its_own_words(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    table = pa.table({name: IRIS[:2, place] for place, name in enumerate("abcd")})
    binary = CASES["logistic"].model.__class__(max_iter=500)
    put(repository, 1, CASES["logistic"].model)
    with loading(repository) as (plain, remote):
        assert len(remote.predict(table, model="m", outputs=["probability"]).column_names) == 3
        put(repository, 2, binary.fit(IRIS, np.where(np.arange(len(IRIS)) % 2, "odd", "even")))
        plain.request("POST", "/v2/repository/models/m/load", b"{}")
        told = remote.predict(table, model="m", outputs=["probability"])
        assert told.column_names == ["probability_even", "probability_odd"]
