"""What the tests of sinks share."""

from __future__ import annotations

import math
import os

import pytest

from bimodal.batch.sinks import journalled


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made durable before the end, and there is no waiting for the disk: where files are damaged by hand
    that decides nothing, and takes most of the time.
    """
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(journalled, "SYNCED", math.inf)
