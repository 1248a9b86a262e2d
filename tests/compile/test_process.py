"""Compiling in a process of its own: what passed stands in the folder, what went wrong in the report."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from bimodal.compile.process import compiled
from bimodal.compile.report import FILES, Report
from bimodal.errors import ModelCrashed, ModelError, NotCompiled, ParityFailed
from bimodal.formats.contract import Source
from bimodal.rows import Rows
from tests.models import DIABETES, IRIS, NAMES, PROGRESS

MOODY = """
import os, time
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

class Moody(RegressorMixin, BaseEstimator):
    def fit(self, data, target=None):
        self.n_features_in_ = 2
        return self

    def predict(self, data):
        large = np.abs(data).max() > 1e15 and len(data) > 1
        if large and self.mood == "fatal":
            os._exit(9)
        if large and self.mood == "slow":
            time.sleep(60)
        return data[:, 0] * 2.0

    def __init__(self, mood="fatal"):
        self.mood = mood
"""


def save(model: Any, folder: Path) -> Source:
    joblib.dump(model, folder / "model.joblib")
    return Source(str(folder / "model.joblib"))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Report, Path]:
    """A forest that was compiled with every form tried."""
    folder = tmp_path_factory.mktemp("forest")
    model = RandomForestClassifier(10, random_state=0).fit(IRIS, NAMES)
    sample = pa.table({f"c{place}": IRIS[:50, place] for place in range(4)})
    report = compiled("sklearn", save(model, folder), folder / "out", sample=sample, wanted="all")
    return model, report, folder / "out"


def test_what_passed_answers_without_the_library(grown: tuple[Any, Report, Path]) -> None:
    model, report, folder = grown
    assert report.runtimes == ("exact",)
    assert report.steady
    runtime = report.open(folder, "exact")
    answer = runtime.run(Rows({"input": IRIS}), ["prediction", "probability"])
    np.testing.assert_array_equal(answer.array("probability"), model.predict_proba(IRIS))
    assert answer.array("prediction").tolist() == model.predict(IRIS).tolist()


def test_only_what_passed_stays_in_the_folder(grown: tuple[Any, Report, Path]) -> None:
    _, _, folder = grown
    assert sorted(each.name for each in folder.iterdir()) == ["exact.npz", "report.json"]


def test_the_report_says_what_was_tried_and_shows_the_first_row_that_differs(grown: tuple[Any, Report, Path]) -> None:
    _, report, _ = grown
    assert [each.name for each in report.candidates] == list(FILES)
    single = report.candidate("onnx float32")
    assert single is not None
    assert not single.passed
    assert single.parity is not None
    assert single.parity.counter is not None
    assert single.parity.counter.native != single.parity.counter.candidate
    exact = report.candidate("exact")
    assert exact is not None
    assert exact.parity is not None
    assert exact.parity.rows == sum(report.probes.values()) >= 1000  # a busy machine gets fewer
    assert report.probes["sample"] == 50
    assert report.dists["scikit-learn"]
    assert report.told().classes == ("setosa", "versicolor", "virginica")


def test_the_report_comes_back_from_its_file(grown: tuple[Any, Report, Path]) -> None:
    _, report, folder = grown
    again = Report.load(folder)
    assert again == report
    assert again.told() == report.told()


def test_the_fastest_serves_each_mode(grown: tuple[Any, Report, Path]) -> None:
    _, report, _ = grown
    assert report.live == report.bulk == "exact"
    assert report.costs["exact"][1] < report.costs["native"][1]
    assert set(report.costs["native"]) == {1, 64, 4096}
    table = {line["runtime"]: line for line in report.table()}
    assert table["exact"]["serves"] == ["live", "bulk"]
    assert (table["exact"]["labels"], table["exact"]["ulp"]) == (0, 0)
    assert table["exact"]["seconds_4096"] < table["native"]["seconds_4096"]
    assert table["onnx float32"]["counter"].startswith("row {")


def test_a_form_that_failed_is_an_error_with_the_row_where_it_is_asked_for(grown: tuple[Any, Report, Path]) -> None:
    _, report, folder = grown
    assert report.chosen("exact") == "exact"
    assert report.chosen("native") == "native"
    with pytest.raises(ParityFailed, match=r"onnx float32: [0-9]+ (labels|rows)"):
        report.chosen("onnx")
    with pytest.raises(NotCompiled):
        report.open(folder, "onnx float32")


def test_a_file_that_changed_is_refused_before_it_is_read(grown: tuple[Any, Report, Path], tmp_path: Path) -> None:
    _, report, folder = grown
    data = bytearray((folder / "exact.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "exact.npz").write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        report.open(tmp_path, "exact")


def test_onnx_serves_where_it_is_asked_for_and_right(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(DIABETES, PROGRESS)
    report = compiled("sklearn", save(model, tmp_path), tmp_path / "out", wanted="onnx")
    assert report.chosen("onnx") == "onnx float64"
    assert report.candidate("exact") is None
    answer = report.open(tmp_path / "out", "onnx float64").run(Rows({"input": DIABETES}), ["prediction"])
    np.testing.assert_allclose(answer.array("prediction"), model.predict(DIABETES), rtol=1e-12)


def moody(folder: Path, mood: str) -> Source:
    """A model that answers ordinary rows and ends its process, or stops, at others."""
    (folder / "moody.py").write_text(MOODY)
    script = f"import joblib, moody; joblib.dump(moody.Moody({mood!r}).fit(None), 'model.joblib')"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    return Source(str(folder / "model.joblib"))


def test_a_crash_leaves_the_model_native(tmp_path: Path) -> None:
    report = compiled("sklearn", moody(tmp_path, "fatal"), tmp_path / "out")
    assert (report.live, report.bulk, report.settled) == ("native", "native", False)
    assert report.note == "stays native because the process that compiled it ended with exit code 9"
    assert Report.load(tmp_path / "out").note == report.note
    with pytest.raises(NotCompiled, match="exit code 9"):
        report.chosen("exact")


def test_a_model_that_takes_too_long_stays_native(tmp_path: Path) -> None:
    report = compiled("sklearn", moody(tmp_path, "slow"), tmp_path / "out", timeout=1)
    assert report.note == "stays native because it took longer than 1 s"


@pytest.mark.usefixtures("started_anew")
def test_what_is_no_longer_wanted_ends_with_its_process(tmp_path: Path) -> None:
    cancel = threading.Event()
    found: list[Report | Exception] = []

    def run() -> None:
        try:
            found.append(compiled("sklearn", moody(tmp_path, "slow"), tmp_path / "out", cancel=cancel))
        except ModelError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until = time.monotonic() + 60
    while not (children := _children()) and time.monotonic() < until:
        time.sleep(0.02)
    assert children
    cancel.set()
    thread.join(60)
    assert not thread.is_alive()
    assert not set(_children()) & set(children)
    assert "cancelled" in str(found[0])


def _children() -> list[int]:
    """This process's children that compile."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"bimodal.compile.child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError):  # it ended while it was looked at
            continue
    return found


def test_a_sample_that_does_not_fit_is_told_and_the_model_compiled_all_the_same(tmp_path: Path) -> None:
    model = DecisionTreeClassifier(random_state=0).fit(IRIS, NAMES)
    report = compiled("sklearn", save(model, tmp_path), tmp_path / "out", sample=pa.table({"a": [1.0], "b": [2.0]}))
    assert report.live == "exact"
    assert "sample's rows are not among the probes" in report.warnings[-1]
    assert not (tmp_path / "out" / "sample.arrow").exists()


def test_a_model_that_cannot_be_loaded_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "broken.joblib").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(ModelError, match="damaged"):
        compiled("sklearn", Source(str(tmp_path / "broken.joblib")), tmp_path / "out")


def test_a_model_that_kills_its_process_on_loading_is_told(tmp_path: Path) -> None:
    (tmp_path / "fatal.py").write_text("import os\nos._exit(7)\n")
    with pytest.raises(ModelCrashed, match="exit code 7"):
        compiled("python", Source(f"{tmp_path}/fatal.py:Model"), tmp_path / "out")
