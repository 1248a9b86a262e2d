"""Choice: the order of the forms, and that nothing gets slower than the native model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bimodal.compile import choose, probes
from bimodal.errors import NotCompiled
from bimodal.formats.contract import Loaded
from bimodal.rows import Rows
from bimodal.runtimes.exact.program import Exact, Program
from tests.compile.models import load, tried
from tests.models import CASES

# What the libraries warn of when they add up extremes is theirs; in the process that compiles it is not looked at.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.setattr(probes, "MOST", 1500)
    return load(CASES["logistic"].model, tmp_path)


def test_once_a_form_passed_and_is_faster_no_other_is_tried(loaded: Loaded, tmp_path: Path) -> None:
    report = tried(loaded, tmp_path)
    assert [each.name for each in report.candidates] == ["exact"]
    assert (report.live, report.bulk) == ("exact", "exact")
    assert report.settled


def test_a_form_that_is_slower_than_the_native_model_does_not_serve(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sleepy(Exact):
        def run(self, rows: Rows, outputs: Sequence[str]) -> Rows:
            if rows.count in (1, 4096):
                time.sleep(0.003)
            return super().run(rows, outputs)

    monkeypatch.setattr(choose, "Exact", Sleepy)
    report = tried(loaded, tmp_path)
    assert report.runtimes[0] == "exact"
    assert "exact" not in (report.live, report.bulk)
    assert [each.name for each in report.candidates][:2] == ["exact", "onnx float64"]
    assert report.chosen("exact") == "exact"  # unless it is asked for


def test_what_cannot_be_lowered_says_why(loaded: Loaded, tmp_path: Path) -> None:
    def lower() -> Program:
        raise NotCompiled("it is of no known kind")

    report = tried(replace(loaded, lower=lower, to_onnx=None), tmp_path)
    assert (report.live, report.note) == ("native", "it is of no known kind")
    with pytest.raises(NotCompiled, match="of no known kind"):
        report.chosen("exact")


def test_native_is_native(loaded: Loaded, tmp_path: Path) -> None:
    report = tried(loaded, tmp_path, "native")
    assert (report.live, report.candidates) == ("native", ())


def test_a_model_that_takes_no_made_up_row_stays_native(tmp_path: Path) -> None:
    report = tried(load(CASES["custom"].model, tmp_path), tmp_path)
    assert report.live == "native"
    assert report.note is not None
    assert "made-up row" in report.note


def test_rows_of_the_sample_are_used(loaded: Loaded, tmp_path: Path) -> None:
    sample = loaded.signature.example_rows(40)
    report = tried(loaded, tmp_path, sample=sample)
    assert report.probes["sample"] == 40
