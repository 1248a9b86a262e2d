"""examples/sales_report: every day of the week has its forecast once, and it is the library's own."""

from __future__ import annotations

import csv
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import joblib
import pandas as pd
import pytest

from tests.examples.story import asked, told


def test_a_week_is_forecast_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIMODAL_RUNTIME", raising=False)  # the package's compiled form, as a reader has it
    with told("sales_report", tmp_path) as reader:
        place = reader.folder
    days = [f"2026-03-{day}" for day in range(23, 30)]
    found = asked(place / "shop.db", "SELECT day, product, prediction FROM forecast ORDER BY day, product")
    assert found == [each for day in days for each in expected(place, day)]
    assert asked(place / "shop.db", "SELECT count(*) FROM bimodal_runs") == [(7,)]
    with (place / "report.csv").open(newline="") as file:
        report = list(csv.reader(file))[1:]
    sold = dict(asked(place / "shop.db", "SELECT day || product, sum(quantity) FROM orders GROUP BY day, product"))
    assert [(day, product, float(number)) for day, product, number, _ in report] == [
        (day, product, round(number, 1)) for day, product, number in found
    ]
    assert [int(each[3]) for each in report] == [sold[each[0] + each[1]] for each in report]


def expected(place: Path, day: str) -> list[tuple[str, str, float]]:
    """What scikit-learn says to the rows that the query gives."""
    query = tomllib.loads((place / "bimodal.toml").read_text())["jobs"]["forecast"]["query"]
    with closing(sqlite3.connect(place / "shop.db")) as shop:
        rows = pd.read_sql_query(query.replace("{date}", day), shop)
    predicted = joblib.load(place / "demand.pkl").predict(rows)
    return [(day, product, number) for product, number in zip(rows["product"], predicted.tolist(), strict=True)]
