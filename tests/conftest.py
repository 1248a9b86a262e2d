"""What all tests have in common."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _apart() -> Iterator[None]:
    """Nothing of the user's own cache and state is read or written. Models stay native unless a test asks for another
    runtime: a proof of each model in the background would only take the processor from the tests."""
    with tempfile.TemporaryDirectory(prefix="bimodal-cache-") as folder:
        before = {name: os.environ.get(name) for name in ("BIMODAL_CACHE", "BIMODAL_STATE", "BIMODAL_RUNTIME")}
        os.environ.update(BIMODAL_CACHE=folder, BIMODAL_STATE=f"{folder}/state", BIMODAL_RUNTIME="native")
        yield
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
