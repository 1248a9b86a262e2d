"""predict_batches over what predict_file reads: the same rows, in Arrow record batches, with nothing left open."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

import bimodal
from bimodal import predict_batches, predict_file
from bimodal.batch.rejects import Reject
from bimodal.batch.sources.inputs import open_input
from bimodal.errors import InputError, SourceError, UsageError
from tests.batch.places import FEATURES, shop, write


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    whole = pd.concat([shop(1000)] * 80, ignore_index=True)
    return whole.assign(id=[f"{number:06}" for number in range(len(whole))])


@pytest.fixture(scope="module")
def folder(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file, a folder of Parquet files, a database."""
    place = tmp_path_factory.mktemp("batches")
    write(frame, place / "in.csv")
    for country, part in (("DE", frame[:30_000]), ("FR", frame[30_000:])):
        (place / "parts" / f"country={country}").mkdir(parents=True)
        write(part, place / "parts" / f"country={country}" / "a.parquet")
    with closing(sqlite3.connect(place / "shop.db")) as connection:
        frame.to_sql("customers", connection, index=False)
    return place


def open_files(folder: Path) -> list[str]:
    """Files of this folder that this process has open."""
    links = [os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.exists(link) and str(folder) in os.readlink(link)]


def at_work() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(("bimodal-read", "bimodal-predict"))]


def until(ready: Any) -> None:
    end = time.monotonic() + 60
    while not ready() and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.parametrize("named", ["in.csv", "parts", "sqlite"])
def test_a_source_gives_what_a_file_would_hold(named: str, folder: Path, model: bimodal.Model, tmp_path: Path) -> None:
    source = f"sqlite:///{folder}/shop.db#customers" if named == "sqlite" else str(folder / named)
    batches = list(predict_batches(model, source, proba=True))
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    assert [batch.num_rows for batch in batches] == {
        "parts": [30_000, 50_000],
    }.get(named, [65_536, 14_464])
    predict_file(model, source, tmp_path / "out.parquet", proba=True)
    right = arrow_parquet.read_table(tmp_path / "out.parquet")
    answer = pa.Table.from_batches(batches)
    assert answer.column_names == right.column_names
    assert ("country" in answer.column_names) == (named == "parts")
    assert answer.cast(right.schema.remove_metadata()).equals(right.replace_schema_metadata(None))


def test_a_query_is_a_source(folder: Path, model: bimodal.Model, estimator: Any, frame: pd.DataFrame) -> None:
    query = "SELECT id, age, spent, plan FROM customers WHERE id < '000050'"
    (batch,) = predict_batches(model, f"sqlite:///{folder}/shop.db", query=query)
    assert batch.schema.names == ["id", "prediction"]
    assert batch.column("prediction").to_pylist() == estimator.predict(frame[:50][FEATURES]).tolist()


def test_a_list_of_files_is_a_source(model: bimodal.Model, tmp_path: Path) -> None:
    files = [write(shop(count), tmp_path / f"{count}.csv") for count in (3, 4)]
    assert [batch.num_rows for batch in predict_batches(model, files)] == [3, 4]
    (tmp_path / "none.csv").write_text("id,age,spent,plan\n")
    assert list(predict_batches(model, tmp_path / "none.csv")) == []


def test_refused_rows_are_told_with_their_file_or_end_it(model: bimodal.Model, tmp_path: Path) -> None:
    bad = shop(10)
    bad.loc[3, "plan"] = "gold"
    source = write(bad, tmp_path / "in.csv")
    source.write_text(source.read_text() + "11,1,2\n")
    told: list[Reject] = []
    (batch,) = predict_batches(model, source, on_reject=told.append)
    assert batch.num_rows == 9
    assert [(each.source, each.row, each.column, each.code) for each in told] == [
        ("in.csv", 4, "plan", "unknown_category"),
        ("in.csv", 11, None, "short_row"),
    ]
    with pytest.raises(InputError, match="row 4, column 'plan'"):
        list(predict_batches(model, source))


def test_who_leaves_early_leaves_nothing_open(folder: Path, model: bimodal.Model) -> None:
    for source in (str(folder / "in.csv"), str(folder / "parts"), f"sqlite:///{folder}/shop.db#customers"):
        batches = predict_batches(model, source)
        assert isinstance(batches, Iterator)
        assert next(batches).num_rows in (65_536, 30_000)
        batches.close()  # type: ignore[attr-defined]  # it is a generator
        assert at_work() == []
        assert open_files(folder) == []


def test_an_error_of_the_caller_leaves_nothing_open(folder: Path, model: bimodal.Model) -> None:
    def failing() -> None:
        for _ in predict_batches(model, folder / "in.csv"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    until(lambda: not at_work())
    assert at_work() == []
    assert open_files(folder) == []


def test_columns_that_do_not_fit_leave_nothing_open(
    folder: Path, model: bimodal.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def watched(*named: Any, **options: Any) -> Any:
        source = open_input(*named, **options)
        monkeypatch.setattr(source, "close", lambda: closed.append(source.name))
        return source

    monkeypatch.setattr("bimodal.batch.batches.open_input", watched)
    with pytest.raises(UsageError):
        list(predict_batches(model, folder / "in.csv", keep=["nothing"]))
    assert closed == ["in.csv"]


@pytest.mark.usefixtures("started_anew")
def test_a_model_that_was_loaded_for_it_ends_with_it(folder: Path, saved: Path) -> None:
    def children() -> set[str]:
        return {child for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()}

    before = children()
    batches = predict_batches(saved, folder / "in.csv", keep="none")
    next(batches)
    assert children() != before
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert children() == before


def test_the_probabilities_of_a_model_of_several_targets(tmp_path: Path) -> None:
    rows = shop(60)[["spent", "age"]].fillna(40.0)
    targets = pd.DataFrame({"a": rows["spent"] > 50, "b": rows["age"] > 50})
    several = MultiOutputClassifier(LogisticRegression()).fit(rows, targets)
    source = write(rows, tmp_path / "in.csv")
    with bimodal.load(several, name="several") as loaded:
        (batch,) = predict_batches(loaded, source, proba=True)
        predict_file(loaded, source, tmp_path / "out.csv", proba=True)
    assert batch.schema.names == (tmp_path / "out.csv").read_text().splitlines()[0].split(",")
    assert len(batch.schema.names) > 2


def test_what_is_no_source_is_told_when_it_is_asked(model: bimodal.Model, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        next(predict_batches(model, tmp_path / "none.csv"))
