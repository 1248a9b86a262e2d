"""A model's process that died: told once, with what took its place, and not without end."""

from __future__ import annotations

import pytest

from bimodal.runtimes import obituary
from bimodal.runtimes.obituary import MOST, Obituary


def test_lines_are_bounded_and_the_rest_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = Obituary()
    for _ in range(MOST + 3):
        told.tell("churn", "was killed by SIGKILL", "a fork")
    assert caplog.messages == ["churn: its process was killed by SIGKILL; a fork took its place"] * MOST
    monkeypatch.setattr(obituary, "MINUTE", 0.0)
    told.tell("churn", "ended with exit code 3", "a new start")
    assert caplog.messages[-1] == (
        "churn: its process ended with exit code 3; a new start took its place (3 more since the last line)"
    )
