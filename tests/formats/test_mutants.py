"""A damaged model file costs the process that reads it, nothing else (promise 36, bare files)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("joblib", "xgboost json", "xgboost ubj", "lightgbm", "catboost", "onnx", "skops")


def outcomes(kind: str, count: int, seed: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.formats.mutants", kind, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    return {name: number for name, number in found.items() if name not in ("kind", "count", "seconds")}


@pytest.mark.parametrize("kind", ["lightgbm"])
def test_a_few_damaged_files_end_with_a_reason_or_a_process(kind: str) -> None:
    """Of all parsers the one that most mutants kill."""
    found = outcomes(kind, 25, seed=3)
    assert sum(found.values()) == 25
    assert found["refused"] > 0
    assert any(name.startswith("killed") for name in found)  # the control: without a process of its own, a server died


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_files(kind: str) -> None:
    found = outcomes(kind, 10_000, seed=36)
    assert sum(found.values()) == 10_000
