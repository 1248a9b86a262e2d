"""LightGBM compares float64; as ONNX in float32 it answers otherwise next to its thresholds, and is refused (34)."""

from __future__ import annotations

from pathlib import Path

import lightgbm

from bimodal.compile import parity, probes
from bimodal.compile.difference import Rule
from bimodal.compile.reference import Reference
from bimodal.formats.contract import Source
from bimodal.formats.lightgbm import LightGBM
from tests.compile.models import Single
from tests.models import DIABETES, PROGRESS


def test_a_float32_form_of_lightgbm_is_refused(tmp_path: Path) -> None:
    """On random rows it may look right: the rows on the model's own thresholds tell. The exact form passes on them."""
    told = {"objective": "regression", "num_leaves": 15, "verbose": -1, "num_threads": 1}
    lightgbm.train(told, lightgbm.Dataset(DIABETES, PROGRESS), 10).save_model(tmp_path / "model.txt")
    loaded = LightGBM().load(Source(str(tmp_path / "model.txt")))
    assert loaded.lower is not None
    edges = loaded.lower().edges()
    reference = Reference(
        loaded.runtime, probes.make(loaded.signature, edges, most=3000), loaded.signature, seconds=0.1
    )
    found = parity.compare(reference, Single(loaded.runtime), Rule("close", 1e-5))
    assert found.reason
    assert found.leaves > 20
    assert found.counter is not None
    assert "threshold" in found.counter.group
