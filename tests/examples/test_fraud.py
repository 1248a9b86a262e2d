"""examples/fraud: the threshold holds in both modes, and their answers are the library's own."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import pandas as pd

from tests.examples.story import told


def test_payments_are_checked_alike_live_and_at_night(tmp_path: Path) -> None:
    with told("fraud", tmp_path) as reader:
        place = reader.folder
    payments, checked = pd.read_csv(place / "payments.csv"), pd.read_parquet(place / "checked.parquet")
    model = joblib.load(place / "fraud.pkl")
    probabilities = model.predict_proba(payments)
    assert checked["payment"].tolist() == payments["payment"].tolist()
    assert checked[["probability_False", "probability_True"]].to_numpy().tolist() == probabilities.tolist()
    stopped = probabilities[:, 1] >= 0.3
    assert checked["prediction"].tolist() == stopped.tolist()
    assert stopped.tolist() != model.predict(payments).tolist(), "the threshold decides for some"
    live = [json.loads(line) for line in (place / "live.jsonl").read_text().splitlines()]
    assert [(each["payment"], each["prediction"], each["probability"]) for each in live] == list(
        zip(payments["payment"][:300], stopped[:300].tolist(), probabilities[:300].tolist(), strict=True)
    )
    times = sorted(each["ms"] for each in live)
    print(f"p50 {times[150]:.1f} ms, p99 {times[296]:.1f} ms of 300 payments")
