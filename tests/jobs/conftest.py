"""A real PostgreSQL server for the job stores, one a session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.jobs.contract")


@pytest.fixture
def light() -> Iterator[Path]:
    """A folder in memory where the system has one: for tests with very many transactions, each waits for the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _started_anew(started_anew: None) -> None:
    """Whose child a process is, and what becomes of it, is what many of these are about; their models import little."""
