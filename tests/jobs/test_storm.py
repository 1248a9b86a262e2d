"""Killed at random, each due time has exactly one committed result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.storm import storm


@pytest.mark.soak
def test_a_few_due_times_in_a_storm(tmp_path: Path) -> None:
    seen = storm(tmp_path, 4, 2.0)
    assert seen["workers killed"] + seen["children killed"] >= 1


@pytest.mark.soak
def test_a_thousand_due_times_and_a_kill_every_five_seconds(tmp_path: Path) -> None:
    assert storm(tmp_path, 1000, 5.0)["succeeded"] == 1000
