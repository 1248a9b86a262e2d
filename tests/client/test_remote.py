"""grpc:// gives the answers and the errors of http://, on the same port, plainly and in a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bimodal import AsyncClient, Client, serve
from bimodal.errors import (
    BimodalError,
    DeadlineExceeded,
    ModelNotFound,
    ServerUnreachable,
    UsageError,
)
from bimodal.realtime.server import Server
from tests.models import CASES, IRIS, customers
from tests.ports import free_port

FRAME = customers().drop(columns=["note"]).head(30)
MIXED = CASES["mixed"].model
LABELS = CASES["labelled"].model
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("remote")
    joblib.dump(MIXED, folder / "mixed.pkl")
    joblib.dump(LABELS, folder / "vectors.pkl")
    with serve(folder / "mixed.pkl", folder / "vectors.pkl", port=0) as server:
        yield server


def plainly(url: str, name: str, *values: Any, **options: Any) -> Any:
    """What a Client answers."""
    with Client(url) as client:
        return getattr(client, name)(*values, **options)


def in_a_loop(url: str, name: str, *values: Any, **options: Any) -> Any:
    """What an AsyncClient answers."""

    async def run() -> Any:
        async with AsyncClient(url) as client:
            return await getattr(client, name)(*values, **options)

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [plainly, in_a_loop])


def grpc(server: Server) -> str:
    return server.url.replace("http://", "grpc://")


RECORDS: Any = FRAME.astype(object).where(FRAME.notna(), None).to_dict("records")
GIVEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "records": (RECORDS, {}),
    "records of two outputs": (RECORDS, {"outputs": ["prediction", "probability"], "threshold": 0.7}),
    "one record": (RECORDS[3], {}),
    "kept columns": (RECORDS, {"keep": ["year", "member"]}),
    "columns": ({name: [row[name] for row in RECORDS] for name in RECORDS[0]}, {"keep": ["year"]}),
    "vectors": (IRIS[::7].tolist(), {"model": "vectors"}),
    "one vector": (IRIS[0].tolist(), {"model": "vectors"}),
    "an array": (IRIS, {"model": "vectors"}),
    "an array of two outputs": (IRIS, {"model": "vectors", "outputs": ["prediction", "probability"]}),
}


@both
@pytest.mark.parametrize("case", GIVEN)
def test_the_answers_are_those_of_http(server: Server, ask: Ask, case: str) -> None:
    data, options = GIVEN[case]
    ours, theirs = ask(grpc(server), "predict", data, **options), plainly(server.url, "predict", data, **options)
    assert type(ours) is type(theirs)
    assert ours.tolist() == theirs.tolist() if isinstance(theirs, np.ndarray) else ours == theirs


@both
def test_frames_and_tables_have_flat_columns(server: Server, ask: Ask) -> None:
    asked: dict[str, Any] = {"outputs": ["prediction", "probability"], "keep": True}
    ours = ask(grpc(server), "predict", FRAME, **asked)
    theirs = plainly(server.url, "predict", FRAME, **asked)
    assert list(ours.columns) == list(theirs.columns)
    assert ours["prediction"].tolist() == MIXED.predict(FRAME).tolist()
    np.testing.assert_array_equal(ours["probability_leaves"], theirs["probability_leaves"])
    assert ours.index.equals(FRAME.index)
    table = pa.Table.from_pandas(pd.DataFrame(IRIS, columns=[*"abcd"]))
    assert (
        ask(grpc(server), "predict", table, model="vectors")["prediction"].to_pylist() == LABELS.predict(IRIS).tolist()
    )


@both
@pytest.mark.parametrize(
    ("data", "options"),
    [
        ([RECORDS[1], {**RECORDS[1], "age": "old"}], {}),
        ([{**RECORDS[1], "income": 2**60 + 1}], {}),
        ([{name: value for name, value in RECORDS[1].items() if name != "plan"}], {}),
        ([[1.0, 2.0]], {"model": "vectors"}),
        ([[1.0, 2.0, 3.0, None]], {"model": "vectors"}),
        ([], {}),
        (IRIS.tolist(), {"model": "vector"}),
        (IRIS.tolist(), {"model": "vectors", "outputs": ["probabilty"]}),
        (IRIS.tolist(), {"model": "vectors", "threshold": 2.0}),
    ],
)
def test_an_error_is_that_of_http(server: Server, ask: Ask, data: Any, options: dict[str, Any]) -> None:
    with pytest.raises(BimodalError) as theirs:
        plainly(server.url, "predict", data, **options)
    with pytest.raises(BimodalError) as ours:
        ask(grpc(server), "predict", data, **options)
    told = [(type(each.value), each.value.code, each.value.row, each.value.column) for each in (ours, theirs)]
    assert told[0] == told[1], (ours.value, theirs.value)
    assert ours.value.message == theirs.value.message


@both
def test_models_metadata_and_readiness(server: Server, ask: Ask) -> None:
    assert ask(grpc(server), "ready") is True
    assert ask(grpc(server), "models") == ["mixed", "vectors"]
    for asked in ((), ("vectors",), ("mixed",)):
        assert ask(grpc(server), "metadata", *asked) == plainly(server.url, "metadata", *asked)
    assert "bimodal_tabular" in ask(grpc(server), "metadata")["extensions"]
    plan = next(each for each in ask(grpc(server), "metadata", "mixed")["inputs"] if each["name"] == "plan")
    assert plan["categories"]
    assert plan["parameters"]["nullable"]
    with pytest.raises(ModelNotFound):
        ask(grpc(server), "metadata", "nothing")


@both
def test_what_it_has_not_is_told(server: Server, ask: Ask) -> None:
    for name, values in (("lookup", [7]), ("request", ["GET", "/models"])):
        with pytest.raises(UsageError, match="asked over HTTP"):
            ask(grpc(server), name, *values)
    with pytest.raises(UsageError, match="always judged"):
        Client("grpcs://127.0.0.1:1", verify=False)


@both
def test_nobody_there_is_told(ask: Ask) -> None:
    url = f"grpc://127.0.0.1:{free_port()}"
    assert ask(url, "ready") is False
    with pytest.raises(ServerUnreachable, match="is `bimodal serve` running"):
        ask(url, "models")


def test_the_deadline_holds(server: Server) -> None:
    with Client(grpc(server)) as client, pytest.raises(DeadlineExceeded):
        client.predict(IRIS, model="vectors", timeout=1e-4)


def test_calls_of_one_loop_share_a_connection(server: Server) -> None:
    async def run() -> list[Any]:
        async with AsyncClient(grpc(server)) as client:
            return await asyncio.gather(*[client.predict([row], model="vectors") for row in IRIS[:40].tolist()])

    assert [each[0]["prediction"] for each in asyncio.run(run())] == LABELS.predict(IRIS[:40]).tolist()
