"""What is loaded while others are answered gives way to them, and what will answer does not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bimodal.model import load
from bimodal.runtimes.aside import LOWEST, aside, lowered, wanted

MODEL = """
import os
import threading

import numpy as np

def priority():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

class Told:
    outputs = {"prediction": float}

    def load(self):
        self.loading = priority()

    def predict(self, rows):
        return {"prediction": np.asarray(rows)[:, 0] * 0 + self.loading * 100 + priority()}
"""


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.parametrize("yes", [False, True])
def test_a_model_is_loaded_with_the_lowest_priority_and_answers_with_its_own(tmp_path: Path, yes: bool) -> None:
    (tmp_path / "told.py").write_text(MODEL)
    with aside(yes), load(f"{tmp_path / 'told.py'}:Told", features=["x"]) as model:
        told = model.predict([{"x": 1.0}])[0]["prediction"]
    mine = priority()
    assert told == (LOWEST if yes else mine) * 100 + mine
    assert not wanted()


def test_what_fails_there_fails_here() -> None:
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        lowered(fails)
    assert lowered(lambda: 7) == 7


def test_a_model_that_cannot_be_loaded_in_a_thread_is_loaded_the_usual_way(tmp_path: Path) -> None:
    code = MODEL.replace(
        "self.loading = ", "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); self.loading = "
    )
    (tmp_path / "told.py").write_text(code)
    with aside(), load(f"{tmp_path / 'told.py'}:Told", features=["x"]) as model:
        assert model.predict([{"x": 1.0}])[0]["prediction"] == priority() * 101
