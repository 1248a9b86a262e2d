"""Models that are saved once for all batch tests, and loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

import bimodal
from tests.batch.places import mixed_pipeline


@pytest.fixture(scope="session")
def estimator() -> Any:
    return mixed_pipeline()


@pytest.fixture(scope="session")
def saved(estimator: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline on named columns, saved."""
    path = tmp_path_factory.mktemp("models") / "churn.pkl"
    joblib.dump(estimator, path)
    return path


@pytest.fixture(scope="session")
def model(saved: Path) -> Iterator[bimodal.Model]:
    with bimodal.load(saved) as loaded:
        yield loaded
