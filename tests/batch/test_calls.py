"""What a model says of a row that it refuses is told, unless it repeats the row."""

from __future__ import annotations

import numpy as np
import pytest

from bimodal.batch.calls import explained
from bimodal.errors import refused_by_model
from bimodal.rows import Rows

ROW = Rows({"x": np.array([4711.0]), "city": np.array(["Oslo"], object)})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("shapes differ\nmore"), "the model raised ValueError: shapes differ"),
        (KeyError("Lima"), "the model raised KeyError: 'Lima'"),
        (ValueError("4711 is too much"), "the model raised"),
        (ValueError("no plan for 'Oslo' yet"), "the model raised"),
    ],
)
def test_a_reason_is_the_models_own_unless_it_repeats_a_value(error: Exception, reason: str) -> None:
    assert str(explained(refused_by_model(error, "the model raised"), ROW)) == reason
