"""Version drift is caught (promise 35): files that scikit-learn 1.5.2 saved, with what it answered then.

All of 5 versions with one another: `python -m tests.formats.versions`, which also made these files.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bimodal
from bimodal.errors import ModelError
from bimodal.formats import drift, guard
from bimodal.formats.contract import Source
from bimodal.golden import differing
from tests.formats import versions
from tests.realtime.test_repository import Shop

OLD = versions.KEPT / "1.5.2"
REFUSED = ("AdaBoostClassifier", "GradientBoostingClassifier", "LogisticRegression-ovr", "SimpleImputer")


@pytest.mark.parametrize("name", versions.FILES)
def test_a_bare_file_is_refused_by_its_version_or_answers_as_when_it_was_saved(name: str) -> None:
    result, told = versions.outcome(OLD / f"{name}.joblib", "bare")
    assert result == ("refused" if name in REFUSED else "served by native"), told


@pytest.mark.parametrize(("name", "result"), [("AdaBoostClassifier", "refused"), ("KMeans", "served by native")])
def test_a_package_is_refused_by_its_version_or_answers_as_when_it_was_saved(name: str, result: str) -> None:
    assert versions.outcome(OLD / f"{name}.joblib", "native")[0] == result


@pytest.mark.parametrize("name", ["AdaBoostClassifier", "LogisticRegression-ovr"])
@pytest.mark.filterwarnings("ignore:Trying to unpickle")
def test_scikit_learn_itself_answers_them_otherwise(name: str) -> None:
    """The control: what is refused above would have been served, and wrong."""
    told = versions.recorded(OLD / f"{name}.joblib")
    now = joblib.load(OLD / f"{name}.joblib").predict_proba(np.array(told["rows"]))
    assert differing(np.array(told["answers"]["probability"]), now).any()


@pytest.mark.filterwarnings("ignore:Trying to unpickle")
def test_scikit_learn_itself_fails_when_it_is_asked() -> None:
    model = joblib.load(OLD / "SimpleImputer.joblib")
    with pytest.raises(AttributeError):
        model.transform(np.zeros((1, 5)))


def test_the_answers_of_this_version_are_taken_by_saving_it_again(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Trying to unpickle"):
        model = joblib.load(OLD / "AdaBoostClassifier.joblib")
    joblib.dump(model, tmp_path / "again.joblib")
    with bimodal.load(tmp_path / "again.joblib") as taken:
        assert not taken.warnings


def test_the_version_is_read_from_what_cannot_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "model.joblib"
    state = {"_sklearn_version": "1.2.0rc1", "n": 1}
    for protocol in range(2, 6):
        joblib.dump(state, file, protocol=protocol)
        error = drift.unreadable(file, "why")
        assert isinstance(error, ModelError)
        assert "scikit-learn 1.2.0rc1 and cannot be read under" in str(error)
    joblib.dump(state | {"_sklearn_version": versions.VERSIONS[-1]}, file)
    assert drift.unreadable(file, "why") is None


def test_a_value_that_is_not_known_any_more_is_refused_also_within_a_pipeline() -> None:
    """AdaBoost's `SAMME.R` under 1.6 and 1.7, where the parameter is there still."""
    fine = make_pipeline(StandardScaler(), KNeighborsClassifier(algorithm="brute"))
    drift.demand_known(fine, "model.pkl", "saved before")
    with pytest.raises(ModelError, match=r"holds KNeighborsClassifier with algorithm='octree'.*it was saved before"):
        drift.demand_known(fine.set_params(kneighborsclassifier__algorithm="octree"), "model.pkl", "saved before")


@pytest.mark.parametrize("name", [name for name in versions.ESTIMATORS if name != "LogisticRegression-ovr"])
def test_what_this_version_makes_is_known_to_it(name: str) -> None:
    drift.demand_known(versions.ESTIMATORS[name](), "model.pkl", "saved before")


def test_a_module_that_calls_itself_by_a_short_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of scikit-learn up to 1.7; where another module has the name, it is judged as itself."""
    monkeypatch.setitem(sys.modules, "_loss", importlib.import_module("sklearn._loss._loss"))
    with guard.reading(Source("model.pkl")) as reading:
        reading.find("_loss", "CyHalfSquaredError")
    monkeypatch.setitem(sys.modules, "_loss", shutil)
    with pytest.raises(ModelError, match=r"_loss\.rmtree"), guard.reading(Source("model.pkl")) as reading:
        reading.find("_loss", "rmtree")


# -- the long form -----------------------------------------------------------------------------------------------------


def test_a_pair_that_was_proven_for_the_same_code_is_not_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[str, ...]]()

    def answered(version: str, _: Path, verb: str, saved: str) -> str:
        asked.append((version, verb, saved))
        return 'said before\n{"SVC/bare": ["refused", "why"]}\n'

    monkeypatch.setattr(versions, "environment", lambda *_: Path(sys.executable))
    monkeypatch.setattr(versions, "asked", answered)
    monkeypatch.setattr(versions, "VERSIONS", ("1.7.2", "1.8.0"))
    (tmp_path / versions.digest() / "saved" / "1.7.2").mkdir(parents=True)
    (tmp_path / versions.digest() / "saved" / "1.8.0").mkdir(parents=True)
    assert not versions.matrix(tmp_path, again=False)  # a version refuses its own
    assert len(asked) == 2 + 4
    (tmp_path / versions.digest() / "1.7.2 under 1.8.0.json").unlink()
    versions.matrix(tmp_path, again=False)
    assert asked[6:] == [("1.8.0", "load", "1.7.2")]


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"load 1\.7\.2 under scikit-learn 1\.8\.0: .* ended with 3; .*said\.log"):
        versions.step("load 1.7.2 under scikit-learn 1.8.0", tmp_path / "said.log", sys.executable, "-c", "exit(3)")


# -- a server ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AdaBoostClassifier.bimodal", "SimpleImputer.joblib"])
def test_a_server_does_not_start_with_it(name: str) -> None:
    command = [sys.executable, "-m", "bimodal", "serve", str(OLD / name), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "ready" not in done.stdout
    assert "scikit-learn 1.5.2" in done.stderr
    assert "scikit-learn==1.5.2" in done.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    put(tmp_path, "KMeans.bimodal")
    shop = Shop(tmp_path, workers=1, features=None)
    yield shop
    shop.close()


def put(folder: Path, name: str) -> None:
    place = folder / "net" / "1"
    shutil.rmtree(place, ignore_errors=True)
    if name.endswith(".bimodal"):
        shutil.copytree(OLD / name, place)
    else:
        place.mkdir(parents=True)
        shutil.copyfile(OLD / name, place / "model.joblib")


@pytest.mark.parametrize("name", ["AdaBoostClassifier.bimodal", "AdaBoostClassifier.joblib", "SimpleImputer.joblib"])
def test_a_reload_with_it_leaves_the_old_one_serving(shop: Shop, name: str) -> None:
    told: dict[str, Any] = versions.recorded(OLD / "KMeans.joblib")
    rows = {"input": told["rows"]}
    put(shop.folder, name)
    status, answer = shop.load("net")
    assert status == 500
    assert "scikit-learn==1.5.2" in answer["error"]
    assert shop.states("net")["1"][0] == "READY"
    assert shop.ask("/models/net/predict", rows)[1]["prediction"] == told["answers"]["prediction"]
