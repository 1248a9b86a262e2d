"""Models of a repository that load fast, each told from the others by what it answers."""

from __future__ import annotations

from pathlib import Path

MODEL = """
import os
import numpy as np

class Times:
    outputs = {{"prediction": float}}

    def load(self):
        {load}

    def predict(self, rows):
        return {{"prediction": np.asarray(rows)[:, 0] * {factor}}}
"""


def put(place: Path, factor: float, load: str = "pass") -> None:
    """A model that answers so many times its one feature, written in one step."""
    place.mkdir(parents=True, exist_ok=True)
    file = place / "model.py.new"
    file.write_text(MODEL.format(factor=factor, load=load))
    file.rename(place / "model.py")
