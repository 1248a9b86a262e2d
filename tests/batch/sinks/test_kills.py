"""Killed with SIGKILL at random instants and begun again: every row once, the same bytes, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.sinks.runs import KINDS

ROOT = Path(__file__).parents[3]


def killed(folder: Path, kind: str, kills: int, seed: int) -> None:
    words = [sys.executable, "-m", "tests.batch.sinks.kills", folder, kind, kills, seed]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    took, ended = map(int, done.stdout.split())
    assert took >= kills
    assert ended >= 1


@pytest.mark.parametrize("kind", ["csv", "parquet/"])
def test_a_few_dozen_kills(kind: str, tmp_path: Path) -> None:
    killed(tmp_path, kind, 24, 1)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_kills(kind: str, tmp_path: Path) -> None:
    killed(tmp_path, kind, 1000, 2)
