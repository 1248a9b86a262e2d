"""A damaged package is refused before anything of it is parsed, whatever the format of its model (promise 36)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.formats.mutants import KINDS

ROOT = Path(__file__).parents[2]


def outcomes(kind: str, count: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.formats.pinned", kind, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    return found


def assert_refused(found: dict[str, Any], count: int) -> None:
    assert sum(found["refused"].values()) == count
    assert [name for name in found["refused"] if name.startswith("ACCEPTED")] == []
    assert found["parsed"] == {}
    assert found["control"]  # the same process reads the whole package in the end, and that is seen


def test_a_damaged_package_is_refused_and_no_library_sees_it() -> None:
    assert_refused(outcomes("lightgbm", 84, seed=3), 84)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_packages(kind: str) -> None:
    assert_refused(outcomes(kind, 10_000, seed=36), 10_000)
