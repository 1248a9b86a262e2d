"""A long body is decoded in pieces: the same answers as in one, and others are answered between the pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from bimodal.model import load
from bimodal.realtime.exchange import Respond, Response
from bimodal.realtime.limits import Limits
from bimodal.realtime.protocols.piecemeal import pieces
from bimodal.realtime.protocols.rows import RowsDoor
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
