"""`fingerprint=True`: a column with the fingerprint of each row, the same in all kinds of output and live."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import joblib
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import bimodal
from bimodal.batch.plan import Plan
from bimodal.predictions.fingerprint import fingerprint

RECORDS = [{"id": place, "age": 20 + place % 50, "plan": "abc"[place % 3], "late": place * 0.5} for place in range(90)]
FEATURES = ("age", "plan", "late")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = pd.DataFrame(RECORDS)
    steps = make_column_transformer((OneHotEncoder(), ["plan"]), remainder="passthrough")
    pipeline = make_pipeline(steps, LogisticRegression(max_iter=2000))
    path = tmp_path_factory.mktemp("model") / "churn.pkl"
    joblib.dump(pipeline.fit(frame[list(FEATURES)], [place % 2 for place in range(90)]), path)
    return path


@pytest.fixture(scope="module")
def expected(model: Path) -> list[int]:
    """Of the same rows sent live, where whole numbers are no floats."""
    with bimodal.load(model) as loaded:
        rows, good, _ = loaded.signature.check([{name: record[name] for name in FEATURES} for record in RECORDS])
        assert good.all()
        marks: list[int] = fingerprint(rows, loaded.signature).tolist()
        return marks


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    pd.DataFrame(RECORDS).to_csv(path, index=False)
    return path


def of_csv(path: Path) -> list[int]:
    with open(path, newline="") as file:
        return [int(row["row_fingerprint"]) for row in csv.DictReader(file)]


def of_folder(path: Path) -> list[int]:
    return [mark for part in sorted(path.glob("part-*")) for mark in of_csv(part)]


def of_lines(path: Path) -> list[int]:
    return [json.loads(line)["row_fingerprint"] for line in path.read_text().splitlines()]


def of_parquet(path: Path) -> list[int]:
    marks: list[int] = pq.read_table(path)["row_fingerprint"].to_pylist()
    return marks


def of_sqlite(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT row_fingerprint FROM scored ORDER BY CAST(id AS BIGINT)").fetchall()
    connection.close()
    return [mark for (mark,) in found]


def of_duckdb(path: Path) -> list[int]:
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT row_fingerprint FROM scored ORDER BY CAST(id AS BIGINT)").fetchall()
    return [mark for (mark,) in found]


KINDS: dict[str, tuple[str, str, Callable[[Path], list[int]]]] = {
    "csv": ("", "", of_csv),
    "jsonl": ("", "", of_lines),
    "parquet": ("", "", of_parquet),
    "folder": ("", "", of_folder),
    "db": ("sqlite:///", "#scored", of_sqlite),
    "duckdb": ("duckdb:///", "#scored", of_duckdb),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_output_has_the_fingerprints_of_live_rows(
    kind: str, model: Path, source: Path, expected: list[int]
) -> None:
    before, behind, read = KINDS[kind]
    path = source.with_name("scored") if kind == "folder" else source.with_name(f"scored.{kind}")
    if kind == "folder":
        path.mkdir()
    given: dict[str, Any] = {"overwrite": True} if kind == "folder" else {}
    bimodal.predict_file(
        model, source, f"{before}{path}{behind}", fingerprint=True, progress="quiet", runtime="native", **given
    )
    assert read(path) == expected


def test_rows_under_other_names_and_with_other_marks_of_a_missing_value(
    model: Path, source: Path, expected: list[int], tmp_path: Path
) -> None:
    other = source.with_name("other.csv")
    other.write_text(source.read_text().replace("age", "years", 1))
    bimodal.predict_file(
        model, other, tmp_path / "o.csv", rename={"years": "age"}, na=["-"], fingerprint=True, progress="quiet"
    )
    assert of_csv(tmp_path / "o.csv") == expected


def test_it_is_part_of_the_plan_only_where_it_is_asked_for(model: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    plain = bimodal.predict_file(model, source, out, progress="quiet", runtime="native")
    assert "fingerprint" not in plain.plan
    assert "row_fingerprint" not in pq.read_table(out).column_names
    marked = bimodal.predict_file(
        model, source, out, progress="quiet", runtime="native", overwrite=True, fingerprint=True
    )
    assert marked.plan["fingerprint"] is True
    assert marked.plan["key"] != plain.plan["key"]
    assert pq.read_table(out).column_names[-2:] == ["prediction", "row_fingerprint"]
    again = bimodal.predict_file(model, source, out, progress="quiet", runtime="native", fingerprint=True)
    assert again.status == "already complete"


def test_the_key_of_a_plan_without_it_is_what_it_was_before() -> None:
    plan = Plan("m", "1", "d", "native", "s", ("a",), ("id",), ("prediction",), None, (), "csv")
    assert plan.key == "fcab06048510f885a4bde733180efce7030419336ed4f47f2c14bcf2c1fb3b7f"
