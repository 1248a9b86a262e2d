"""examples/email: mails are sorted as the library sorts them, in files and over HTTP alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import pyarrow.parquet

from bimodal import Client
from tests.examples.story import told


def test_mails_are_sorted_alike_in_files_and_live(tmp_path: Path) -> None:
    with told("email", tmp_path) as reader:
        place = reader.folder
        (hour, later, copy) = (read(path) for path in sorted((place / "inbox").iterdir()))
        with Client(f"http://localhost:{reader.ports['8000']}") as client:
            asked = client.predict([{"text": each["text"]} for each in later], outputs=["prediction", "probability"])
    model = joblib.load(place / "email.pkl")
    first, second = sorted((table(path) for path in (place / "sorted").glob("*.parquet")), key=len, reverse=True)
    assert [each["id"] for each in first] == [each["id"] for each in hour + later]
    assert [each["id"] for each in second] == [each["id"] for each in copy]
    texts = [each["text"] for each in hour + later]
    assert [each["prediction"] for each in first] == model.predict(texts).tolist()
    probabilities = [[each[f"probability_{name}"] for name in model.classes_] for each in first]
    assert probabilities == model.predict_proba(texts).tolist()
    live = [each["prediction"] for each in read(place / "live.jsonl")]
    assert live == [each["prediction"] for each in second] == [each["prediction"] for each in first[:200]]
    assert [(each["prediction"], each["probability"]) for each in asked] == [
        (each["prediction"], numbers) for each, numbers in zip(first[200:], probabilities[200:], strict=True)
    ]
    assert len(set(live)) == 4


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows
