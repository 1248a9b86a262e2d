"""`bimodal compare`: what it prints on any terminal, and the codes with which it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from bimodal.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(500, 2)), columns=["a", "b"])
    frame["city"] = [f"a town with a name that is long, number {place % 14}" for place in range(500)]
    frame["left"] = np.where(frame["a"] + random.normal(size=500) > 0, "yes", "no")
    for name, rows in (("old", 30), ("new", 500)):
        joblib.dump(LogisticRegression().fit(frame[["a", "b"]][:rows], frame["left"][:rows]), folder / f"{name}.pkl")
    frame.loc[4, "a"] = np.nan
    frame.to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def expected(folder: Path) -> Any:
    frame = pd.read_csv(folder / "rows.csv").dropna()
    old, new = (joblib.load(folder / f"{name}.pkl").predict(frame[["a", "b"]]) for name in ("old", "new"))
    return frame[old != new].index + 1


def test_it_tells_what_changes_where_and_whether_that_is_better(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows = expected(folder)
    options = ["--by", "city", "--target", "left", "-o", "changed.csv", "--max-changed", str(len(rows) - 1)]
    assert main(["compare", "old.pkl", "new.pkl", "rows.csv", *options]) == 1
    printed = capsys.readouterr().out
    assert f"{len(rows)} of 499 labels changed" in printed
    assert "refused by both models: 1 row, column 'a'" in printed
    for part in ("labels that changed", "shift of probability_yes", "against left", "accuracy", "AUC", "by city"):
        assert part in printed
    assert "4 others" in printed
    assert "only the new model is right in" in printed
    assert f"more than --max-changed {len(rows) - 1} changed" in printed
    tables = [line for line in printed.splitlines() if line and line[0] in "┏┃┡│└"]
    assert max(map(len, tables)) <= 60
    assert len(pd.read_csv(folder / "changed.csv")) == len(rows)


def test_json_is_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = expected(folder)
    options = ["--json", "--max-changed", str(len(rows)), "--target", "left"]
    assert main(["compare", "old.pkl", "new.pkl", "rows.csv", *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["within"], told["changed"], told["rows"], told["compared"]) == (True, len(rows), 500, 499)
    assert [each["row"] for each in told["first"]] == rows.tolist()[:20]
    assert told["quality"]["new"]["kind"] == "labels"
    assert {"ks", "psi", "p99"} <= told["shifts"][0].keys()


def test_a_limit_that_cannot_be_read_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "old.pkl", "new.pkl", "rows.csv", "--max-changed", "few"]) == 2
    assert "--max-changed 'few': write a number of rows such as 10, or a share like 1%" in capsys.readouterr().err
