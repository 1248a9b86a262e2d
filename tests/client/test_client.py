"""Client and AsyncClient: the same `predict` over the wire, and the same errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bimodal import AsyncClient, Client, serve
from bimodal.errors import InputError, ModelNotFound, ServerUnreachable, UsageError
from bimodal.realtime.server import Server

IRIS = load_iris(as_frame=True)
X: pd.DataFrame = IRIS.data
NAMED = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, IRIS.target_names[IRIS.target])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("client")
    joblib.dump(NAMED, folder / "named.pkl")
    joblib.dump(LogisticRegression(max_iter=500).fit(X.to_numpy(), IRIS.target), folder / "plain.pkl")
    with serve(folder / "named.pkl", folder / "plain.pkl", port=0) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_frame_gives_a_frame_with_its_index(client: Client) -> None:
    frame = X.iloc[::-9]
    answer = client.predict(frame, outputs=["prediction", "probability"])
    assert answer.index.equals(frame.index)
    assert answer["prediction"].tolist() == NAMED.predict(frame).tolist()
    np.testing.assert_array_equal(answer[["probability_setosa"]].to_numpy()[:, 0], NAMED.predict_proba(frame)[:, 0])


def test_records_columns_arrays_and_tables(client: Client) -> None:
    frame = X.iloc[::9]
    expected = NAMED.predict(frame).tolist()
    assert [row["prediction"] for row in client.predict(frame.to_dict("records"))] == expected
    assert client.predict(frame.to_dict("list"))["prediction"] == expected
    assert client.predict(frame.to_numpy()).tolist() == expected
    assert (
        client.predict(pa.Table.from_pandas(frame, preserve_index=False)).column("prediction").to_pylist() == expected
    )
    assert client.predict(frame.iloc[0].to_dict()) == {"prediction": expected[:1]}


def test_the_first_users_list(client: Client) -> None:
    assert client.predict([5.1, 3.5, 1.4, 0.2], model="plain") == {"prediction": [0]}


def test_columns_that_are_no_features_are_answered_when_kept(client: Client) -> None:
    record = {"id": "007", **X.iloc[0].to_dict()}
    assert client.predict([record], keep=["id"]) == [{"id": "007", "prediction": "setosa"}]
    frame = X.head(2).assign(id=["001", "002"])
    assert client.predict(frame, keep=True)["id"].tolist() == ["001", "002"]


def test_an_error_is_the_one_that_the_model_raises(client: Client) -> None:
    record = X.iloc[0].to_dict()
    with pytest.raises(InputError, match="text where a number is needed") as caught:
        client.predict([record, {**record, "petal width (cm)": "wide"}])
    assert (caught.value.row, caught.value.column, caught.value.code) == (2, "petal width (cm)", "wrong_type")
    with pytest.raises(ModelNotFound):
        client.predict([record], model="nothing")
    with pytest.raises(UsageError, match="did you mean"):
        client.predict([record], outputs=["probabilty"])


def test_infinity_is_refused_since_json_would_make_a_null_of_it(client: Client) -> None:
    row = X.iloc[0].to_dict()
    columns = {name: [value, value] for name, value in row.items()}
    for data in (
        [row, {**row, "petal width (cm)": float("inf")}],
        {**columns, "petal width (cm)": [0.2, -np.inf]},
    ):
        with pytest.raises(InputError, match="infinity cannot be told in JSON") as caught:
            client.predict(data)
        assert (caught.value.row, caught.value.column, caught.value.code) == (2, "petal width (cm)", "not_finite")


def test_models_metadata_and_readiness(client: Client) -> None:
    assert client.ready()
    assert client.models() == ["named", "plain"]
    assert client.metadata("plain")["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}]


def test_threads_share_a_client(client: Client) -> None:
    answers: list[object] = []
    rows = X.to_numpy()
    threads = [threading.Thread(target=lambda: answers.append(client.predict(rows).tolist())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [NAMED.predict(X).tolist()] * 8


def test_large_arrays_travel_as_bytes(client: Client, server: Server) -> None:
    rows = np.tile(X.to_numpy(), (20, 1))
    frame = pd.DataFrame(rows, columns=X.columns)
    assert client.predict(rows).tolist() == NAMED.predict(frame).tolist()
    assert client.predict(rows[::-1], model="plain").dtype == np.int64
    several = client.predict(rows, outputs=["prediction", "probability"])
    np.testing.assert_allclose(several["probability"], NAMED.predict_proba(frame), rtol=1e-12)
    assert several["prediction"] == NAMED.predict(frame).tolist()
    rows[70, 1] = np.nan
    with pytest.raises(InputError, match="NaN where a number is needed") as caught:
        client.predict(rows)
    assert (caught.value.row, caught.value.column) == (71, "sepal width (cm)")
    with pytest.raises(InputError, match="4 features are needed, 3 were given"):
        client.predict(np.ones((200, 3)), model="plain")
    with pytest.raises(ModelNotFound, match="did you mean 'plain'"):
        client.predict(np.ones((200, 3)), model="plane")


def test_the_asynchronous_client_answers_the_same(client: Client, server: Server) -> None:
    frame = X.iloc[::9]
    given: list[Any] = [frame.to_dict("records"), frame.to_dict("list"), frame.to_numpy(), frame.iloc[0].to_dict()]
    given += [np.tile(X.to_numpy(), (3, 1))]

    async def ask() -> list[Any]:
        async with AsyncClient(server.url) as other:
            assert await other.ready()
            assert await other.models() == client.models()
            assert await other.metadata("plain") == client.metadata("plain")
            with pytest.raises(InputError) as caught:
                await other.predict([{**X.iloc[0].to_dict(), "petal width (cm)": "wide"}])
            assert (caught.value.row, caught.value.column) == (1, "petal width (cm)")
            with pytest.raises(ModelNotFound):
                await other.predict([[1, 2]], model="nothing")
            told = await other.predict(frame, outputs=["probability"])
            pd.testing.assert_frame_equal(told, client.predict(frame, outputs=["probability"]))
            return list(await asyncio.gather(*[other.predict(each) for each in given]))

    for ours, theirs in zip(asyncio.run(ask()), [client.predict(each) for each in given], strict=True):
        assert np.array_equal(ours, theirs) if isinstance(theirs, np.ndarray) else ours == theirs


def test_no_server_is_told_in_a_sentence() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.ready()
        with pytest.raises(ServerUnreachable, match="bimodal serve"):
            client.predict([[1, 2]])
    with pytest.raises(UsageError, match="looks like"):
        Client("ftp://example")


def test_a_model_in_memory_is_served(client: Client) -> None:
    with serve(NAMED, port=0) as server, Client(server.url) as other:
        assert other.predict(X.head(3))["prediction"].tolist() == client.predict(X.head(3))["prediction"].tolist()
