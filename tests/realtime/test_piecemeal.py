"""A long body is decoded in pieces: the same answers as in one, and others are answered between the pieces."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from bimodal.model import load
from bimodal.realtime.exchange import JSON, Respond, Response
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols import piecemeal, stretches
from bimodal.realtime.protocols.openinference import InferDoor
from bimodal.realtime.protocols.piecemeal import pieces
from bimodal.realtime.protocols.rows import RowsDoor
from bimodal.realtime.protocols.tables import TableDoor
from bimodal.table import to_stream
from tests.realtime.desk import Ask, Desk

NUMBERS = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)
TEXTS = st.text('},{[]"\\ab: ', max_size=6)
ROWS = st.lists(st.lists(NUMBERS, max_size=3), min_size=1, max_size=30) | st.lists(
    st.dictionaries(TEXTS, NUMBERS | TEXTS | st.none(), max_size=3), min_size=1, max_size=30
)


@given(rows=ROWS, size=st.integers(1, 80), key=st.sampled_from(["input", "rows"]), more=st.booleans())
def test_the_pieces_hold_the_rows_in_order_or_are_no_json(rows: list[Any], size: int, key: str, more: bool) -> None:
    told = {key: rows, **({"outputs": ["a"], "threshold": 0.5} if more else {})}
    found: list[Any] = []
    for piece in pieces(json.dumps(told).encode(), size):
        try:
            part = json.loads(piece)
        except ValueError:
            return
        found += part.pop(key)
    assert found == rows
    assert part == {each: value for each, value in told.items() if each != key}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("named") / "named.pkl"
    table = pd.DataFrame(VALUES, columns=NAMES)
    joblib.dump(LinearRegression().fit(table, VALUES @ np.arange(20.0)), path)
    with load(path, runtime="exact") as model:
        made = Desk(model, limits=Limits(rows=3000))
        yield made
        made.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("long") / "wide.pkl"
    values = random.normal(size=(60, 20))
    joblib.dump(LinearRegression().fit(values, values @ np.arange(20.0)), path)
    with load(path, runtime="exact") as model:
        made = Desk(model, limits=Limits(rows=3000))
        yield made
        made.close()


def body(rows: int, *, bad: tuple[int, Any] | None = None, **more: Any) -> bytes:
    values = np.random.default_rng(1).normal(size=(rows, 20)).round(3).tolist()
    if bad is not None:
        values[bad[0]] = bad[1]
    return json.dumps({"input": values, **more}).encode()


@pytest.mark.parametrize(
    "asked",
    [
        body(2000),
        body(2000, outputs=["prediction"]),
        body(2000, outputs=["nothing"]),
        body(2000, bad=(1500, [1.0])),
        body(2000, bad=(1999, ["text"] * 20)),
        body(2000, bad=(3, [1e400] * 20)),
        body(3000),
        body(3001),
        body(2000)[:-1],
        body(2000) + b"}",
        body(1500)[:-1] + b', "input": [[' + b", ".join([b"1"] * 20) + b"]]}",
        body(1500)[:-1] + b', "inp\\u0075t": [[' + b", ".join([b"1"] * 20) + b"]]}",
    ],
    ids=[
        "good",
        "outputs",
        "no such output",
        "short",
        "text",
        "inf",
        "limit",
        "over",
        "cut",
        "more",
        "twice",
        "escaped",
    ],
)
def test_what_is_decoded_in_pieces_is_answered_as_in_one(desk: Desk, asked: bytes) -> None:
    whole = desk.ask(body=asked)
    with patch.object(RowsDoor, "long", 1000):
        pieced = desk.ask(body=asked)
    assert pieced.status == whole.status
    told, wanted = json.loads(pieced.body), json.loads(whole.body)
    assert told.pop("request_id", None) is None or wanted.pop("request_id")
    assert told == wanted


VALUES = np.random.default_rng(1).normal(size=(1000, 20)).round(3)
ROWS_OF = VALUES.tolist()
NAMES = [f"c{place}" for place in range(20)]


@contextmanager
def short(size: int) -> Iterator[None]:
    """What is longer is a long body."""
    with ExitStack() as stack:
        for door in (RowsDoor, InferDoor, TableDoor):
            stack.enter_context(patch.object(door, "long", size))
        yield


def told_of(answer: Response) -> tuple[int, Any]:
    if answer.content_type != JSON:
        return answer.status, answer.body
    found = json.loads(answer.body)
    found.pop("request_id", None)
    return answer.status, found


def tensor(data: Any, shape: Any = (1000, 20), **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": data}], **more}


INFER = {
    "flat": tensor(VALUES.reshape(-1).tolist()),
    "nested": tensor(ROWS_OF, id="a", outputs=[{"name": "prediction"}], parameters={"timeout": 5_000_000}),
    "short": tensor(VALUES.reshape(-1).tolist()[:-1]),
    "uneven": tensor([*ROWS_OF[:-1], [1.0]]),
    "mixed": tensor([*ROWS_OF[:-1], *ROWS_OF[-1]]),
    "of another shape": tensor(ROWS_OF, (1000, 19)),
    "of another number": tensor(ROWS_OF, (2000, 10)),
    "longer and shorter": tensor([*ROWS_OF[:-2], ROWS_OF[0][:19], [*ROWS_OF[0], 1.0]]),
    "text": tensor([*VALUES.reshape(-1).tolist()[:-1], "text"]),
    "true": tensor([*VALUES.reshape(-1).tolist()[:-1], True]),
    "huge": tensor([*VALUES.reshape(-1).tolist()[:-1], 10**400]),
    "another": {**tensor(ROWS_OF), "inputs": tensor(ROWS_OF)["inputs"] * 2},
    "no such output": tensor(ROWS_OF, outputs=[{"name": "nothing"}]),
    "sequence": tensor(ROWS_OF, parameters={"sequence_id": 1}),
    "binary": tensor(ROWS_OF, parameters={"binary_data_output": True}),
    "empty": tensor([], (0, 20)),
}
INVOKED = {
    "split": {"dataframe_split": {"index": list(range(1000)), "columns": NAMES, "data": ROWS_OF}},
    "split, names last": {"dataframe_split": {"data": ROWS_OF, "columns": NAMES}},
    "split, too few names": {"dataframe_split": {"data": ROWS_OF, "columns": NAMES[1:]}},
    "records": {"dataframe_records": [dict(zip(NAMES, row, strict=True)) for row in ROWS_OF]},
    "records in another order": {
        "dataframe_records": [
            *[dict(zip(NAMES, row, strict=True)) for row in ROWS_OF[:-1]],
            dict(zip(NAMES[::-1], ROWS_OF[-1], strict=True)),
        ]
    },
    "instances": {"instances": ROWS_OF, "params": {"outputs": ["prediction"]}},
    "inputs": {"inputs": ROWS_OF},
    "rows": {"rows": ROWS_OF},
    "two": {"instances": ROWS_OF, "inputs": ROWS_OF},
    "text": {"instances": [*ROWS_OF[:-1], ["text"] * 20]},
}
CASES = [
    *[("/v2/models/wide/infer", each) for each in INFER.values()],
    *[("/invocations", each) for each in INVOKED.values()],
    *[("/v1/models/wide:predict", INVOKED[each]) for each in ("instances", "inputs", "two", "text")],
]


@pytest.mark.parametrize(("path", "asked"), CASES, ids=[*INFER, *INVOKED, "v1", "v1 inputs", "v1 two", "v1 text"])
def test_a_long_body_in_the_words_of_others_is_answered_as_a_short_one(desk: Desk, path: str, asked: Any) -> None:
    text = json.dumps(asked).encode()
    whole = told_of(desk.ask(path, text))
    with short(1000), patch.object(piecemeal, "PIECE", 1000), patch.object(stretches, "PIECE", 1000):
        pieced = told_of(desk.ask(path, text))
    assert pieced == whole


def test_columns_of_numbers_are_decoded_in_stretches(named: Desk) -> None:
    table = {name: VALUES[:, place].tolist() for place, name in enumerate(NAMES)}
    inputs = [{"name": name, "shape": [1000], "datatype": "FP64", "data": values} for name, values in table.items()]
    path = "/v2/models/named/infer"
    for asked in (inputs, [*inputs[:-1], {**inputs[-1], "data": [*table["c19"][:-1], "x"]}], inputs[1:]):
        text = json.dumps({"inputs": asked}).encode()
        whole = told_of(named.ask(path, text))
        with patch.object(InferDoor, "long", 1000):
            assert told_of(named.ask(path, text)) == whole
    assert whole[0] == 400


WAYS = {
    "infer": ("/v2/models/wide/infer", "application/json", json.dumps(INFER["flat"]).encode()),
    "invocations": ("/invocations", "application/json", json.dumps(INVOKED["split"]).encode()),
    "csv": ("/predict", "text/csv", pd.DataFrame(VALUES, columns=NAMES).to_csv(index=False).encode()),
    "parquet": ("/predict", "application/vnd.apache.parquet", pd.DataFrame(VALUES, columns=NAMES).to_parquet()),
}


@pytest.mark.parametrize("way", WAYS)
def test_others_are_answered_while_a_long_body_of_any_kind_is_read(desk: Desk, way: str) -> None:
    path, kind, data = WAYS[way]
    order: list[str] = []

    async def run() -> None:
        answered = asyncio.Event()

        def long(response: Response) -> None:
            assert response.status == 200, response.body
            order.append("long")
            answered.set()

        desk.app(Ask(path, data, kind=kind).request(), long)
        desk.app(Ask("/health/live", method="GET", kind=None).request(), lambda _: order.append("health"))
        await asyncio.wait_for(answered.wait(), 20)

    with short(1000):
        desk.run(run)
    assert order == ["health", "long"]


@pytest.mark.soak
@pytest.mark.parametrize(
    "way", ["infer flat", "infer nested", "split", "records", "instances", "csv", "arrow", "parquet"]
)
def test_no_long_body_holds_the_loop(way: str, tmp_path: Path) -> None:
    """10,000 rows, about 15 MB, as a whole and as it is read now: the longest hold of the loop between two turns, in
    processor time and by the clock; and how late another's turn was, 99 of 100.
    """
    random = np.random.default_rng(0)
    small = random.normal(size=(300, 200))
    joblib.dump(LinearRegression().fit(small, small @ np.arange(200.0)), tmp_path / "wide.pkl")
    table = pd.DataFrame(random.normal(size=(10_000, 200)).round(4), columns=[f"c{each}" for each in range(200)])
    path, kind, data = wide(way, table)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # as a worker has it
    try:
        with load(tmp_path / "wide.pkl", runtime="exact") as model:
            made = Desk(model, limits=Limits(body_bytes=1 << 26))
            made.ask(path, data, kind=kind)
            with short(1 << 40):
                before = held(made, path, kind, data)
            after = held(made, path, kind, data)
            made.close()
    finally:
        sys.setswitchinterval(interval)
    told = [" ".join([f"{each * 1e3:.1f}" for each in figures]) for figures in (before, after)]
    print(
        f"\n{way}, {len(data) / 1e6:.1f} MB: held ms (processor, clock, p99 of turns): {told[0]} before, {told[1]} now"
    )
    assert after[0] < 0.03


def wide(way: str, table: pd.DataFrame) -> tuple[str, str, bytes]:
    """The path, the content type and the body of a table, in one of the ways."""
    json_, rows = "application/json", table.to_numpy().tolist()
    if way.startswith("infer"):
        given = table.to_numpy().reshape(-1).tolist() if way.endswith("flat") else rows
        return "/v2/models/wide/infer", json_, json.dumps(tensor(given, table.shape)).encode()
    if way == "split":
        return "/invocations", json_, json.dumps({"dataframe_split": table.to_dict(orient="split")}).encode()
    if way == "records":
        return "/invocations", json_, json.dumps({"dataframe_records": table.to_dict(orient="records")}).encode()
    if way == "instances":
        return "/v1/models/wide:predict", json_, json.dumps({"instances": rows}).encode()
    if way == "csv":
        return "/predict", "text/csv", table.to_csv(index=False).encode()
    if way == "parquet":
        return "/predict", "application/vnd.apache.parquet", table.to_parquet()
    return "/predict", "application/vnd.apache.arrow.stream", to_stream(pa.Table.from_pandas(table))


def held(desk: Desk, path: str, kind: str, data: bytes) -> tuple[float, float, float]:
    """The longest time between two turns of the loop while a body is read, of its thread's processor and by the clock;
    the 99th of 100 by the clock, of turns a millisecond apart.
    """

    async def run() -> tuple[float, float, float]:
        answers: list[Response] = []
        request = Ask(path, data, kind=kind).request()
        busy, clock = [], []
        asyncio.get_running_loop().call_later(0.01, desk.app, request, answers.append)
        while not answers:
            before = time.thread_time(), time.monotonic()
            await asyncio.sleep(0.001)
            busy.append(time.thread_time() - before[0])
            clock.append(time.monotonic() - before[1])
        assert answers[0].status == 200, answers[0].body
        return max(busy), max(clock), sorted(clock)[int(len(clock) * 0.99)]

    return desk.run(run)


def test_others_are_answered_between_the_pieces_and_who_leaves_is_not(desk: Desk) -> None:
    answers: dict[str, Response] = {}

    def teller(name: str) -> Respond:
        return lambda response: answers.update({name: response})

    async def run() -> None:
        long = Ask(body=body(3000)).request()
        desk.app(long, teller("long"))
        desk.app(Ask(path="/health/live", method="GET", kind=None).request(), teller("health"))
        assert list(answers) == ["health"]
        cancel = desk.app(Ask(body=body(3000)).request(), teller("left"))
        await asyncio.sleep(0)
        assert cancel is not None
        cancel()
        while "long" not in answers:  # noqa: ASYNC110 - it takes milliseconds
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)

    with patch.object(RowsDoor, "long", 1000):
        desk.run(run)
    assert list(answers) == ["health", "long"]
    assert answers["long"].status == 200
