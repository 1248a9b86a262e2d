"""examples/churn: each customer has one score, the library's own, and one who changes gets a new one alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import joblib
import pandas as pd
import pytest

from tests.examples.story import told


def test_scores_stand_beside_their_customers(tmp_path: Path) -> None:
    with told("churn", tmp_path) as reader, closing(sqlite3.connect(reader.folder / "shop.db")) as shop:
        customers = pd.read_sql_query("SELECT * FROM customers ORDER BY customer_id", shop)
        scores = pd.read_sql_query("SELECT * FROM scores ORDER BY customer_id", shop)
        runs = shop.execute("SELECT count(*) FROM bimodal_runs").fetchall()
        model = joblib.load(reader.folder / "churn.pkl")
    assert customers["customer_id"].tolist() == scores["customer_id"].tolist()
    assert scores["prediction"].tolist() == model.predict(customers).tolist()
    expected = model.predict_proba(customers)
    for place, name in enumerate(model.classes_):
        assert scores[f"probability_{name}"].tolist() == pytest.approx(expected[:, place].tolist(), rel=1e-12)
    changed = scores[scores["customer_id"] == 10007]
    assert changed["prediction"].tolist() == ["leaves"]
    assert len(customers) == 1500
    assert runs == [(2,)], "the run that found nothing new has written nothing"
