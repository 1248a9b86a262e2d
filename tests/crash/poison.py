"""A model that some rows kill, and some stop; what the tests of bad rows predict with."""

from __future__ import annotations

import os
import signal
import time
from typing import TypedDict

import numpy as np

CRASH, EXIT, HANG = 1, 2, 3


class Row(TypedDict):
    """trap: what the row does to the model."""

    a: float
    b: float
    trap: int


class Model:
    """The sum of two numbers."""

    def predict(self, rows: list[Row]) -> object:
        columns: dict[str, np.ndarray] = rows  # type: ignore[assignment]  # columns is what it is called with
        trap = np.asarray(columns["trap"])
        if (trap == CRASH).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        if (trap == EXIT).any():
            os._exit(7)
        if (trap == HANG).any():
            time.sleep(3600)
        return np.asarray(columns["a"]) + np.asarray(columns["b"])
