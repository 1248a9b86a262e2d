"""Loaded models for the tests of the app: each is loaded once."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx

from bimodal.model import Model, load
from tests.models import CASES, DIABETES, IRIS


@cache
def loaded(case: str, name: str | None = None) -> Model:
    """A model of `tests/models.py`, as it serves."""
    model = load(CASES[case].model, name=name or case)
    atexit.register(model.close)
    return model


@cache
def onnx(case: str = "logistic", name: str = "inline") -> Model:
    """The same converted to ONNX: a model that runs on the event loop."""
    folder = Path(tempfile.mkdtemp(prefix="bimodal-tests-"))
    rows = IRIS if case == "logistic" else DIABETES
    path = folder / f"{name}.onnx"
    options = {"zipmap": False} if case == "logistic" else {}
    path.write_bytes(to_onnx(CASES[case].model, rows[:1].astype(np.float64), options=options).SerializeToString())
    model = load(path)
    atexit.register(model.close)
    return model
