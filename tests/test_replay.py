"""Replay: what was answered live is what the model answers now; of another model exactly the changed rows are told."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tritonclient.grpc import service_pb2, service_pb2_grpc

import bimodal
from bimodal.table import to_stream
from tests import commands
from tests.models import churned, customers
from tests.realtime.callers import request

FEATURES = ["age", "city", "plan", "member", "visits"]
SHAPES = ("rows", "columns", "arrow", "infer", "grpc")


def trained(target: Any, *, trees: int = 5) -> Pipeline:
    numbers, texts = ["age", "visits", "member"], ["city", "plan"]
    columns = make_column_transformer(
        (SimpleImputer(), numbers), (OneHotEncoder(handle_unknown="ignore"), texts), verbose_feature_names_out=False
    )
    return make_pipeline(columns, GradientBoostingClassifier(n_estimators=trees, random_state=0)).fit(
        customers()[FEATURES], target
    )


@dataclass
class Lived:
    """A model that was served with a log. ids: of each request, with its rows."""

    folder: Path
    model: Path
    log: Path
    native: Pipeline
    ids: dict[str, list[dict[str, Any]]]


def lived(folder: Path, count: int, *, workers: int) -> Lived:
    """Serve a model, ask it `count` requests of every shape, stop it."""
    native, path, log = trained(churned()), folder / "churn.pkl", folder / "log"
    joblib.dump(native, path)
    customers()[FEATURES].to_parquet(folder / "sample.parquet")
    options: dict[str, Any] = {"sample": folder / "sample.parquet", "port": 0, "workers": workers}
    options |= {"prediction_log": log, "prediction_log_age": 1.0, "queue_target": 30.0, "deadline": 60.0}
    with bimodal.serve(path, **options) as server:
        ids = asyncio.run(asked(server.url, server.grpc.removeprefix("http://"), count))
    return Lived(folder, path, log, native, ids)


async def asked(url: str, target: str, count: int) -> dict[str, list[dict[str, Any]]]:
    """The requests by their ids. Each answer must be good."""
    dice, frame = random.Random(7), customers()[FEATURES]
    records: list[dict[str, Any]] = [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]
    sent: dict[str, list[dict[str, Any]]] = {}
    room = asyncio.Semaphore(16)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session,
        grpc.aio.insecure_channel(target) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def one(number: int) -> None:
            shape = SHAPES[number % len(SHAPES)]
            rows = [dict(dice.choice(records)) for _ in range(dice.choice([1, 1, 1, 2, 5]))]
            for row in rows:
                row["visits"] = dice.randrange(60)
                row["plan"] = dice.choice(["free", "pro", "team", "unheard of"])
            sent[f"r{number}"] = rows
            async with room:
                if shape == "grpc":
                    await stub.ModelInfer(message(rows), metadata=[("x-request-id", f"r{number}")])
                    return
                path, body, kind = told(shape, rows)
                headers = {"x-request-id": f"r{number}", "content-type": kind}
                async with session.post(url + path, data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

        await asyncio.gather(*[one(number) for number in range(count)])
    return sent


def told(shape: str, rows: Sequence[dict[str, Any]]) -> tuple[str, bytes, str]:
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    if shape == "arrow":
        table = pa.table({name: pa.array(values, TYPES[name]) for name, values in columns.items()})
        return "/predict?outputs=probability", to_stream(table), "application/vnd.apache.arrow.stream"
    if shape == "infer":
        tensors = [
            {"name": name, "shape": [len(rows)], "datatype": KINDS[name], "data": values}
            for name, values in columns.items()
        ]
        return "/v2/models/churn/infer", json.dumps({"inputs": tensors}).encode(), "application/json"
    body = {"rows": list(rows), "threshold": 0.25} if shape == "rows" else {"columns": columns}
    return "/predict", json.dumps(body).encode(), "application/json"


def message(rows: Sequence[dict[str, Any]]) -> service_pb2.ModelInferRequest:
    missing = {"age": np.nan, "city": ""}
    columns = {name: [missing.get(name) if row[name] is None else row[name] for row in rows] for name in FEATURES}
    return request("churn", {name: (KINDS[name], values) for name, values in columns.items()})


TYPES = {"age": pa.float64(), "city": pa.string(), "plan": pa.string(), "member": pa.bool_(), "visits": pa.int64()}
KINDS = {"age": "FP64", "city": "BYTES", "plan": "BYTES", "member": "BOOL", "visits": "INT64"}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return lived(tmp_path_factory.mktemp("life"), 100, workers=2)


def logged(life: Lived) -> pd.DataFrame:
    found = [pq.read_table(path) for path in sorted(life.log.rglob("*.parquet"))]
    frame: pd.DataFrame = pa.concat_tables(found).to_pandas()
    return frame


def each_once(life: Lived) -> pd.DataFrame:
    """The log; every row of every request is in it exactly once, with the values that were sent."""
    frame = logged(life)
    rows = Counter(zip(frame["logged_request_id"], frame["logged_row"], strict=True))
    assert set(rows.values()) == {1}
    assert set(rows) == {(name, number) for name, sent in life.ids.items() for number in range(1, len(sent) + 1)}
    wanted = ["logged_request_id", "logged_row", "visits", "plan", "member"]
    for name, place, *values in frame[wanted].itertuples(index=False):
        row = life.ids[name][place - 1]
        assert values == [row["visits"], row["plan"], row["member"]]
    return frame


def right(life: Lived, frame: pd.DataFrame) -> None:
    """The logged answers are the library's own."""
    features = frame[FEATURES].astype({"member": bool, "visits": np.int64})
    features["city"] = features["city"].astype(object).where(features["city"].notna(), np.nan)
    scores = life.native.predict_proba(features)[:, 1]
    there = frame["logged_probability_stays"].notna()
    assert there.any()
    assert (frame["logged_probability_stays"][there] == scores[there]).all()
    chosen = frame["logged_threshold"].fillna(0.5)
    labels = np.where(scores >= chosen, "stays", "leaves")
    there = frame["logged_prediction"].notna()
    assert (frame["logged_prediction"][there] == labels[there]).all()


def test_every_answer_of_two_workers_is_logged_exactly_once_and_is_the_librarys_own(life: Lived) -> None:
    frame = each_once(life)
    right(life, frame)
    workers = {path.name.split("-")[1] for path in life.log.rglob("*.parquet")}
    assert workers == {"0", "1"}


def test_the_same_model_answers_the_same_through_every_door(life: Lived) -> None:
    code, printed = commands.run(life.folder, "verify", "churn.pkl", "--log", "log")
    assert code == 0, printed
    assert "equal to what was answered" in printed
    assert "bits: the same bits" in printed
    for door in ("in process", "HTTP, 64 at once", "gRPC, 64 at once", "batch, Parquet"):
        assert door in printed


def test_of_a_changed_model_exactly_the_changed_rows_are_told(life: Lived) -> None:
    target = churned().copy()
    target[customers()["visits"] > 35] = "leaves"
    other = trained(target)
    joblib.dump(other, life.folder / "other.pkl")
    found = bimodal.verify(life.folder / "other.pkl", log=life.log)
    frame = logged(life)
    features = frame[FEATURES].astype({"member": bool, "visits": np.int64})
    features["city"] = features["city"].astype(object).where(features["city"].notna(), np.nan)
    before, now = life.native.predict_proba(features)[:, 1], other.predict_proba(features)[:, 1]
    chosen = frame["logged_threshold"].fillna(0.5).to_numpy()
    scored = frame["logged_probability_stays"].notna().to_numpy()
    expected = np.where(scored, before != now, (before >= chosen) != (now >= chosen)).sum()
    assert 0 < expected < len(frame)
    assert found.changed == expected
    assert not found.equal
    assert {door.differing for door in found.doors if door.rows == len(frame)} == {expected}
    first = found.differences[0]
    assert first.request in life.ids
    assert first.logged != first.now
    code, printed = commands.run(life.folder, "verify", "other.pkl", "--log", "log", "--rows", "40")
    assert code == 1
    assert "answered by another model then" in printed


def test_a_row_that_the_model_refuses_now_is_a_difference(life: Lived, tmp_path: Path) -> None:
    frame = customers()[FEATURES].dropna()
    strict = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["plan"]), ("passthrough", ["age", "visits", "member"])),
        GradientBoostingClassifier(n_estimators=2),
    ).fit(frame, churned()[frame.index])
    joblib.dump(strict, tmp_path / "churn.pkl")
    found = bimodal.verify(tmp_path / "churn.pkl", log=life.log, rows=50)
    assert not found.equal
    assert any(str(each.now).startswith("refused: ") for each in found.differences)


def test_the_log_is_an_input_like_any_other(life: Lived) -> None:
    log = "log/**/*.parquet"
    code, printed = commands.run(life.folder, "predict", "churn.pkl", log, "-o", "again.parquet", "--quiet")
    assert code == 0, printed
    again = pq.read_table(life.folder / "again.parquet").to_pandas()
    plain = again["logged_threshold"].isna() & again["logged_prediction"].notna()
    assert (again["prediction"][plain] == again["logged_prediction"][plain]).all()
    assert len(again) == sum(map(len, life.ids.values()))
    code, printed = commands.run(life.folder, "compare", "churn.pkl", "churn.pkl", log)
    assert code == 0, printed


def test_what_is_no_log_is_said(tmp_path: Path, life: Lived) -> None:
    code, printed = commands.run(life.folder, "verify", "churn.pkl", "--log", str(tmp_path))
    assert code == 1
    assert "holds no files of a prediction log" in printed
    for name in ("a", "b"):
        (tmp_path / f".{name}.arrow").touch()
    code, printed = commands.run(life.folder, "verify", "churn.pkl", "--log", str(tmp_path))
    assert code == 1
    assert "and 2 unfinished" in printed
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    code, printed = commands.run(life.folder, "verify", "churn.pkl", "--log", str(tmp_path))
    assert code == 1
    assert "is no file of a prediction log" in printed
    code, printed = commands.run(life.folder, "verify", "churn.pkl", "--log", "log", "--sample", "sample.parquet")
    assert code == 2


@pytest.mark.soak
def test_ten_thousand_requests_are_logged_once_each_and_replayed_whole(tmp_path: Path) -> None:
    life = lived(tmp_path, 10_000, workers=2)
    frame = each_once(life)
    right(life, frame)
    found = bimodal.verify(life.model, log=life.log)
    assert found.equal, found.differences
    assert found.rows == len(frame)
    assert found.requests == 10_000
    assert all(door.rows == found.rows for door in found.doors)
    print(
        f"{found.requests} requests, {found.rows} rows, {found.files} files, rules {found.rules}, doors {found.doors}"
    )
