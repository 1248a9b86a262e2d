"""The generator of load itself: its figures come whole, or the reason why there are none."""

from __future__ import annotations

import time

import pytest

from tests.fire.load import Died, Load, Running
from tests.ports import free_port


def test_figures_longer_than_a_pipe_reach_a_late_reader_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with Running([Load(f"http://127.0.0.1:{free_port()}/", 16_000, 0.25, deadline_ms=100)]) as running:
        time.sleep(2.0)  # it has filled the pipe by then
        outcome = running.finish()
    assert outcome.sent > 3000  # of about 40 bytes each
    assert outcome.unconnected == outcome.sent


def test_a_generator_that_dies_is_told_with_its_own_words() -> None:
    load = Load(f"http://127.0.0.1:{free_port()}/", 10, 0.1, core=100_000)  # there is no such core
    with pytest.raises(Died, match=r"status 1:\n(.|\n)*OSError: .*Invalid argument"), load.begin() as running:
        running.finish()
