"""`bimodal pack` and `bimodal verify`: what they print, and the codes with which they leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
import pytest

from bimodal import package
from tests.commands import run
from tests.models import CASES, IRIS
from tests.packages import resealed
from tests.test_package import drifted

UNSTEADY = """
class Unsteady:
    def predict(self, rows):
        return rows["x"].to_numpy() + len(rows)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    joblib.dump(CASES["forest"].model, folder / "iris.pkl")
    pd.DataFrame(IRIS[::5]).to_csv(folder / "rows.csv", index=False)
    (folder / "unsteady.py").write_text(UNSTEADY)
    pd.DataFrame({"x": range(30)}).to_csv(folder / "x.csv", index=False)
    (folder / "printed.txt").write_text(said(folder, "pack", "iris.pkl", "--sample", "rows.csv"))
    return folder


def said(folder: Path, *arguments: str, expect: int = 0) -> str:
    code, printed = run(folder, *arguments, environment={"BIMODAL_RUNTIME": "auto"})
    assert code == expect, printed
    return printed


def test_a_package_stands_beside_its_model_and_says_what_it_holds(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    assert "iris.bimodal: 4 files" in printed
    assert "30 golden rows" in printed
    for part in ("scikit-learn", "real time  exact", "batch      exact", "labels off"):
        assert part in printed
    assert package.open(folder / "iris.bimodal").name == "iris"


def test_what_stands_there_is_not_replaced(folder: Path) -> None:
    assert "--overwrite replaces it" in said(folder, "pack", "iris.pkl", expect=2)


def test_a_model_that_stays_native_says_why(folder: Path) -> None:
    told = json.loads(said(folder, "pack", "unsteady.py:Unsteady", "--sample", "x.csv", "-o", "u", "--json"))
    assert (told["realtime"], told["batch"]) == ("native", "native")
    assert told["reason"] == "models of the format python have no compiled form"
    assert told["golden"] == 30
    printed = said(folder, "pack", "unsteady.py:Unsteady", "--sample", "x.csv", "-o", "u", "--overwrite")
    assert "it needs python where it runs: models of the format python have no compiled form" in printed


def test_equal_answers_leave_with_0(folder: Path) -> None:
    printed = said(folder, "verify", "iris.pkl", "nope.csv", expect=2)
    assert printed.strip() == "error: --sample nope.csv: there is no such file"
    assert "named twice" in said(folder, "verify", "iris.bimodal", "rows.csv", "--sample", "rows.csv", expect=2)
    printed = said(folder, "verify", "iris.bimodal", "rows.csv", "--rows", "7")
    assert "7 rows" in printed
    assert printed.rstrip().endswith("equal")
    told = json.loads(said(folder, "verify", "iris.bimodal", "--json"))
    assert told["equal"] is True
    doors = {(door["name"], door["runtime"]): door for door in told["found"]["doors"]}
    assert doors["at packing", "native"]["differing"] == 0
    assert doors["HTTP, all in one", "exact"]["rows"] == 30


def test_other_answers_leave_with_1_and_a_table(folder: Path) -> None:
    printed = said(folder, "verify", "unsteady.py:Unsteady", "--sample", "x.csv", expect=1)
    assert "different: 30 answers, the first 20 are shown" in printed
    assert printed.count("prediction") == 20


def test_a_package_whose_answers_changed(folder: Path) -> None:
    said(folder, "pack", "iris.pkl", "--sample", "rows.csv", "-o", "old", "--runtime", "native")
    kept = package.open(folder / "old")
    resealed(kept.folder, golden=drifted(kept, [4]), versions={**kept.manifest.versions, "scikit-learn": "1.5.2"})
    refused = said(folder, "inspect", "old", expect=1)
    assert "1 of its 30 golden rows are answered otherwise now, the first of them golden row 5" in refused
    assert 'pip install "scikit-learn==1.5.2"' in refused
    command = [sys.executable, "-m", "bimodal", "inspect", "old", "--allow-drift"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert "accepted by --allow-drift" in done.stderr  # the log of the process


def test_a_damaged_package_is_refused_by_every_command(folder: Path) -> None:
    said(folder, "pack", "iris.pkl", "-o", "broken", "--runtime", "native")
    (folder / "broken" / "model" / "iris.pkl").write_bytes(b"other")
    for command in (["inspect"], ["predict", "rows.csv"], ["serve", "--get", "/"], ["verify"]):
        assert "is not as it was packed" in said(folder, command[0], "broken", *command[1:], expect=1)
