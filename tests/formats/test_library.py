"""Every estimator of scikit-learn itself: it loads, or says why not, and its answers are its own."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.discovery import all_estimators

from bimodal.errors import ModelError
from bimodal.rows import Rows
from bimodal.runtimes.estimator import Estimator
from tests.formats.test_fitted import load
from tests.models import IRIS, IRIS_FRAME, SPECIES

CLASSES = dict(all_estimators())
TWO = np.column_stack([SPECIES, SPECIES[::-1]])
FRAME = pd.read_csv(io.StringIO(IRIS_FRAME.to_csv(index=False)))
pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]


def fitted(name: str, data: Any) -> Any:
    """The estimator with its defaults, fitted to flowers; None where it needs other data."""
    parameters = inspect.signature(CLASSES[name]).parameters
    given: dict[str, Any] = {
        "estimator": LogisticRegression(max_iter=300),
        "estimators": [("a", Ridge()), ("b", Ridge(2))]
        if "Regress" in name
        else [("a", LogisticRegression(max_iter=300))],
        "param_grid": {"C": [1, 2]},
        "param_distributions": {"C": [1, 2]},
    }
    needed = {key: value for key, value in given.items() if key in parameters}
    target = TWO if name.startswith(("Multi", "Classifier", "PLS", "CCA", "RegressorChain")) else SPECIES
    try:
        return CLASSES[name](**needed).fit(data, target)
    except (TypeError, ValueError, AttributeError):
        return None


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_it_answers_as_itself(name: str, frame: bool, tmp_path: Path) -> None:
    data = FRAME if frame else IRIS
    model = fitted(name, data)
    if model is None:
        return
    if not hasattr(model, "predict") and not hasattr(model, "transform"):
        with pytest.raises(ModelError, match=name):
            load(model, tmp_path)
        return
    loaded = load(model, tmp_path)
    if loaded.warnings or loaded.signature.inputs[0].type == "string":
        return  # it takes texts or dicts, not flowers
    assert isinstance(loaded.runtime, Estimator)
    assert loaded.signature.named == frame
    rows = Rows({str(column): FRAME[column].to_numpy() for column in FRAME} if frame else {"input": IRIS})
    for field in loaded.signature.outputs:
        method = {"prediction": "predict", "probability": "predict_proba"}.get(field.name)
        ours = loaded.runtime.run(rows, [field.name]).array(field.name)
        if method is not None:
            np.testing.assert_array_equal(ours, np.reshape(getattr(loaded.runtime.model, method)(data), ours.shape))
