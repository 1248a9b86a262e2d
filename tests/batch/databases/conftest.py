"""Real database servers for the tests, one of each a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.batch.databases.zygote import Zygote

pytest.register_assert_rewrite("tests.batch.databases.contract_sink", "tests.batch.databases.contract_source")


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts processes that are killed."""
    made = Zygote()
    yield made
    made.close()
