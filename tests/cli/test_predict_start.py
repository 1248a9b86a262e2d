"""`bimodal predict` starts without what it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.linear_model import LogisticRegression

from tests.models import IRIS, SPECIES

TOLD = """
import sys
from bimodal.cli import main
code = main(sys.argv[1:])
print(sorted({"pandas", "sklearn"} & set(sys.modules)), code)
"""


def test_the_command_imports_neither_pandas_nor_the_training_library(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=500).fit(IRIS, SPECIES), tmp_path / "my_model.pkl")
    pd.DataFrame(IRIS, columns=list("abcd")).to_csv(tmp_path / "in.csv", index=False)
    words = [sys.executable, "-c", TOLD, "predict", "my_model.pkl", "in.csv", "-o", "out.csv", "-q"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[] 0"
    assert len(pd.read_csv(tmp_path / "out.csv")) == len(IRIS)
