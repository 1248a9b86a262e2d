"""Every estimator of scikit-learn, and those of the boosters, through every door: its answers are its library's own."""

from __future__ import annotations

import json
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import bimodal
from bimodal.errors import ModelError
from tests.sweep.asking import ask, body, own
from tests.sweep.difference import Difference, difference
from tests.sweep.fitting import BOOSTERS, CLASSES, answers, trained

SERVED = ("LogisticRegression", "RandomForestRegressor", "OneHotEncoder", "TfidfVectorizer", "KMeans", "LGBMClassifier")


@pytest.mark.soak
@pytest.mark.parametrize("runtime", ["auto", "native"])
@pytest.mark.parametrize("name", [*CLASSES])
def test_it_answers_as_its_library_does(name: str, runtime: str, tmp_path: Path) -> None:
    if not answers(name):
        path = trained(name)[0].save(tmp_path)
        with pytest.raises(ModelError, match=f"{name}, which (cannot predict new rows|has neither predict nor transf)"):
            bimodal.load(path, runtime=runtime)
        return
    for one in trained(name):
        found = ask(one, tmp_path, runtime)
        assert found.faults() == [], (one.way, one.file, found)


@pytest.mark.soak
@pytest.mark.parametrize("name", SERVED)
def test_a_server_gives_the_same_answer(name: str, tmp_path: Path) -> None:
    path = trained(name)[0].save(tmp_path)
    one = trained(name)[0].loaded(path)
    with bimodal.load(path, sample=one.asked if one.sampled else None, runtime="native") as model:
        outputs = [each.name for each in model.signature.outputs]
        asked = {**body(one, model.signature, one.asked.iloc[[1]]), "outputs": outputs}
        with bimodal.serve(model, port=0) as server:
            request = urllib.request.Request(
                f"{server.url}/predict", json.dumps(asked).encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                answer: dict[str, Any] = json.load(response)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        expected = own(one.model, one.rows(one.asked.iloc[[1]]), model.signature)
    ours = {each: np.array(answer[each], values.dtype).reshape(1, -1) for each, values in expected.items()}
    assert difference(expected, ours).none


def test_the_boosters_are_among_them() -> None:
    assert set(BOOSTERS) < set(CLASSES)


@pytest.mark.parametrize(
    ("own", "ours", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], Difference()),
        ([1.0, np.nan], [1.0, np.nan], Difference()),
        ([1.0, 2.0], [np.nextafter(1.0, 2.0), 2.0], Difference(bits=1, ulp=1, share=2.0**-53)),
        ([0.0], [-0.0], Difference(bits=1, ulp=1)),
        ([1.0, 2.0], [1.0, np.nan], Difference(labels=1, bits=1)),
        (["a", "b"], ["a", "c"], Difference(labels=1)),
        ([True, False], [True, True], Difference(labels=1)),
    ],
)
def test_a_difference_is_seen_to_the_bit(own: list[Any], ours: list[Any], expected: Difference) -> None:
    assert difference({"x": np.array(own)}, {"x": np.array(ours)}) == expected
