"""The nursery: what is forked there is told apart from what is started, and ends as that does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bimodal.runtimes.process import Child
from tests.forking.sitecustomize import Forked


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.end()


def test_the_process_of_a_model_is_forked(child: Child) -> None:
    assert isinstance(child.process, Forked)
    assert child.alive()


def test_it_is_started_where_a_test_asks_for_that(started_anew: None, child: Child) -> None:
    assert not isinstance(child.process, Forked)


def test_how_it_ended_is_told(child: Child) -> None:
    os.kill(child.process.pid, signal.SIGKILL)
    assert child.process.wait(60) == -signal.SIGKILL
    assert child.fate() == "was killed by SIGKILL"


def test_it_ends_when_its_other_end_is_closed(child: Child) -> None:
    child.socket.close()
    assert child.process.wait(60) == 0
